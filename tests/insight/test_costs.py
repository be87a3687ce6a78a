"""What X has cost, with the mix that it was spent on."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from app.config import Settings
from app.errors import Invalid
from app.insight.costs import costs, month_named
from app.kit.db import Sessions
from app.kit.months import Month
from app.networks.sender import NotAllowed, SendResult, Sent, Unknown
from app.posts.enrol import Enroller
from app.replies import sending
from tests.programme import NOW, make_members, make_offer, make_post
from tests.support import MakeKey, Tagback

JULY = Month(2026, 7)
SENT = Sent("1")


class Programme:
    """Whose posts come from X, and whose replies are sent."""

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self.sessions = sessions
        self.settings = settings

    async def hear(self, *posts: Any, source: str = "x:activity") -> None:
        enroller = Enroller(
            self.sessions,
            self.settings,
            read_price_microusd=0
            if source == "import"
            else self.settings.x_price_post_read_microusd,
        )
        await enroller.enrol(posts, source=source, now=NOW)

    async def answer(self, *, now: datetime = NOW, result: SendResult = SENT) -> None:
        async with self.sessions.begin() as session:
            claim = await sending.claim(
                session, network="x", channel="post", settings=self.settings, now=now, most=100
            )
        async with self.sessions.begin() as session:
            await sending.record(
                session,
                network="x",
                channel="post",
                results=[(one, result) for one in claim.replies],
                settings=self.settings,
                now=now,
            )

    async def costs(self, *, now: datetime = NOW, **settings: Any) -> dict[str, Any]:
        async with self.sessions() as session:
            return await costs(
                session,
                month=JULY,
                settings=self.settings.model_copy(update=settings),
                now=now,
            )


@pytest.fixture
def programme(sessions: Sessions, settings: Settings) -> Programme:
    return Programme(sessions, settings)


class TestAMonth:
    async def test_in_which_every_post_is_a_coupon_costs_a_cent_and_a_half_each(
        self, programme: Programme, record_property: Any
    ) -> None:
        """The least that a confirmed coupon can cost: a post read and a summoned reply."""
        await make_offer(programme.sessions, "Coffee")
        members = await make_members(programme.sessions, 20)
        await programme.hear(*(make_post(member, "Coffee") for member in members))
        await programme.answer()
        found = await programme.costs()
        mix = {one["kind"]: (one["units"], one["micro_usd"]) for one in found["by_kind"]}
        assert mix == {"post_read": (20, 100_000), "summoned_reply": (20, 200_000)}
        assert found["spent_microusd"] == 300_000
        assert (found["coupons"], found["confirmed_coupons"]) == (20, 20)
        assert found["microusd_per_confirmed_coupon"] == found["microusd_per_coupon"] == 15_000
        record_property("cost", f"$0.0150 a confirmed coupon, of {mix}")

    async def test_of_strangers_and_refusals_costs_more(self, programme: Programme) -> None:
        await make_offer(programme.sessions, "Coffee")
        (member,) = await make_members(programme.sessions, 1)
        posts = [
            make_post(member, "Coffee"),
            make_post(member, "Coffee"),
            make_post("99", "Coffee"),
        ]
        await programme.hear(*posts, make_post("98"))
        await programme.answer()
        found = await programme.costs()
        mix = {one["kind"]: one["micro_usd"] for one in found["by_kind"]}
        assert mix == {"post_read": 20_000, "summoned_reply": 20_000, "invitation": 10_000}
        assert found["microusd_per_confirmed_coupon"] == 50_000

    async def test_tells_each_offers_part_the_dearest_first(self, programme: Programme) -> None:
        tea = await make_offer(programme.sessions, "Tea")
        coffee = await make_offer(programme.sessions, "Coffee")
        await make_offer(programme.sessions, "Nothing")
        one, other = await make_members(programme.sessions, 2)
        await programme.hear(make_post(one, "Coffee"), make_post(other, "Coffee", "Tea"))
        await programme.answer()
        by_offer = {row["offer_id"]: row for row in (await programme.costs())["by_offer"]}
        assert list(by_offer) == [coffee, tea]
        assert self.figures(by_offer[coffee]) == (20_000, 10_000, 2, 2)
        assert self.figures(by_offer[tea]) == (10_000, 5_000, 1, 1)
        assert by_offer[coffee]["microusd_per_confirmed_coupon"] == 15_000

    def figures(self, row: dict[str, Any]) -> tuple[int, ...]:
        names = ("replies_microusd", "reads_microusd", "coupons", "confirmed_coupons")
        return tuple(row[name] for name in names)

    async def test_counts_no_reply_that_was_not_sent_and_no_post_from_a_file(
        self, programme: Programme
    ) -> None:
        await make_offer(programme.sessions, "Coffee")
        (member,) = await make_members(programme.sessions, 1)
        await programme.hear(make_post(member, "Coffee"), source="import")
        await programme.answer(result=NotAllowed("no"))
        found = await programme.costs()
        assert (found["spent_microusd"], found["confirmed_coupons"], found["coupons"]) == (0, 0, 1)
        assert found["microusd_per_confirmed_coupon"] is None
        assert self.figures(found["by_offer"][0]) == (0, 0, 1, 0)

    async def test_counts_what_was_perhaps_sent(self, programme: Programme) -> None:
        await make_offer(programme.sessions, "Coffee")
        (member,) = await make_members(programme.sessions, 1)
        await programme.hear(make_post(member, "Coffee"), source="import")
        await programme.answer(result=Unknown("no answer"))
        for _ in range(2):
            await programme.answer(now=NOW + timedelta(days=2))
        found = await programme.costs(now=NOW + timedelta(days=2))
        assert (found["spent_microusd"], found["confirmed_coupons"]) == (10_000, 0)
        assert self.figures(found["by_offer"][0]) == (10_000, 0, 1, 0)

    async def test_is_none_of_another(self, programme: Programme) -> None:
        await make_offer(programme.sessions, "Coffee")
        (member,) = await make_members(programme.sessions, 1)
        await programme.hear(make_post(member, "Coffee"))
        await programme.answer(now=NOW + timedelta(hours=1))
        async with programme.sessions() as session:
            june = await costs(session, month=Month(2026, 6), settings=programme.settings, now=NOW)
        assert (june["spent_microusd"], june["by_offer"]) == (0, [])

    async def test_foresees_its_end(self, programme: Programme) -> None:
        await self.spend(programme, 1_000_000)
        middle = datetime(2026, 7, 16, 12, tzinfo=UTC)
        assert (await programme.costs(now=middle))["forecast_microusd"] == 2_000_000
        over = datetime(2026, 8, 2, tzinfo=UTC)
        assert (await programme.costs(now=over))["forecast_microusd"] == 1_000_000

    async def test_tells_what_is_left_of_its_ceilings(self, programme: Programme) -> None:
        await self.spend(programme, 1_000_000)
        await self.spend(programme, 300_000, kind="invitation")
        found = await programme.costs()
        assert (found["ceiling_microusd"], found["left_microusd"]) == (None, None)
        found = await programme.costs(x_monthly_ceiling_usd=Decimal("2.00"))
        assert (found["ceiling_microusd"], found["left_microusd"]) == (2_000_000, 700_000)
        assert found["strangers_ceiling_microusd"] == 400_000
        assert found["strangers_left_microusd"] == 100_000

    async def spend(self, programme: Programme, micro_usd: int, *, kind: str = "post_read") -> None:
        async with programme.sessions.begin() as session:
            await session.execute(
                text("INSERT INTO network_usage VALUES ('x', '2026-07-15', :kind, 1, :micro_usd)"),
                {"kind": kind, "micro_usd": micro_usd},
            )


class TestAMonthsName:
    def test_is_as_in_2026_07(self) -> None:
        assert month_named("2026-07", NOW) == JULY == month_named(None, NOW)
        assert str(JULY) == "2026-07"
        with pytest.raises(Invalid):
            month_named("July", NOW)


class TestWhoMayAsk:
    async def test_are_the_operator_and_the_analyst_of_the_programme(
        self, client: httpx.AsyncClient, make_key: MakeKey, sessions: Sessions
    ) -> None:
        await make_offer(sessions, "Coffee", partner="cafe")
        async with sessions() as session:
            partner: UUID | None = await session.scalar(text("SELECT id FROM partners"))
        for role, partner_id, status in (
            ("operator", None, 200),
            ("analyst", None, 200),
            ("analyst", partner, 403),
            ("partner", partner, 403),
            ("issuer", None, 403),
        ):
            bearer = {"authorization": f"Bearer {await make_key(role, partner_id)}"}
            answer = await client.get("/v1/costs", headers=bearer, params={"month": "2026-07"})
            assert answer.status_code == status, (role, answer.text)
        assert (await client.get("/v1/costs")).status_code == 401

    async def test_are_told_of_a_month_that_is_none(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        bearer = {"authorization": f"Bearer {await make_key('operator')}"}
        answer = await client.get("/v1/costs", headers=bearer, params={"month": "July"})
        assert answer.status_code == 422


class TestTheCommandLine:
    async def test_shows_the_month(self, programme: Programme, tagback: Tagback) -> None:
        await make_offer(programme.sessions, "Coffee")
        members = await make_members(programme.sessions, 2)
        await programme.hear(*(make_post(member, "Coffee") for member in members))
        await programme.answer()
        ran = await tagback("x", "cost", "--month", "2026-07", TAGBACK_X_MONTHLY_CEILING_USD="5")
        assert ran.status == 0, ran.err
        assert ran.out == (
            "2026-07: $0.03 spent\n"
            "  post_read                2         $0.01\n"
            "  summoned_reply           2         $0.02\n"
            "ceiling $5.00, $4.97 left; for invitations $1.00, $1.00 left\n"
            "2 coupons, $0.0150 each\n"
            "2 confirmed coupons, $0.0150 each\n"
            "  #Coffee                          $0.03: replies $0.02, reads $0.01, "
            "2 confirmed of 2 coupons\n"
        )
