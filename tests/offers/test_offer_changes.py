"""What a PATCH makes of an offer: a draft corrected, a published one grown or given new terms."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from app.config import Settings
from app.kit.db import Sessions
from app.offers import changing
from app.offers.schemas import OfferChange
from app.posts.enrol import Enroller
from tests.offers.over_http import Call, terms
from tests.programme import NOW, OPERATOR, make_members, make_offer, make_post, make_shop, pay
from tests.support import MakeKey


async def rows(sessions: Sessions, query: str) -> list[tuple[Any, ...]]:
    async with sessions.begin() as session:
        return [tuple(row) for row in await session.execute(text(query))]


async def set_credit(sessions: Sessions, minor: int) -> None:
    async with sessions.begin() as session:
        await session.execute(
            text("UPDATE partners SET credit_limit_minor = :minor, credit_currency = 'EUR'"),
            {"minor": minor},
        )


async def publish(operator: Call, **changes: Any) -> str:
    made = await operator("", terms(partner="cafe", **changes))
    offer_id: str = made.json()["id"]
    assert (await operator(f"/{offer_id}/publish")).status_code == 200
    return offer_id


@pytest.mark.usefixtures("cafe")
class TestADraft:
    async def test_is_corrected_in_anything_and_may_shrink(
        self, partner: Call, operator: Call, sessions: Sessions
    ) -> None:
        made = (await partner("", terms(coupons_max=10, budget_minor=10_000))).json()
        later = (datetime.now(UTC) + timedelta(days=2)).isoformat()
        changes = {
            "title": "Two for tea",
            "hashtag": "TwoForTea",
            "currency": "USD",
            "starts_at": later,
            "ends_at": (datetime.now(UTC) + timedelta(days=3)).isoformat(),
            "reward": {"fixed_minor": 200},
            "coupons_max": 5,
            "budget_minor": None,
            "hours": {"from": "22:00", "to": "02:00"},
            "days": ["fri", "mon"],
        }
        changed = (await partner(f"/{made['id']}", changes, "PATCH")).json()
        assert changed["version"] == 1
        assert (changed["title"], changed["hashtag"]) == ("Two for tea", "TwoForTea")
        assert (changed["currency"], changed["reward"]) == ("USD", {"fixed_minor": 200})
        assert (changed["coupons_max"], changed["budget_minor"]) == (5, None)
        assert changed["days"] == ["mon", "fri"]
        assert changed["hours"] == {"from": "22:00:00", "to": "02:00:00"}
        assert changed["time_zone"] == "Europe/Paris"
        assert (await operator(f"/{made['id']}/publish")).json()["state"] == "scheduled"
        assert await rows(sessions, "SELECT tag_key FROM offers") == [("twofortea",)]

    @pytest.mark.parametrize("name", ["offer_ref", "partner"])
    async def test_keeps_its_name_and_its_partner(self, partner: Call, name: str) -> None:
        offer_id = (await partner("", terms())).json()["id"]
        assert (await partner(f"/{offer_id}", {name: "other"}, "PATCH")).status_code == 422

    async def test_that_waits_for_approval_changes_by_the_operator_alone(
        self, partner: Call, operator: Call
    ) -> None:
        offer_id = (await partner("", terms())).json()["id"]
        await partner(f"/{offer_id}/publish")
        title = {"title": "Tea for three"}
        assert (await partner(f"/{offer_id}", title, "PATCH")).status_code == 409
        assert (await operator(f"/{offer_id}", title, "PATCH")).json()["state"] == "submitted"

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"reward": {"fixed_minor": 5, "basis_points": 5}}, "reward"),
            ({"reward": {"fixed_minor": 10_001}}, "budget_minor must cover one coupon"),
            ({"redemptions_per_coupon": 15}, "budget_minor must cover one coupon"),
            ({"title": None}, "title: "),
            ({"title": "two\nlines"}, "title: "),
            ({"currency": "XXZ"}, "currency: "),
            ({"min_spend_minor": -1}, "min_spend_minor: "),
            (
                {"coupon_valid_days": None, "coupon_last_day": "2020-01-01"},
                "coupon_last_day must not be before",
            ),
            ({"coupon_last_day": "2099-01-01"}, "either coupon_valid_days or coupon_last_day"),
            ({"ends_at": "2020-01-01T00:00:00Z"}, "ends_at must be after starts_at"),
            ({"acceptors": [{"acquirer_id": "a", "acceptor_id": "b"}]}, "not a confirmed acceptor"),
        ],
    )
    async def test_must_be_an_offer_afterwards(
        self, partner: Call, changes: dict[str, Any], reason: str
    ) -> None:
        body = terms(budget_minor=10_000, coupon_valid_days=3)
        made = await partner("", body)
        refused = await partner(f"/{made.json()['id']}", changes, "PATCH")
        assert refused.status_code == 422
        assert reason in refused.json()["detail"]
        assert (await partner("", body)).json() == made.json()


@pytest.mark.usefixtures("cafe")
class TestAPublishedOffer:
    async def test_may_grow_and_never_shrink(self, operator: Call) -> None:
        offer_id = await publish(operator, coupons_max=10, budget_minor=9_000)
        grown = await operator(f"/{offer_id}", {"coupons_max": 12, "budget_minor": None}, "PATCH")
        assert (grown.json()["coupons_max"], grown.json()["budget_minor"]) == (12, None)
        assert grown.json()["version"] == 1
        sooner = (datetime.now(UTC) + timedelta(days=4)).isoformat()
        for smaller in ({"coupons_max": 11}, {"budget_minor": 10**6}, {"ends_at": sooner}):
            refused = await operator(f"/{offer_id}", smaller, "PATCH")
            assert refused.status_code == 422
            assert "may only" in refused.json()["detail"]

    @pytest.mark.parametrize(
        ("name", "value"),
        [("hashtag", "Tea"), ("currency", "USD"), ("starts_at", "2026-01-01T00:00:00Z")],
    )
    async def test_keeps_what_it_is_known_by(self, operator: Call, name: str, value: str) -> None:
        offer_id = await publish(operator)
        refused = await operator(f"/{offer_id}", {name: value}, "PATCH")
        assert refused.status_code == 422
        assert refused.json()["detail"] == f"{name} does not change once the offer is published"

    async def test_has_each_of_its_versions_in_the_list(
        self, operator: Call, partner: Call, sessions: Sessions
    ) -> None:
        offer_id = await publish(operator)
        await make_shop(sessions, "counter")
        first = {
            "title": "Tea for one",
            "reward": {"fixed_minor": 300},
            "min_spend_minor": 1_000,
            "channel": "in_store",
            "acceptors": [{"acquirer_id": "ACQ", "acceptor_id": "counter"}],
            "days": ["sat"],
            "hours": {"from": "09:00", "to": "12:00"},
            "time_zone": "Europe/Rome",
            "coupon_valid_days": 3,
            "redemptions_per_coupon": 2,
            "audience": {"customers": ["new"]},
            "refund_policy": "burn",
        }
        changed = (await operator(f"/{offer_id}", first, "PATCH")).json()
        second = {"days": None, "hours": None, "channel": None, "audience": None,
                  "acceptors": None, "coupon_valid_days": None}  # fmt: skip
        assert (await operator(f"/{offer_id}", second, "PATCH")).json()["version"] == 3
        listed = (await partner(f"/{offer_id}/versions", method="GET")).json()["items"]
        assert [version["version"] for version in listed] == [1, 2, 3]
        assert [version["title"] for version in listed] == ["Tea for two"] + ["Tea for one"] * 2
        for name in set(first) - {"acceptors", "hours", "audience"}:
            assert listed[1][name] == changed[name] == first[name]
        assert listed[1]["audience"]["customers"] == ["new"]
        assert len(listed[1]["acceptor_ids"]) == 1
        assert {listed[2][name] for name in second if name != "acceptors"} == {None, "any"}
        assert (listed[2]["acceptor_ids"], listed[2]["min_spend_minor"]) == (None, 1_000)
        assert (await operator(f"/{UUID(int=1)}/versions", method="GET")).status_code == 404

    async def test_that_is_told_what_it_has_gets_no_version(
        self, operator: Call, sessions: Sessions
    ) -> None:
        body = {"days": ["mon", "fri"], "hours": {"from": "09:00", "to": "12:00"},
                "audience": {"countries": ["FR"]}, "coupons_max": 3}  # fmt: skip
        offer_id = await publish(operator, **body)
        before = await operator(f"/{offer_id}", method="GET")
        body["days"] = ["fri", "mon", "fri"]
        for same in ({}, body, {"hashtag": "TeaForTwo", "reward": before.json()["reward"]}):
            again = await operator(f"/{offer_id}", same, "PATCH")
            assert again.json() == before.json()
            assert again.headers["ETag"] == before.headers["ETag"]
        changes = "SELECT count(*) FROM audit_entries WHERE action = 'offer.change'"
        assert await rows(sessions, changes) == [(0,)]

    async def test_leaves_one_entry_of_what_was_and_what_is(
        self, operator: Call, sessions: Sessions
    ) -> None:
        offer_id = await publish(operator, coupons_max=10)
        changes = {"coupons_max": 20, "min_spend_minor": 500, "coupon_last_day": "2099-12-31"}
        await operator(f"/{offer_id}", changes, "PATCH")
        ((subject, before, after),) = await rows(
            sessions,
            "SELECT subject_id, before, after FROM audit_entries WHERE action = 'offer.change'",
        )
        assert subject == offer_id
        assert before == {
            "coupons_max": 10, "min_spend_minor": 0, "coupon_last_day": None, "version": 1
        }  # fmt: skip
        assert after == {**changes, "version": 2}

    async def test_is_changed_only_as_it_was_read(self, operator: Call) -> None:
        offer_id = await publish(operator)
        etag = (await operator(f"/{offer_id}", method="GET")).headers["ETag"]
        first = await operator(f"/{offer_id}", {"title": "One"}, "PATCH", **{"If-Match": etag})
        second = await operator(f"/{offer_id}", {"title": "Two"}, "PATCH", **{"If-Match": etag})
        assert (first.status_code, second.status_code) == (200, 412)
        assert first.headers["ETag"] != etag
        any_of_it = await operator(f"/{offer_id}", {"title": "Two"}, "PATCH", **{"If-Match": "*"})
        assert any_of_it.json()["version"] == 3

    async def test_gives_two_who_change_it_at_once_a_version_each(
        self, operator: Call, sessions: Sessions
    ) -> None:
        offer_id = await publish(operator)
        titles = [f"Tea {number}" for number in range(6)]
        answers = await asyncio.gather(
            *(operator(f"/{offer_id}", {"title": title}, "PATCH") for title in titles)
        )
        assert sorted(answer.json()["version"] for answer in answers) == [2, 3, 4, 5, 6, 7]
        found = await rows(sessions, "SELECT title FROM offer_versions ORDER BY version")
        assert sorted(title for (title,) in found[1:]) == titles

    async def test_does_not_grow_into_the_window_of_another(self, operator: Call) -> None:
        offer_id = await publish(operator)
        next_week = {
            "starts_at": (datetime.now(UTC) + timedelta(days=6)).isoformat(),
            "ends_at": (datetime.now(UTC) + timedelta(days=9)).isoformat(),
        }
        await publish(operator, offer_ref="tea-2", **next_week)
        refused = await operator(f"/{offer_id}", {"ends_at": next_week["ends_at"]}, "PATCH")
        assert (refused.status_code, refused.json()["code"]) == (409, "tag_taken")

    async def test_that_is_over_by_the_clock_does_not_come_back(
        self, operator: Call, sessions: Sessions
    ) -> None:
        offer_id = await publish(operator)
        async with sessions.begin() as session:
            await session.execute(text("UPDATE offers SET ends_at = now()"))
        later = (datetime.now(UTC) + timedelta(days=9)).isoformat()
        refused = await operator(f"/{offer_id}", {"ends_at": later}, "PATCH")
        assert (refused.status_code, refused.json()["code"]) == (409, "offer_state")

    async def test_that_was_paused_and_changed_ends_when_it_was_paused(
        self, operator: Call, sessions: Sessions
    ) -> None:
        offer_id = await publish(operator)
        await operator(f"/{offer_id}/pause")
        await operator(f"/{offer_id}/pause")
        await operator(f"/{offer_id}", {"title": "Tea after all"}, "PATCH")
        ((paused_at, updated_at),) = await rows(
            sessions, "SELECT paused_at, updated_at FROM offers"
        )
        assert paused_at < updated_at
        ended = (await operator(f"/{offer_id}/end")).json()
        assert datetime.fromisoformat(ended["ends_at"]) == paused_at

    async def test_sent_again_as_it_first_was_is_still_the_one(self, operator: Call) -> None:
        body = terms(partner="cafe")
        offer_id = (await operator("", body)).json()["id"]
        await operator(f"/{offer_id}/publish")
        changed = await operator(f"/{offer_id}", {"min_spend_minor": 700}, "PATCH")
        for known in (body, {**body, "min_spend_minor": 700}):
            again = await operator("", known)
            assert (again.status_code, again.json()) == (200, changed.json())
        assert (await operator("", {**body, "min_spend_minor": 701})).status_code == 409


class TestAPartner:
    async def test_changes_what_its_credit_limit_covers(
        self, partner: Call, operator: Call, sessions: Sessions
    ) -> None:
        await set_credit(sessions, 50_000)
        offer_id = await publish(operator, budget_minor=60_000)
        dearer = {"reward": {"fixed_minor": 900}}
        later = {"ends_at": (datetime.now(UTC) + timedelta(days=30)).isoformat()}
        for changes in (dearer, later, {"coupons_max": None, "title": "More tea"}):
            refused = await partner(f"/{offer_id}", changes, "PATCH")
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        await set_credit(sessions, 60_000)
        assert (await partner(f"/{offer_id}", dearer, "PATCH")).json()["version"] == 2
        assert (await partner(f"/{offer_id}", later, "PATCH")).status_code == 200
        assert (await partner(f"/{offer_id}", {"budget_minor": 60_001}, "PATCH")).status_code == 403

    async def test_asks_the_operator_where_no_budget_says_what_it_can_cost(
        self, partner: Call, operator: Call, sessions: Sessions
    ) -> None:
        await set_credit(sessions, 10**9)
        offer_id = await publish(operator)
        title = {"title": "More tea"}
        assert (await partner(f"/{offer_id}", title, "PATCH")).status_code == 403
        assert (await operator(f"/{offer_id}", title, "PATCH")).json()["version"] == 2

    async def test_sets_its_own_objective_which_is_no_term(
        self, partner: Call, operator: Call
    ) -> None:
        offer_id = await publish(operator)
        objective = {"metric": "coupons", "value": 500, "by": "2099-01-01"}
        changed = await partner(f"/{offer_id}", {"objective": objective}, "PATCH")
        assert (changed.json()["objective"], changed.json()["version"]) == (objective, 1)
        gone = await partner(f"/{offer_id}", {"objective": None}, "PATCH")
        assert gone.json()["objective"] is None
        assert gone.headers["ETag"] != changed.headers["ETag"]

    async def test_reaches_no_other_partners_offer(
        self, partner: Call, operator: Call, sessions: Sessions
    ) -> None:
        offer_id = await make_offer(sessions, "Soup", partner="rival")
        for answer in (
            await partner(f"/{offer_id}", {"title": "Mine"}, "PATCH"),
            await partner(f"/{offer_id}/versions", method="GET"),
        ):
            assert answer.status_code == 404
        listed = (await operator(f"/{offer_id}/versions", method="GET")).json()["items"]
        assert [version["title"] for version in listed] == ["Offer Soup"]


class TestACoupon:
    async def change(self, sessions: Sessions, offer_id: UUID, **changes: Any) -> None:
        async with sessions.begin() as session:
            await changing.change(
                session,
                offer_id=offer_id,
                changes=OfferChange.model_validate(changes),
                by=OPERATOR,
                now=NOW,
            )

    async def test_keeps_the_terms_it_was_loaded_under_and_redeems_by_them(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_shop(sessions, "counter")
        offer_id = await make_offer(sessions, "Tea", budget_minor=10_000)
        before, after = await make_members(sessions, 2)
        enroller = Enroller(sessions, settings)
        await enroller.enrol([make_post(before, "tea")], source="test", now=NOW)
        await self.change(
            sessions,
            offer_id,
            reward={"basis_points": 1_000, "max_minor": 300},
            min_spend_minor=2_000,
            redemptions_per_coupon=2,
            coupon_valid_days=1,
        )
        await enroller.enrol([make_post(after, "tea")], source="test", now=NOW)
        coupons = await rows(
            sessions,
            "SELECT offer_version, reserved_minor, uses_max, valid_until - posted_at < '2 days' "
            "FROM coupons ORDER BY id",
        )
        assert coupons == [(1, 500, 1, False), (2, 600, 2, True)]
        assert (await pay(sessions, before, "clearing", 1_500)).reward_minor == 500
        assert (await pay(sessions, after, "clearing", 2_500)).reward_minor == 250
        assert (await pay(sessions, after, "clearing", 1_999)).reward_minor == 0

    async def test_shows_the_title_it_was_promised_under(
        self, sessions: Sessions, settings: Settings, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        offer_id = await make_offer(sessions, "Tea")
        authors = await make_members(sessions, 2)
        enroller = Enroller(sessions, settings)
        await enroller.enrol([make_post(authors[0], "tea")], source="test", now=NOW)
        await self.change(sessions, offer_id, title="Less tea")
        await enroller.enrol([make_post(authors[1], "tea")], source="test", now=NOW)
        headers = {"Authorization": f"Bearer {await make_key('issuer')}"}
        titles = []
        for (member_id,) in await rows(sessions, "SELECT member_id FROM coupons ORDER BY id"):
            wallet = await client.get(f"/v1/members/{member_id}/coupons", headers=headers)
            titles += [coupon["title"] for coupon in wallet.json()["items"]]
        assert titles == ["Offer Tea", "Less tea"]

    async def test_of_a_post_that_waited_for_the_change_has_the_new_version(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        """The lock is taken by the change first; the batch chose its terms before."""
        offer_id = await make_offer(sessions, "Tea")
        first, second = await make_members(sessions, 2)
        enroller = Enroller(sessions, settings)
        await enroller.enrol([make_post(first, "tea")], source="test", now=NOW)
        async with sessions.begin() as session:
            await changing.change(
                session,
                offer_id=offer_id,
                changes=OfferChange.model_validate({"reward": {"fixed_minor": 200}}),
                by=OPERATOR,
                now=NOW,
            )
            waiting = asyncio.create_task(
                enroller.enrol([make_post(second, "tea")], source="test", now=NOW)
            )
            blocked = "SELECT 1 FROM pg_locks WHERE NOT granted"
            while not await rows(sessions, blocked):  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.01)
        (result,) = await waiting
        assert result.outcomes == ("loaded",)
        found = await rows(
            sessions, "SELECT offer_version, reserved_minor FROM coupons ORDER BY id"
        )
        assert found == [(1, 500), (2, 200)]
