"""What a partner is told of a dry run: of groups, and nothing of one person, however it asks."""

import asyncio
import json
from collections import Counter
from collections.abc import Coroutine
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.config import Settings
from app.errors import NotFound, TooManyRequests
from app.insight import dry_run, dry_run_figures
from app.insight.dry_run import OF_ALL_POSTS
from app.insight.replay import Bought, Decided
from app.insight.suppression import GROUP_MIN
from app.kit.clock import now as clock_now
from app.kit.db import Sessions
from app.kit.ids import new_id
from app.offers.queries import NewCoupon
from app.offers.schemas import OfferChange
from app.partners import service as partners
from app.posts.enrol import Enroller
from app.redemptions.service import record_committed
from app.redemptions.transactions import Transaction
from tests.programme import NOW, make_members, make_offer, make_post, make_shop
from tests.support import MakeKey, Tagback

MONEY = ("redemptions", "sales_minor", "reward_minor", "average_basket_minor", "reward_share")


def coupon(member_id: UUID) -> NewCoupon:
    return NewCoupon(
        id=new_id(), offer_id=new_id(), offer_version=1, member_id=member_id, network="x",
        post_id="1", posted_at=NOW, loaded_at=NOW, valid_until=NOW, reserved_minor=500, uses_max=1,
    )  # fmt: skip


def decided(member_ids: list[UUID], **outcomes: list[str]) -> Decided:
    found = Decided(coupons=[coupon(one) for one in member_ids])
    found.outcomes.update(loaded=[f"author {one}" for one in member_ids], **outcomes)
    return found


def bought(member_ids: list[UUID], *baskets: int) -> Bought:
    """Each of these members once; all baskets alike where one is given."""
    amounts = baskets if len(baskets) > 1 else baskets * len(member_ids)
    return Bought(
        purchases=[*member_ids],
        redemptions=[*member_ids],
        sales_minor=Counter(dict(zip(member_ids, amounts, strict=True))),
        reward_minor=100 * len(member_ids),
    )


class TestFigures:
    def test_of_a_group_under_ten_are_hidden(self) -> None:
        few = [new_id() for _ in range(GROUP_MIN - 1)]
        many = [*few, new_id()]
        for people, is_shown in ((few, False), (many, True)):
            found = dry_run_figures.blurred(decided(people), decided(people), bought(people, 2_000))
            assert (found["coupons"] is not None) == is_shown
            for name in (*MONEY, "purchases", "posts"):
                assert (found[name] is not None) == is_shown, name

    def test_of_ten_purchases_of_one_member_are_hidden(self) -> None:
        people = [new_id() for _ in range(30)]
        of_one = bought(people, 100)
        of_one.not_rewarded["channel"] = [people[0]] * 50
        of_one.not_rewarded["below_minimum"] = people[:10]
        found = dry_run_figures.blurred(
            decided(people, not_linked=["a stranger"] * 50), decided(people), of_one
        )
        assert found["not_rewarded"]["channel"] is None
        assert found["not_rewarded"]["below_minimum"] is not None
        assert (found["outcomes"]["not_linked"], found["outcomes"]["loaded"]) == (None, 30)

    def test_that_are_about_one_basket_are_hidden(self) -> None:
        people = [new_id() for _ in range(12)]
        found = dry_run_figures.blurred(
            decided(people), decided(people), bought(people, *[100] * 11, 1_200)
        )
        assert {found[name] for name in MONEY[1:]} == {None}
        found = dry_run_figures.blurred(
            decided(people), decided(people), bought(people, *[100] * 11, 1_100)
        )
        assert found["sales_minor"] is not None

    def test_are_right_in_the_mean_and_off_by_no_more_than_one_of_the_group(self) -> None:
        counts, sales = [], []
        for _ in range(300):
            people = [new_id() for _ in range(23)]
            found = dry_run_figures.blurred(decided(people), decided(people), bought(people, 2_000))
            counts.append(found["coupons"])
            sales.append(found["sales_minor"] / found["coupons"])
        assert set(counts) == {20, 30}
        assert 21.5 < sum(counts) / 300 < 24.5
        assert 1_750 <= min(sales) < 1_900
        assert 2_100 < max(sales) <= 2_250
        assert 1_960 < sum(sales) / 300 < 2_040

    def test_of_the_same_people_are_the_same_whenever_and_in_whatever_order(self) -> None:
        people = [new_id() for _ in range(23)]
        shown = {
            str(dry_run_figures.blurred(decided(one), decided(one), bought(one, 2_000)))
            for one in (people, people[::-1], [*people[9:], *people[:9]])
        }
        assert len(shown) == 1

    def test_do_not_tell_who_came_when_the_caps_let_one_more_in(self) -> None:
        """The same group behind the money, whoever of it the terms let have a coupon."""
        people = [new_id() for _ in range(60)]
        baskets = bought(people, *range(100, 6_100, 100))
        shown = [
            dry_run_figures.blurred(decided(people[:number]), decided(people), baskets)
            for number in range(GROUP_MIN, 60)
        ]
        assert len({one["average_basket_minor"] for one in shown}) == 1
        for one, next_one in pairwise(shown):
            same = one["coupons"] == next_one["coupons"]
            assert (one["sales_minor"] == next_one["sales_minor"]) == same


