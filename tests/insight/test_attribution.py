"""From a purchase to the sales that an analyst reads."""

import random
from datetime import date, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.config import Settings
from app.errors import Invalid
from app.insight import attribution
from app.insight.attribution import Asked
from app.insight.filters import Dimensions
from app.insight.suppression import GROUP_MIN
from app.insight.verify import verify
from app.kit.db import Sessions
from app.partners import service as partners
from app.posts.enrol import Enroller
from tests.programme import NOW, make_members, make_offer, make_post, make_shop, pay
from tests.support import MakeKey, Tagback

# from each table, and from several at once
GROUPINGS = (
    (), ("offer",), ("hashtag", "partner"), ("day",), ("channel",), ("customer_kind", "week"),
    ("country",), ("channel", "offer"), ("channel", "customer_kind", "day"), ("hour",),
    ("hour", "channel"),
)  # fmt: skip


@pytest.fixture
async def loaded(sessions: Sessions, settings: Settings) -> list[str]:
    """Three members who posted an hour ago and hold a coupon of 5 USD back, at two shops."""
    await make_shop(sessions, "counter")
    await make_shop(sessions, "site", channel="online")
    await make_offer(sessions, "Tea", redemptions_per_coupon=50)
    accounts = await make_members(sessions, 3)
    posts = [
        make_post(account, "tea", posted_at=NOW - timedelta(hours=1, minutes=1))
        for account in accounts
    ]
    await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)
    return accounts


async def ask(sessions: Sessions, *dimensions: str, **asked: Any) -> attribution.Attribution:
    await attribution.flush(sessions)
    if "wanted" in asked:
        asked["wanted"] = Dimensions.model_validate(asked["wanted"])
    async with sessions.begin() as session:
        return await attribution.attribution(session, Asked(group_by=dimensions, **asked))


async def read(sessions: Sessions, *dimensions: str, **asked: Any) -> list[dict[str, Any]]:
    return (await ask(sessions, *dimensions, **asked)).items


class TestASale:
    async def test_is_credited_to_its_hashtag(self, sessions: Sessions, loaded: list[str]) -> None:
        await pay(sessions, loaded[0], "clearing", 2_000)
        await pay(sessions, loaded[1], "clearing", 3_000)
        (row,) = await read(sessions, "hashtag", "partner")
        assert row == {
            "hashtag": "Tea", "partner": "cafe", "currency": "USD", "posts": 3, "reach": 300,
            "coupons": 3, "activation_rate": 1.0, "redemptions": 2, "redemption_rate": 0.6667,
            "returned": 0, "refunds": 0, "sales_minor": 5_000, "reward_minor": 1_000,
            "refunded_minor": 0, "return_on_spend": 5.0, "average_basket_minor": 2_500,
            "median_minutes": row["median_minutes"], "p90_minutes": row["p90_minutes"],
            "x_cost_microusd": None,
        }  # fmt: skip
        # 61, by a bucket that begins after 51 and ends before 64
        assert 51 <= row["median_minutes"] <= row["p90_minutes"] <= 64

    async def test_that_is_refunded_leaves_again(
        self, sessions: Sessions, loaded: list[str]
    ) -> None:
        await pay(sessions, loaded[0], "clearing", 2_000, purchase_id="a")
        await read(sessions)
        await pay(sessions, loaded[0], "refund", 500, purchase_id="a")
        (row,) = await read(sessions)
        assert (row["redemptions"], row["sales_minor"], row["refunded_minor"]) == (1, 1_500, 500)
        await pay(sessions, loaded[0], "refund", 1_500, purchase_id="a")
        (row,) = await read(sessions)
        assert (row["redemptions"], row["sales_minor"], row["reward_minor"]) == (0, 0, 0)
        assert (row["refunded_minor"], row["returned"], row["refunds"]) == (2_000, 1, 1)
        assert (row["return_on_spend"], row["average_basket_minor"]) == (None, None)

    async def test_that_fell_below_the_minimum_is_one_no_more(
        self, sessions: Sessions, loaded: list[str]
    ) -> None:
        await make_offer(sessions, "Cake", min_spend_minor=1_000)
        posts = [make_post(loaded[0], "cake", posted_at=NOW - timedelta(hours=2))]
        await Enroller(sessions, Settings()).enrol(posts, source="test", now=NOW)
        await pay(sessions, loaded[0], "clearing", 2_000, purchase_id="a")
        await pay(sessions, loaded[0], "refund", 1_500, purchase_id="a")
        (row,) = await read(sessions, wanted={"offer": ["cake"]})
        found = [row[name] for name in ("redemptions", "returned", "sales_minor", "reward_minor")]
        assert (found, row["refunded_minor"]) == ([0, 1, 0, 0], 1_500)

    async def test_that_never_cleared_is_none(self, sessions: Sessions, loaded: list[str]) -> None:
        await pay(sessions, loaded[0], "authorization", 2_000)
        (row,) = await read(sessions)
        assert (row["redemptions"], row["sales_minor"]) == (0, 0)

    async def test_is_told_apart_by_channel_where_posts_have_none(
        self, sessions: Sessions, loaded: list[str]
    ) -> None:
        await pay(sessions, loaded[0], "clearing", 2_000)
        await pay(sessions, loaded[1], "clearing", 700, acceptor_id="site")
        rows = await read(sessions, "channel")
        assert [(r["channel"], r["sales_minor"], r["posts"]) for r in rows] == [
            ("in_store", 2_000, None),
            ("online", 700, None),
        ]


