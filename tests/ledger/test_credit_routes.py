"""What an issuer sees of statement credits over HTTP."""

import json

import httpx
import pytest

from app.kit.db import Sessions
from app.kit.ids import new_id
from tests.support import MakeKey
from tests.till import Till, make_transaction


@pytest.fixture
async def till(sessions: Sessions) -> Till:
    till = await Till.open(sessions)
    await till.coupon(redemptions_per_coupon=3)
    await till.take(*(make_transaction("clearing", 4_000, f"p-{n}") for n in range(3)))
    return till


@pytest.fixture
async def issuer(client: httpx.AsyncClient, make_key: MakeKey) -> httpx.AsyncClient:
    client.headers["Authorization"] = f"Bearer {await make_key('issuer')}"
    return client


@pytest.mark.usefixtures("till")
class TestCreditBatches:
    async def test_from_the_claim_to_the_acknowledgement(self, issuer: httpx.AsyncClient) -> None:
        made = await issuer.post("/v1/credit-batches")
        assert made.status_code == 201
        batch = made.json()
        assert batch["totals"] == [{"amount_minor": 1_200, "currency": "USD"}]
        assert (batch["state"], batch["lines"], batch["acknowledged_at"]) == ("open", 3, None)
        path = f"/v1/credit-batches/{batch['id']}"

        first = (await issuer.get(path, params={"limit": 2})).json()
        rest = (await issuer.get(path, params={"limit": 2, "cursor": first["next_cursor"]})).json()
        lines = first["items"] + rest["items"]
        assert rest["next_cursor"] is None
        assert [line["amount_minor"] for line in lines] == [400] * 3
        assert {line["card_ref"] for line in lines} == {"card-1"}

        failures = {"failures": [{"line_id": lines[0]["id"], "reason": "card closed"}]}
        for _ in range(2):
            done = await issuer.post(f"{path}/acknowledge", json=failures)
            assert done.status_code == 200
            assert (done.json()["state"], done.json()["failed"]) == ("acknowledged", 1)
        other = await issuer.post(f"{path}/acknowledge", json={"failures": []})
        assert (other.status_code, other.json()["code"]) == (409, "already_acknowledged")

        listed = (await issuer.get("/v1/credit-batches")).json()
        assert [one["id"] for one in listed["items"]] == [batch["id"]]

    async def test_acknowledged_without_a_body_have_no_failures(
        self, issuer: httpx.AsyncClient
    ) -> None:
        batch = (await issuer.post("/v1/credit-batches")).json()
        for body in ({}, {"json": {}}, {"content": b""}):
            done = await issuer.post(f"/v1/credit-batches/{batch['id']}/acknowledge", **body)
            assert (done.status_code, done.json()["failed"]) == (200, 0)

    async def test_nothing_owed_makes_no_batch(self, issuer: httpx.AsyncClient) -> None:
        await issuer.post("/v1/credit-batches")
        assert (await issuer.post("/v1/credit-batches")).status_code == 204

    async def test_what_cannot_be_acknowledged(self, issuer: httpx.AsyncClient) -> None:
        batch = (await issuer.post("/v1/credit-batches")).json()
        path = f"/v1/credit-batches/{batch['id']}"
        (line, *_) = (await issuer.get(path)).json()["items"]
        for failures in (
            [{"line_id": line["id"], "reason": ""}],
            [{"line_id": line["id"], "reason": "4111 1111 1111 1111"}],
            [{"line_id": line["id"], "reason": "a\x00b"}],
            [{"line_id": line["id"], "reason": "a"}, {"line_id": line["id"], "reason": "b"}],
            [{"line_id": str(new_id()), "reason": "of another batch"}],
        ):
            refused = await issuer.post(f"{path}/acknowledge", json={"failures": failures})
            assert refused.status_code == 422
            assert "4111" not in refused.text
        raw = json.dumps({"failures": [{"line_id": line["id"], "reason": "\ud800"}]})
        refused = await issuer.post(
            f"{path}/acknowledge", content=raw, headers={"Content-Type": "application/json"}
        )
        assert refused.status_code == 422
        missing = await issuer.post(f"/v1/credit-batches/{new_id()}/acknowledge", json={})
        assert missing.status_code == 404
        assert (await issuer.get(f"/v1/credit-batches/{new_id()}")).status_code == 404

    @pytest.mark.parametrize("role", ["processor", "analyst"])
    async def test_are_for_the_issuer(
        self, client: httpx.AsyncClient, make_key: MakeKey, role: str
    ) -> None:
        client.headers["Authorization"] = f"Bearer {await make_key(role)}"
        assert (await client.get("/v1/credit-batches")).status_code == 403
        assert (await client.post("/v1/credit-batches")).status_code == 403
