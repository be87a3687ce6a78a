"""From posts to coupons, on a real database."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.config import Settings
from app.kit.db import Sessions
from app.members import service as members
from app.members.schemas import MemberLine
from app.offers import service as offers
from app.posts.enrol import Enroller
from tests.programme import NOW, OPERATOR, make_members, make_offer, make_post


@pytest.fixture
def enroller(sessions: Sessions, settings: Settings) -> Enroller:
    return Enroller(sessions, settings)


async def outcomes(enroller: Enroller, *posts: Any) -> list[tuple[str, ...]]:
    results = await enroller.enrol(posts, source="test", now=NOW)
    return [result.outcomes for result in results]


def member_line(account_id: str) -> MemberLine:
    return MemberLine.model_validate(
        {
            "member_ref": f"m-{account_id}",
            "account": {"network": "x", "id": account_id},
            "card": {"card_ref": f"c-{account_id}"},
            "consented_at": "2026-01-01T00:00:00Z",
        }
    )


async def rows(sessions: Sessions, query: str, **values: Any) -> list[Any]:
    async with sessions.begin() as session:
        return [tuple(row) for row in await session.execute(text(query), values)]


class TestAPost:
    async def test_loads_a_coupon_and_queues_a_reply_with_it(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        offer_id = await make_offer(sessions, "Tea", coupon_valid_days=3)
        (author,) = await make_members(sessions, 1)
        post = make_post(author, "tea")
        assert await outcomes(enroller, post) == [("loaded",)]
        ((offer, valid_until, reserved),) = await rows(
            sessions, "SELECT offer_id, valid_until, reserved_minor FROM coupons"
        )
        assert (offer, reserved) == (offer_id, 500)
        assert valid_until == (post.posted_at + timedelta(days=4)).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        assert await rows(sessions, "SELECT kind, state, post_id FROM replies") == [
            ("confirmation", "queued", post.id)
        ]

    async def test_without_a_mention_loads_a_coupon_and_is_not_answered(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        post = make_post(author, "tea", mentions_programme=False)
        assert await outcomes(enroller, post) == [("loaded",)]
        assert await rows(sessions, "SELECT 1 FROM replies") == []

    async def test_older_than_a_day_loads_a_coupon_and_is_not_answered(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        post = make_post(author, "tea", posted_at=NOW - timedelta(hours=25))
        assert await outcomes(enroller, post) == [("loaded",)]
        assert await rows(sessions, "SELECT 1 FROM replies") == []

    async def test_of_no_offer_is_not_kept(self, sessions: Sessions, enroller: Enroller) -> None:
        await make_offer(sessions, "Tea")
        assert await outcomes(enroller, make_post("1", "coffee"), make_post("2")) == [
            ("no_offer",),
            ("no_offer",),
        ]
        assert await rows(sessions, "SELECT 1 FROM posts") == []

    async def test_delivered_again_changes_nothing(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        post = make_post(author, "tea")
        assert await outcomes(enroller, post, post) == [("loaded",), ("duplicate",)]
        assert await outcomes(enroller, post) == [("duplicate",)]
        assert await rows(sessions, "SELECT coupons_loaded FROM offer_counters") == [(1,)]

    async def test_whose_edit_adds_a_tag_earns_the_added_offer_alone(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        await make_offer(sessions, "Tea")
        await make_offer(sessions, "Cake")
        (author,) = await make_members(sessions, 1)
        post = make_post(author, "tea")
        edit = make_post(author, "tea", "cake", root_id=post.id)
        assert await outcomes(enroller, post) == [("loaded",)]
        assert await outcomes(enroller, edit) == [("loaded",)]
        assert await outcomes(enroller, make_post(author, "tea", root_id=post.id)) == [
            ("duplicate",)
        ]
        assert await rows(sessions, "SELECT count(*) FROM coupons") == [(2,)]

    async def test_that_the_database_refuses_stops_none_of_its_neighbours(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        await make_offer(sessions, "Tea")
        authors = await make_members(sessions, 5)
        posts = [make_post(author, "tea") for author in authors]
        posts[2] = make_post(authors[2], "tea", author_followers=2**40)  # no int4 holds it
        results = await enroller.enrol(posts, source="test", now=NOW)
        assert [result.outcomes for result in results] == [
            ("loaded",), ("loaded",), (), ("loaded",), ("loaded",)
        ]  # fmt: skip
        assert results[2].rejected is not None
        assert await rows(sessions, "SELECT post_id FROM rejected_posts") == [(posts[2].id,)]


class TestStrangers:
    async def test_are_invited_once_in_thirty_days_whatever_the_offer(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        await make_offer(sessions, "Tea", ends_at=(NOW + timedelta(days=60)).isoformat())
        await make_offer(sessions, "Cake")
        await outcomes(enroller, make_post("77", "tea", "cake"))
        await outcomes(enroller, make_post("77", "cake"))
        later = NOW + timedelta(days=31)
        await enroller.enrol([make_post("77", "tea", posted_at=later)], source="test", now=later)
        found = await rows(sessions, "SELECT kind, count(*) FROM replies GROUP BY kind")
        assert found == [("invitation", 2)]

    async def test_a_refusal_is_told_once_for_an_offer(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        for _ in range(3):
            await outcomes(enroller, make_post(author, "tea"), make_post(author, "tea"))
        found = await rows(sessions, "SELECT kind, count(*) FROM replies GROUP BY kind ORDER BY 1")
        assert found == [("confirmation", 1), ("refusal", 1)]


class TestCaps:
    async def test_the_last_coupon_is_given_once_however_many_reach_for_it(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea", coupons_max=3)
        authors = await make_members(sessions, 40)

        async def post(author: str) -> str:
            lane = Enroller(sessions, settings)
            (result,) = await lane.enrol([make_post(author, "tea")], source="test", now=NOW)
            return result.outcomes[0]

        found = Counter(await asyncio.gather(*map(post, authors)))
        assert found == {"loaded": 3, "sold_out": 37}
        assert await rows(sessions, "SELECT coupons_loaded FROM offer_counters") == [(3,)]

    async def test_the_same_posts_by_many_lanes_at_once_are_enrolled_once(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        for tag in ("Tea", "Cake", "Soup"):
            await make_offer(sessions, tag)
        authors = await make_members(sessions, 30)
        posts = [make_post(author, "tea", "cake") for author in authors]

        async def bring(part: list[Any]) -> None:
            await Enroller(sessions, settings).enrol(part, source="test", now=NOW)

        await asyncio.gather(*(bring(posts[i % 3 :: 2] + posts[:5]) for i in range(8)))
        assert await rows(sessions, "SELECT count(*) FROM coupons") == [(60,)]
        assert await rows(sessions, "SELECT count(*) FROM replies") == [(60,)]

    async def test_a_pause_that_was_answered_holds_for_every_post_after_it(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        offer_id = await make_offer(sessions, "Tea")
        first, second = await make_members(sessions, 2)
        assert await outcomes(enroller, make_post(first, "tea")) == [("loaded",)]
        async with sessions.begin() as session:
            await offers.pause(session, offer_id=offer_id, by=OPERATOR, now=NOW)
        assert await outcomes(enroller, make_post(second, "tea")) == [("paused",)]


class TestAnOfferThatNobodyApproved:
    async def test_means_nothing_even_when_it_has_ended(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        await make_offer(sessions, "Tea", partner="rival")
        draft = await make_offer(
            sessions, "Tea", publish=False, starts_at=(NOW - timedelta(days=30)).isoformat()
        )
        async with sessions.begin() as session:
            await offers.end(session, offer_id=draft, by=OPERATOR, now=NOW)
        (author,) = await make_members(sessions, 1)
        assert await outcomes(enroller, make_post(author, "tea")) == [("loaded",)]
        ((partner,),) = await rows(
            sessions,
            "SELECT p.ref FROM coupons c JOIN offers o ON o.id = c.offer_id "
            "JOIN partners p ON p.id = o.partner_id",
        )
        assert partner == "rival"

    async def test_nor_one_called_off_before_it_began(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        starts = NOW + timedelta(hours=1)
        offer_id = await make_offer(sessions, "Tea", starts_at=starts.isoformat())
        async with sessions.begin() as session:
            await offers.end(session, offer_id=offer_id, by=OPERATOR, now=NOW)
        (author,) = await make_members(sessions, 1)
        assert await outcomes(enroller, make_post(author, "tea", posted_at=starts)) == [
            ("no_offer",)
        ]


class TestTheFrequencyCap:
    async def test_holds_for_batches_of_different_offers_at_once(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        tags = [f"Tag{number}" for number in range(8)]
        for tag in tags:
            await make_offer(sessions, tag)
        (author,) = await make_members(sessions, 1)
        capped = settings.model_copy(update={"coupons_per_member_max": 2})

        async def post(tag: str) -> str:
            (result,) = await Enroller(sessions, capped).enrol(
                [make_post(author, tag)], source="test", now=NOW
            )
            return result.outcomes[0]

        found = Counter(await asyncio.gather(*map(post, tags)))
        assert found == {"loaded": 2, "too_frequent": 6}


class TestAMemberWhoSaysStop:
    async def test_while_his_post_waits_loads_nothing(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        async with sessions() as session:
            member_id = await session.scalar(text("SELECT id FROM members"))
        async with sessions.begin() as session:
            await members.opt_out(session, member_id=member_id, now=NOW)
            await session.flush()
            post = make_post(author, "tea")
            enrolling = asyncio.create_task(
                Enroller(sessions, settings).enrol([post], source="test", now=NOW)
            )
            await asyncio.sleep(0.2)
            assert not enrolling.done()
        (enrolled,) = await enrolling
        assert enrolled.outcomes == ("opted_out",)


class TestAStrangerWhoSaysStop:
    async def test_is_not_invited_and_his_newer_consent_brings_him_back(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        await make_offer(sessions, "Tea")
        async with sessions.begin() as session:
            await members.stop_accounts(
                session, network="x", account_ids=["77"], told_by="message", now=NOW
            )
        assert await outcomes(enroller, make_post("77", "tea")) == [("opted_out",)]
        assert await rows(sessions, "SELECT 1 FROM replies") == []
        for consented_at, outcome in ((NOW, "opted_out"), (NOW + timedelta(hours=1), "loaded")):
            line = member_line("77").model_copy(update={"consented_at": consented_at})
            async with sessions.begin() as session:
                await members.save_members(session, rows=[line], now=NOW + timedelta(hours=1))
            assert await outcomes(enroller, make_post("77", "tea")) == [(outcome,)]


class TestAFileOfMembersThatPost:
    async def test_and_their_posts_at_once_do_not_wait_for_each_other_in_a_ring(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        # so that their refs are in another order than their ids
        lines = [member_line(str(account_id)) for account_id in range(59, 9, -1)]

        async def load_file() -> None:
            async with sessions.begin() as session:
                await members.save_members(session, rows=lines, now=NOW)

        async def enrol() -> None:
            posts = [make_post(line.account.id, "tea") for line in lines]
            await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)

        await load_file()
        await asyncio.gather(*(step() for _ in range(5) for step in (load_file, enrol)))


class TestOffersThatChangeMeanwhile:
    async def test_do_not_keep_posts_from_being_enrolled(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        await make_offer(sessions, "Tea")
        authors = await make_members(sessions, 30)

        async def publish() -> None:
            for number in range(40):
                await make_offer(sessions, f"Other{number}")

        async def enrol() -> list[str]:
            found = []
            for author in authors:
                found += (await outcomes(enroller, make_post(author, "tea")))[0]
            return found

        _, found = await asyncio.gather(publish(), enrol())
        assert found == ["loaded"] * 30


class TestTheRollup:
    async def test_counts_posts_and_reach_by_outcome(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        await make_offer(sessions, "Tea")
        authors = await make_members(sessions, 2)
        await outcomes(enroller, *(make_post(author, "tea") for author in authors))
        await outcomes(enroller, make_post(authors[0], "tea"), make_post("9", "tea"))
        found = await rows(sessions, "SELECT outcome, posts, reach FROM post_days ORDER BY 1")
        assert found == [("already_loaded", 1, 100), ("loaded", 2, 200), ("not_linked", 1, 100)]


@contextmanager
def counted(engine: AsyncEngine) -> Iterator[Counter[str]]:
    """Statements by their first words; a COPY counts when the driver begins it."""
    found: Counter[str] = Counter()

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found[" ".join(statement.split()[:3])] += 1

    event.listen(engine.sync_engine, "before_cursor_execute", count)
    try:
        yield found
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", count)


class TestABatch:
    @pytest.mark.parametrize(
        ("limits", "statements_max"),
        [
            ({}, 17),
            ({"author_posts_max": 5, "accounts_per_member_max": 3}, 20),
        ],
    )
    async def test_takes_as_many_statements_for_a_thousand_posts_as_for_ten(
        self, sessions: Sessions, settings: Settings, monkeypatch: pytest.MonkeyPatch,
        limits: dict[str, Any], statements_max: int,
    ) -> None:  # fmt: skip
        enroller = Enroller(sessions, settings.model_copy(update=limits))
        for tag in ("Tea", "Cake"):
            await make_offer(sessions, tag, coupons_max=400)
        authors = await make_members(sessions, 900)
        copies = _count_copies(monkeypatch)
        engine = sessions.kw["bind"]

        def batch(part: list[str], number: int) -> list[Any]:
            posts = [make_post(author, "tea", "cake") for author in part]
            strangers = [make_post(str(500 + number + i), "tea") for i in range(len(part) // 10)]
            return posts + strangers + [make_post(part[0], "tea")]

        await outcomes(enroller, make_post("1", "tea"))  # the offers are read once
        copies["n"] = 0
        with counted(engine) as small:
            await outcomes(enroller, *batch(authors[:10], 0))
        small_copies, copies["n"] = copies["n"], 0
        with counted(engine) as large:
            await outcomes(enroller, *batch(authors[10:], 100))
        assert large == small
        assert copies["n"] == small_copies == 4
        assert 10 <= large.total() <= statements_max


def _count_copies(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    import asyncpg  # noqa: PLC0415

    copies = {"n": 0}
    original = asyncpg.Connection.copy_records_to_table

    async def count(self: Any, *args: Any, **kwargs: Any) -> Any:
        copies["n"] += 1
        return await original(self, *args, **kwargs)

    monkeypatch.setattr(asyncpg.Connection, "copy_records_to_table", count)
    return copies
