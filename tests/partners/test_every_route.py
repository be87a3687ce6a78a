"""Who is answered what by which route: every role, no key, and a partner that asks for what is
another's.
"""

import asyncio
import json
import re
from string import Formatter
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.kit.db import Sessions
from app.main import create_app
from app.partners.service import ensure_partner
from tests.offers.over_http import terms
from tests.partners.test_proposals import PLACE
from tests.partners.world import Tenant, make_key_for, make_world

AS_OF = re.compile(r'"as_of":"[^"]+"')  # the moment itself

# Of each route: what whoever may call it is told when he names nothing that exists and sends {},
# and who that is. `bound` is a partner's analyst; `open` needs no key. Whoever else has a key is
# told 403, and who has none 401.
# A new route needs a line here.
MATRIX = """
GET    /healthz                                              200 open
GET    /readyz                                               200 open
GET    /metrics                                              200 open
GET    /webhooks/x                                           422 open
POST   /webhooks/x                                           503 open
GET    /v1/adjustments                                       200 operator
POST   /v1/adjustments                                       422 operator
GET    /v1/api-keys                                          200 operator partner
POST   /v1/api-keys                                          422 operator
GET    /v1/api-keys/current                                  200 everybody
DELETE /v1/api-keys/{key_id}                                 404 operator
PATCH  /v1/api-keys/{key_id}                                 422 operator
POST   /v1/api-keys/{key_id}/rotate                          404 operator partner
GET    /v1/attribution                                       200 operator partner analyst bound
GET    /v1/audit-entries                                     200 operator
GET    /v1/claims                                            200 operator issuer
GET    /v1/claims/{claim_id}                                 404 operator issuer
POST   /v1/claims/{claim_id}/accept                          422 operator
POST   /v1/claims/{claim_id}/refuse                          422 operator
GET    /v1/costs                                             200 operator analyst
GET    /v1/credit-batches                                    200 operator issuer
POST   /v1/credit-batches                                    204 operator issuer
GET    /v1/credit-batches/{batch_id}                         404 operator issuer
POST   /v1/credit-batches/{batch_id}/acknowledge             404 operator issuer
GET    /v1/explain/posts/{post_id}                           200 operator issuer
GET    /v1/explain/transactions/{transaction_id}             200 operator issuer
GET    /v1/invoices                                          422 operator partner
GET    /v1/members                                           200 operator issuer
POST   /v1/members                                           422 operator issuer
GET    /v1/members/{member_id}                               404 operator issuer
DELETE /v1/members/{member_id}                               404 operator issuer
GET    /v1/members/{member_id}/accounts                      404 operator issuer
POST   /v1/members/{member_id}/accounts                      422 operator issuer
DELETE /v1/members/{member_id}/accounts/{network}/{account_id} 404 operator issuer
GET    /v1/members/{member_id}/cards                         404 operator issuer
POST   /v1/members/{member_id}/cards                         422 operator issuer
DELETE /v1/members/{member_id}/cards/{card_ref}              404 operator issuer
GET    /v1/members/{member_id}/claims                        404 operator issuer
POST   /v1/members/{member_id}/claims                        422 operator issuer
GET    /v1/members/{member_id}/coupons                       404 operator issuer
GET    /v1/members/{member_id}/export                        404 operator issuer
GET    /v1/merchants                                         200 operator partner
POST   /v1/merchants                                         422 operator partner
GET    /v1/merchants/{merchant_id}                           404 operator partner
PATCH  /v1/merchants/{merchant_id}                           404 operator partner
DELETE /v1/merchants/{merchant_id}                           404 operator partner
POST   /v1/merchants/{merchant_id}/confirm                   404 operator
POST   /v1/merchants/{merchant_id}/refuse                    422 operator
GET    /v1/offers                                            200 operator partner analyst bound
POST   /v1/offers                                            422 operator partner
GET    /v1/offers/{offer_id}                                 404 operator partner analyst bound
PATCH  /v1/offers/{offer_id}                                 404 operator partner
POST   /v1/offers/{offer_id}/announce                        404 operator
POST   /v1/offers/{offer_id}/approve                         404 operator
POST   /v1/offers/{offer_id}/dry-run                         404 operator partner
POST   /v1/offers/{offer_id}/end                             404 operator partner
POST   /v1/offers/{offer_id}/pause                           404 operator partner
GET    /v1/offers/{offer_id}/performance                     404 operator partner analyst bound
POST   /v1/offers/{offer_id}/publish                         404 operator partner
POST   /v1/offers/{offer_id}/refuse                          422 operator
POST   /v1/offers/{offer_id}/resume                          404 operator partner
GET    /v1/offers/{offer_id}/versions                        404 operator partner analyst bound
POST   /v1/offers/{offer_id}/withdraw                        404 operator partner
GET    /v1/partners                                          200 operator
POST   /v1/partners                                          422 operator
GET    /v1/partners/{partner}                                404 operator partner
PATCH  /v1/partners/{partner}                                404 operator
POST   /v1/posts                                             200 operator issuer
GET    /v1/redemptions                                       200 operator partner analyst bound
GET    /v1/redemptions/export                                200 operator partner analyst bound
GET    /v1/redemptions/{redemption_id}                       404 operator partner analyst bound
GET    /v1/replies                                           200 operator
POST   /v1/replies/pause                                     204 operator
POST   /v1/replies/resume                                    204 operator
POST   /v1/transactions                                      422 operator issuer processor
POST   /v1/transactions/batch                                200 operator issuer processor
GET    /v1/webhook-deliveries                                200 operator partner
POST   /v1/webhook-deliveries/{delivery_id}/replay           404 operator partner
GET    /v1/webhook-endpoints                                 200 operator partner
POST   /v1/webhook-endpoints                                 422 operator partner
GET    /v1/webhook-endpoints/{endpoint_id}                   404 operator partner
PATCH  /v1/webhook-endpoints/{endpoint_id}                   404 operator partner
POST   /v1/webhook-endpoints/{endpoint_id}/replay            422 operator partner
POST   /v1/webhook-endpoints/{endpoint_id}/rotate-secret     404 operator partner
POST   /v1/webhook-endpoints/{endpoint_id}/test              404 operator partner
DELETE /v1/webhook-endpoints/{endpoint_id}                   404 operator partner
"""
ROLES = ("operator", "issuer", "processor", "partner", "analyst")
# what a route may name and no partner owns; any other name is of something's id
_OF_NOBODY = {"post_id": "1", "transaction_id": "t-0", "card_ref": "c-0", "network": "x"}
# What gets past the reading of a body, for whoever is to be told what there is of others.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/webhook-endpoints/{endpoint_id}/replay": {
        "since": "2026-07-15T00:00:00Z",
        "until": "2026-07-16T00:00:00Z",
    },
}
# What names another partner, whoever that is.
NAMING: dict[str, dict[str, Any]] = {
    "/v1/merchants": PLACE,
    "/v1/offers": terms(),
    "/v1/webhook-endpoints": {"url": "https://127.0.0.1/hooks"},
}
# Filters that may name what is another's: how a route names it, what the rival's is called, and
# what nobody's is.
OF_ANOTHER = {
    "partner": ("partner", "rival", "nobody"),
    "offer": ("offer_id", "cake", "bread"),
    "offer_ref": ("offer_id", "cake", "bread"),
    "hashtag": ("offer_id", "Cake", "Bread"),
    "endpoint": ("endpoint_id",),
}
Cell = tuple[str, str]


