"""What users of other promotion engines complain of, each tried here on the real service."""

import asyncio
import csv
import io
import itertools
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.config import Settings
from app.insight import attribution, exporting
from app.insight.verify import verify
from app.kit.db import Sessions
from app.offers import service as offers
from app.offers.changing import change
from app.offers.schemas import OfferChange
from app.posts.enrol import Enroller
from app.redemptions import queries
from app.upkeep.jobs import run_job
from tests.programme import NOW, OPERATOR, make_members, make_offer, make_post, make_shop, pay
from tests.support import Analyse, MakeKey

DAY = timedelta(days=1)


async def load(sessions: Sessions, settings: Settings, tag: str, *accounts: str) -> list[str]:
    """What became of a post of each."""
    posts = [make_post(account, tag) for account in accounts]
    enrolled = await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)
    return [outcome for one in enrolled for outcome in one.outcomes]


async def figures(sessions: Sessions, query: str) -> list[tuple[object, ...]]:
    async with sessions() as session:
        return [tuple(row) for row in await session.execute(text(query))]


async def all_agrees(sessions: Sessions) -> bool:
    async with sessions.begin() as session:
        return not any(finding.wrong for finding in await verify(session))


COUPONS = "SELECT spent_minor, uses, closed_at IS NOT NULL FROM coupons ORDER BY id"
RESERVED = "SELECT coupons_loaded, reserved_minor FROM offer_counters"


