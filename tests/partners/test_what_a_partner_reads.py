"""No answer that a partner can get, by whatever route and filter, and nothing that is sent to him,
holds what names a post, its author, its minute, a member, a card, a coupon or a purchase.
"""

import io
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from app.config import Settings
from app.insight.exporting import MEDIA_TYPES
from app.kit.db import Sessions
from app.main import create_app
from app.notifications.domain import EVENTS, TEST, Claimed, message
from tests.partners.test_every_route import BODIES, EXPECTED, ask, filled
from tests.partners.world import Tenant, make_key_for, make_world
from tests.support import MakeKey

SECRETS = {
    "post id": "SELECT post_id FROM posts",
    "author id": "SELECT account_id FROM accounts",
    "handle": "SELECT handle FROM accounts",
    "member id": "SELECT id::text FROM members",
    "member ref": "SELECT ref FROM members",
    "card ref": "SELECT ref FROM cards",
    "coupon id": "SELECT id::text FROM coupons",
    "purchase": "SELECT ref FROM purchases",
    "transaction": "SELECT id FROM card_transactions",
    # in JSON, and as Parquet's columns are shown here
    "minute": (
        "SELECT to_char(posted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') || sign || "
        "to_char(posted_at AT TIME ZONE 'UTC', 'HH24:MI') "
        "FROM coupons, (VALUES ('T'), (' ')) AS of (sign)"
    ),
    "reach": "SELECT reach::text FROM posts",
    "key": "SELECT encode(hash, 'hex') FROM api_keys",
}
GROUPS = (
    "offer", "hashtag", "partner", "network", "channel", "customer_kind", "country", "day", "week",
)  # fmt: skip
# What each filter is tried with that is no list of values, or that a name of the world's is put in;
# a new filter needs a line here.
TRIED: dict[str, list[str]] = {
    "limit": ["5"],
    "month": ["2026-07", "2026-08"],
    "group_by": [*GROUPS, "offer,channel,customer_kind,day"],
    "offer": ["tea", "{offer_id}"],
    "offer_ref": ["tea"],
    "partner": ["cafe", "{partner}"],
    "hashtag": ["#TEA"],
    "network": ["x"],
    "country": ["US"],
    "currency": ["USD"],
    "endpoint": ["{endpoint_id}"],
    "costs": ["false"],
    "runs_from": ["2026-07-01T00:00:00Z"],
    "runs_until": ["2026-08-01T00:00:00Z"],
    "purchased_since": ["2026-07-01T00:00:00Z"],
    "purchased_until": ["2026-08-01T00:00:00Z"],
}
SINCE = {"since": "2026-07-01", "until": "2026-08-01"}
# with which a partner may not ask at all
REFUSED = {"posted_since": "2026-07-15T00:00:00Z", "posted_until": "2026-07-15T00:00:00Z"}


def values_of(parameter: dict[str, Any]) -> list[str]:
    name, schema = parameter["name"], parameter["schema"]
    if name in SINCE:
        is_day = "date" in {one.get("format") for one in (schema, *schema.get("anyOf", ()))}
        return [SINCE[name] if is_day else f"{SINCE[name]}T00:00:00Z"]
    schemas = [schema, schema.get("items", {}), *schema.get("anyOf", ())]
    listed = [value for one in schemas for value in one.get("enum", (one.get("const"),)) if value]
    return listed or TRIED[name]


def queries(operation: dict[str, Any]) -> Iterator[dict[str, str]]:
    """None, then each filter alone, beside what must be there; pages are followed instead."""
    parameters = [
        found
        for found in operation.get("parameters", ())
        if found["in"] == "query" and found["name"] not in ("cursor", *REFUSED)
    ]
    needed = {found["name"]: values_of(found)[0] for found in parameters if found["required"]}
    yield needed
    for found in parameters:
        for value in values_of(found):
            yield {**needed, found["name"]: value}


async def pages(
    client: httpx.AsyncClient, url: str, query: dict[str, str], headers: dict[str, str]
) -> AsyncIterator[httpx.Response]:
    while True:
        answer = await client.get(url, params=query, headers=headers)
        yield answer
        is_json = answer.headers["content-type"] == "application/json"
        cursor = answer.json().get("next_cursor") if is_json else None
        if cursor is None:
            return
        query = {**query, "cursor": cursor}


