"""How an offer does, as its partner, an analyst and the operator read it."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.config import Settings
from app.insight import attribution
from app.insight.performance import performance
from app.insight.suppression import GROUP_MIN
from app.kit.db import Sessions
from app.partners import service as partners
from app.posts.enrol import Enroller
from tests.programme import NOW, make_members, make_offer, make_post, make_shop, pay
from tests.support import MakeKey

TODAY = NOW.date()


async def read(sessions: Sessions, offer_id: UUID, **changes: Any) -> dict[str, Any]:
    await attribution.flush(sessions)
    asked: dict[str, Any] = {"now": NOW, "to_partner": False, **changes}
    async with sessions.begin() as session:
        return await performance(session, offer_id=offer_id, **asked)


async def sell(sessions: Sessions, settings: Settings, buyers: int, **fields: Any) -> None:
    """To new members, each of whom posts and spends 20 USD, of which 5 come back."""
    accounts = await make_members(sessions, buyers)
    posts = [make_post(account, "tea") for account in accounts]
    await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)
    for account in accounts:
        await pay(sessions, account, "clearing", 2_000, **fields)


@pytest.fixture
async def shop(sessions: Sessions) -> None:
    await make_shop(sessions, "counter")


@pytest.mark.usefixtures("shop")
class TestPerformance:
    async def test_tells_what_posts_became_what_is_left_and_what_was_sold(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        offer_id = await make_offer(sessions, "Tea", coupons_max=10, budget_minor=4_000)
        await make_offer(sessions, "Soup")
        await sell(sessions, settings, 2)
        (stranger,) = await make_members(sessions, 1)
        others = [make_post("1", "tea"), make_post("2", "tea"), make_post(stranger, "soup")]
        await Enroller(sessions, settings).enrol(others, source="test", now=NOW)
        found = await read(sessions, offer_id)
        assert found["outcomes"] == {"loaded": 2, "not_linked": 2}
        assert (found["coupons_loaded"], found["coupons_left"]) == (2, 8)
        assert (found["budget_minor"], found["budget_left_minor"]) == (4_000, 3_000)
        sold = ("redemptions", "sales_minor", "reward_minor", "refunded_minor")
        assert [found[name] for name in sold] == [2, 4_000, 1_000, 0]
        assert (found["state"], found["objective"]) == ("live", None)

    @pytest.mark.parametrize(
        ("metric", "value", "reached", "progress"),
        [
            ("coupons", 7, 2, 0.2857),
            ("redemptions", 2, 2, 1.0),
            ("sales_minor", 3_000, 4_000, 1.3333),
        ],
    )
    async def test_sets_what_is_reached_beside_the_objective(
        self, sessions: Sessions, settings: Settings, metric: str, value: int, reached: int,
        progress: float,
    ) -> None:  # fmt: skip
        objective = {"metric": metric, "value": value, "by": TODAY.isoformat()}
        offer_id = await make_offer(sessions, "Tea", objective=objective)
        await sell(sessions, settings, 2)
        found = (await read(sessions, offer_id))["objective"]
        assert found == {"metric": metric, "value": value, "by": TODAY, "reached": reached,
                         "progress": progress, "is_over": False}  # fmt: skip

    async def test_counts_nothing_that_came_after_the_objectives_day(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        objective = {"metric": "redemptions", "value": 2, "by": TODAY.isoformat()}
        offer_id = await make_offer(sessions, "Tea", objective=objective)
        tomorrow = NOW + timedelta(days=1)
        await sell(sessions, settings, 1)
        await sell(sessions, settings, 1, occurred_at=tomorrow)
        found = await read(sessions, offer_id, now=tomorrow)
        assert found["redemptions"] == 2
        assert (found["objective"]["reached"], found["objective"]["is_over"]) == (1, True)

    async def test_shows_a_partner_no_group_that_is_a_person_and_its_own_counters(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        by = TODAY.isoformat()
        offer_id = await make_offer(
            sessions, "Tea", coupons_max=100,
            objective={"metric": "sales_minor", "value": 10**6, "by": by},
        )  # fmt: skip
        most = GROUP_MIN
        await sell(sessions, settings, most - 1)
        few = await read(sessions, offer_id, to_partner=True)
        assert few["outcomes"] == {"loaded": None}
        assert {few[name] for name in ("redemptions", "sales_minor", "reward_minor")} == {None}
        assert (few["objective"]["reached"], few["objective"]["progress"]) == (None, None)
        assert few["coupons_left"] == 100 - most + 1
        await sell(sessions, settings, 1)
        enough = await read(sessions, offer_id, to_partner=True)
        assert enough["outcomes"] == {"loaded": most}
        assert enough["sales_minor"] == enough["objective"]["reached"] == most * 2_000
        # the next post is public: its outcome is not
        await sell(sessions, settings, 1)
        assert (await read(sessions, offer_id, to_partner=True))["outcomes"] == enough["outcomes"]
        assert (await read(sessions, offer_id))["outcomes"] == {"loaded": most + 1}

    async def test_shows_a_partner_its_coupons_on_the_way_to_its_objective(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        objective = {"metric": "coupons", "value": 4, "by": TODAY.isoformat()}
        offer_id = await make_offer(sessions, "Tea", objective=objective)
        await sell(sessions, settings, 1)
        found = await read(sessions, offer_id, to_partner=True)
        assert (found["objective"]["reached"], found["objective"]["progress"]) == (1, 0.25)


class TestOverHttp:
    async def test_is_for_the_partner_itself_analysts_and_the_operator(
        self, client: httpx.AsyncClient, sessions: Sessions, settings: Settings, make_key: MakeKey
    ) -> None:
        await make_shop(sessions, "counter")
        objective = {"metric": "redemptions", "value": 4, "by": TODAY.isoformat()}
        offer_id = await make_offer(sessions, "Tea", objective=objective)
        await sell(sessions, settings, 1)
        await attribution.flush(sessions)
        async with sessions.begin() as session:
            cafe = await partners.find_partner(session, ref_or_id="cafe")
            rival = await partners.ensure_partner(session, ref="rival")
        keys = {
            "own": await make_key("partner", cafe.id),
            "rival": await make_key("partner", rival.id),
            "analyst": await make_key("analyst"),
            "operator": await make_key("operator"),
            "issuer": await make_key("issuer"),
        }
        found = {}
        for name, key in keys.items():
            headers = {"Authorization": f"Bearer {key}"}
            path = f"/v1/offers/{offer_id}/performance"
            found[name] = await client.get(path, headers=headers)
        statuses = {name: answer.status_code for name, answer in found.items()}
        assert statuses == {"own": 200, "rival": 404, "analyst": 200, "operator": 200,
                            "issuer": 403}  # fmt: skip
        assert found["analyst"].json() == found["operator"].json()
        assert found["analyst"].json()["outcomes"] == {"loaded": 1}
        assert found["analyst"].json()["objective"]["reached"] == 1
        assert found["own"].json()["outcomes"] == {"loaded": None}
