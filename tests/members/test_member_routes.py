from typing import Any

import httpx
import pytest

from tests.support import MakeKey

CARD_NUMBER = "4111111111111111"
BODY: dict[str, Any] = {
    "member_ref": "m-1",
    "account": {"network": "x", "id": "101", "handle": "ann"},
    "card": {"card_ref": "c-1", "network": "visa", "last4": "4242"},
    "consented_at": "2026-02-01T10:00:00+01:00",
    "country": "US",
}


@pytest.fixture
async def issuer(make_key: MakeKey) -> dict[str, str]:
    return {"Authorization": f"Bearer {await make_key('issuer')}"}


@pytest.fixture
async def member_id(client: httpx.AsyncClient, issuer: dict[str, str]) -> str:
    made = await client.post("/v1/members", headers=issuer, json=BODY)
    return str(made.json()["id"])


class TestEnrolling:
    async def test_answers_201_then_200_then_201_for_a_change(
        self, client: httpx.AsyncClient, issuer: dict[str, str]
    ) -> None:
        answers = [
            await client.post("/v1/members", headers=issuer, json=body)
            for body in (BODY, BODY, {**BODY, "country": "CA"})
        ]
        assert [answer.status_code for answer in answers] == [201, 200, 201]
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert answers[2].json()["country"] == "CA"

    @pytest.mark.parametrize("role", ["processor", "analyst"])
    async def test_is_for_issuer_and_operator(
        self, client: httpx.AsyncClient, make_key: MakeKey, role: str
    ) -> None:
        key = {"Authorization": f"Bearer {await make_key(role)}"}
        assert (await client.post("/v1/members", headers=key, json=BODY)).status_code == 403

    @pytest.mark.usefixtures("member_id")
    @pytest.mark.parametrize(
        ("other", "status", "code"),
        [
            ({"card": {"card_ref": "c-9"}}, 409, "account_taken"),
            ({"account": {"network": "x", "id": "9"}}, 409, "card_taken"),
            ({"consented_at": "2099-01-01T00:00:00Z"}, 422, "consent_in_future"),
        ],
    )
    async def test_tells_why_not(
        self,
        client: httpx.AsyncClient,
        issuer: dict[str, str],
        other: Any,
        status: int,
        code: str,
    ) -> None:
        body = {**BODY, "member_ref": "m-2", **other}
        answer = await client.post("/v1/members", headers=issuer, json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    async def test_refuses_a_card_number_and_does_not_repeat_it(
        self, client: httpx.AsyncClient, issuer: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        body = {**BODY, "card": {"card_ref": CARD_NUMBER}, CARD_NUMBER: "x"}
        answer = await client.post("/v1/members", headers=issuer, json=body)
        assert answer.status_code == 422
        assert answer.json()["errors"] == [
            {"in": "body", "pointer": "/card/card_ref", "detail": "looks like a card number"}
        ]
        assert CARD_NUMBER not in answer.text
        assert CARD_NUMBER not in caplog.text

    async def test_tells_every_failure_at_once(
        self, client: httpx.AsyncClient, issuer: dict[str, str]
    ) -> None:
        body = {"member_ref": "", "account": {"network": "x"}, "card": [], "country": "x"}
        answer = await client.post("/v1/members", headers=issuer, json=body)
        assert {one["pointer"] for one in answer.json()["errors"]} == {
            "/member_ref",
            "/account/id",
            "/card",
            "/consented_at",
            "/country",
        }

    async def test_refuses_a_lone_surrogate(
        self, client: httpx.AsyncClient, issuer: dict[str, str]
    ) -> None:
        answer = await client.post(
            "/v1/members",
            headers={**issuer, "Content-Type": "application/json"},
            content=b'{"member_ref": "\\ud800"}',
        )
        assert answer.status_code == 422


class TestMembers:
    async def test_are_listed_and_found_by_the_issuers_ref(
        self, client: httpx.AsyncClient, issuer: dict[str, str], member_id: str
    ) -> None:
        listed = (await client.get("/v1/members", headers=issuer)).json()
        assert [one["member_ref"] for one in listed["items"]] == ["m-1"]
        for ref, ids in (("m-1", [member_id]), ("m-2", [])):
            found = await client.get("/v1/members", headers=issuer, params={"member_ref": ref})
            assert [one["id"] for one in found.json()["items"]] == ids

    async def test_are_shown_one_by_one(
        self, client: httpx.AsyncClient, issuer: dict[str, str], member_id: str
    ) -> None:
        answer = await client.get(f"/v1/members/{member_id}", headers=issuer)
        assert answer.json()["member_ref"] == "m-1"

    @pytest.mark.parametrize("path", ["", "/cards", "/accounts"])
    async def test_that_are_not_there_are_404(
        self, client: httpx.AsyncClient, issuer: dict[str, str], path: str
    ) -> None:
        url = f"/v1/members/01890a5d-ac96-774b-bcce-b302099a8057{path}"
        answer = await client.get(url, headers=issuer)
        assert (answer.status_code, answer.json()["code"]) == (404, "member_not_found")


class TestCards:
    async def test_are_added_replaced_and_removed(
        self, client: httpx.AsyncClient, issuer: dict[str, str], member_id: str
    ) -> None:
        url = f"/v1/members/{member_id}/cards"
        added = await client.post(url, headers=issuer, json={"card_ref": "c-2", "last4": "0002"})
        assert added.status_code == 201
        body = {"card_ref": "c-3", "replaces": "c-2"}
        assert [
            (await client.post(url, headers=issuer, json=body)).status_code for _ in range(2)
        ] == [201, 200]
        assert (await client.delete(f"{url}/c-1", headers=issuer)).status_code == 204
        listed = (await client.get(url, headers=issuer)).json()
        assert {one["card_ref"]: (one["state"], one["replaced_by"]) for one in listed["items"]} == {
            "c-1": ("removed", None),
            "c-2": ("replaced", "c-3"),
            "c-3": ("active", None),
        }

    async def test_are_no_card_numbers(
        self, client: httpx.AsyncClient, issuer: dict[str, str], member_id: str
    ) -> None:
        answer = await client.post(
            f"/v1/members/{member_id}/cards", headers=issuer, json={"card_ref": CARD_NUMBER}
        )
        assert answer.status_code == 422
        assert CARD_NUMBER not in answer.text


class TestAccounts:
    async def test_are_added_and_listed(
        self, client: httpx.AsyncClient, issuer: dict[str, str], member_id: str
    ) -> None:
        url = f"/v1/members/{member_id}/accounts"
        body = {"network": "x", "id": "77777", "handle": "ann.example"}
        assert [
            (await client.post(url, headers=issuer, json=body)).status_code for _ in range(2)
        ] == [201, 200]
        listed = (await client.get(url, headers=issuer)).json()
        assert [(one["network"], one["id"]) for one in listed["items"]] == [
            ("x", "101"),
            ("x", "77777"),
        ]

    async def test_are_unlinked_once(
        self, client: httpx.AsyncClient, issuer: dict[str, str], member_id: str
    ) -> None:
        url = f"/v1/members/{member_id}/accounts/x/101"
        answers = [await client.delete(url, headers=issuer) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [204, 404]
        assert answers[1].json()["code"] == "account_not_found"
