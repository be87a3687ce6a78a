"""A member says that a purchase is missing: told at once what is known, decided once, paid once."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.claims import service
from app.errors import Conflict
from app.kit.db import Sessions
from app.kit.ids import new_id
from tests.builders import NOON, add_member
from tests.support import MakeKey
from tests.till import NOW, Till, make_transaction

ADJUSTMENTS = "SELECT ref, member_id, partner_id, amount_minor, funded_by, reason FROM adjustments"
ACCEPTED = {"amount_minor": 300, "funded_by": "programme", "reason": "The shop was not registered"}
MALFORMED: tuple[dict[str, Any], ...] = (
    {"amount_minor": 0},
    {"currency": "XYZ"},
    {"occurred_at": "yesterday"},
    {"note": ""},
    {"note": "my card is 4111 1111 1111 1111"},
    {"ref": "4111111111111111"},
    {"partner": "4111111111111111"},
    {"transaction_id": "4111111111111111"},
    {"transaction_id": "a\x00b"},
    {"state": "accepted"},
)


@pytest.fixture
async def till(sessions: Sessions) -> Till:
    return await Till.open(sessions)


@pytest.fixture
async def operator(client: httpx.AsyncClient, make_key: MakeKey) -> httpx.AsyncClient:
    client.headers["Authorization"] = f"Bearer {await make_key('operator')}"
    return client


@pytest.fixture
async def issuer(make_key: MakeKey) -> dict[str, str]:
    return {"Authorization": f"Bearer {await make_key('issuer')}"}


def wanted(**changes: Any) -> dict[str, Any]:
    usual = {
        "ref": "call-1",
        "amount_minor": 4_000,
        "currency": "USD",
        "occurred_at": "2026-03-02T12:00:00Z",
        "note": "Nothing came back for my lunch",
    }
    return usual | changes


async def send(client: httpx.AsyncClient, member_id: UUID, **changes: Any) -> httpx.Response:
    return await client.post(f"/v1/members/{member_id}/claims", json=wanted(**changes))


async def made(client: httpx.AsyncClient, till: Till, **changes: Any) -> str:
    answer = await send(client, till.member_id, **changes)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


class TestAClaim:
    async def test_is_made_once(
        self, till: Till, client: httpx.AsyncClient, issuer: dict[str, str]
    ) -> None:
        client.headers.update(issuer)
        first = await send(client, till.member_id, partner="acme")
        assert first.status_code == 201
        claim = first.json()
        assert claim.pop("created_at")
        assert claim == {
            **wanted(),
            "id": claim["id"],
            "member_id": str(till.member_id),
            "partner_id": str(till.partner_id),
            "transaction_id": None,
            "state": "open",
            "reason": None,
            "decided_at": None,
            "adjustment_id": None,
            "explanation": None,
        }
        again = await send(client, till.member_id, partner=str(till.partner_id))
        assert (again.status_code, again.json()) == (200, first.json())
        for change in ({"amount_minor": 1}, {"note": "Another"}, {"partner": None}):
            other = await send(client, till.member_id, **{"partner": "acme", **change})
            assert (other.status_code, other.json()["code"]) == (409, "claim_exists")
        assert await till.rows("SELECT count(*) FROM claims") == [(1,)]
        assert await till.rows(
            "SELECT action, after FROM audit_entries WHERE subject_kind = 'claim'"
        ) == [("claim.make", {"ref": "call-1", "state": "open"})]

    async def test_by_another_member_with_the_same_ref_is_a_conflict(
        self, till: Till, operator: httpx.AsyncClient
    ) -> None:
        await made(operator, till)
        async with till.sessions.begin() as session:
            other = await add_member(session, "card-2")
        assert (await send(operator, other)).status_code == 409

    async def test_is_answered_with_what_is_known_of_its_transaction(
        self, till: Till, operator: httpx.AsyncClient
    ) -> None:
        await till.coupon(min_spend_minor=5_000, title="Lunch")
        await till.take(make_transaction("clearing", 4_000, id="T 1"))
        answer = (await send(operator, till.member_id, transaction_id="T 1")).json()
        assert answer["explanation"] == {
            "known": True,
            "sentence": "You spent $40.00 at Shop; “Lunch” asks for at least $50.00.",
            "state": "rejected",
        }
        await till.take(make_transaction("clearing", 2_000))
        path = f"/v1/claims/{answer['id']}"
        now = (await operator.get(path)).json()
        assert now["explanation"]["state"] == "earned"
        assert "$5.00 comes back to you" in now["explanation"]["sentence"]
        french = (await operator.get(path, params={"locale": "fr"})).json()
        assert "vous sont remboursés" in french["explanation"]["sentence"]

    async def test_of_a_transaction_is_made_once_until_it_is_refused(
        self, till: Till, operator: httpx.AsyncClient
    ) -> None:
        named = {"transaction_id": "t-404"}
        first = await made(operator, till, **named)
        again = await send(operator, till.member_id, ref="call-2", **named)
        assert (again.status_code, again.json()["code"]) == (409, "transaction_claimed")
        await operator.post(f"/v1/claims/{first}/refuse", json={"reason": "Not a shop of ours"})
        assert (await send(operator, till.member_id, ref="call-3", **named)).status_code == 201

    async def test_is_told_nothing_of_another_members_purchase(
        self, till: Till, operator: httpx.AsyncClient
    ) -> None:
        async with till.sessions.begin() as session:
            other = await add_member(session, "card-2")
        await till.take(
            make_transaction("clearing", 4_000, id="T-1"),
            make_transaction("refund", 4_000, None, id="T-2", card_ref="card-2"),
        )
        unknown = (await send(operator, other, transaction_id="nowhere")).json()["explanation"]
        assert (unknown["known"], unknown["state"]) == (False, None)
        theirs = await send(operator, other, ref="call-2", transaction_id="T-1")
        assert theirs.json()["explanation"] == unknown
        his_own = await send(operator, other, ref="call-3", transaction_id="T-2")
        assert "refund names no purchase" in his_own.json()["explanation"]["sentence"]

    async def test_that_is_malformed_is_refused(
        self, till: Till, operator: httpx.AsyncClient
    ) -> None:
        for change in MALFORMED:
            refused = await send(operator, till.member_id, **change)
            assert refused.status_code == 422, change
            assert "4111" not in refused.text

    async def test_of_nobody_is_not_found(self, till: Till, operator: httpx.AsyncClient) -> None:
        nobody = new_id()
        assert (await send(operator, nobody)).json()["code"] == "member_not_found"
        assert (await operator.get(f"/v1/members/{nobody}/claims")).status_code == 404
        of_nobody = await send(operator, till.member_id, partner="nobody")
        assert of_nobody.json()["code"] == "partner_not_found"
        for decision, body in (("accept", ACCEPTED), ("refuse", {"reason": "No"})):
            decided = await operator.post(f"/v1/claims/{nobody}/{decision}", json=body)
            assert decided.json()["code"] == "claim_not_found"
        assert (await operator.get(f"/v1/claims/{nobody}")).status_code == 404

    async def test_is_listed_by_member_and_by_state(
        self, till: Till, operator: httpx.AsyncClient
    ) -> None:
        first = await made(operator, till)
        second = await made(operator, till, ref="call-2")
        await operator.post(f"/v1/claims/{first}/refuse", json={"reason": "A duplicate"})

        async def listed(path: str, **params: str) -> list[str]:
            page = (await operator.get(path, params=params)).json()
            return [one["id"] for one in page["items"]]

        assert await listed("/v1/claims") == [first, second]
        assert await listed("/v1/claims", state="open") == [second]
        assert await listed("/v1/claims", state="refused") == [first]
        of_member = f"/v1/members/{till.member_id}/claims"
        assert await listed(of_member) == [first, second]
        assert await listed(of_member, state="accepted") == []
        page = (await operator.get("/v1/claims", params={"limit": 1})).json()
        assert await listed("/v1/claims", cursor=page["next_cursor"]) == [second]

    async def test_is_for_those_who_support_members_and_decided_by_the_operator(
        self,
        till: Till,
        operator: httpx.AsyncClient,
        issuer: dict[str, str],
        make_key: MakeKey,
    ) -> None:
        claim = await made(operator, till)
        decisions = ((f"/v1/claims/{claim}/accept", ACCEPTED), (f"/v1/claims/{claim}/refuse", {}))
        for path, body in decisions:
            answer = await operator.post(path, json=body, headers=issuer)
            assert answer.status_code == 403
        assert (await operator.get("/v1/claims", headers=issuer)).status_code == 200
        for role in ("analyst", "processor"):
            headers = {"Authorization": f"Bearer {await make_key(role)}"}
            for path in ("/v1/claims", f"/v1/claims/{claim}", f"/v1/members/{claim}/claims"):
                assert (await operator.get(path, headers=headers)).status_code == 403


class TestADecision:
    async def test_that_accepts_is_paid_by_one_adjustment(
        self, till: Till, operator: httpx.AsyncClient
    ) -> None:
        path = f"/v1/claims/{await made(operator, till, partner='acme')}/accept"
        first = await operator.post(path, json=ACCEPTED)
        assert first.status_code == 200
        claim = first.json()
        assert (claim["state"], claim["reason"]) == ("accepted", ACCEPTED["reason"])
        assert await till.rows(ADJUSTMENTS) == [
            (
                f"claim:{claim['id']}",
                till.member_id,
                till.partner_id,
                300,
                "programme",
                ACCEPTED["reason"],
            )
        ]
        ((adjustment_id,),) = await till.rows("SELECT id FROM adjustments")
        assert claim["adjustment_id"] == str(adjustment_id)
        again = await operator.post(path, json=ACCEPTED)
        assert (again.status_code, again.json()) == (200, claim)
        assert await till.rows(
            "SELECT action FROM audit_entries WHERE subject_kind IN ('claim', 'adjustment') "
            "ORDER BY id"
        ) == [("claim.make",), ("adjustment.make",), ("claim.accept",)]
        batch = (await operator.post("/v1/credit-batches")).json()
        assert batch["totals"] == [{"amount_minor": 300, "currency": "USD"}]

    @pytest.mark.parametrize(
        ("kind", "state"), [("authorization", "pending"), ("clearing", "earned")]
    )
    async def test_does_not_accept_what_the_rules_reward(
        self, till: Till, operator: httpx.AsyncClient, kind: Any, state: str
    ) -> None:
        await till.coupon()
        bought = make_transaction(kind, 4_000)
        await till.take(bought)
        claim = await made(operator, till, transaction_id=bought.id)
        refused = await operator.post(f"/v1/claims/{claim}/accept", json=ACCEPTED)
        assert (refused.status_code, refused.json()["code"]) == (409, "purchase_rewarded")
        assert state in refused.json()["detail"]
        assert await till.rows(ADJUSTMENTS) == []

    async def test_is_not_taken_back(self, till: Till, operator: httpx.AsyncClient) -> None:
        path = f"/v1/claims/{await made(operator, till)}"
        await operator.post(f"{path}/accept", json=ACCEPTED)
        refusal = {"reason": "After all not"}
        for decision, body in (
            ("accept", {**ACCEPTED, "amount_minor": 301}),
            ("accept", {**ACCEPTED, "reason": "Another"}),
            ("accept", {**ACCEPTED, "partner": "acme"}),
            ("refuse", refusal),
        ):
            other = await operator.post(f"{path}/{decision}", json=body)
            assert (other.status_code, other.json()["code"]) == (409, "claim_decided")
        assert await till.rows("SELECT count(*), sum(amount_minor) FROM transfers") == [(1, 300)]

    async def test_that_refuses_pays_nothing(self, till: Till, operator: httpx.AsyncClient) -> None:
        path = f"/v1/claims/{await made(operator, till)}"
        refusal = {"reason": "It was refunded"}
        first = await operator.post(f"{path}/refuse", json=refusal)
        assert (first.status_code, first.json()["state"]) == (200, "refused")
        assert (await operator.post(f"{path}/refuse", json=refusal)).json() == first.json()
        for decision, body in (("refuse", {"reason": "Another"}), ("accept", ACCEPTED)):
            other = await operator.post(f"{path}/{decision}", json=body)
            assert (other.status_code, other.json()["code"]) == (409, "claim_decided")
        assert await till.rows("SELECT 1 FROM adjustments") == []

    async def test_is_charged_to_the_partner_of_the_claim_or_the_one_who_is_named(
        self, till: Till, operator: httpx.AsyncClient
    ) -> None:
        body = {**ACCEPTED, "funded_by": "partner"}
        claim = await made(operator, till, partner="acme")
        assert (await operator.post(f"/v1/claims/{claim}/accept", json=body)).status_code == 200
        path = f"/v1/claims/{await made(operator, till, ref='call-2')}/accept"
        refused = await operator.post(path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "partner_missing")
        named = await operator.post(path, json={**body, "partner": "acme"})
        assert named.status_code == 200
        assert await till.rows("SELECT DISTINCT debit_account, partner_id FROM transfers") == [
            ("partner_payable", till.partner_id)
        ]

    async def test_that_cannot_be_paid_leaves_the_claim_open(
        self, till: Till, operator: httpx.AsyncClient
    ) -> None:
        path = f"/v1/claims/{await made(operator, till)}"
        await till.run("DELETE FROM cards")
        refused = await operator.post(f"{path}/accept", json=ACCEPTED)
        assert (refused.status_code, refused.json()["code"]) == (409, "member_without_card")
        assert (await operator.get(path)).json()["state"] == "open"

    async def test_is_taken_once_by_many_who_decide_at_once(self, till: Till) -> None:
        async with till.sessions.begin() as session:
            claim, _ = await service.make(
                session,
                given=service.NewClaim(
                    "call-1", till.member_id, None, 4_000, "USD", NOON, "My lunch"
                ),
                partner=None,
                actor="test",
                now=NOW,
            )

        async def accept() -> str:
            async with till.sessions.begin() as session:
                decided = await service.accept(
                    session,
                    claim_id=claim.id,
                    amount_minor=300,
                    funded_by="programme",
                    partner=None,
                    reason="Yes",
                    actor="test",
                    now=NOW,
                )
            return decided.state

        async def refuse() -> str:
            async with till.sessions.begin() as session:
                decided = await service.refuse(
                    session, claim_id=claim.id, reason="No", actor="test", now=NOW
                )
            return decided.state

        decisions = [accept() if number % 2 else refuse() for number in range(8)]
        told = await asyncio.gather(*decisions, return_exceptions=True)
        states = {one for one in told if isinstance(one, str)}
        refusals = [one for one in told if isinstance(one, BaseException)]
        assert len(states) == 1
        assert len(refusals) == 4
        assert all(isinstance(one, Conflict) for one in refusals)
        paid = await till.rows("SELECT count(*) FROM transfers")
        assert paid == [(1 if states == {"accepted"} else 0,)]
