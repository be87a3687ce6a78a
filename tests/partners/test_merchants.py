import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from app.errors import Conflict
from app.kit.db import Sessions
from app.partners import proposals, service
from app.partners.models import Acceptor, AuditEntry, Partner
from app.partners.schemas import MerchantLine
from tests.support import MakeKey

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SHOP = {
    "acquirer_id": "acq-1",
    "acceptor_id": "000000000012345",
    "name": "Corner Café",
    "channel": "in_store",
    "mcc": "5812",
    "country": "US",
}


def line(**fields: Any) -> MerchantLine:
    return MerchantLine.model_validate({"partner": "cafe", **SHOP, **fields})


async def save(sessions: Sessions, *lines: MerchantLine) -> list[tuple[str, str | None]]:
    async with sessions.begin() as session:
        saved = await service.save_acceptors(session, rows=lines, now=NOW)
    return [(one.outcome, one.reason) for one in saved]


Callers = dict[str, dict[str, str]]


@pytest.fixture
async def callers(sessions: Sessions, make_key: MakeKey) -> Callers:
    """Headers of the operator and of the partners cafe and rival."""
    headers = {"operator": {"Authorization": f"Bearer {await make_key('operator')}"}}
    for ref in ("cafe", "rival"):
        async with sessions.begin() as session:
            partner = await service.ensure_partner(session, ref=ref)
        headers[ref] = {"Authorization": f"Bearer {await make_key('partner', partner.id)}"}
    return headers


class TestAPartner:
    async def test_is_made_by_the_operator(
        self, client: httpx.AsyncClient, callers: Callers
    ) -> None:
        body = {
            "ref": "bakery",
            "name": "Bakery",
            "credit_limit_minor": 50_000,
            "credit_currency": "USD",
        }
        answer = await client.post("/v1/partners", headers=callers["operator"], json=body)
        assert answer.status_code == 201
        assert body.items() <= answer.json().items()
        again = await client.post("/v1/partners", headers=callers["operator"], json=body)
        assert (again.status_code, again.json()["code"]) == (409, "partner_exists")
        listed = (await client.get("/v1/partners", headers=callers["operator"])).json()
        assert [one["ref"] for one in listed["items"]] == ["cafe", "rival", "bakery"]

    async def test_cannot_see_the_others(self, client: httpx.AsyncClient, callers: Callers) -> None:
        assert (await client.get("/v1/partners", headers=callers["cafe"])).status_code == 403

    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"ref": "No Blanks"}, "/ref"),
            ({"name": ""}, "/name"),
            ({"name": "NUL \x00"}, "/name"),
            ({"credit_limit_minor": 1}, ""),
            ({"credit_limit_minor": 1, "credit_currency": "XYZ"}, "/credit_currency"),
            ({"credit_limit_minor": 2**63, "credit_currency": "USD"}, "/credit_limit_minor"),
            ({"nmae": "x"}, "/nmae"),
        ],
    )
    async def test_must_make_sense(
        self, client: httpx.AsyncClient, callers: Callers, fields: dict[str, Any], pointer: str
    ) -> None:
        body = {"ref": "bakery", "name": "Bakery", **fields}
        answer = await client.post("/v1/partners", headers=callers["operator"], json=body)
        assert answer.status_code == 422
        assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]

    async def test_is_made_once_however_many_ask(self, sessions: Sessions) -> None:
        async def ensure() -> Any:
            async with sessions.begin() as session:
                return (await service.ensure_partner(session, ref="bakery", name="Bakery")).id

        assert len(set(await asyncio.gather(*[ensure() for _ in range(8)]))) == 1