class TestTwoBuyersRedeemTheLastCoupon:
    """saleor 544 and 15855, vendure 4660, pretix 6396, eventyay 1398, django-oscar 2101."""

    async def test_of_many_posts_at_once_only_the_cap_loads(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea", coupons_max=3)
        accounts = await make_members(sessions, 24)
        told = await asyncio.gather(
            *(load(sessions, settings, "tea", account) for account in accounts)
        )
        assert sorted(itertools.chain(*told)) == ["loaded"] * 3 + ["sold_out"] * 21
        assert await figures(sessions, RESERVED) == [(3, 1_500)]

    async def test_of_many_purchases_at_once_only_one_uses_the_coupon(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_shop(sessions, "counter")
        await make_offer(sessions, "Tea")
        (account,) = await make_members(sessions, 1)
        await load(sessions, settings, "tea", account)
        answers = await asyncio.gather(
            *(pay(sessions, account, "clearing", 2_000) for _ in range(16))
        )
        assert sum(answer.reward_minor for answer in answers) == 500
        assert await figures(sessions, COUPONS) == [(500, 1, False)]
        assert await all_agrees(sessions)


class TestAnUnlockedCounterRevertLosesAConcurrentSpend:
    """medusa 16595."""

    async def test_closing_and_loading_at_once_lose_nothing(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea", coupon_valid_days=1)
        before, after = await make_members(sessions, 20), await make_members(sessions, 20)
        await load(sessions, settings, "tea", *before)
        closing = run_job(sessions, "close", now=NOW + 40 * DAY)
        loading = [load(sessions, settings, "tea", account) for account in after]
        closed, *told = await asyncio.gather(closing, *loading)
        assert closed >= len(before)
        assert told == [["loaded"]] * len(after)
        left = len(before) + len(after) - closed
        assert await figures(sessions, RESERVED) == [(40, left * 500)]
        assert await all_agrees(sessions)


class TestACancelDoesNotGiveTheUseBack:
    """vendure 1466, sylius 10125, magento2 19545, mitxpro 1025: some want it back, others not."""

    @pytest.mark.parametrize(("policy", "second"), [("restore", 500), ("burn", 0)])
    async def test_it_is_the_offers_policy(
        self, sessions: Sessions, settings: Settings, policy: str, second: int
    ) -> None:
        await make_shop(sessions, "counter")
        await make_offer(sessions, "Tea", refund_policy=policy)
        (account,) = await make_members(sessions, 1)
        await load(sessions, settings, "tea", account)
        await pay(sessions, account, "clearing", 2_000, purchase_id="first")
        await pay(sessions, account, "refund", 2_000, purchase_id="first")
        answer = await pay(sessions, account, "clearing", 2_000, purchase_id="second")
        assert answer.reward_minor == second

    async def test_an_authorisation_that_is_cancelled_always_does(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_shop(sessions, "counter")
        await make_offer(sessions, "Tea", refund_policy="burn")
        (account,) = await make_members(sessions, 1)
        await load(sessions, settings, "tea", account)
        await pay(sessions, account, "authorization", 2_000, purchase_id="first")
        await pay(sessions, account, "reversal", 2_000, purchase_id="first")
        answer = await pay(sessions, account, "clearing", 2_000, purchase_id="second")
        assert answer.reward_minor == 500


async def test_a_partial_return_leaves_no_reward_below_its_minimum_spend(
    sessions: Sessions, settings: Settings
) -> None:
    """Complaint: sonata 177."""
    await make_shop(sessions, "counter")
    await make_offer(sessions, "Tea", min_spend_minor=2_000)
    (account,) = await make_members(sessions, 1)
    await load(sessions, settings, "tea", account)
    kept = await pay(sessions, account, "clearing", 2_500, purchase_id="p")
    fallen = await pay(sessions, account, "refund", 501, purchase_id="p")
    assert (kept.reward_minor, fallen.reward_minor, fallen.decision) == (500, 0, "returned")
    assert await all_agrees(sessions)


class TestARefundThatCannotBeLinkedToAPurchase:
    """opencollective 7463."""

    async def test_finds_the_newest_of_the_card_at_the_partner_of_which_enough_is_left(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_shop(sessions, "counter")
        await make_offer(sessions, "Tea")
        (account,) = await make_members(sessions, 1)
        await load(sessions, settings, "tea", account)
        await pay(sessions, account, "clearing", 2_000, purchase_id="first")
        await pay(sessions, account, "clearing", 100, purchase_id="small", occurred_at=NOW + DAY)
        answer = await pay(
            sessions, account, "refund", 2_000, purchase_id=None, occurred_at=NOW + 2 * DAY
        )
        assert (answer.purchase_id, answer.decision) == ("first", "returned")

    async def test_is_kept_and_shown_when_there_is_none(self, sessions: Sessions) -> None:
        await make_shop(sessions, "counter")
        (account,) = await make_members(sessions, 1)
        answer = await pay(sessions, account, "refund", 2_000, purchase_id=None)
        assert answer.status == "unmatched"
        kept = "SELECT count(*) FROM card_transactions WHERE purchase_id IS NULL"
        assert await figures(sessions, kept) == [(1,)]


async def test_a_split_shipment_does_not_pay_twice(sessions: Sessions, settings: Settings) -> None:
    """Complaint: CompLinks 232."""
    await make_shop(sessions, "counter")
    await make_offer(sessions, "Tea", redemptions_per_coupon=2)
    (account,) = await make_members(sessions, 1)
    await load(sessions, settings, "tea", account)
    for amount in (1_000, 700, 300):
        answer = await pay(sessions, account, "clearing", amount, purchase_id="p")
    assert answer.reward_minor == 500
    assert await figures(sessions, COUPONS) == [(500, 1, False)]


class TestValidityInTheWrongTimeZone:
    """mitxpro 991, edd 7492, woocommerce-android 16279."""

    @pytest.mark.parametrize(
        ("zone", "midnight"),
        [
            ("Pacific/Auckland", datetime(2026, 7, 17, 12, tzinfo=UTC)),
            ("UTC", datetime(2026, 7, 18, 0, tzinfo=UTC)),
            ("America/Los_Angeles", datetime(2026, 7, 18, 7, tzinfo=UTC)),
        ],
    )
    async def test_a_coupon_ends_at_the_offers_own_midnight(
        self, sessions: Sessions, settings: Settings, zone: str, midnight: datetime
    ) -> None:
        await make_offer(sessions, "Tea", time_zone=zone, coupon_last_day="2026-07-17",
                         ends_at="2026-07-17T06:00:00Z")  # fmt: skip
        await load(sessions, settings, "tea", *await make_members(sessions, 1))
        assert await figures(sessions, "SELECT valid_until FROM coupons") == [(midnight,)]

    async def test_expiry_does_not_drift_on_each_save(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        offer_id = await make_offer(sessions, "Tea", time_zone="Europe/Paris")
        await load(sessions, settings, "tea", *await make_members(sessions, 1))
        ends = "SELECT o.ends_at, c.valid_until FROM offers o, coupons c"
        before = await figures(sessions, ends)
        for number in range(5):
            changes = OfferChange.model_validate({"min_spend_minor": number + 1})
            async with sessions.begin() as session:
                await change(session, offer_id=offer_id, changes=changes, by=OPERATOR, now=NOW)
                shown = await offers.get(session, offer_id=offer_id)
        assert shown[0].version == 6
        assert await figures(sessions, ends) == before


@pytest.mark.parametrize(
    ("currency", "spend", "reward"),
    [("USD", 1_015, 34), ("JPY", 1_015, 34), ("BHD", 12_345, 411), ("USD", 15, 0), ("USD", 16, 1)],
)
async def test_rounding_is_once_and_half_up_whatever_the_currencys_decimals(
    sessions: Sessions, settings: Settings, currency: str, spend: int, reward: int
) -> None:
    """Complaint: recurly-js 993, polar 10091. Here 3.33 % in whole cents, yen and fils."""
    await make_shop(sessions, "counter")
    share = {"basis_points": 333, "max_minor": 100_000}
    await make_offer(sessions, "Tea", currency=currency, reward=share)
    (account,) = await make_members(sessions, 1)
    await load(sessions, settings, "tea", account)
    halves = [spend // 2, spend - spend // 2]
    for amount in halves:
        answer = await pay(
            sessions, account, "clearing", amount, purchase_id="p", currency=currency
        )
    assert answer.reward_minor == reward


async def test_a_clients_retry_does_not_charge_twice(
    client, sessions: Sessions, settings: Settings, make_key: MakeKey
) -> None:
    """Complaint: akash 3449. The same request again, in turn and at once, after who knows what."""
    await make_shop(sessions, "counter")
    await make_offer(sessions, "Tea")
    (account,) = await make_members(sessions, 1)
    await load(sessions, settings, "tea", account)
    body = {
        "id": "T1", "type": "clearing", "purchase_id": "P1", "card_ref": f"c-{account}",
        "acquirer_id": "ACQ", "acceptor_id": "counter", "amount_minor": 2_000,
        "currency": "USD", "occurred_at": NOW.isoformat(),
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {await make_key('processor')}"}
    answers = await asyncio.gather(
        *(client.post("/v1/transactions", json=body, headers=headers) for _ in range(8))
    )
    answers.append(await client.post("/v1/transactions", json=body, headers=headers))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert await figures(sessions, "SELECT sum(amount_minor)::int FROM transfers") == [(500,)]


async def test_100_000_coupons_are_not_scanned_for_one_purchase(
    sessions: Sessions, analyse: Analyse
) -> None:
    """Complaint: craft-commerce 3202, solidus 600. Counting uses by scanning caused an outage."""
    offer_id = await make_offer(sessions, "Tea")
    rows = "generate_series(1, 100000) AS n"
    async with sessions.begin() as session:
        for statement in (
            f"INSERT INTO members (id, ref) SELECT uuidv7(), 'm' || n FROM {rows}",
            f"""
            INSERT INTO coupons (id, offer_id, offer_version, member_id, network, post_id,
                                 posted_at, loaded_at, valid_until, reserved_minor, uses_max)
            SELECT uuidv7(), '{offer_id}', 1, id, 'x', ref, now(), now(),
                   now() + interval '30 days', 500, 1
            FROM members
            """,
            "UPDATE offer_counters SET coupons_loaded = 100000, reserved_minor = 50000000",
        ):
            await session.execute(text(statement))
    await analyse("members", "coupons", "offers")
    async with sessions() as session:
        partner_id = await session.scalar(text("SELECT partner_id FROM offers"))
        member_id = await session.scalar(text("SELECT id FROM members WHERE ref = 'm77777'"))
        found = await session.execute(
            text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {queries._COUPONS}"),  # noqa: SLF001
            {"members": [member_id], "partners": [partner_id]},
        )
        plan = found.scalar_one()[0]["Plan"]
    assert plan["Actual Rows"] == 1
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 50


async def test_one_tenant_does_not_see_anothers_data(
    client, sessions: Sessions, make_key: MakeKey
) -> None:
    """Complaint: vendure 2052, 4117."""
    for partner, tag in (("cafe", "Tea"), ("rival", "Cake")):
        await make_offer(sessions, tag, partner=partner)
        await make_shop(sessions, f"of-{partner}", partner=partner)
    ids = dict(await figures(sessions, "SELECT ref, id FROM partners"))
    offer_ids = dict(await figures(sessions, "SELECT ref, id FROM offers"))
    headers = {"Authorization": f"Bearer {await make_key('partner', ids['cafe'])}"}
    own = (await client.get("/v1/offers", headers=headers)).json()["items"]
    assert [offer["offer_ref"] for offer in own] == ["tea"]
    places = (await client.get("/v1/merchants", headers=headers)).json()["items"]
    assert [place["acceptor_id"] for place in places] == ["of-cafe"]
    for method, path in (
        ("GET", ""), ("GET", "/performance"), ("GET", "/versions"), ("POST", "/pause"),
        ("POST", "/end"), ("PATCH", ""),
    ):  # fmt: skip
        url = f"/v1/offers/{offer_ids['cake']}{path}"
        body = {"min_spend_minor": 1} if method == "PATCH" else None
        answer = await client.request(method, url, headers=headers, json=body)
        assert answer.status_code == 404, (method, path, answer.text)
    assert await figures(sessions, "SELECT DISTINCT state FROM offers") == [("live",)]


async def test_an_export_misses_no_row_while_rows_arrive(
    sessions: Sessions, settings: Settings
) -> None:
    """Complaint: saleor 5023, pretix 5835."""
    await make_shop(sessions, "counter")
    await make_offer(sessions, "Tea", redemptions_per_coupon=1_000)
    (account,) = await make_members(sessions, 1)
    await load(sessions, settings, "tea", account)
    for _ in range(50):
        await pay(sessions, account, "clearing", 2_000)

    async def exported() -> set[str]:
        out = io.BytesIO()
        async with sessions.begin() as session:
            await exporting.export(session, "redemptions", file_format="csv", out=out)
        names = [
            row["redemption_id"] for row in csv.DictReader(io.StringIO(out.getvalue().decode()))
        ]
        assert len(names) == len(set(names))
        return set(names)

    before = await exported()
    assert len(before) == 50
    arriving = [pay(sessions, account, "clearing", 2_000) for _ in range(50)]
    *_, during = await asyncio.gather(*arriving, exported())
    assert before <= during
    await attribution.flush(sessions)
    after = await exported()
    assert during <= after
    assert len(after) == 100
