"""Who is answered what by which route: every role, no key, a key that has ended, and a partner that
asks for what is another's.
"""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.kit.db import Sessions
from app.main import create_app
from app.partners.service import ensure_partner
from tests.partners.world import Tenant, make_key_for, make_world

# Of each route: what whoever may call it is told when he names nothing that exists and sends {},
# and who that is. `bound` is a partner's analyst; `open` needs no key. Whoever else has a key is
# told 403, and who has none, or one that has ended, 401.
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
GET    /v1/members/{member_id}/accounts                      404 operator issuer
POST   /v1/members/{member_id}/accounts                      422 operator issuer
DELETE /v1/members/{member_id}/accounts/{network}/{account_id} 404 operator issuer
GET    /v1/members/{member_id}/cards                         404 operator issuer
POST   /v1/members/{member_id}/cards                         422 operator issuer
DELETE /v1/members/{member_id}/cards/{card_ref}              404 operator issuer
GET    /v1/members/{member_id}/claims                        404 operator issuer
POST   /v1/members/{member_id}/claims                        422 operator issuer
GET    /v1/members/{member_id}/coupons                       200 operator issuer
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
GET    /v1/replies                                           200 operator
POST   /v1/replies/pause                                     204 operator
POST   /v1/replies/resume                                    204 operator
POST   /v1/transactions                                      422 operator issuer processor
POST   /v1/transactions/batch                                200 operator issuer processor
"""
ROLES = ("operator", "issuer", "processor", "partner", "analyst")
# what a route may name and no partner owns
_OF_NOBODY = {
    "post_id": "1",
    "transaction_id": "t-0",
    "card_ref": "c-0",
    "network": "x",
    "account_id": "1",
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
        if caller in ("no key", "expired", "revoked"):
            return 401
        return self.status if caller in self.who else 403


EXPECTED = [Expected(line) for line in MATRIX.strip().splitlines()]


def operations(app: FastAPI) -> set[Cell]:
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    return {(method.upper(), path) for path, found in paths.items() for method in found}


def filled(path: str, named: dict[str, str]) -> str:
    nobody = {name: str(uuid4()) for name in ("key_id", "merchant_id", "offer_id", "partner")}
    others = {name: str(uuid4()) for name in ("member_id", "claim_id", "batch_id")}
    return path.format(**{**_OF_NOBODY, **others, **nobody, **named})


async def ask(
    client: httpx.AsyncClient, route: Expected, key: str | None, named: dict[str, str]
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = None if route.method == "GET" else {}
    return await client.request(route.method, filled(route.path, named), headers=headers, json=body)


@pytest.fixture
async def tenants(sessions: Sessions, settings: Settings) -> dict[str, Tenant]:
    return await make_world(sessions, settings)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"wrong_keys_per_minute": 0})


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
            "expired": await make_key_for(sessions, "operator", ending="expired"),
            "revoked": await make_key_for(sessions, "operator", ending="revoked"),
            **{role: await make_key_for(sessions, role) for role in ROLES},
            "bound": await make_key_for(sessions, "analyst", bound=True),
        }
        wrong = []
        for route in EXPECTED:
            callers = ["no key"] if route.is_open else list(keys)
            answers = await asyncio.gather(
                *(ask(client, route, keys[caller], {}) for caller in callers)
            )
            for caller, answer in zip(callers, answers, strict=True):
                if answer.status_code != route.of(caller):
                    cell = f"{route.method} {route.path} to {caller}"
                    wrong.append(f"{cell}: {answer.status_code}, not {route.of(caller)}")
        assert not wrong, "\n".join(wrong)

    async def test_tells_a_partner_nothing_of_what_is_anothers(
        self, client: httpx.AsyncClient, sessions: Sessions, tenants: dict[str, Tenant]
    ) -> None:
        keys = {
            "partner": tenants["cafe"].key,
            "bound": await make_key_for(sessions, "analyst", bound=True),
        }
        tried = 0
        for route in EXPECTED:
            if not any(f"{{{name}}}" in route.path for name in tenants["cafe"].named):
                continue
            for caller in keys.keys() & route.who:
                told = [
                    await ask(client, route, keys[caller], named)
                    for named in ({}, tenants["rival"].named, tenants["cafe"].named)
                ]
                nobodys, rivals, own = told
                where = (route.method, route.path, caller, rivals.text)
                assert (nobodys.status_code, rivals.status_code) == (404, 404), where
                assert nobodys.json()["code"] == rivals.json()["code"], where
                allowed = {200} if route.method == "GET" else {200, 201, 204, 409}
                assert own.status_code in allowed, (*where[:3], own.text)
                tried += 1
        assert tried > 15

    async def test_knows_no_other_partner_by_a_filter_or_a_body(
        self, client: httpx.AsyncClient, tenants: dict[str, Tenant]
    ) -> None:
        headers = {"Authorization": f"Bearer {tenants['cafe'].key}"}
        for rival in ("rival", tenants["rival"].named["partner"], "nobody"):
            params = {"partner": rival}
            answer = await client.get("/v1/merchants", headers=headers, params=params)
            assert (answer.status_code, answer.json()["code"]) == (404, "partner_not_found")