class Expected:
    def __init__(self, line: str) -> None:
        self.method, self.path, status, *who = line.split()
        self.status = int(status)
        self.who = {*ROLES, "bound"} if who == ["everybody"] else set(who)

    @property
    def is_open(self) -> bool:
        return "open" in self.who

    def of(self, caller: str) -> int:
        if self.is_open:
            return self.status
        if caller == "no key":
            return 401
        return self.status if caller in self.who else 403


EXPECTED = [Expected(line) for line in MATRIX.strip().splitlines()]


def operations(app: FastAPI) -> set[Cell]:
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    return {(method.upper(), path) for path, found in paths.items() for method in found}


def filled(path: str, named: dict[str, str]) -> str:
    names = [name for _, name, _, _ in Formatter().parse(path) if name]
    return path.format(**{name: str(uuid4()) for name in names} | _OF_NOBODY | named)


async def ask(
    client: httpx.AsyncClient,
    route: Expected,
    key: str | None,
    named: dict[str, str],
    body: dict[str, Any] | None = None,
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return await client.request(
        route.method,
        filled(route.path, named),
        headers=headers,
        json=None if route.method == "GET" else body or {},
    )


@pytest.fixture
async def tenants(sessions: Sessions, settings: Settings) -> dict[str, Tenant]:
    return await make_world(sessions, settings)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"wrong_keys_per_minute": 0})


def nobodys(of: Tenant) -> dict[str, str]:
    """Names that are nobody's, of all that this partner has names for."""
    return {name: str(uuid4()) for name in of.named}


def same(answer: httpx.Response, named: dict[str, str]) -> dict[str, Any]:
    """What it says whatever was named."""
    text = answer.text
    for value in named.values():
        text = text.replace(value, "…")
    said: dict[str, Any] = json.loads(text)
    return said