async def said(
    client: httpx.AsyncClient,
    settings: Settings,
    sessions: Sessions,
    *,
    role: str,
    key: str,
    named: dict[str, str],
) -> list[str]:
    """Every answer of every GET that the role may ask, headers and all, and for a partner's own key
    with every filter; then of whatever else it may do with what is its own.
    """
    paths = create_app(settings, sessions).openapi()["paths"]
    headers = {"Authorization": f"Bearer {key}"}
    found = []
    for route in EXPECTED:
        if route.method != "GET" or role not in route.who:
            continue
        url = filled(route.path, named)
        asked = queries(paths[route.path]["get"])
        for query in asked if role == "partner" else islice(asked, 1):
            given = {name: value.format(**named) for name, value in query.items()}
            async for answer in pages(client, url, given, headers):
                assert answer.status_code == 200, (route.path, query, answer.text)
                found.append(f"{route.path} {query}\n{answer.headers}\n{readable(answer)}")
        for parameter in paths[route.path]["get"].get("parameters", ()):
            if (name := parameter["name"]) in REFUSED:
                answer = await client.get(url, params={name: REFUSED[name]}, headers=headers)
                assert answer.status_code == 403, (route.path, name)
    for route in EXPECTED:
        if route.method == "GET" or role not in route.who:
            continue
        answer = await ask(client, route, key, named, BODIES.get(route.path))
        assert answer.is_success or answer.status_code in (409, 422), (route.path, answer.text)
        found.append(f"{route.path}\n{answer.headers}\n{answer.text}")
    return found


def readable(answer: httpx.Response) -> str:
    if answer.headers["content-type"] != MEDIA_TYPES["parquet"]:
        return answer.text
    return str(pq.read_table(io.BytesIO(answer.content)).to_pydict())


def holding(answers: list[str], secrets: dict[str, set[str]]) -> dict[str, str]:
    """Of each kind that some answer holds, the first such answer's request."""
    return {
        kind: answer.splitlines()[0]
        for answer in reversed(answers)
        for kind, values in secrets.items()
        if any(value in answer for value in values)
    }


@pytest.fixture
async def tenants(sessions: Sessions, settings: Settings) -> dict[str, Tenant]:
    return await make_world(sessions, settings)


@pytest.fixture
async def secrets(sessions: Sessions, tenants: dict[str, Tenant]) -> dict[str, set[str]]:
    async with sessions() as session:
        found = {kind: set(await session.scalars(text(query))) for kind, query in SECRETS.items()}
    assert all(found.values())
    return found


def rivals_names(tenants: dict[str, Tenant]) -> dict[str, set[str]]:
    return {"rival's": {*tenants["rival"].named.values(), "rival", "cake", "Cake"}}


class TestWhatAPartnerReads:
    async def test_names_nobody(
        self,
        client: httpx.AsyncClient,
        settings: Settings,
        sessions: Sessions,
        tenants: dict[str, Tenant],
        secrets: dict[str, set[str]],
    ) -> None:
        cafe = tenants["cafe"]
        analyst = await make_key_for(sessions, "analyst", bound=True)
        for role, key in (("bound", analyst), ("partner", cafe.key)):
            answers = await said(client, settings, sessions, role=role, key=key, named=cafe.named)
            assert holding(answers, {**secrets, **rivals_names(tenants)}) == {}
            assert any('"buyer":' in answer for answer in answers)
            assert any('"sales_minor":24000' in answer for answer in answers)

    async def test_names_nobody_where_it_is_sent_to_him(
        self, sessions: Sessions, tenants: dict[str, Tenant], secrets: dict[str, set[str]]
    ) -> None:
        async with sessions() as session:
            rows = await session.execute(
                text(
                    f"SELECT {', '.join(Claimed._fields[:-1])}, not_before "
                    "FROM webhook_deliveries WHERE endpoint_id = :id"
                ),
                {"id": tenants["cafe"].named["endpoint_id"]},
            )
            deliveries = [Claimed(*row) for row in rows]
        assert {one.event for one in deliveries} == {*EVENTS, TEST}
        bodies = [message(one) for one in deliveries]
        assert holding(bodies, {**secrets, **rivals_names(tenants)}) == {}

    async def test_would_be_found_if_it_named_them(
        self,
        client: httpx.AsyncClient,
        sessions: Sessions,
        secrets: dict[str, set[str]],
        make_key: MakeKey,
    ) -> None:
        """The same search finds them in what an operator reads."""
        headers = {"Authorization": f"Bearer {await make_key('operator')}"}
        async with sessions() as session:
            member_id = await session.scalar(text("SELECT id FROM members LIMIT 1"))
        answers = [
            readable(await client.get(f"/v1/{path}", headers=headers))
            for path in (
                "members",
                f"members/{member_id}/accounts",
                f"members/{member_id}/cards",
                f"members/{member_id}/coupons",
                f"members/{member_id}/export",
                "redemptions/export?format=parquet",
                "replies",
            )
        ]
        assert set(holding(answers, secrets)) == secrets.keys() - {"key"}
