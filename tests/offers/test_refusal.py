"""A submitted offer that is given back, or taken back."""

from uuid import UUID

import httpx
import pytest

from app.errors import Conflict, NotFound
from app.kit.db import Sessions
from app.offers import service
from tests.offers.over_http import Call, terms
from tests.programme import make_offer


async def submitted(partner: Call) -> str:
    offer_id: str = (await partner("", terms())).json()["id"]
    assert (await partner(f"/{offer_id}/publish")).json()["state"] == "submitted"
    return offer_id


def state(answer: httpx.Response) -> tuple[str, str | None]:
    return answer.json()["state"], answer.json()["refusal"]


class TestASubmittedOffer:
    async def test_is_refused_with_a_reason_that_the_partner_reads(
        self, partner: Call, operator: Call
    ) -> None:
        offer_id = await submitted(partner)
        reason = {"reason": "name the shop"}
        assert (await partner(f"/{offer_id}/refuse", reason)).status_code == 403
        for _ in range(2):
            refused = await operator(f"/{offer_id}/refuse", reason)
            assert state(refused) == ("draft", "name the shop")
        assert state(await partner(f"/{offer_id}", method="GET")) == ("draft", "name the shop")
        changed = await partner(f"/{offer_id}", {"title": "Tea at Corner"}, "PATCH")
        assert state(changed) == ("draft", "name the shop")
        assert state(await partner(f"/{offer_id}/publish")) == ("submitted", None)
        assert state(await operator(f"/{offer_id}/approve")) == ("live", None)
        assert (await operator(f"/{offer_id}/refuse", reason)).status_code == 409

    async def test_is_withdrawn_by_its_partner(self, partner: Call, operator: Call) -> None:
        offer_id = await submitted(partner)
        for _ in range(2):
            assert state(await partner(f"/{offer_id}/withdraw")) == ("draft", None)
        assert (await operator(f"/{offer_id}/approve")).status_code == 409
        assert (await operator(f"/{offer_id}/refuse", {"reason": "late"})).status_code == 409
        await operator(f"/{offer_id}/publish")
        assert (await partner(f"/{offer_id}/withdraw")).status_code == 409

    async def test_that_was_refused_may_be_called_off(self, partner: Call, operator: Call) -> None:
        offer_id = await submitted(partner)
        await operator(f"/{offer_id}/refuse", {"reason": "no"})
        assert state(await partner(f"/{offer_id}/end")) == ("ended", "no")

    async def test_is_refused_for_a_reason(self, partner: Call, operator: Call) -> None:
        offer_id = await submitted(partner)
        for body in ({}, {"reason": " "}, {"reason": "x" * 201}):
            assert (await operator(f"/{offer_id}/refuse", body)).status_code == 422


class TestAnOfferThatIsNamed:
    async def test_is_found_by_its_id_or_its_ref(self, sessions: Sessions) -> None:
        offer_id = await make_offer(sessions, "Tea")
        async with sessions() as session:
            for name in (str(offer_id), "tea"):
                assert await service.find_named(session, id_or_ref=name) == offer_id
            for name in ("coffee", str(UUID(int=1))):
                with pytest.raises(NotFound):
                    await service.find_named(session, id_or_ref=name)

    async def test_by_a_ref_that_two_partners_use_is_not_guessed(self, sessions: Sessions) -> None:
        for partner, tag in (("cafe", "Tea"), ("rival", "Cake")):
            await make_offer(sessions, tag, partner=partner, offer_ref="summer")
        async with sessions() as session:
            with pytest.raises(Conflict):
                await service.find_named(session, id_or_ref="summer")
