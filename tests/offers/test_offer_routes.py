"""Offers from draft to end, over HTTP, as a partner and an operator have them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from app.kit.db import Sessions
from app.partners import service as partners
from tests.offers.over_http import Call, caller, terms
from tests.support import MakeKey


class TestAnOffer:
    async def test_of_a_partner_waits_for_the_operators_approval(
        self, partner: Call, operator: Call
    ) -> None:
        made = await partner("", terms())
        assert (made.status_code, made.json()["state"]) == (201, "draft")
        offer_id = made.json()["id"]
        assert (await partner(f"/{offer_id}/publish")).json()["state"] == "submitted"
        assert (await partner(f"/{offer_id}/approve")).status_code == 403
        assert (await operator(f"/{offer_id}/approve")).json()["state"] == "live"
        assert (await partner(f"/{offer_id}/pause")).json()["state"] == "paused"
        assert (await partner(f"/{offer_id}/resume")).json()["state"] == "live"
        ended = (await partner(f"/{offer_id}/end")).json()
        assert ended["state"] == "ended"
        assert datetime.fromisoformat(ended["ends_at"]) <= datetime.now(UTC)
        assert (await partner(f"/{offer_id}/resume")).status_code == 409

    async def test_within_the_credit_limit_is_published_at_once(
        self, partner: Call, sessions: Sessions
    ) -> None:
        async with sessions.begin() as session:
            await session.execute(
                text("UPDATE partners SET credit_limit_minor = 70000, credit_currency = 'EUR'")
            )
        small = (await partner("", terms(budget_minor=70_000))).json()["id"]
        large = await partner("", terms(offer_ref="b", hashtag="b", budget_minor=70_001))
        assert (await partner(f"/{small}/publish")).json()["state"] == "live"
        assert (await partner(f"/{large.json()['id']}/publish")).json()["state"] == "submitted"

    async def test_is_not_covered_by_credit_that_coupons_of_an_ended_one_still_hold(
        self, partner: Call, sessions: Sessions
    ) -> None:
        async with sessions.begin() as session:
            await session.execute(
                text("UPDATE partners SET credit_limit_minor = 70000, credit_currency = 'EUR'")
            )
        first = (await partner("", terms(budget_minor=70_000))).json()["id"]
        assert (await partner(f"/{first}/publish")).json()["state"] == "live"
        async with sessions.begin() as session:
            await session.execute(text("UPDATE offer_counters SET reserved_minor = 700"))
        assert (await partner(f"/{first}/end")).json()["state"] == "ended"
        for number, (budget, state) in enumerate([(70_000, "submitted"), (69_300, "live")]):
            ref = f"next-{number}"
            made = await partner("", terms(offer_ref=ref, hashtag=ref.replace("-", ""),
                                           budget_minor=budget))  # fmt: skip
            published = await partner(f"/{made.json()['id']}/publish")
            assert published.json()["state"] == state

    async def test_made_by_many_at_once_is_made_once(self, partner: Call) -> None:
        same = terms()
        made = await asyncio.gather(*(partner("", same) for _ in range(8)))
        assert sorted(answer.status_code for answer in made) == [200] * 7 + [201]
        assert len({answer.json()["id"] for answer in made}) == 1

    async def test_of_another_partner_is_not_made_with_this_ones_key(
        self, partner: Call, sessions: Sessions
    ) -> None:
        async with sessions.begin() as session:
            await partners.ensure_partner(session, ref="rival")
        assert (await partner("", terms(partner="rival"))).status_code == 404

    async def test_that_the_operator_paused_is_not_ended_by_its_partner(
        self, partner: Call, operator: Call
    ) -> None:
        offer_id = (await partner("", terms())).json()["id"]
        await partner(f"/{offer_id}/publish")
        await operator(f"/{offer_id}/approve")
        await operator(f"/{offer_id}/pause")
        refused = await partner(f"/{offer_id}/end")
        assert (refused.status_code, refused.json()["code"]) == (403, "paused_by_operator")
        assert (await operator(f"/{offer_id}/end")).json()["state"] == "ended"

    async def test_counts_against_the_limit_with_the_partners_other_offers(
        self, partner: Call, operator: Call, sessions: Sessions
    ) -> None:
        async with sessions.begin() as session:
            await session.execute(
                text("UPDATE partners SET credit_limit_minor = 100000, credit_currency = 'EUR'")
            )
        first = (await partner("", terms(budget_minor=70_000))).json()["id"]
        second = await partner("", terms(offer_ref="b", hashtag="b", budget_minor=40_000))
        assert (await partner(f"/{first}/publish")).json()["state"] == "live"
        assert (await partner(f"/{second.json()['id']}/publish")).json()["state"] == "submitted"
        more = {"budget_minor": 100_001}
        assert (await partner(f"/{first}", more, "PATCH")).status_code == 403
        assert (await operator(f"/{first}", more, "PATCH")).status_code == 200
        submitted = await partner(f"/{second.json()['id']}", {"budget_minor": 50_000}, "PATCH")
        assert submitted.status_code == 409

    async def test_that_the_operator_paused_is_not_resumed_by_its_partner(
        self, partner: Call, operator: Call, cafe: UUID
    ) -> None:
        del cafe
        offer_id = (await operator("", terms(partner="cafe"))).json()["id"]
        await operator(f"/{offer_id}/publish")
        await operator(f"/{offer_id}/pause")
        assert (await partner(f"/{offer_id}/pause")).json()["state"] == "paused"
        refused = await partner(f"/{offer_id}/resume")
        assert (refused.status_code, refused.json()["code"]) == (403, "paused_by_operator")
        assert (await operator(f"/{offer_id}/resume")).json()["state"] == "live"

    async def test_is_changed_only_as_it_was_read(
        self, partner: Call, client: httpx.AsyncClient, make_key: MakeKey, cafe: UUID
    ) -> None:
        made = await partner("", terms(coupons_max=10))
        path, etag = f"/v1/offers/{made.json()['id']}", made.headers["ETag"]
        key = await make_key("partner", cafe)
        headers = {"Authorization": f"Bearer {key}", "If-Match": etag}
        first = await client.patch(path, json={"coupons_max": 11}, headers=headers)
        second = await client.patch(path, json={"coupons_max": 12}, headers=headers)
        assert (first.status_code, second.status_code) == (200, 412)
        assert first.headers["ETag"] != etag

    async def test_does_not_outlive_its_coupons_last_day(self, partner: Call) -> None:
        last_day = (datetime.now(UTC) + timedelta(days=6)).date().isoformat()
        made = (await partner("", terms(coupon_last_day=last_day))).json()
        later = (datetime.now(UTC) + timedelta(days=9)).isoformat()
        grown = await partner(f"/{made['id']}", {"ends_at": later}, "PATCH")
        assert grown.status_code == 422

    async def test_sent_again_is_answered_as_it_stands_and_never_with_other_terms(
        self, partner: Call
    ) -> None:
        body = terms()
        first, again = await partner("", body), await partner("", body)
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json()
        other = await partner("", {**body, "reward": {"fixed_minor": 100}})
        assert (other.status_code, other.json()["code"]) == (409, "offer_exists")

    async def test_is_seen_by_its_partner_alone(
        self, client: httpx.AsyncClient, make_key: MakeKey, partner: Call, sessions: Sessions
    ) -> None:
        offer_id = (await partner("", terms())).json()["id"]
        async with sessions.begin() as session:
            rival = await partners.ensure_partner(session, ref="rival")
        other = caller(client, await make_key("partner", rival.id))
        assert (await other(f"/{offer_id}", method="GET")).status_code == 404
        assert (await other(f"/{offer_id}/pause")).status_code == 404
        assert (await other("", method="GET")).json()["items"] == []
        (listed,) = (await partner("", method="GET")).json()["items"]
        assert listed["id"] == offer_id


class TestAHashtag:
    async def test_means_one_offer_at_a_time_whoever_publishes_together(
        self, operator: Call, cafe: UUID, sessions: Sessions
    ) -> None:
        del cafe
        made = []
        for number in range(6):
            body = terms(
                offer_ref=f"o-{number}", partner="cafe", hashtag="Ｔea" if number else "tea"
            )
            made.append((await operator("", body)).json()["id"])
        answers = await asyncio.gather(*(operator(f"/{offer_id}/publish") for offer_id in made))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409, 409]
        codes = {answer.json()["code"] for answer in answers if answer.status_code == 409}
        assert codes == {"tag_taken"}
        async with sessions.begin() as session:
            live = await session.scalar(text("SELECT count(*) FROM offers WHERE state = 'live'"))
        assert live == 1

    async def test_is_free_again_when_its_offer_has_ended(self, operator: Call, cafe: UUID) -> None:
        del cafe
        first = (await operator("", terms(partner="cafe"))).json()["id"]
        second = (await operator("", terms(partner="cafe", offer_ref="tea-2"))).json()["id"]
        await operator(f"/{first}/publish")
        assert (await operator(f"/{second}/publish")).status_code == 409
        await operator(f"/{first}/end")
        late = await operator(f"/{second}/publish")
        # its window still overlaps the hour in which the first one ran; ended offers do not count
        assert late.json()["state"] == "live"


class TestNonsense:
    @pytest.mark.parametrize(
        ("change", "where"),
        [
            ({"hashtag": "two words"}, "/hashtag"),
            ({"hashtag": "123"}, "/hashtag"),
            ({"time_zone": "Mars/Olympus"}, "/time_zone"),
            ({"currency": "XXZ"}, "/currency"),
            ({"reward": {"basis_points": 1_000}}, "/reward"),
            ({"reward": {"fixed_minor": 0}}, "/reward"),
            ({"reward": {"fixed_minor": "5.00"}}, "/reward"),
            ({"min_spend_minor": 5.0}, "/min_spend_minor"),
            ({"title": "two\nlines"}, "/title"),
            ({"title": "call 4111111111111111"}, "/title"),
            ({"starts_at": "2026-01-01"}, "/starts_at"),
            ({"colour": "red"}, "/colour"),
            ({"budget_minor": 699}, ""),
            ({"coupon_last_day": "2020-01-01"}, ""),
            ({"days": ["someday"]}, "/days/0"),
            ({"hours": {"from": "09:00Z", "to": "10:00"}}, "/hours"),
            ({"coupon_last_day": "9999-12-31"}, "/coupon_last_day"),
            ({"ends_at": "9999-12-31T23:59:59Z"}, "/ends_at"),
            ({"offer_ref": "a\x00b"}, "/offer_ref"),
            ({"partner": "4111111111111111"}, "/partner"),
        ],
    )
    async def test_is_answered_by_the_place_it_stands_at(
        self, partner: Call, change: dict[str, Any], where: str
    ) -> None:
        answer = await partner("", terms(**change))
        assert answer.status_code == 422
        assert any(error["pointer"].startswith(where) for error in answer.json()["errors"])