class TestTheRollup:
    async def test_equals_the_sales_whatever_happened_and_whenever_it_was_followed(
        self, sessions: Sessions, loaded: list[str]
    ) -> None:
        chance = random.Random(7)
        purchases = [f"p-{number}" for number in range(25)]
        for step in range(140):
            purchase = chance.choice(purchases)
            kind = chance.choices(
                ("authorization", "clearing", "refund", "reversal"), (4, 5, 2, 1)
            )[0]
            number = purchases.index(purchase)
            await pay(
                sessions, loaded[number % 3], kind, chance.randrange(1, 3_000),
                purchase_id=purchase, acceptor_id=chance.choice(("counter", "site")),
                occurred_at=NOW - timedelta(minutes=chance.randrange(60)),
            )  # fmt: skip
            if step % 9 == 0:
                await attribution.flush(sessions)
        await attribution.flush(sessions)
        async with sessions.begin() as session:
            assert [finding for finding in await verify(session) if finding.wrong] == []
            rewards = await session.scalar(
                text(
                    "SELECT sum(CASE credit_account WHEN 'member_due' THEN amount_minor "
                    "ELSE -amount_minor END) FROM transfers WHERE code = 'reward'"
                )
            )
            bought = await session.execute(
                text(
                    "SELECT count(*) FILTER (WHERE r.state = 'earned'), "
                    "sum(p.net_minor) FILTER (WHERE r.state = 'earned'), "
                    "sum(p.cleared_minor - p.net_minor) "
                    "FROM redemptions r JOIN purchases p ON p.id = r.purchase_id "
                    "WHERE r.state IN ('earned', 'returned')"
                )
            )
        assert rewards > 0
        expected = (*bought.one(), rewards)
        names = ("redemptions", "sales_minor", "refunded_minor", "reward_minor")
        days = {"since": NOW.date() - timedelta(days=1), "until": NOW.date()}
        for dimensions in GROUPINGS:
            found = await ask(sessions, *dimensions, **days)
            (total,) = found.totals
            assert tuple(total[name] for name in names) == expected, dimensions
            assert tuple(sum(row[name] for row in found.items) for name in names) == expected

    async def test_is_made_anew(
        self, sessions: Sessions, loaded: list[str], tagback: Tagback
    ) -> None:
        await pay(sessions, loaded[0], "clearing", 2_000)
        before = await read(sessions, "offer")
        async with sessions.begin() as session:
            await session.execute(text("UPDATE sales_days SET redemptions = 7"))
        ran = await tagback("attribution", "rebuild")
        assert (ran.status, ran.out) == (0, "1 redemptions followed\n")
        assert await read(sessions, "offer") == before

    async def test_says_how_far_it_has_followed(
        self, sessions: Sessions, loaded: list[str]
    ) -> None:
        """A change that waits was made before the answer; once it is followed nothing waits."""
        await pay(sessions, loaded[0], "clearing", 2_000)
        async with sessions.begin() as session:
            waiting = await attribution.attribution(session, Asked())
            changed_at = await session.scalar(text("SELECT max(at) FROM redemption_changes"))
            now = await session.scalar(text("SELECT now()"))
        assert waiting.as_of == changed_at < now
        followed = await ask(sessions)
        assert followed.as_of > now


