"""What partners are told, by way of what happens: posts, purchases, and what time does."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from app.cli.jobs import run_job
from app.config import Settings
from app.insight import attribution
from app.kit.db import Sessions
from app.notifications import service as notifications
from app.notifications.queries import NewEvent
from app.offers import service as offers
from app.offers.changing import change
from app.offers.schemas import OfferChange
from app.partners import service as partners
from app.partners.tenancy import confine
from app.posts.enrol import Enroller
from tests.notifications.receiving import Post
from tests.programme import NOW, OPERATOR, make_members, make_offer, make_post, make_shop, pay
from tests.support import MakeKey

URL = "http://127.0.0.1:9/hooks"
DAY = timedelta(days=1)
# Of a post, a member or a coupon; where a redemption is told, the coupon's own times too.
NEVER = ("post_id", "author", "member", "coupon_id", "card", "minutes", "posted_at", "loaded_at")


@pytest.fixture
def enroller(sessions: Sessions, settings: Settings) -> Enroller:
    return Enroller(sessions, settings)


async def load(enroller: Enroller, authors: list[str], *tags: str) -> None:
    posts = [make_post(author, *tags) for author in authors]
    await enroller.enrol(posts, source="test", now=NOW)


async def told(sessions: Sessions, event: str | None = None) -> list[dict[str, Any]]:
    async with sessions() as session:
        rows = await session.execute(
            text(
                "SELECT event, subject, sequence, data FROM webhook_deliveries "
                "WHERE event = coalesce(:event, event) ORDER BY id"
            ),
            {"event": event},
        )
        return [dict(row) for row in rows.mappings()]


class TestCoupons:
    async def test_are_told_by_offer_and_batch_and_never_one_by_one(
        self, sessions: Sessions, enroller: Enroller, post: Post
    ) -> None:
        await post.endpoint(URL)
        tea = await make_offer(sessions, "Tea", coupons_max=10)
        cake = await make_offer(sessions, "Cake")
        authors = await make_members(sessions, 4)
        await load(enroller, authors[:3], "tea")
        await load(enroller, authors[3:], "tea", "cake")
        # of one batch, which offer is told of first is nobody's concern
        found = sorted(
            await told(sessions),
            key=lambda one: (one["subject"] != f"offer:{tea}", one["sequence"]),
        )
        assert [(one["subject"], one["sequence"], one["data"]["coupons"]) for one in found] == [
            (f"offer:{tea}", 1, 3),
            (f"offer:{tea}", 2, 1),
            (f"offer:{cake}", 1, 1),
        ]
        assert found[1]["data"] == {
            "offer_id": str(tea),
            "offer_ref": "tea",
            "hashtag": "Tea",
            "ends_at": (NOW + timedelta(days=10)).isoformat().replace("+00:00", "Z"),
            "currency": "USD",
            "coupons": 1,
            "coupons_loaded": 4,
            "coupons_max": 10,
            "coupons_left": 6,
            "budget_minor": None,
            "reserved_minor": 2_000,
            "budget_left_minor": None,
        }

    async def test_name_neither_a_post_nor_a_member(
        self, sessions: Sessions, enroller: Enroller, post: Post
    ) -> None:
        await post.endpoint(URL)
        await make_offer(sessions, "Tea")
        await make_shop(sessions, "counter")
        (author,) = await make_members(sessions, 1)
        await load(enroller, [author], "tea")
        await pay(sessions, author, "clearing", 2_000)
        said = json.dumps([one["data"] for one in await told(sessions)])
        async with sessions() as session:
            (coupon, member, post_id, posted_at) = (
                await session.execute(text("SELECT id, member_id, post_id, posted_at FROM coupons"))
            ).one()
        for secret in (coupon, member, post_id, author, posted_at.isoformat()[:16]):
            assert str(secret) not in said
        for name in NEVER:
            assert name not in said

    async def test_that_close_are_told_by_offer_and_step(
        self, sessions: Sessions, enroller: Enroller, post: Post
    ) -> None:
        await make_offer(sessions, "Tea", coupon_valid_days=1)
        await load(enroller, await make_members(sessions, 3), "tea")
        await post.endpoint(URL, events=["coupon.closed"])
        await run_job(sessions, "close", now=NOW + timedelta(days=60))
        (closed,) = await told(sessions)
        assert (closed["event"], closed["sequence"], closed["data"]["coupons"]) == (
            "coupon.closed",
            1,
            3,
        )
        assert closed["data"]["reserved_minor"] == 0


class TestOffers:
    async def test_are_sold_out_when_the_last_coupon_is_loaded(
        self, sessions: Sessions, enroller: Enroller, post: Post
    ) -> None:
        await post.endpoint(URL, events=["offer.sold_out"])
        offer_id = await make_offer(sessions, "Tea", coupons_max=2)
        for author in await make_members(sessions, 4):
            await load(enroller, [author], "tea")
        (sold_out,) = await told(sessions)
        assert (sold_out["subject"], sold_out["data"]["coupons_left"]) == (f"offer:{offer_id}", 0)

    async def test_are_low_once_for_each_budget(
        self, sessions: Sessions, enroller: Enroller, post: Post
    ) -> None:
        await post.endpoint(URL, events=["offer.budget_low"])
        offer_id = await make_offer(sessions, "Tea", budget_minor=5_000)
        authors = await make_members(sessions, 12)
        reserved = []
        for author in authors[:10]:
            await load(enroller, [author], "tea")
            reserved.append(len(await told(sessions)))
        assert reserved == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]
        # what closes gives back, and is taken again: it was said
        async with sessions.begin() as session:
            await session.execute(text("UPDATE offer_counters SET reserved_minor = 3500"))
        await load(enroller, authors[10:11], "tea")
        assert len(await told(sessions)) == 1
        async with sessions.begin() as session:
            grown = OfferChange(budget_minor=5_001)
            await change(session, offer_id=offer_id, changes=grown, by=OPERATOR, now=NOW)
        await load(enroller, authors[11:], "tea")
        (low, again) = await told(sessions)
        assert (low["data"]["reserved_minor"], again["data"]["budget_minor"]) == (4_000, 5_001)

    async def test_that_end_by_the_clock_or_by_hand_are_told_once(
        self, sessions: Sessions, post: Post
    ) -> None:
        await post.endpoint(URL)
        by_clock = await make_offer(sessions, "Tea")
        by_hand = await make_offer(sessions, "Cake")
        draft = await make_offer(sessions, "Scone", publish=False)
        for _ in range(2):
            for offer_id in (by_hand, draft):
                async with sessions.begin() as session:
                    await offers.end(session, offer_id=offer_id, by=OPERATOR, now=NOW)
            await run_job(sessions, "schedule", now=NOW + timedelta(days=11))
        assert [(one["event"], one["subject"]) for one in await told(sessions)] == [
            ("offer.ended", f"offer:{by_hand}"),
            ("offer.ended", f"offer:{by_clock}"),
        ]

    async def test_are_told_by_the_partners_own_request_too(
        self, client: httpx.AsyncClient, sessions: Sessions, make_key: MakeKey, post: Post
    ) -> None:
        endpoint = await post.endpoint(URL)
        offer_id = await make_offer(sessions, "Tea", ends_at="2099-01-01T00:00:00Z")
        async with sessions() as session:
            cafe = await partners.find_partner(session, ref_or_id="cafe")
        headers = {"Authorization": f"Bearer {await make_key('partner', cafe.id)}"}
        answer = await client.post(f"/v1/offers/{offer_id}/end", headers=headers)
        assert answer.status_code == 200, answer.text
        assert await post.deliveries("event, endpoint_id") == [("offer.ended", endpoint.id)]


class TestRedemptions:
    @pytest.fixture(autouse=True)
    async def shop(self, sessions: Sessions) -> None:
        await make_shop(sessions, "counter")

    async def test_are_told_in_each_state_with_the_figures_of_it(
        self, sessions: Sessions, enroller: Enroller, post: Post
    ) -> None:
        await post.endpoint(URL)
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        await load(enroller, [author], "tea")
        for kind, amount in (
            ("authorization", 2_000),
            ("clearing", 2_000),
            ("refund", 500),
            ("refund", 1_500),
        ):
            await pay(sessions, author, kind, amount, purchase_id="p")
        found = (await told(sessions))[1:]
        assert len({one["subject"] for one in found}) == 1
        shown = [
            (one["event"], one["sequence"], one["data"]["reward_minor"], one["data"]["spend_minor"])
            for one in found
        ]
        assert shown == [
            ("redemption.pending", 1, 0, 0),
            ("redemption.earned", 2, 500, 2_000),
            ("redemption.earned", 3, 500, 1_500),
            ("redemption.returned", 4, 0, 0),
        ]

    async def test_that_are_rejected_say_why(
        self, sessions: Sessions, enroller: Enroller, post: Post
    ) -> None:
        await post.endpoint(URL, events=["redemption.rejected"])
        await make_offer(sessions, "Tea", channel="online")
        (author,) = await make_members(sessions, 1)
        await load(enroller, [author], "tea")
        await pay(sessions, author, "clearing", 2_000)
        (rejected,) = await told(sessions)
        assert (rejected["data"]["state"], rejected["data"]["reason"]) == ("rejected", "channel")

    async def test_are_told_once_however_often_a_transaction_comes(
        self, sessions: Sessions, enroller: Enroller, post: Post
    ) -> None:
        await post.endpoint(URL, events=["redemption.earned"])
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        await load(enroller, [author], "tea")
        for _ in range(3):
            await pay(sessions, author, "clearing", 2_000, id="t", purchase_id="p")
        assert len(await told(sessions)) == 1

    async def test_are_what_the_partner_is_shown_of_them(
        self,
        client: httpx.AsyncClient,
        sessions: Sessions,
        enroller: Enroller,
        make_key: MakeKey,
        post: Post,
    ) -> None:
        await post.endpoint(URL)
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        await load(enroller, [author], "tea")
        await pay(sessions, author, "clearing", 2_000)
        await attribution.flush(sessions)
        async with sessions() as session:
            cafe = await partners.find_partner(session, ref_or_id="cafe")
        headers = {"Authorization": f"Bearer {await make_key('partner', cafe.id)}"}
        (shown,) = (await client.get("/v1/redemptions", headers=headers)).json()["items"]
        (earned,) = await told(sessions, "redemption.earned")
        assert earned["subject"] == f"redemption:{shown['id']}"
        both = earned["data"].keys() & shown.keys()
        assert {"buyer", "reward_minor", "purchased_at", "state", "offer"} <= both
        assert {name: earned["data"][name] for name in both} == {name: shown[name] for name in both}
        assert earned["data"].keys() - shown.keys() <= {"reason", "offer_id"}


class TestWhoIsTold:
    async def test_is_whoever_wants_the_event_of_his_own(
        self, sessions: Sessions, enroller: Enroller, post: Post
    ) -> None:
        everything = await post.endpoint(URL)
        await post.endpoint(URL, events=["offer.ended"])
        loaded = await post.endpoint(URL, events=["coupon.loaded", "offer.ended"])
        disabled = await post.endpoint(URL)
        await post.endpoint(URL, partner="rival")
        async with sessions.begin() as session:
            await notifications.change_endpoint(
                session, actor="t", endpoint_id=disabled.id, changes={"enabled": False}, now=NOW
            )
        await make_offer(sessions, "Tea")
        await load(enroller, await make_members(sessions, 1), "tea")
        found = await post.deliveries("endpoint_id, sequence")
        assert sorted(found) == sorted([(everything.id, 1), (loaded.id, 1)])

    async def test_is_told_from_the_moment_he_asks(
        self, sessions: Sessions, enroller: Enroller, post: Post
    ) -> None:
        """The enroller holds the offers in memory, from before."""
        await make_offer(sessions, "Tea")
        authors = await make_members(sessions, 3)
        await load(enroller, authors[:1], "tea")
        endpoint = await post.endpoint(URL)
        await load(enroller, authors[1:2], "tea")
        async with sessions.begin() as session:
            await notifications.delete_endpoint(
                session, actor="test", endpoint_id=endpoint.id, now=NOW
            )
        await load(enroller, authors[2:], "tea")
        assert [one["data"]["coupons_loaded"] for one in await told(sessions)] == [2]

    async def test_costs_no_statement_where_nobody_is(
        self, sessions: Sessions, enroller: Enroller, post: Post, statements: list[str]
    ) -> None:
        await make_shop(sessions, "counter")
        await make_offer(sessions, "Tea")
        authors = await make_members(sessions, 40)
        await load(enroller, authors[:1], "tea")  # the offers are in memory from here on

        async def counted(few: list[str]) -> tuple[int, int]:
            statements.clear()
            await load(enroller, few, "tea")
            loading = len(statements)
            statements.clear()
            await pay(sessions, few[0], "clearing", 2_000)
            return loading, len(statements)

        nobody = await counted(authors[1:3])
        about = [one for one in statements if "webhook" in one]
        assert all("EXISTS (SELECT FROM webhook_endpoints" in one for one in about), about
        await post.endpoint(URL, partner="rival")
        await load(enroller, authors[3:4], "tea")
        assert await counted(authors[4:6]) == nobody
        await post.endpoint(URL)
        await post.endpoint(URL)
        await load(enroller, authors[6:7], "tea")
        two, twenty = await counted(authors[7:9]), await counted(authors[9:40])
        assert two == twenty == (nobody[0] + 4, nobody[1] + 4)


class TestNumbers:
    async def test_have_no_hole_and_no_double_however_many_announce_at_once(
        self, sessions: Sessions, post: Post
    ) -> None:
        endpoint = await post.endpoint(URL)
        async with sessions() as session:
            cafe = await partners.find_partner(session, ref_or_id="cafe")
        callers = 8
        barrier = asyncio.Barrier(callers)

        class ChangedHisMindError(Exception):
            pass

        async def announce(number: int) -> None:
            events = [
                NewEvent(cafe.id, "offer.ended", subject, {"caller": number})
                # each in another order: no ring of locks comes of it
                for subject in (("a", "b", "a") if number % 2 else ("b", "a", "b"))
            ]
            await barrier.wait()
            async with sessions.begin() as session:
                await notifications.announce(session, events=events, now=NOW)
                await asyncio.sleep(0.01)
                if number % 4 == 3:
                    raise ChangedHisMindError

        for _ in range(4):
            ended = await asyncio.gather(
                *(announce(number) for number in range(callers)), return_exceptions=True
            )
            assert {type(one) for one in ended if one is not None} == {ChangedHisMindError}
        numbers: dict[str, list[int]] = {"a": [], "b": []}
        for subject, sequence, endpoint_id in await post.deliveries(
            "subject, sequence, endpoint_id"
        ):
            assert endpoint_id == endpoint.id
            numbers[subject].append(sequence)
        assert sorted(numbers["a"]) == list(range(1, 33))
        assert sorted(numbers["b"]) == list(range(1, 41))

    async def test_are_given_to_two_batches_of_one_offer_in_turn(
        self, sessions: Sessions, settings: Settings, post: Post
    ) -> None:
        await post.endpoint(URL)
        offer_id = await make_offer(sessions, "Tea")
        authors = await make_members(sessions, 8)
        lanes = [Enroller(sessions, settings) for _ in authors]
        await asyncio.gather(
            *(load(lane, [author], "tea") for lane, author in zip(lanes, authors, strict=True))
        )
        found = await told(sessions)
        assert {one["subject"] for one in found} == {f"offer:{offer_id}"}
        by_number = {one["sequence"]: one["data"]["coupons_loaded"] for one in found}
        assert by_number == {number: number for number in range(1, 9)}


class TestAPartnersTransaction:
    async def test_sees_and_tells_its_own_alone(self, sessions: Sessions, post: Post) -> None:
        own = await post.endpoint(URL)
        await post.endpoint(URL, partner="rival")
        ids: dict[str, UUID] = {}
        async with sessions.begin() as session:
            for ref in ("cafe", "rival"):
                ids[ref] = (await partners.find_partner(session, ref_or_id=ref)).id
        async with sessions.begin() as session:
            await confine(session, partner_id=ids["cafe"])
            events = [NewEvent(one, "offer.ended", "s", {}) for one in ids.values()]
            await notifications.announce(session, events=events, now=NOW)
            for table in ("webhook_endpoints", "webhook_deliveries", "webhook_sequences"):
                name = "id" if table == "webhook_endpoints" else "endpoint_id"
                seen = await session.scalars(text(f"SELECT {name} FROM {table}"))
                assert seen.all() == [own.id], table
        assert await post.deliveries("endpoint_id") == [(own.id,)]