class TestEveryRoute:
    def test_has_its_line(self, settings: Settings, sessions: Sessions) -> None:
        lines = [(route.method, route.path) for route in EXPECTED]
        assert len(lines) == len(set(lines))
        assert operations(create_app(settings, sessions)) == set(lines)

    async def test_answers_each_caller_as_its_line_says(
        self, client: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        async with sessions.begin() as session:
            await ensure_partner(session, ref="cafe")
        keys: dict[str, str | None] = {
            "no key": None,
            **{role: await make_key_for(sessions, role) for role in ROLES},
            "bound": await make_key_for(sessions, "analyst", bound=True),
        }
        wrong = []
        for route in EXPECTED:
            # a partner exports one file at a time, his analyst's among them
            for callers in [["no key"]] if route.is_open else [["no key", *ROLES], ["bound"]]:
                answers = await asyncio.gather(
                    *(ask(client, route, keys[caller], {}) for caller in callers)
                )
                for caller, answer in zip(callers, answers, strict=True):
                    if answer.status_code != route.of(caller):
                        cell = f"{route.method} {route.path} to {caller}"
                        wrong.append(f"{cell}: {answer.status_code}, not {route.of(caller)}")
        assert not wrong, "\n".join(wrong)

    @pytest.mark.parametrize("ending", ["expired", "revoked"])
    async def test_refuses_a_key_that_has_ended(
        self, client: httpx.AsyncClient, sessions: Sessions, ending: str
    ) -> None:
        key = await make_key_for(sessions, "operator", ending=ending)
        for route in {route.method: route for route in EXPECTED if not route.is_open}.values():
            answer = await ask(client, route, key, {})
            assert answer.status_code == 401, (route.method, route.path)

    async def test_tells_a_partner_nothing_of_what_is_anothers(
        self, client: httpx.AsyncClient, sessions: Sessions, tenants: dict[str, Tenant]
    ) -> None:
        keys = {
            "partner": tenants["cafe"].key,
            "bound": await make_key_for(sessions, "analyst", bound=True),
        }
        nobodys_names = nobodys(tenants["rival"])
        tried = 0
        for route in EXPECTED:
            if not any(f"{{{name}}}" in route.path for name in tenants["cafe"].named):
                continue
            for caller in keys.keys() & route.who:
                body = BODIES.get(route.path)
                unknown, rivals, own = [
                    await ask(client, route, keys[caller], named, body)
                    for named in (nobodys_names, tenants["rival"].named, tenants["cafe"].named)
                ]
                where = (route.method, route.path, caller, rivals.text)
                assert (unknown.status_code, rivals.status_code) == (404, 404), where
                assert same(unknown, nobodys_names) == same(rivals, tenants["rival"].named), where
                allowed = {200} if route.method == "GET" else {200, 201, 204, 409}
                assert own.status_code in allowed, (*where[:3], own.text)
                tried += 1
        assert tried > 25

    async def test_knows_no_other_partner_by_a_filter(
        self,
        client: httpx.AsyncClient,
        settings: Settings,
        sessions: Sessions,
        tenants: dict[str, Tenant],
    ) -> None:
        """Nor anything of another's."""
        headers = {"Authorization": f"Bearer {tenants['cafe'].key}"}
        rival, nobody = tenants["rival"].named, nobodys(tenants["rival"])
        paths = create_app(settings, sessions).openapi()["paths"]
        tried = 0
        for route in EXPECTED:
            if route.method != "GET" or "partner" not in route.who or "{" in route.path:
                continue
            asked = {one["name"] for one in paths[route.path]["get"].get("parameters", ())}
            for name, (kind, *refs) in OF_ANOTHER.items():
                if name not in asked:
                    continue
                for pair in ([rival[kind], nobody[kind]], refs or [rival[kind], nobody[kind]]):
                    told, expected = [
                        await client.get(route.path, params={name: value}, headers=headers)
                        for value in pair
                    ]
                    where = (route.path, name, told.text)
                    assert told.status_code == expected.status_code, where
                    told_text = told.text.replace(pair[0], pair[1])
                    assert AS_OF.sub("", told_text) == AS_OF.sub("", expected.text), where
                    tried += 1
        assert tried > 15

    @pytest.mark.parametrize("path", NAMING)
    async def test_takes_nothing_for_another_partner(
        self, client: httpx.AsyncClient, tenants: dict[str, Tenant], path: str
    ) -> None:
        headers = {"Authorization": f"Bearer {tenants['cafe'].key}"}
        rival = tenants["rival"].named["partner"]
        for partner in ("rival", rival, "nobody", str(uuid4())):
            body = {**NAMING[path], "partner": partner}
            answer = await client.post(path, headers=headers, json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "partner_not_found")
        own = await client.post(path, headers=headers, json={**NAMING[path], "partner": "cafe"})
        assert own.status_code == 201, own.text
