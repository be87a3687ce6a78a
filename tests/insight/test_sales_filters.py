"""Redemptions as they are asked for, and who may ask for what."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from app.config import Settings
from app.database import Database
from app.insight import attribution, queries
from app.insight.filters import Filters, conditions
from app.kit.db import Sessions
from app.kit.ids import new_id
from app.partners import service as partners
from app.partners.tenancy import confine
from app.posts.enrol import Enroller
from tests.programme import NOW, make_members, make_offer, make_post, make_shop, pay
from tests.support import Analyse, MakeKey

YEN = {"currency": "JPY", "occurred_at": NOW + timedelta(hours=2)}
SALES = 30_000
_MANY = """
    INSERT INTO sales (redemption_id, offer_id, partner_id, buyer, network, hashtag, posted_at,
                       purchased_at, channel, customer_kind, country, state, currency,
                       spend_minor, reward_minor, refunded_minor)
    SELECT gen_random_uuid(), CASE WHEN n % 1000 = 7 THEN :soup ELSE gen_random_uuid() END,
           (SELECT partner_id FROM offers), n, 'x', 'tea', now(),
           CAST(:now AS timestamptz) + n * interval '1 minute', 'online', 'new',
           CASE WHEN n % 1000 = 8 THEN 'FR' ELSE 'US' END,
           CASE WHEN n % 1000 = 9 THEN 'returned' ELSE 'earned' END, 'USD', 1, 1, 0
    FROM generate_series(1, :number) n