class TestAPlace:
    async def test_is_proposed_by_its_partner_and_confirmed_by_the_operator(
        self, client: httpx.AsyncClient, callers: Callers
    ) -> None:
        made = await client.post("/v1/merchants", headers=callers["cafe"], json=SHOP)
        assert made.status_code == 201
        assert made.json()["state"] == "proposed"
        assert made.json()["partner"] == "cafe"
        url = f"/v1/merchants/{made.json()['id']}/confirm"
        assert (await client.post(url, headers=callers["cafe"])).status_code == 403
        confirmed = await client.post(url, headers=callers["operator"])
        assert confirmed.json()["state"] == "confirmed"
        again = await client.post(url, headers=callers["operator"])
        assert again.json()["confirmed_at"] == confirmed.json()["confirmed_at"]

    async def test_may_be_confirmed_at_once_by_the_operator_alone(
        self, client: httpx.AsyncClient, callers: Callers
    ) -> None:
        body = {**SHOP, "state": "confirmed"}
        refused = await client.post("/v1/merchants", headers=callers["cafe"], json=body)
        assert refused.status_code == 403
        unnamed = await client.post("/v1/merchants", headers=callers["operator"], json=body)
        assert (unnamed.status_code, unnamed.json()["code"]) == (422, "partner_missing")
        named = await client.post(
            "/v1/merchants", headers=callers["operator"], json={**body, "partner": "cafe"}
        )
        assert (named.status_code, named.json()["state"]) == (201, "confirmed")

    async def test_cannot_be_proposed_for_another_partner(
        self, client: httpx.AsyncClient, callers: Callers
    ) -> None:
        answer = await client.post(
            "/v1/merchants", headers=callers["cafe"], json={**SHOP, "partner": "rival"}
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "partner_not_found")

    async def test_may_be_proposed_by_two_and_confirmed_for_one(
        self, client: httpx.AsyncClient, callers: Callers
    ) -> None:
        ids = [
            (await client.post("/v1/merchants", headers=callers[ref], json=SHOP)).json()["id"]
            for ref in ("cafe", "rival")
        ]
        operator = callers["operator"]
        first, second = [
            await client.post(f"/v1/merchants/{one}/confirm", headers=operator) for one in ids
        ]
        assert first.status_code == 200
        assert (second.status_code, second.json()["code"]) == (409, "acceptor_taken")

    @pytest.mark.usefixtures("callers")
    async def test_is_confirmed_for_one_when_two_are_confirmed_at_once(
        self, sessions: Sessions
    ) -> None:
        ids = []
        for ref in ("cafe", "rival"):
            async with sessions.begin() as session:
                partner = await service.find_partner(session, ref_or_id=ref)
                acceptor = await proposals.propose_acceptor(
                    session, actor="test", partner_id=partner.id, details=line()
                )
                ids.append(acceptor.id)

        async def confirm(acceptor_id: Any) -> None:
            async with sessions.begin() as session:
                await proposals.confirm_acceptor(
                    session, actor="test", acceptor_id=acceptor_id, now=NOW
                )

        results = await asyncio.gather(*map(confirm, ids), return_exceptions=True)
        assert [type(result) for result in results if result] == [Conflict]

    async def test_proposed_again_is_the_same_one(
        self, client: httpx.AsyncClient, callers: Callers
    ) -> None:
        answers = [
            await client.post("/v1/merchants", headers=callers["cafe"], json=SHOP) for _ in range(2)
        ]
        assert answers[0].json()["id"] == answers[1].json()["id"]
        other = {**SHOP, "mcc": "5999"}
        refused = await client.post("/v1/merchants", headers=callers["cafe"], json=other)
        assert (refused.status_code, refused.json()["code"]) == (409, "acceptor_exists")

    async def test_is_listed_to_its_partner_and_to_the_operator(
        self, client: httpx.AsyncClient, callers: Callers
    ) -> None:
        for ref in ("cafe", "rival"):
            await client.post("/v1/merchants", headers=callers[ref], json=SHOP)

        async def listed(who: str, **params: str) -> list[str]:
            answer = await client.get("/v1/merchants", headers=callers[who], params=params)
            return [one["partner"] for one in answer.json()["items"]]

        assert await listed("cafe") == ["cafe"]
        assert await listed("rival") == ["rival"]
        assert await listed("operator") == ["cafe", "rival"]
        assert await listed("operator", partner="rival") == ["rival"]
        assert await listed("operator", state="confirmed") == []

    async def test_all_failures_are_told_at_once(
        self, client: httpx.AsyncClient, callers: Callers
    ) -> None:
        body = {**SHOP, "mcc": "12", "country": "usa", "channel": "phone"}
        answer = await client.post("/v1/merchants", headers=callers["cafe"], json=body)
        pointers = {one["pointer"] for one in answer.json()["errors"]}
        assert pointers == {"/mcc", "/country", "/channel"}


class TestTheOperatorsFile:
    async def test_makes_partners_and_confirms_places(self, sessions: Sessions) -> None:
        assert await save(sessions, line(), line(partner="rival", acceptor_id="2")) == [
            ("created", None),
            ("created", None),
        ]
        async with sessions() as session:
            rows = await session.execute(
                select(Partner.ref, Acceptor.state, Acceptor.confirmed_at).join(
                    Partner, Partner.id == Acceptor.partner_id
                )
            )
            assert sorted(rows) == [("cafe", "confirmed", NOW), ("rival", "confirmed", NOW)]

    async def test_again_changes_nothing(self, sessions: Sessions) -> None:
        await save(sessions, line())
        async with sessions() as session:
            before = await session.scalar(select(func.count()).select_from(AuditEntry))
        assert await save(sessions, line(), line()) == [("unchanged", None)] * 2
        async with sessions() as session:
            assert await session.scalar(select(func.count()).select_from(AuditEntry)) == before

    async def test_corrects_a_name_and_confirms_a_proposal(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            cafe = await service.ensure_partner(session, ref="cafe")
            proposed = await proposals.propose_acceptor(
                session, actor="test", partner_id=cafe.id, details=line()
            )
        assert await save(sessions, line()) == [("changed", None)]
        assert await save(sessions, line(name="New Name")) == [("changed", None)]
        async with sessions() as session:
            found = (await session.scalars(select(Acceptor))).one()
        assert (found.id, found.name, found.state) == (proposed.id, "New Name", "confirmed")

    async def test_has_a_rivals_place_refused_and_its_neighbours_taken(
        self, sessions: Sessions
    ) -> None:
        await save(sessions, line())
        results = await save(
            sessions, line(acceptor_id="1"), line(partner="rival"), line(acceptor_id="2")
        )
        assert [outcome for outcome, _ in results] == ["created", "rejected", "created"]
        assert results[1][1] == "confirmed for another partner"

    async def test_that_contradicts_itself_believes_the_first_line(
        self, sessions: Sessions
    ) -> None:
        results = await save(sessions, line(), line(partner="rival"))
        assert [outcome for outcome, _ in results] == ["created", "rejected"]

    async def test_takes_as_many_statements_for_a_thousand_as_for_ten(
        self, sessions: Sessions, statements: list[str]
    ) -> None:
        counts = []
        for number in (10, 1_000):
            statements.clear()
            lines = [line(acceptor_id=f"{number}-{one}") for one in range(number)]
            assert {outcome for outcome, _ in await save(sessions, *lines)} == {"created"}
            counts.append(len(statements))
        assert counts[0] == counts[1]

    async def test_twice_at_once_makes_everything_once(self, sessions: Sessions) -> None:
        lines = [line(acceptor_id=str(one)) for one in range(50)]
        results = await asyncio.gather(save(sessions, *lines), save(sessions, *reversed(lines)))
        outcomes = sorted(outcome for result in results for outcome, _ in result)
        assert outcomes == ["created"] * 50 + ["unchanged"] * 50