class TestGroups:
    async def test_are_hours_days_and_weeks_that_begin_on_monday(
        self, sessions: Sessions, loaded: list[str]
    ) -> None:
        for account, hours in zip(loaded, (0, 1, 24), strict=True):
            at = NOW + timedelta(hours=hours)
            await pay(sessions, account, "clearing", 1_000, occurred_at=at)
        days = {"since": NOW.date(), "until": NOW.date() + timedelta(days=1)}
        found = {}
        for name in ("hour", "day", "week"):
            rows = await read(sessions, name, **days)
            found[name] = [(str(row[name])[:13], row["posts"], row["redemptions"]) for row in rows]
        assert found == {
            "hour": [("2026-07-15 10", 3, 0), ("2026-07-15 12", 0, 1), ("2026-07-15 13", 0, 1),
                     ("2026-07-16 12", 0, 1)],
            "day": [("2026-07-15", 3, 2), ("2026-07-16", 0, 1)],
            "week": [("2026-07-13", 3, 3)],
        }  # fmt: skip

    async def test_are_what_the_filters_leave(self, sessions: Sessions, loaded: list[str]) -> None:
        await pay(sessions, loaded[0], "clearing", 2_000)
        await pay(sessions, loaded[1], "clearing", 700, acceptor_id="site")
        for wanted, expected in (
            ({"channel": ["online"]}, [(None, 700)]),
            ({"channel": ["online"], "hashtag": ["#TEA"]}, [(None, 700)]),
            ({"partner": ["cafe"], "network": ["x"]}, [(3, 2_700)]),
            ({"currency": ["EUR"]}, []),
            ({"customer_kind": ["new"], "country": ["US"]}, [(None, 2_700)]),
        ):
            rows = await read(sessions, wanted=wanted)
            assert [(row["posts"], row["sales_minor"]) for row in rows] == expected, wanted

    async def test_of_the_same_ref_stay_apart(self, sessions: Sessions, loaded: list[str]) -> None:
        await pay(sessions, loaded[0], "clearing", 2_000)
        offer_id = await make_offer(sessions, "Bun", partner="rival", offer_ref="tea")
        posts = [make_post(loaded[0], "bun")]
        await Enroller(sessions, Settings()).enrol(posts, source="test", now=NOW)
        rows = {row["offer_id"]: row for row in await read(sessions, "offer")}
        assert [row["offer"] for row in rows.values()] == ["tea", "tea"]
        assert rows[offer_id]["posts"] == 1

    async def test_cost_what_was_sent_and_read_for_them(
        self, sessions: Sessions, settings: Settings, loaded: list[str]
    ) -> None:
        await make_offer(sessions, "Soup")
        posts = [make_post(loaded[0], "soup"), make_post(loaded[1], "soup")]
        await Enroller(sessions, settings).enrol(posts, source="x:activity", now=NOW)
        price = {"read_price_microusd": 5_000}
        assert {
            row["offer"]: row["x_cost_microusd"] for row in await read(sessions, "offer", **price)
        } == {"soup": 10_000, "tea": 0}
        assert [row["x_cost_microusd"] for row in await read(sessions, "day", **price)] == [None]

    async def test_cost_what_was_read_on_a_day_without_a_post_of_its_own(
        self, sessions: Sessions, settings: Settings, loaded: list[str]
    ) -> None:
        late = make_post(loaded[0], "tea", posted_at=NOW - timedelta(days=1))
        await Enroller(sessions, settings).enrol(
            [late], source="x:activity", now=NOW + timedelta(days=1)
        )
        tomorrow = {"since": NOW.date() + timedelta(days=1), "read_price_microusd": 5_000}
        (row,) = await read(sessions, "offer", **tomorrow)
        assert (row["offer"], row["posts"], row["x_cost_microusd"]) == ("tea", 0, 5_000)

    @pytest.mark.parametrize(
        "asked",
        [
            {"group_by": ["hour"]},
            {"group_by": ["hour"], "since": date(2026, 1, 1), "until": date(2026, 2, 1)},
            {"group_by": ["offer", "day", "network", "channel", "country"]},
            {"since": date(2026, 1, 2), "until": date(2026, 1, 1)},
        ],
        ids=["hours of all time", "hours of 32 days", "five dimensions", "backwards"],
    )
    async def test_are_bounded(self, sessions: Sessions, asked: dict[str, Any]) -> None:
        async with sessions.begin() as session:
            with pytest.raises(Invalid):
                await attribution.attribution(session, Asked(**asked))

    async def test_are_of_all_days_there_are(self, sessions: Sessions, loaded: list[str]) -> None:
        del loaded
        for dimension in ("offer", "channel"):
            everything = await read(sessions, dimension)
            assert everything == await read(
                sessions, dimension, since=date.min, until=date.max, read_price_microusd=None
            )


