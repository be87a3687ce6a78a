"""An author links, and what he posted before is decided again: on a real database."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from app.cli.roles import run_worker
from app.config import Settings
from app.insight import explain
from app.insight.verify import verify
from app.kit.db import Sessions
from app.kit.lines import Line
from app.members import cards, loader, queries
from app.members import service as members
from app.members.schemas import AccountIn
from app.offers import service as offers
from app.posts import lookback
from app.posts.enrol import Enroller
from tests.programme import (
    NOW,
    OPERATOR,
    link,
    make_members,
    make_offer,
    make_post,
    make_shop,
    member_line,
    pay,
)
from tests.support import Analyse, MakeKey

AGAIN = NOW + lookback.LOOKS_AGAIN_AFTER
EVER: dict[str, Any] = {"starts_at": "2020-01-01T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"}


async def enrol(sessions: Sessions, settings: Settings, *posts: Any) -> list[tuple[str, ...]]:
    results = await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)
    return [result.outcomes for result in results]


async def look(sessions: Sessions, settings: Settings, now: datetime = NOW) -> None:
    while await lookback.look_back(sessions, settings, now=now):
        pass


async def rows(sessions: Sessions, query: str, **values: Any) -> list[Any]:
    async with sessions.begin() as session:
        return [tuple(row) for row in await session.execute(text(query), values)]


async def outcomes(sessions: Sessions) -> dict[str, str]:
    return dict(await rows(sessions, "SELECT post_id, outcome FROM decisions"))


async def count(sessions: Sessions, what: str) -> int:
    ((number,),) = await rows(sessions, f"SELECT count(*) FROM {what}")
    return int(number)


async def all_agrees(sessions: Sessions) -> bool:
    async with sessions() as session:
        return not any(finding.wrong for finding in await verify(session))


class TestAPostWhoseCouponWouldBeOver:
    async def test_takes_no_place_and_is_not_looked_at_again(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea", coupon_valid_days=0, coupons_max=1)
        old = [
            make_post("77", "tea", posted_at=NOW - timedelta(days=3, minutes=number))
            for number in range(5)
        ]
        fresh = make_post("77", "tea")
        await enrol(sessions, settings, *old, fresh)
        await link(sessions, "77")
        small = settings.model_copy(update={"batch_posts_max": 2})
        while await lookback.look_back(sessions, small, now=NOW):
            pass
        told = await outcomes(sessions)
        assert told == {fresh.id: "loaded", **{post.id: "not_linked" for post in old}}
        assert await rows(sessions, "SELECT coupons_loaded FROM offer_counters") == [(1,)]
        async with sessions() as session:
            answer = await explain.explain_post(session, post_id=old[0].id)
        assert answer["sentence"].startswith("When you linked your account, the last day")
        assert await all_agrees(sessions)


class TestAnAuthorWhoLinks:
    async def test_has_the_coupon_of_his_post_and_is_told(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        offer_id = await make_offer(sessions, "Tea", coupon_valid_days=3)
        post = make_post("77", "tea", lang="fr")
        assert await enrol(sessions, settings, post) == [("not_linked",)]
        await link(sessions, "77")
        await look(sessions, settings)
        ((member_id, posted_at, loaded_at, reserved),) = await rows(
            sessions, "SELECT member_id, posted_at, loaded_at, reserved_minor FROM coupons"
        )
        assert (posted_at, loaded_at, reserved) == (post.posted_at, NOW, 500)
        async with sessions() as session:
            ((coupon, offer, _),) = await offers.wallet(session, member_id=member_id)
        assert (coupon.post_id, offer.id) == (post.id, offer_id)
        assert await rows(
            sessions, "SELECT kind, locale, state, post_id FROM replies ORDER BY kind"
        ) == [
            ("confirmation", "fr", "queued", post.id),
            ("invitation", "fr", "expired", post.id),
        ]
        counted = "SELECT coupons_loaded, reserved_minor FROM offer_counters"
        assert await rows(sessions, counted) == [(1, 500)]
        days = "SELECT outcome, posts, reach FROM post_days ORDER BY 1"
        assert await rows(sessions, days) == [("loaded", 1, 100), ("not_linked", 0, 0)]
        assert await all_agrees(sessions)

    async def test_may_pay_with_it(self, sessions: Sessions, settings: Settings) -> None:
        await make_shop(sessions, "counter")
        await make_offer(sessions, "Tea")
        await enrol(sessions, settings, make_post("77", "tea"))
        await link(sessions, "77")
        await look(sessions, settings)
        answer = await pay(sessions, "77", "clearing", 2_000)
        assert answer.reward_minor == 500

    async def test_whose_invitation_has_gone_out_is_answered_a_second_time(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        await enrol(sessions, settings, make_post("77", "tea"))
        await rows(sessions, "UPDATE replies SET state = 'sent' RETURNING 1")
        await link(sessions, "77")
        await look(sessions, settings)
        found = await rows(sessions, "SELECT kind, state FROM replies ORDER BY kind")
        assert found == [("confirmation", "queued"), ("invitation", "sent")]

    @pytest.mark.parametrize(
        "fields", [{"mentions_programme": False}, {"posted_at": NOW - timedelta(hours=25)}]
    )
    async def test_is_not_told_on_a_post_that_would_not_be_answered(
        self, sessions: Sessions, settings: Settings, fields: dict[str, Any]
    ) -> None:
        await make_offer(sessions, "Tea")
        await enrol(sessions, settings, make_post("77", "tea", **fields))
        await link(sessions, "77")
        await look(sessions, settings)
        assert (await count(sessions, "coupons"), await count(sessions, "replies")) == (1, 0)

    async def test_finds_seven_days_of_posts_and_no_more(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        tags = ("Tea", "Cake", "Soup")
        for tag in tags:
            await make_offer(sessions, tag)
        ages = (timedelta(days=7), timedelta(days=7, seconds=1), timedelta(seconds=-1))
        posts = [
            make_post("77", tag, posted_at=NOW - age) for tag, age in zip(tags, ages, strict=True)
        ]
        await enrol(sessions, settings, *posts)
        await link(sessions, "77")
        await look(sessions, settings)
        found = await outcomes(sessions)
        assert [found[post.id] for post in posts] == ["loaded", "not_linked", "loaded"]

    async def test_loads_an_offer_once_with_his_earliest_post(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        late = make_post("77", "tea")
        early = make_post("77", "tea", posted_at=late.posted_at - timedelta(hours=2))
        await enrol(sessions, settings, late, early)
        await link(sessions, "77")
        await look(sessions, settings)
        assert await outcomes(sessions) == {early.id: "loaded", late.id: "already_loaded"}
        assert await all_agrees(sessions)

    async def test_changes_nothing_of_others_nor_a_second_time(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        await enrol(sessions, settings, make_post("77", "tea"), make_post("78", "tea"))
        await link(sessions, "77")
        await look(sessions, settings)
        stands = "SELECT d::text FROM decisions d ORDER BY 1"
        before = await rows(sessions, stands)
        await look(sessions, settings)
        await look(sessions, settings, AGAIN)
        await link(sessions, "77")
        await look(sessions, settings, AGAIN + timedelta(days=1))
        assert await rows(sessions, stands) == before
        assert Counter((await outcomes(sessions)).values()) == {"loaded": 1, "not_linked": 1}
        assert await rows(sessions, "SELECT look_back_at FROM accounts") == [(None,)]

    async def test_of_another_network_is_another(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        await enrol(sessions, settings, make_post("77", "tea"))
        await link(sessions, "77", "78")
        async with sessions.begin() as session:
            elsewhere = "UPDATE accounts SET network = 'elsewhere' WHERE account_id = '77'"
            await session.execute(text(elsewhere))
        await look(sessions, settings)
        assert set((await outcomes(sessions)).values()) == {"not_linked"}
        waiting = "accounts WHERE look_back_at = :at"
        ((number,),) = await rows(sessions, f"SELECT count(*) FROM {waiting}", at=AGAIN)
        assert number == 2


class TestEveryWayToLink:
    async def test_a_file_and_then_the_workers(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea", **EVER)
        post = make_post("77", "tea", posted_at=datetime.now(UTC) - timedelta(hours=1))
        await enrol(sessions, settings, post)
        raw = json.dumps(member_line("77")).encode()
        (result,) = await loader.load(sessions, [Line(1, raw)])
        assert result.outcomes == ("created",)
        stop = asyncio.Event()
        workers = [asyncio.create_task(run_worker(sessions, settings, stop)) for _ in range(2)]
        async with asyncio.timeout(10):
            while not await count(sessions, "coupons"):  # noqa: ASYNC110 - it is in a database
                await asyncio.sleep(0.02)
            stop.set()
            await asyncio.gather(*workers)

    async def test_a_member_and_a_further_account_by_http(
        self, sessions: Sessions, settings: Settings, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        await make_offer(sessions, "Tea", **EVER)
        await make_offer(sessions, "Cake", **EVER)
        an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
        tea = make_post("77", "tea", posted_at=an_hour_ago)
        cake = make_post("78", "cake", posted_at=an_hour_ago)
        await enrol(sessions, settings, tea, cake)
        issuer = {"Authorization": f"Bearer {await make_key('issuer')}"}
        made = await client.post("/v1/members", json=member_line("77"), headers=issuer)
        await look(sessions, settings, datetime.now(UTC))
        assert await outcomes(sessions) == {tea.id: "loaded", cake.id: "not_linked"}
        url = f"/v1/members/{made.json()['id']}"
        further = {"network": "x", "id": "78"}
        added = await client.post(f"{url}/accounts", json=further, headers=issuer)
        assert added.status_code == 201
        await look(sessions, settings, datetime.now(UTC))
        assert set((await outcomes(sessions)).values()) == {"loaded"}


class TestTheRules:
    async def test_a_member_who_said_stop_loads_nothing_and_is_told_nothing(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        await enrol(sessions, settings, make_post("77", "tea"))
        member_id = await _member_of(sessions, *await make_members(sessions, 1))
        async with sessions.begin() as session:
            await members.opt_out(session, member_id=member_id, now=NOW)
            await _add_account(session, member_id, "77")
        await look(sessions, settings)
        assert set((await outcomes(sessions)).values()) == {"opted_out"}
        assert await rows(sessions, "SELECT kind, state FROM replies") == [
            ("invitation", "expired")
        ]

    async def test_an_account_that_said_stop_before_an_older_consent_links_it_loads_nothing(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        await enrol(sessions, settings, make_post("77", "tea"))
        async with sessions.begin() as session:
            await members.stop_accounts(
                session, network="x", account_ids=["77"], told_by="post", now=NOW
            )
        await link(sessions, "77")
        await look(sessions, settings)
        assert set((await outcomes(sessions)).values()) == {"opted_out"}

    async def test_a_member_without_an_active_card_is_told_so(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        await enrol(sessions, settings, make_post("77", "tea"))
        (account,) = await make_members(sessions, 1)
        member_id = await _member_of(sessions, account)
        async with sessions.begin() as session:
            await cards.remove_card(
                session, member_id=member_id, card_ref=f"c-{account}", actor="test", now=NOW
            )
            await _add_account(session, member_id, "77")
        await look(sessions, settings)
        assert set((await outcomes(sessions)).values()) == {"card_inactive"}
        assert ("refusal", "queued") in await rows(sessions, "SELECT kind, state FROM replies")

    @pytest.mark.parametrize(
        ("terms", "outcome"),
        [
            ({"coupons_max": 1}, "sold_out"),
            ({"budget_minor": 500}, "budget_spent"),
            ({"audience": {"countries": ["CA"]}}, "not_eligible"),
            ({}, "loaded"),
        ],
    )
    async def test_the_offer_is_as_others_have_left_it(
        self, sessions: Sessions, settings: Settings, terms: dict[str, Any], outcome: str
    ) -> None:
        await make_offer(sessions, "Tea", **terms)
        (other,) = await make_members(sessions, 1, country="CA")
        post = make_post("77", "tea")
        await enrol(sessions, settings, post)
        later = make_post(other, "tea", posted_at=NOW)
        assert await enrol(sessions, settings, later) == [("loaded",)]
        await link(sessions, "77", country="US")
        await look(sessions, settings)
        assert (await outcomes(sessions))[post.id] == outcome
        assert await all_agrees(sessions)

    async def test_an_offer_that_has_ended_takes_what_was_posted_in_its_window(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        offer_id = await make_offer(sessions, "Tea")
        await enrol(sessions, settings, make_post("77", "tea"))
        async with sessions.begin() as session:
            await offers.end(session, offer_id=offer_id, by=OPERATOR, now=NOW)
        await link(sessions, "77")
        await look(sessions, settings)
        assert set((await outcomes(sessions)).values()) == {"loaded"}

    async def test_an_offer_that_is_paused_takes_nothing(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        offer_id = await make_offer(sessions, "Tea")
        await enrol(sessions, settings, make_post("77", "tea"))
        async with sessions.begin() as session:
            await offers.pause(session, offer_id=offer_id, by=OPERATOR, now=NOW)
        await link(sessions, "77")
        await look(sessions, settings)
        assert set((await outcomes(sessions)).values()) == {"paused"}

    async def test_no_more_coupons_than_a_member_may_have(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        capped = settings.model_copy(update={"coupons_per_member_max": 2})
        for tag in ("Tea", "Cake", "Soup"):
            await make_offer(sessions, tag)
            await enrol(sessions, capped, make_post("77", tag))
        await link(sessions, "77")
        await look(sessions, capped)
        found = Counter((await outcomes(sessions)).values())
        assert found == {"loaded": 2, "too_frequent": 1}

    async def test_what_was_refused_for_another_reason_stays_so_and_keeps_its_place(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        soup = await make_offer(sessions, "Soup")
        for tag in ("Tea", "Cake"):
            await make_offer(sessions, tag)
        async with sessions.begin() as session:
            await offers.pause(session, offer_id=soup, by=OPERATOR, now=NOW)
        post = make_post("77", "soup", "tea", "cake")
        before = ("paused", "not_linked", "too_many_offers")
        assert await enrol(sessions, settings, post) == [before]
        await link(sessions, "77")
        await look(sessions, settings)
        found = await rows(
            sessions, "SELECT (seen ->> 'rank')::int, outcome FROM decisions ORDER BY 1"
        )
        assert found == [(0, "paused"), (1, "loaded"), (2, "too_many_offers")]

    async def test_the_author_is_as_he_was_when_he_posted(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        known = {"author_created_at": NOW - timedelta(days=40), "author_default_picture": True}
        unknown = {"author_created_at": None, "author_followers": None}
        posts = [make_post("77", "tea", **known), make_post("78", "tea", **unknown)]
        await enrol(sessions, settings, *posts)
        await link(sessions, "77", "78")
        stricter = {"author_age_days_min": 60, "author_default_picture_refused": True}
        await look(sessions, settings.model_copy(update=stricter))
        found = await outcomes(sessions)
        assert [found[post.id] for post in posts] == ["suspected_abuse", "loaded"]
        seen = "SELECT seen ->> 'author_age_days' FROM decisions ORDER BY author_id"
        assert await rows(sessions, seen) == [("39",), (None,)]


async def _member_of(sessions: Sessions, account_id: str) -> UUID:
    ((member_id,),) = await rows(
        sessions, "SELECT member_id FROM accounts WHERE account_id = :id", id=account_id
    )
    assert isinstance(member_id, UUID)
    return member_id


async def _add_account(session: Any, member_id: UUID, account_id: str) -> None:
    account = AccountIn.model_validate({"network": "x", "id": account_id})
    await members.add_account(session, member_id=member_id, account=account, actor="test", now=NOW)


class TestManyAtOnce:
    async def test_two_accounts_of_a_member_load_one_coupon(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        await enrol(sessions, settings, make_post("77", "tea"), make_post("78", "tea"))
        both = {"member_ref": "both", "card": {"card_ref": "c-both"}}
        await asyncio.gather(*(link(sessions, one, **both) for one in ("77", "78")))
        await asyncio.gather(*(look(sessions, settings) for _ in range(4)))
        assert sorted((await outcomes(sessions)).values()) == ["already_loaded", "loaded"]
        assert await count(sessions, "coupons") == 1
        assert await all_agrees(sessions)

    async def test_the_last_coupons_are_given_once_to_those_who_link_and_those_who_post(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea", coupons_max=20)
        await make_offer(sessions, "Cake", budget_minor=10_000)
        strangers = [str(number) for number in range(100, 130)]
        linked = await make_members(sessions, 15)
        await enrol(sessions, settings, *(make_post(one, "tea", "cake") for one in strangers))
        small = settings.model_copy(update={"batch_posts_max": 7})

        async def post(author: str) -> None:
            await enrol(sessions, settings, make_post(author, "cake", "tea"))

        async def link_and_look(part: list[str]) -> None:
            await link(sessions, *part)
            await look(sessions, small)

        await asyncio.gather(
            *map(post, linked), *(link_and_look(strangers[start::3]) for start in range(3))
        )
        await look(sessions, small)
        found = await rows(
            sessions,
            "SELECT hashtag, outcome, count(*) FROM decisions d JOIN offers o ON o.id = d.offer_id "
            "GROUP BY 1, 2 ORDER BY 1, 2",
        )
        assert found == [
            ("Cake", "budget_spent", 25), ("Cake", "loaded", 20),
            ("Tea", "loaded", 20), ("Tea", "sold_out", 25),
        ]  # fmt: skip
        assert await all_agrees(sessions)

    async def test_an_account_that_is_being_changed_is_waited_for_by_nobody(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        await enrol(sessions, settings, make_post("77", "tea"))
        await link(sessions, "77")
        due = "SELECT look_back_at FROM accounts"
        async with sessions.begin() as session:
            await session.execute(text("UPDATE accounts SET handle = 'renamed'"))
            await look(sessions, settings)
            assert (await count(sessions, "coupons"), await rows(sessions, due)) == (1, [(NOW,)])
        await look(sessions, settings)
        assert await rows(sessions, due) == [(AGAIN,)]


@pytest.mark.usefixtures("with_a_cursor")
class TestABatchThatReadItsAuthorsBeforeTheLink:
    @pytest.fixture
    async def with_a_cursor(self, sessions: Sessions, settings: Settings) -> None:
        await make_offer(sessions, "Tea")
        await enrol(sessions, settings, make_post("1", "tea"))

    @asynccontextmanager
    async def in_flight(
        self, sessions: Sessions, settings: Settings, *posts: Any
    ) -> AsyncIterator[asyncio.Task[list[tuple[str, ...]]]]:
        """A batch that has decided, and waits for the cursor: its commit is at the block's end."""
        async with sessions.begin() as session:
            await session.execute(text("SELECT 1 FROM cursors FOR UPDATE"))
            batch = asyncio.create_task(enrol(sessions, settings, *posts))
            await _until_waiting(sessions, 1)
            yield batch
        await batch

    async def test_is_found_when_nothing_is_left_of_that_time(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        post = make_post("77", "tea")
        async with self.in_flight(sessions, settings, post) as batch:
            await link(sessions, "77")
            await look(sessions, settings)
        assert batch.result() == [("not_linked",)]
        await look(sessions, settings, AGAIN - timedelta(seconds=1))
        assert (await outcomes(sessions))[post.id] == "not_linked"
        await look(sessions, settings, AGAIN)
        assert (await outcomes(sessions))[post.id] == "loaded"
        assert await all_agrees(sessions)

    async def test_is_waited_for_where_both_need_the_same_offer(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        earlier, post = make_post("77", "tea"), make_post("77", "tea")
        await enrol(sessions, settings, earlier)
        async with self.in_flight(sessions, settings, post):
            await link(sessions, "77")
            looking = asyncio.create_task(look(sessions, settings))
            await _until_waiting(sessions, 2)
        await looking
        found = await outcomes(sessions)
        assert (found[earlier.id], found[post.id]) == ("loaded", "already_loaded")


async def _until_waiting(sessions: Sessions, number: int) -> None:
    async with asyncio.timeout(10):
        while await count(sessions, "pg_locks WHERE NOT granted") < number:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class TestAPass:
    async def test_takes_as_many_statements_for_many_accounts_as_for_few(
        self, sessions: Sessions, settings: Settings, statements: list[str]
    ) -> None:
        await make_offer(sessions, "Tea")
        await make_offer(sessions, "Cake")

        async def statements_for(authors: list[str]) -> int:
            await enrol(sessions, settings, *(make_post(one, "tea", "cake") for one in authors))
            await link(sessions, *authors)
            statements.clear()
            assert await lookback.look_back(sessions, settings, now=NOW) == len(authors)
            return len(statements)

        few = await statements_for(["100", "101"])
        many = await statements_for([str(number) for number in range(200, 500)])
        assert many == few <= 20
        assert await count(sessions, "coupons") == 604

    async def test_of_accounts_that_have_never_posted_takes_a_handful_of_statements(
        self, sessions: Sessions, settings: Settings, statements: list[str]
    ) -> None:
        await make_members(sessions, 1_000)
        statements.clear()
        assert await lookback.look_back(sessions, settings, now=NOW) == 1_000
        assert len(statements) == 4

    async def test_decides_no_more_posts_than_a_batch_and_goes_on(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        small = settings.model_copy(update={"batch_posts_max": 2})
        posts = []
        for tag in ("Tea", "Cake", "Soup", "Pie", "Jam"):
            await make_offer(sessions, tag)
            posts.append(make_post("77", tag))
        await enrol(sessions, settings, *posts)
        await link(sessions, "77")
        assert await lookback.look_back(sessions, small, now=NOW) == 1
        assert await count(sessions, "coupons") == 2
        await look(sessions, small)
        assert await count(sessions, "coupons") == 5

    async def test_finds_those_that_are_due_by_their_index(
        self, sessions: Sessions, analyse: Analyse
    ) -> None:
        await make_members(sessions, 3_000)
        await analyse("accounts")
        async with sessions() as session:
            found = await session.scalars(
                text("EXPLAIN " + queries.TO_LOOK_BACK.text).bindparams(queries.MOST),
                {"now": NOW, "most": 100},
            )
            plan = "\n".join(found)
        assert "Index Scan using ix_accounts_look_back_at" in plan
        assert "Sort" not in plan
