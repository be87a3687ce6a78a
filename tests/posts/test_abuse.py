"""Signs of abuse, on a real database: how fast an author posts, how many accounts a member has."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.config import Settings
from app.database import OWNER, Database
from app.kit.db import Sessions, make_engine
from app.members import service as members
from app.members.schemas import AccountIn
from app.networks.post import Post
from app.posts import queries
from app.posts.enrol import Enroller
from tests.programme import NOW, make_members, make_offer, make_post


async def outcomes(enroller: Enroller, *posts: Post) -> list[tuple[str, ...]]:
    results = await enroller.enrol(posts, source="test", now=NOW)
    return [result.outcomes for result in results]


class TestVelocity:
    @pytest.fixture
    def hasty(self, sessions: Sessions, settings: Settings) -> Enroller:
        """More than two posts in ten minutes are suspect."""
        changed = {"author_posts_max": 2, "author_posts_window_minutes": 10}
        return Enroller(sessions, settings.model_copy(update=changed))

    def post(self, author: str, minutes: float, **fields: Any) -> Post:
        """That long before NOW."""
        given = {"tags": ("tea",), "posted_at": NOW - timedelta(minutes=minutes), **fields}
        return make_post(author, **given)

    async def test_counts_within_a_batch_by_the_posts_own_time(
        self, sessions: Sessions, hasty: Enroller
    ) -> None:
        await make_offer(sessions, "Tea")
        minutes = [1, 30, 20, 9, 5]
        found = await outcomes(hasty, *(self.post("7", ago) for ago in minutes))
        assert [name for (name,) in found] == ["suspected_abuse"] + ["not_linked"] * 4

    async def test_counts_the_same_across_batches(
        self, sessions: Sessions, hasty: Enroller
    ) -> None:
        await make_offer(sessions, "Tea")
        found = []
        for ago in (21, 20, 19, 10.5, 9, 8.9, 0):
            found += await outcomes(hasty, self.post("7", ago), self.post("8", ago * 20))
        assert [name for name, in found[::2]] == [
            "not_linked", "not_linked", "suspected_abuse",
            "suspected_abuse",  # 19 and 20 minutes ago are still of its window
            "not_linked", "suspected_abuse", "suspected_abuse",
        ]  # fmt: skip
        assert {name for (name,) in found[1::2]} == {"not_linked"}

    async def test_counts_what_is_older_than_a_late_delivery_alone(
        self, sessions: Sessions, hasty: Enroller
    ) -> None:
        await make_offer(sessions, "Tea")
        await outcomes(hasty, self.post("7", 4), self.post("7", 2))
        late = await outcomes(hasty, self.post("7", 3))
        latest = await outcomes(hasty, self.post("7", 1))
        assert (late, latest) == ([("not_linked",)], [("suspected_abuse",)])

    async def test_tells_posts_of_one_second_apart_by_their_id(
        self, sessions: Sessions, hasty: Enroller
    ) -> None:
        await make_offer(sessions, "Tea")
        posts = [self.post("7", 5) for _ in range(4)]
        assert await outcomes(hasty, *posts[2:]) == [("not_linked",)] * 2
        assert await outcomes(hasty, *posts[:2]) == [("not_linked",)] * 2
        assert await outcomes(hasty, self.post("7", 5)) == [("suspected_abuse",)]

    async def test_counts_an_edited_post_once(self, sessions: Sessions, hasty: Enroller) -> None:
        await make_offer(sessions, "Tea")
        await make_offer(sessions, "Cake")
        (author,) = await make_members(sessions, 1)
        first = self.post(author, 9)
        edits = [self.post(author, ago, root_id=first.id, tags=("tea", "cake")) for ago in (8, 7)]
        assert await outcomes(hasty, first) == [("loaded",)]
        assert await outcomes(hasty, *edits) == [("loaded",), ("duplicate",)]
        assert await outcomes(hasty, self.post(author, 6)) == [("already_loaded",)]
        assert await outcomes(hasty, self.post(author, 5)) == [("suspected_abuse",)]

    async def test_holds_for_a_members_posts_of_different_offers_at_once(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        tags = [f"Tag{number}" for number in range(8)]
        for tag in tags:
            await make_offer(sessions, tag)
        (author,) = await make_members(sessions, 1)
        hasty = settings.model_copy(update={"author_posts_max": 2})
        done: list[tuple[str, str]] = []

        async def post(tag: str) -> None:
            (result,) = await Enroller(sessions, hasty).enrol(
                [self.post(author, 1, tags=(tag,), id=tag)], source="test", now=NOW
            )
            done.append((tag, result.outcomes[0]))

        await asyncio.gather(*map(post, tags))
        # of one second, so in the order of their ids; whoever is later sees all who are done
        expected = [
            (tag, "suspected_abuse" if sum(other < tag for other, _ in done[:number]) >= 2
             else "loaded")
            for number, (tag, _) in enumerate(done)
        ]  # fmt: skip
        assert done == expected
        assert "suspected_abuse" in dict(done).values()

    async def test_reads_an_authors_own_posts_however_many_others_wrote(
        self, database: Database
    ) -> None:
        engine = make_engine(database.owner_url, role=OWNER)
        async with engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO posts (network, post_id, root_id, author_id, posted_at, "
                    "received_at, tags, mentions_programme, source) "
                    "SELECT 'x', n, n, n % 5000, CAST(:now AS timestamptz) - n * interval '1 s', "
                    ":now, '{}', true, 't' "
                    "FROM generate_series(1, 20000) AS n"
                ),
                {"now": NOW},
            )
            await connection.execute(text("ANALYZE posts"))
            wanted = {"network": "x", "authors": [str(number) for number in range(200)],
                      "after": NOW - timedelta(hours=1), "until": NOW}  # fmt: skip
            found = await connection.scalars(text(f"EXPLAIN {queries.WRITTEN_BY}"), wanted)
            plan = "\n".join(found)
        await engine.dispose()
        assert "ix_posts_author_id" in plan, plan

    async def test_asks_nothing_when_it_is_off(
        self, sessions: Sessions, settings: Settings, statements: list[str]
    ) -> None:
        await make_offer(sessions, "Tea")
        statements.clear()
        await outcomes(Enroller(sessions, settings), make_post("7", "tea"))
        assert not [one for one in statements if "posts" in one and "posted_at >" in one]


class TestSeveralAccounts:
    async def test_of_one_member_are_suspect_on_their_network(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        first, other = await make_members(sessions, 2)
        async with sessions.begin() as session:
            ((member_id,),) = await session.execute(
                text("SELECT member_id FROM accounts WHERE account_id = :id"), {"id": first}
            )
            for account_id in ("1", "2", "3"):
                account = AccountIn(network="x", id=account_id)
                await members.add_account(
                    session, member_id=member_id, account=account, actor="test", now=NOW
                )
            elsewhere = "UPDATE accounts SET network = 'elsewhere' WHERE account_id = '3'"
            await session.execute(text(elsewhere))
        for most, outcome in ((2, "suspected_abuse"), (3, "loaded")):
            lane = Enroller(sessions, settings.model_copy(update={"accounts_per_member_max": most}))
            found = await outcomes(lane, make_post("2", "tea"), make_post(other, "tea"))
            assert found[0] == (outcome,)
        assert found[1] == ("already_loaded",)