class TestOverHttp:
    async def test_a_partner_sees_its_own_sales_alone(
        self, client: httpx.AsyncClient, sessions: Sessions, loaded: list[str], make_key: MakeKey
    ) -> None:
        for _ in range(GROUP_MIN):
            await pay(sessions, loaded[0], "clearing", 200)
        await attribution.flush(sessions)
        async with sessions.begin() as session:
            cafe = await partners.find_partner(session, ref_or_id="cafe")
            rival = await partners.ensure_partner(session, ref="rival")
        seen = {}
        for partner in (cafe, rival):
            key = await make_key("partner", partner.id)
            headers = {"Authorization": f"Bearer {key}"}
            rows = await client.get("/v1/attribution?group_by=offer,day", headers=headers)
            sales = await client.get("/v1/redemptions?state=earned", headers=headers)
            # with the time of the purchase it would tell whose post it was
            assert {sale["minutes_from_post"] for sale in sales.json()["items"]} <= {None}
            seen[partner.ref] = (
                [row["sales_minor"] for row in rows.json()["items"]],
                sum(sale["spend_minor"] for sale in sales.json()["items"]),
            )
        assert seen == {"cafe": ([2_000], 2_000), "rival": ([], 0)}

    async def test_a_partner_is_not_shown_a_group_that_is_a_person(
        self, client: httpx.AsyncClient, sessions: Sessions, loaded: list[str], make_key: MakeKey
    ) -> None:
        await pay(sessions, loaded[0], "clearing", 2_000)
        await attribution.flush(sessions)
        async with sessions.begin() as session:
            cafe = await partners.find_partner(session, ref_or_id="cafe")
        key = await make_key("partner", cafe.id)
        answer = await client.get("/v1/attribution", headers={"Authorization": f"Bearer {key}"})
        (row,) = answer.json()["items"]
        assert {row[name] for name in ("posts", "reach", "sales_minor", "redemptions")} == {None}

    async def test_a_partner_cannot_take_what_it_sees_from_a_sum(
        self, client: httpx.AsyncClient, sessions: Sessions, loaded: list[str], make_key: MakeKey
    ) -> None:
        """Two sales online are all sales less those in the shop: so neither is told."""
        for number in range(GROUP_MIN + 2):
            acceptor_id = "site" if number < 2 else "counter"
            await pay(sessions, loaded[0], "clearing", 200, acceptor_id=acceptor_id)
        await attribution.flush(sessions)
        async with sessions.begin() as session:
            cafe = await partners.find_partner(session, ref_or_id="cafe")
        keys = {"partner": await make_key("partner", cafe.id), "analyst": await make_key("analyst")}
        seen: dict[str, list[Any]] = {}
        withheld: dict[str, list[int]] = {}
        for role, key in keys.items():
            headers = {"Authorization": f"Bearer {key}"}
            seen[role], withheld[role] = [], []
            for query in ("group_by=", "group_by=channel", "group_by=&channel=in_store",
                          "group_by=&channel=online"):  # fmt: skip
                answer = (await client.get(f"/v1/attribution?{query}", headers=headers)).json()
                seen[role].append([row["sales_minor"] for row in answer["items"]])
                withheld[role].append(answer["withheld"])
                told = [row["sales_minor"] for row in answer["totals"]]
                shown = [row["sales_minor"] for row in answer["items"] if row["sales_minor"]]
                assert told == [sum(shown) or None]
        assert seen == {
            "partner": [[2_400], [None, None], [None], [None]],
            "analyst": [[2_400], [2_000, 400], [2_000], [400]],
        }
        assert withheld == {"partner": [1, 2, 1, 1], "analyst": [0, 0, 0, 0]}

    async def test_a_partner_cannot_find_a_return_in_a_sum(
        self, client: httpx.AsyncClient, sessions: Sessions, loaded: list[str], make_key: MakeKey
    ) -> None:
        """Online nothing was sold and kept, but one purchase came back: it is somebody's."""
        for _ in range(GROUP_MIN):
            await pay(sessions, loaded[0], "clearing", 200)
        for kind in ("clearing", "refund"):
            await pay(sessions, loaded[1], kind, 700, acceptor_id="site", purchase_id="back")
        await attribution.flush(sessions)
        async with sessions.begin() as session:
            cafe = await partners.find_partner(session, ref_or_id="cafe")
        headers = {"Authorization": f"Bearer {await make_key('partner', cafe.id)}"}
        answer = await client.get("/v1/attribution?group_by=channel", headers=headers)
        assert [row["refunded_minor"] for row in answer.json()["items"]] == [None, None]

    async def test_what_x_costs_is_not_a_partners_affair(
        self, client: httpx.AsyncClient, sessions: Sessions, make_key: MakeKey
    ) -> None:
        async with sessions.begin() as session:
            cafe = await partners.ensure_partner(session, ref="cafe")
        for key, status in (
            (await make_key("partner", cafe.id), 403),
            (await make_key("analyst"), 200),
        ):
            headers = {"Authorization": f"Bearer {key}"}
            answer = await client.get("/v1/attribution?costs=true", headers=headers)
            assert answer.status_code == status

    async def test_an_unknown_dimension_is_named(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        headers = {"Authorization": f"Bearer {await make_key('analyst')}"}
        answer = await client.get("/v1/attribution?group_by=4111111111111111", headers=headers)
        assert "4111" not in answer.text
        answer = await client.get("/v1/attribution?group_by=colour", headers=headers)
        assert answer.status_code == 422
        assert "'colour'" in answer.json()["detail"]
