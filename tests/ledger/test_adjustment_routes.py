"""What the operator sees of adjustments, over HTTP and on the command line."""

from typing import Any

import httpx
import pytest

from app.kit.db import Sessions
from app.kit.ids import new_id
from tests.support import MakeKey, Tagback
from tests.till import Till

CARD_NUMBER = "4111 1111 1111 1111"
MALFORMED: tuple[dict[str, Any], ...] = (
    {"amount_minor": 0},
    {"amount_minor": 10**12 + 1},
    {"amount_minor": 1.5},
    {"amount_minor": 5.0},
    {"amount_minor": "5.00"},
    {"amount_minor": True},
    {"currency": "usd"},
    {"currency": "XYZ"},
    {"funded_by": "issuer"},
    {"reason": ""},
    {"reason": "two\nlines"},
    {"reason": "a\x00b"},
    {"reason": f"paid to {CARD_NUMBER}"},
    {"ref": "with blank"},
    {"ref": "4111111111111111"},
    {"partner": "acme"},
    {"funded_by": "partner"},
)


@pytest.fixture
async def till(sessions: Sessions) -> Till:
    return await Till.open(sessions)


@pytest.fixture
async def operator(client: httpx.AsyncClient, make_key: MakeKey) -> httpx.AsyncClient:
    client.headers["Authorization"] = f"Bearer {await make_key('operator')}"
    return client


def wanted(till: Till, **changes: Any) -> dict[str, Any]:
    usual = {
        "ref": "case-1",
        "member_id": str(till.member_id),
        "amount_minor": 500,
        "currency": "USD",
        "funded_by": "programme",
        "reason": "The coupon did not load",
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


async def send(client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
    return await client.post("/v1/adjustments", json=body)


class TestAdjustments:
    async def test_are_made_once_and_listed(self, till: Till, operator: httpx.AsyncClient) -> None:
        body = wanted(till, funded_by="partner", partner_id=str(till.partner_id))
        made = await send(operator, body)
        assert made.status_code == 201
        answer = made.json()
        assert {name: answer[name] for name in body} == body
        assert answer["operator"].startswith("key:")
        assert (answer["redemption_id"], answer["credited_minor"]) == (None, 0)

        again = await send(operator, body)
        assert (again.status_code, again.json()) == (200, answer)
        other = await send(operator, {**body, "amount_minor": 501})
        assert (other.status_code, other.json()["code"]) == (409, "adjustment_exists")

        await send(operator, wanted(till, ref="case-2"))
        first = (await operator.get("/v1/adjustments", params={"limit": 1})).json()
        assert first["items"] == [answer]
        rest = await operator.get("/v1/adjustments", params={"cursor": first["next_cursor"]})
        assert [one["ref"] for one in rest.json()["items"]] == ["case-2"]
        for member_id, found in ((till.member_id, 2), (new_id(), 0)):
            listed = await operator.get("/v1/adjustments", params={"member_id": str(member_id)})
            assert len(listed.json()["items"]) == found

    async def test_show_in_their_batch(self, till: Till, operator: httpx.AsyncClient) -> None:
        made = (await send(operator, wanted(till))).json()
        batch = (await operator.post("/v1/credit-batches")).json()
        (line,) = (await operator.get(f"/v1/credit-batches/{batch['id']}")).json()["items"]
        assert (line["adjustment_id"], line["redemption_id"]) == (made["id"], None)
        (listed,) = (await operator.get("/v1/adjustments")).json()["items"]
        assert listed["credited_minor"] == 500

    async def test_that_are_malformed_are_refused(
        self, till: Till, operator: httpx.AsyncClient
    ) -> None:
        for change in MALFORMED:
            refused = await send(operator, wanted(till, **change))
            assert refused.status_code == 422, change
            assert "4111" not in refused.text
        assert await till.rows("SELECT 1 FROM adjustments") == []

    async def test_are_for_the_operator(
        self, till: Till, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        for role in ("issuer", "processor", "analyst"):
            client.headers["Authorization"] = f"Bearer {await make_key(role)}"
            assert (await send(client, wanted(till))).status_code == 403
            assert (await client.get("/v1/adjustments")).status_code == 403


class TestTheCommand:
    async def test_gives_once_however_often_it_runs(self, till: Till, tagback: Tagback) -> None:
        asked = (
            *("ledger", "adjust", "--ref", "case-1", "--member", "member of card-1"),
            *("--amount-minor", "-500", "--currency", "USD", "--funded-by", "partner"),
            *("--partner", "acme", "--reason", "Paid by mistake"),
        )
        made = await tagback(*asked)
        ((adjustment_id,),) = await till.rows("SELECT id FROM adjustments")
        assert made.out == f"-$5.00 to member of card-1, adjustment {adjustment_id}\n", made.err
        again = await tagback(*asked)
        assert again.out.endswith(f"{adjustment_id}, made before\n")
        assert await till.rows(
            "SELECT debit_account, credit_account, amount_minor, operator FROM transfers"
        ) == [("member_due", "partner_payable", 500, "command line")]

    async def test_says_what_is_wrong_in_one_line(self, till: Till, tagback: Tagback) -> None:
        def asked(member: str, reason: str) -> tuple[str, ...]:
            return (
                *("ledger", "adjust", "--ref", "case-1", "--member", member),
                *("--amount-minor", "500", "--currency", "USD", "--funded-by", "programme"),
                *("--reason", reason),
            )

        ran = await tagback(*asked("nobody", "Why not"))
        assert (ran.status, ran.err) == (1, "tagback: no member of this ref or id\n")
        ran = await tagback(*asked(str(till.member_id), CARD_NUMBER))
        assert (ran.status, ran.err) == (1, "tagback: reason: looks like a card number\n")