"""


@pytest.fixture
async def sold(sessions: Sessions, settings: Settings) -> None:
    """A tea of 20.00 and one of 30.00 that went back, a soup of 700 yen online and one that cost
    too little.
    """
    await make_shop(sessions, "counter")
    await make_shop(sessions, "site", partner="kitchen", channel="online", country="FR")
    await make_offer(sessions, "Thé", offer_ref="tea", redemptions_per_coupon=5)
    await make_offer(sessions, "Soup", partner="kitchen", currency="JPY", min_spend_minor=500,
                     redemptions_per_coupon=5)  # fmt: skip
    (account,) = await make_members(sessions, 1)
    posts = [
        make_post(account, "thé", posted_at=NOW - timedelta(hours=3)),
        make_post(account, "soup", posted_at=NOW - timedelta(hours=1)),
    ]
    await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)
    await pay(sessions, account, "clearing", 2_000)
    await pay(sessions, account, "clearing", 3_000, purchase_id="back")
    await pay(sessions, account, "refund", 3_000, purchase_id="back")
    await pay(sessions, account, "clearing", 700, acceptor_id="site", **YEN)
    await pay(sessions, account, "clearing", 100, acceptor_id="site", **YEN)
    await attribution.flush(sessions)


async def get(client: httpx.AsyncClient, key: str, query: str = "") -> httpx.Response:
    return await client.get(f"/v1/redemptions{query}", headers={"Authorization": f"Bearer {key}"})


async def as_partner(sessions: Sessions, statement: str) -> None:
    async with sessions.begin() as session:
        await confine(session, partner_id=new_id())
        await session.execute(text(statement))


@pytest.mark.usefixtures("sold")
class TestAList:
    async def test_is_of_what_every_filter_leaves(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        key = await make_key("analyst")
        tea, soup = [2_000, 0], [700, 100]
        expected = {
            "": tea + soup, "offer=tea": tea, "offer=tea&offer=soup": tea + soup,
            "partner=kitchen": soup, "partner=cafe&hashtag=soup": [],
            "hashtag=%23TH%C3%89": tea, "hashtag=the%CC%81": tea, "hashtag=the": [],
            "network=x": tea + soup, "network=bluesky": [],
            "channel=online": soup, "customer_kind=new": [2_000, 700], "customer_kind=lapsed": [],
            "country=FR": soup, "currency=USD": tea, "state=earned": [2_000, 700],
            "state=earned&state=returned": [*tea, 700], "reason=below_minimum": [100],
            "purchased_since=2026-07-15T13:00:00Z": soup,
            "purchased_until=2026-07-15T14:00:00%2B02:00": [],
            "posted_since=2026-07-15T10:00Z": soup,
            "posted_until=2026-07-15T10:00Z&state=earned": [2_000],
        }  # fmt: skip
        found = {}
        for query in expected:
            answer = await get(client, key, f"?{query}")
            assert answer.status_code == 200, answer.text
            found[query] = [item["spend_minor"] for item in answer.json()["items"]]
        assert found == expected

    async def test_goes_on_page_by_page_with_its_filters(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        key = await make_key("analyst")
        seen, query = [], "?currency=JPY&limit=1"
        while query:
            page = (await get(client, key, query)).json()
            seen += [item["spend_minor"] for item in page["items"]]
            query = page["next_cursor"] and f"?currency=JPY&limit=1&cursor={page['next_cursor']}"
        assert seen == [700, 100]

    @pytest.mark.parametrize("query", ["offer=none", "partner=none", "state=lost", "country=fr"])
    async def test_refuses_what_nothing_can_be(
        self, client: httpx.AsyncClient, make_key: MakeKey, query: str
    ) -> None:
        answer = await get(client, await make_key("analyst"), f"?{query}")
        assert answer.status_code == 422

    async def test_has_each_by_its_id(self, client: httpx.AsyncClient, make_key: MakeKey) -> None:
        key = await make_key("analyst")
        item = (await get(client, key, "?reason=below_minimum")).json()["items"][0]
        assert (await get(client, key, f"/{item['id']}")).json() == item
        assert (await get(client, key, f"/{uuid4()}")).status_code == 404


@pytest.mark.usefixtures("sold")
class TestAPartner:
    async def test_does_not_learn_the_minute_of_a_post_or_anything_of_another(
        self, client: httpx.AsyncClient, sessions: Sessions, make_key: MakeKey
    ) -> None:
        async with sessions.begin() as session:
            kitchen = await partners.find_partner(session, ref_or_id="kitchen")
        key = await make_key("partner", kitchen.id)
        statuses = {
            query: (await get(client, key, query)).status_code
            for query in ("", "?offer=soup", "?offer=tea", "?partner=cafe",
                          "?posted_since=2026-07-15T10:00Z", "?posted_until=2026-07-15T10:00Z")
        }  # fmt: skip
        assert list(statuses.values()) == [200, 200, 422, 422, 403, 403]
        items = (await get(client, key)).json()["items"]
        assert {item["partner"] for item in items} == {"kitchen"}
        (other,) = (await get(client, await make_key("analyst"), "?offer=tea&limit=1")).json()[
            "items"
        ]
        assert (await get(client, key, f"/{other['id']}")).status_code == 404


@pytest.mark.usefixtures("sold")
class TestAPseudonym:
    async def test_is_one_buyers_at_one_partner_and_of_no_use_to_another(
        self, sessions: Sessions
    ) -> None:
        async with sessions.begin() as session:
            buyers = await session.execute(
                text("SELECT partner_id, count(*), count(DISTINCT buyer), min(buyer) FROM sales "
                     "GROUP BY 1")
            )  # fmt: skip
            rows = buyers.all()
            assert [(row[1], row[2]) for row in rows] == [(2, 1), (2, 1)]
            assert rows[0][3] != rows[1][3]

    async def test_cannot_be_made_from_the_ids_without_the_secret(self, sessions: Sessions) -> None:
        ask = "SELECT buyer_pseudonym(gen_random_uuid(), gen_random_uuid())"
        async with sessions.begin() as session:
            assert len(await session.scalar(text(ask)) or "") == 20
        with pytest.raises(DBAPIError, match="permission denied"):
            async with sessions.begin() as session:
                await session.execute(text("SELECT secret FROM pseudonym_secrets"))
        for statement in (ask, "SELECT secret FROM pseudonym_secrets"):
            with pytest.raises(DBAPIError, match="permission denied"):
                await as_partner(sessions, statement)


class TestAFilteredPage:
    async def test_is_found_by_an_index(
        self, sessions: Sessions, database: Database, server: Any, analyse: Analyse
    ) -> None:
        """Among many of the usual kind, of which few are special."""
        offer_id = await make_offer(sessions, "Soup")
        url = server.administration.url.set(database=make_url(database.url).database)
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            # as a replica: no foreign key asks for a redemption of each
            await connection.execute(text("SET LOCAL session_replication_role = replica"))
            await connection.execute(text(_MANY), {"soup": offer_id, "now": NOW, "number": SALES})
        await engine.dispose()
        await analyse("sales", "offers", "partners")
        wanted = {
            "pk_sales": Filters(),
            "ix_sales_offer_id": Filters(offer=("soup",)),
            "ix_sales_state": Filters(state=("returned",)),
            "ix_sales_country": Filters(country=("FR",)),
            "ix_sales_purchased_at": Filters.model_validate(
                {"purchased_until": "2026-07-15T12:30Z"}
            ),
        }
        async with sessions.begin() as session:
            for index, one in wanted.items():
                query = queries.page_of_sales(
                    await conditions(session, one), after=None, limit=101, for_partner=False
                ).compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})  # type: ignore[no-untyped-call]
                plan = "\n".join(await session.scalars(text(f"EXPLAIN {query}")))
                assert index in plan, plan
                assert "Seq Scan on sales" not in plan
