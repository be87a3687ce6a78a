"""From a purchase to the sales that an analyst reads."""

import random
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.config import Settings
from app.insight import attribution
from app.kit.db import Sessions
from app.partners import service as partners
from app.posts.enrol import Enroller
from tests.programme import NOW, make_members, make_offer, make_post, make_shop, pay
from tests.support import MakeKey


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


async def read(sessions: Sessions, *dimensions: str) -> list[dict[str, Any]]:
    await attribution.flush(sessions)
    async with sessions.begin() as session:
        return await attribution.attribution(session, group_by=dimensions)


class TestASale:
    async def test_is_credited_to_its_hashtag(self, sessions: Sessions, loaded: list[str]) -> None:
        await pay(sessions, loaded[0], "clearing", 2_000)
        await pay(sessions, loaded[1], "clearing", 3_000)
        (row,) = await read(sessions, "hashtag", "partner")
        assert row == {
            "hashtag": "Tea", "partner": "cafe", "currency": "USD", "posts": 3, "reach": 300,
            "coupons": 3, "redemptions": 2, "sales_minor": 5_000, "reward_minor": 1_000,
            "refunded_minor": 0,
        }  # fmt: skip

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
        assert row["refunded_minor"] == 2_000

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

    async def test_counts_the_time_from_the_post_in_doubling_buckets(
        self, sessions: Sessions, loaded: list[str]
    ) -> None:
        for hours in (0, 2, 30):
            at = NOW + timedelta(hours=hours - 1)  # the post was an hour and a minute before NOW
            await pay(sessions, loaded[0], "clearing", 1_000, occurred_at=at)
        await attribution.flush(sessions)
        async with sessions.begin() as session:
            found = await session.scalars(
                text("SELECT delay_bucket FROM sales_days ORDER BY delay_bucket")
            )
            assert list(found) == [0, 2, 5]


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
            sales = await session.execute(
                text(
                    "SELECT channel, customer_kind, count(*) FILTER (WHERE state = 'earned'), "
                    "sum(spend_minor), sum(reward_minor), sum(refunded_minor) FROM sales "
                    "WHERE state IN ('earned', 'returned') GROUP BY 1, 2 ORDER BY 1, 2"
                )
            )
            rollup = await session.execute(
                text(
                    "SELECT channel, customer_kind, sum(redemptions), sum(sales_minor), "
                    "sum(reward_minor), sum(refunded_minor) FROM sales_days "
                    "GROUP BY 1, 2 HAVING sum(sales_minor) + sum(refunded_minor) > 0 ORDER BY 1, 2"
                )
            )
            assert rollup.all() == sales.all()
            rewards = await session.scalar(text("SELECT sum(reward_minor) FROM sales_days"))
            transfers = await session.scalar(
                text(
                    "SELECT sum(CASE credit_account WHEN 'member_due' THEN amount_minor "
                    "ELSE -amount_minor END) FROM transfers"
                )
            )
            assert rewards == transfers > 0


class TestOverHttp:
    async def test_a_partner_sees_its_own_sales_alone(
        self, client: httpx.AsyncClient, sessions: Sessions, loaded: list[str], make_key: MakeKey
    ) -> None:
        for _ in range(attribution.GROUP_MIN):
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

    async def test_an_unknown_dimension_is_named(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        headers = {"Authorization": f"Bearer {await make_key('analyst')}"}
        answer = await client.get("/v1/attribution?group_by=colour", headers=headers)
        assert answer.status_code == 422
        assert "'colour'" in answer.json()["detail"]
