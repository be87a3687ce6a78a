"""No answer that a partner can get, by whatever route and filter, holds what names a post, its
author, a member, a card or a coupon.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.config import Settings
from app.kit.db import Sessions
from app.main import create_app
from tests.partners.test_every_route import EXPECTED, filled
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
    "key": "SELECT encode(hash, 'hex') FROM api_keys",
}
GROUPS = (
    "offer", "hashtag", "partner", "network", "channel", "customer_kind", "country", "day",
)  # fmt: skip
# What each filter is tried with that is no list of values; a new filter needs a line here.
TRIED: dict[str, list[str]] = {
    "limit": ["5"],
    "partner": ["cafe"],
    "month": ["2026-07", "2026-08"],
    "since": ["2026-07-01"],
    "until": ["2026-08-01"],
    "group_by": [*GROUPS, ",".join(GROUPS)],
}


def values_of(parameter: dict[str, Any]) -> list[str]:
    schemas = [parameter["schema"], *parameter["schema"].get("anyOf", ())]
    listed = [value for schema in schemas for value in schema.get("enum", ())]
    return listed or TRIED[parameter["name"]]


def queries(operation: dict[str, Any]) -> Iterator[dict[str, str]]:
    """None, then each filter alone, beside what must be there; pages are followed instead."""
    parameters = [
        found
        for found in operation.get("parameters", ())
        if found["in"] == "query" and found["name"] != "cursor"
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
        cursor = answer.json().get("next_cursor") if answer.is_success else None
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
    """Every answer of every GET that the role may ask, headers and all."""
    paths = create_app(settings, sessions).openapi()["paths"]
    headers = {"Authorization": f"Bearer {key}"}
    found = []
    for route in EXPECTED:
        if route.method != "GET" or role not in route.who:
            continue
        for query in queries(paths[route.path]["get"]):
            async for answer in pages(client, filled(route.path, named), query, headers):
                assert answer.status_code == 200, (route.path, query, answer.text)
                found.append(f"{route.path} {query}\n{answer.headers}\n{answer.text}")
    return found


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
        rivals = {"rival's": {*tenants["rival"].named.values(), "rival", "cake", "Cake"}}
        for role, key in (("partner", cafe.key), ("bound", analyst)):
            answers = await said(client, settings, sessions, role=role, key=key, named=cafe.named)
            assert holding(answers, {**secrets, **rivals}) == {}
            assert any('"buyer":' in answer for answer in answers)
            assert any('"sales_minor":24000' in answer for answer in answers)

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
            (await client.get(f"/v1/{path}", headers=headers)).text
            for path in (
                "members",
                f"members/{member_id}/accounts",
                f"members/{member_id}/cards",
                f"members/{member_id}/coupons",
                "replies",
            )
        ]
        assert set(holding(answers, secrets)) == secrets.keys() - {"key"}
