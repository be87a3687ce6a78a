"""A place until the operator has said yes, and a partner as the operator changes it."""

import asyncio
from typing import Any

import httpx
import pytest

from app.kit.db import Sessions
from app.partners import service
from tests.support import MakeKey

PLACE = {
    "acquirer_id": "acq",
    "acceptor_id": "1",
    "name": "Corner",
    "channel": "in_store",
    "mcc": "5812",
    "country": "US",
}
Callers = dict[str, dict[str, str]]


@pytest.fixture
async def callers(sessions: Sessions, make_key: MakeKey) -> Callers:
    headers = {"operator": {"Authorization": f"Bearer {await make_key('operator')}"}}
    for ref in ("cafe", "rival"):
        async with sessions.begin() as session:
            partner = await service.ensure_partner(session, ref=ref)
        headers[ref] = {"Authorization": f"Bearer {await make_key('partner', partner.id)}"}
    return headers


async def propose(client: httpx.AsyncClient, headers: dict[str, str], **changes: Any) -> str:
    made = await client.post("/v1/merchants", headers=headers, json={**PLACE, **changes})
    assert made.status_code == 201, made.text
    return f"/v1/merchants/{made.json()['id']}"


class TestAProposedPlace:
    async def test_is_corrected_and_withdrawn_by_its_partner_alone(
        self, client: httpx.AsyncClient, callers: Callers
    ) -> None:
        cafe, rival = callers["cafe"], callers["rival"]
        url = await propose(client, cafe)
        for method in ("GET", "PATCH", "DELETE"):
            body = {"name": "Mine"} if method == "PATCH" else None
            answer = await client.request(method, url, headers=rival, json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "acceptor_not_found")
        changes = {"acceptor_id": "2", "mcc": "5814"}
        corrected = await client.patch(url, headers=cafe, json=changes)
        assert corrected.json().items() >= {**PLACE, **changes, "state": "proposed"}.items()
        assert (await client.get(url, headers=cafe)).json() == corrected.json()
        assert (await client.delete(url, headers=cafe)).status_code == 204
        assert (await client.get(url, headers=cafe)).status_code == 404
        assert (await client.delete(url, headers=cafe)).status_code == 404

    async def test_is_not_corrected_to_one_that_the_partner_has(
        self, client: httpx.AsyncClient, callers: Callers
    ) -> None:
        await propose(client, callers["cafe"])
        url = await propose(client, callers["cafe"], acceptor_id="2")
        answer = await client.patch(url, headers=callers["cafe"], json={"acceptor_id": "1"})
        assert (answer.status_code, answer.json()["code"]) == (409, "acceptor_exists")

    async def test_is_refused_with_a_reason_until_it_is_corrected(
        self, client: httpx.AsyncClient, callers: Callers
    ) -> None:
        cafe, operator = callers["cafe"], callers["operator"]
        url = await propose(client, cafe)
        reason = {"reason": "not your terminal"}
        assert (await client.post(f"{url}/refuse", headers=cafe, json=reason)).status_code == 403
        for _ in range(2):
            refused = await client.post(f"{url}/refuse", headers=operator, json=reason)
            assert (refused.status_code, refused.json()["state"]) == (200, "refused")
        read = (await client.get("/v1/merchants?state=refused", headers=cafe)).json()["items"]
        assert [one["refusal"] for one in read] == ["not your terminal"]
        again = await client.patch(url, headers=cafe, json={})
        assert (again.json()["state"], again.json()["refusal"]) == ("proposed", None)
        await client.post(f"{url}/refuse", headers=operator, json=reason)
        confirmed = await client.post(f"{url}/confirm", headers=operator)
        assert (confirmed.json()["state"], confirmed.json()["refusal"]) == ("confirmed", None)

    async def test_is_out_of_its_partners_hands_once_confirmed(
        self, client: httpx.AsyncClient, callers: Callers
    ) -> None:
        url = await propose(client, callers["cafe"])
        await client.post(f"{url}/confirm", headers=callers["operator"])
        for who in ("cafe", "operator"):
            answers = [
                await client.patch(url, headers=callers[who], json={"name": "New"}),
                await client.delete(url, headers=callers[who]),
            ]
            assert {(one.status_code, one.json()["code"]) for one in answers} == {
                (409, "acceptor_confirmed")
            }
        reason = {"reason": "too late"}
        late = await client.post(f"{url}/refuse", headers=callers["operator"], json=reason)
        assert (late.status_code, late.json()["code"]) == (409, "acceptor_confirmed")

    async def test_is_confirmed_or_withdrawn_and_never_both(
        self, client: httpx.AsyncClient, callers: Callers
    ) -> None:
        for _ in range(5):
            url = await propose(client, callers["cafe"])
            confirmed, withdrawn = await asyncio.gather(
                client.post(f"{url}/confirm", headers=callers["operator"]),
                client.delete(url, headers=callers["cafe"]),
            )
            told = (confirmed.status_code, withdrawn.status_code)
            assert told in ((200, 409), (404, 204))
            if told == (200, 409):
                return


class TestAPartner:
    async def test_is_read_by_itself_and_changed_by_the_operator(
        self, client: httpx.AsyncClient, callers: Callers
    ) -> None:
        operator, cafe = callers["operator"], callers["cafe"]
        read = await client.get("/v1/partners/cafe", headers=cafe)
        assert (read.status_code, read.json()["ref"]) == (200, "cafe")
        rivals = await client.get("/v1/partners/rival", headers=cafe)
        assert (rivals.status_code, rivals.json()["code"]) == (404, "partner_not_found")
        url = f"/v1/partners/{read.json()['id']}"
        assert (await client.patch(url, headers=cafe, json={"name": "x"})).status_code == 403
        limit = {"credit_limit_minor": 500, "credit_currency": "EUR"}
        changed = await client.patch(
            url, headers={**operator, "If-Match": read.headers["etag"]}, json=limit
        )
        assert changed.json() == {**read.json(), **limit}
        stale = await client.patch(
            url, headers={**operator, "If-Match": read.headers["etag"]}, json={"name": "x"}
        )
        assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
        none = {"credit_limit_minor": None, "credit_currency": None}
        back = await client.patch(
            url, headers={**operator, "If-Match": changed.headers["etag"]}, json=none
        )
        assert (back.json(), back.headers["etag"]) == (read.json(), read.headers["etag"])

    @pytest.mark.parametrize(
        "body",
        [
            {"credit_limit_minor": 1},
            {"credit_currency": "EUR"},
            {"name": None},
            {"name": ""},
            {"ref": "other"},
        ],
    )
    async def test_is_not_changed_to_what_makes_no_sense(
        self, client: httpx.AsyncClient, callers: Callers, body: dict[str, Any]
    ) -> None:
        answer = await client.patch("/v1/partners/cafe", headers=callers["operator"], json=body)
        assert answer.status_code == 422