class TestADryRun:
    async def test_of_a_partner_is_one_at_a_time(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        """So that the others find a place."""
        owner, other = new_id(), new_id()

        def ask(partner_id: UUID) -> Coroutine[Any, Any, dict[str, Any]]:
            wanted = dry_run.Wanted(new_id(), OfferChange(), 30, partner_id)
            return dry_run.dry_run(sessions, wanted=wanted, settings=settings, now=NOW)

        async with dry_run.places, dry_run.places:
            waiting = [asyncio.create_task(ask(one)) for one in (owner, other)]
            await asyncio.sleep(0)
            with pytest.raises(TooManyRequests):
                await asyncio.wait_for(ask(owner), timeout=10)
        for one in waiting:
            with pytest.raises(NotFound):
                await one
        with pytest.raises(NotFound):
            await ask(owner)


class Scene:
    """An offer of last week's and twelve members who posted and bought two days ago, by the real
    clock, as it is HTTP and the command line that are asked.
    """

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self.sessions = sessions
        self.settings = settings
        self.now = clock_now()

    async def set(self) -> UUID:
        """Answers a draft with another hashtag."""
        await make_shop(self.sessions, "counter")
        week = {
            "starts_at": (self.now - timedelta(days=7)).isoformat(),
            "ends_at": (self.now + timedelta(days=7)).isoformat(),
        }
        await make_offer(self.sessions, "Tea", **week)
        accounts = await make_members(self.sessions, 12)
        at = self.now - timedelta(days=2)
        posts = [make_post(account, "tea", posted_at=at) for account in accounts]
        await Enroller(self.sessions, self.settings).enrol(posts, source="test", now=at)
        purchases = [
            Transaction(
                id=f"T{account}", type="clearing", purchase_id=f"P{account}",
                card_ref=f"c-{account}", acquirer_id="ACQ", acceptor_id="counter",
                amount_minor=1_000 + number, currency="USD", occurred_at=at + timedelta(hours=1),
            )
            for number, account in enumerate(accounts)
        ]  # fmt: skip
        await record_committed(self.sessions, transactions=purchases, now=self.now)
        return await make_offer(self.sessions, "Scone", publish=False, **week)


@pytest.fixture
async def draft(sessions: Sessions, settings: Settings) -> UUID:
    return await Scene(sessions, settings).set()


class TestOverHttp:
    async def test_is_for_the_partner_and_the_operator(
        self, client: httpx.AsyncClient, sessions: Sessions, make_key: MakeKey, draft: UUID
    ) -> None:
        async with sessions.begin() as session:
            cafe = await partners.find_partner(session, ref_or_id="cafe")
            rival = await partners.ensure_partner(session, ref="rival")
        keys = {
            "own": await make_key("partner", cafe.id),
            "rival": await make_key("partner", rival.id),
            "operator": await make_key("operator"),
            "analyst": await make_key("analyst"),
            "issuer": await make_key("issuer"),
            "processor": await make_key("processor"),
        }

        async def ask(name: str, **body: Any) -> httpx.Response:
            headers = {"Authorization": f"Bearer {keys[name]}"}
            path = f"/v1/offers/{draft}/dry-run"
            return await client.post(path, headers=headers, json=body or None)

        found = {name: await ask(name) for name in keys}
        statuses = {name: answer.status_code for name, answer in found.items()}
        assert statuses == {"own": 200, "rival": 404, "operator": 200, "analyst": 403,
                            "issuer": 403, "processor": 403}  # fmt: skip
        exact, own = found["operator"].json(), found["own"].json()
        assert (exact["is_exact"], own["is_exact"]) == (True, False)
        assert exact["posts_from"] == own["posts_from"] == "partner_offers"
        assert (exact["sales_minor"], exact["reward_minor"]) == (12_066, 6_000)
        assert own["coupons"] in (10, 20)
        assert own["average_basket_minor"] == 1_000
        assert own["until"].endswith("T00:00:00Z")
        assert OF_ALL_POSTS in own["assumptions"]
        changed = await ask("operator", changes={"min_spend_minor": 1_005}, days=3)
        assert changed.json()["not_rewarded"] == {"below_minimum": 5}
        assert changed.json()["redemptions"] == 7
        none = await ask("own", changes={"min_spend_minor": 1_005})
        assert {none.json()[name] for name in MONEY} == {None}
        for body in ({"days": 31}, {"days": 0}, {"changes": {"nonsense": 1}},
                     {"changes": {"currency": "ZZZ"}}):  # fmt: skip
            assert (await ask("own", **body)).status_code == 422, body
        offer = await client.get(
            f"/v1/offers/{draft}", headers={"Authorization": f"Bearer {keys['own']}"}
        )
        assert (offer.json()["min_spend_minor"], offer.json()["state"]) == (0, "draft")


@pytest.mark.usefixtures("draft")
class TestOnTheCommandLine:
    async def test_prints_a_table_or_the_whole_as_json(self, tagback: Tagback) -> None:
        ran = await tagback("offers", "dry-run", "scone", "--changes", '{"coupons_max": 5}')
        assert ran.status == 0, ran.err
        shown = {line[:32].strip(): line[32:].strip() for line in ran.out.splitlines()}
        assert (shown["#Scone: posts"], shown["sold_out"], shown["coupons"]) == ("12", "7", "5")
        assert shown["rewards"] == "$25.00"
        assert "- " in ran.out
        ran = await tagback("offers", "dry-run", "tea", "--json")
        assert (ran.status, ran.out.count("\n")) == (0, 1)
        assert json.loads(ran.out)["redemptions"] == 12

    async def test_says_what_is_wrong_with_the_changes(self, tagback: Tagback) -> None:
        ran = await tagback("offers", "dry-run", "scone", "--changes", '{"coupons_max": 0}')
        assert (ran.status, ran.err[:28]) == (1, "tagback: --changes: coupons_")
