"""A month's money, spent by many workers at once and never exceeded."""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from outbox import NOW, queue, reply, rows, states
from structlog.testing import capture_logs

from app.config import Settings
from app.kit.db import Sessions
from app.kit.months import Month
from app.networks import queries as networks
from app.networks.sender import NotAllowed, SendResult, Sent, Temporary, Unknown
from app.replies import sending, service
from app.replies.budget import Channel, Spent
from app.replies.domain import Claimed
from app.replies.queries import NewReply

NEXT_MONTH = datetime(2026, 12, 1, 0, 5, tzinfo=UTC)
LONG = timedelta(days=40).total_seconds() / 3_600


class Office:
    """Sends, as far as the outbox is concerned; prices are those of X, in cents and tenths."""

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self.sessions = sessions
        self.settings = settings

    def having(self, ceiling: str | None, **more: Any) -> "Office":
        changed = {
            "x_monthly_ceiling_usd": None if ceiling is None else Decimal(ceiling),
            "x_price_post_microusd": 10_000,
            "x_price_owned_read_microusd": 0,
            "x_replies_per_window": 10_000,
            "x_messages_per_window": 10_000,
            "x_messages_per_day": 10_000,
            "reply_age_hours_max": int(LONG),
            **more,
        }
        return Office(self.sessions, self.settings.model_copy(update=changed))

    async def claim(
        self, most: int = 100, *, channel: Channel = "post", now: datetime = NOW
    ) -> list[Claimed]:
        async with self.sessions.begin() as session:
            claim = await sending.claim(
                session,
                network="x",
                channel=channel,
                settings=self.settings,
                now=now,
                most=most,
            )
            return claim.replies

    async def record(
        self,
        results: Sequence[tuple[Claimed, SendResult]],
        *,
        now: datetime = NOW,
        posts_read: int = 0,
    ) -> None:
        async with self.sessions.begin() as session:
            await sending.record(
                session,
                network="x",
                channel=results[0][0].channel,
                results=results,
                settings=self.settings,
                now=now,
                posts_read=posts_read,
            )

    async def send(self, most: int = 100, **more: Any) -> int:
        claimed = await self.claim(most, **more)
        if claimed:
            now = more.get("now", NOW)
            await self.record([(one, Sent(str(one.id.int))) for one in claimed], now=now)
        return len(claimed)

    async def spent(self, month: Month | None = None) -> Spent:
        async with self.sessions() as session:
            return await sending.spent_in(session, network="x", month=month or Month.of(NOW))

    async def held(self) -> set[str | None]:
        async with self.sessions() as session:
            windows = (await service.summary(session))["windows"]["x"]
        return {window["held_reason"] for window in windows.values()}


@pytest.fixture
def office(sessions: Sessions, settings: Settings) -> Office:
    return Office(sessions, settings)


def farewell() -> NewReply:
    return reply(kind="farewell", channel="dm", offer_id=None)


class TestTheCeiling:
    async def test_is_reached_and_not_exceeded(self, office: Office) -> None:
        office = office.having("0.10")
        await queue(office.sessions, *[reply() for _ in range(30)])
        assert [await office.send(4) for _ in range(4)] == [4, 4, 2, 0]
        assert (await office.spent()).all == 100_000

    async def test_counts_what_was_claimed_and_is_under_way(self, office: Office) -> None:
        office = office.having("0.10")
        await queue(office.sessions, *[reply() for _ in range(30)])
        claimed = await office.claim(7)
        assert len(await office.claim()) == 3
        await office.record([(one, NotAllowed("no")) for one in claimed])
        assert len(await office.claim()) == 7

    async def test_counts_what_was_read(self, office: Office) -> None:
        office = office.having("0.10")
        async with office.sessions.begin() as session:
            await networks.record_usage(
                session, network="x", kind="post_read", units=19, price_microusd=5_000, now=NOW
            )
        await queue(office.sessions, reply())
        assert await office.claim() == []

    async def test_holds_messages_too(self, office: Office) -> None:
        office = office.having("0.03")
        await queue(office.sessions, reply(), *[farewell() for _ in range(3)])
        assert await office.send() == 1
        assert await office.send(channel="dm") == 1
        assert await office.send(channel="dm") == 0
        assert (await office.spent()).all == 25_000

    async def test_is_told_once_and_shown(self, office: Office) -> None:
        office = office.having("0.10")
        await queue(office.sessions, *[reply() for _ in range(30)])
        with capture_logs() as logs:
            await office.send()
            for _ in range(3):
                await asyncio.gather(office.send(), office.send(channel="dm"))
        told = [(entry["event"], entry["log_level"]) for entry in logs]
        assert told == [("replies_held", "error")]
        assert await office.held() == {"the month's ceiling is reached: $0.10 of $0.10 spent"}

    async def test_is_on_the_dashboard(self, office: Office, client: httpx.AsyncClient) -> None:
        await queue(office.sessions, reply())
        await office.having("0.01").send()
        await office.having("0.01").send()
        shown = (await client.get("/metrics")).text
        assert 'tagback_replies_stopped{by="ceiling",channel="post",network="x"} 1.0' in shown
        assert 'tagback_replies_stopped{by="network",channel="post",network="x"} 0.0' in shown
        assert 'tagback_spent_microusd{network="x"}' in shown

    async def test_ends_with_the_month(self, office: Office) -> None:
        office = office.having("0.10")
        await queue(office.sessions, *[reply() for _ in range(13)])
        await office.send()
        assert await office.send() == 0
        assert await office.send(now=NEXT_MONTH) == 3
        assert await office.held() == {None}

    async def test_that_is_raised_lets_it_go_on(self, office: Office) -> None:
        await queue(office.sessions, *[reply() for _ in range(13)])
        await office.having("0.10").send()
        assert await office.having("0.10").send() == 0
        assert await office.having("0.12").send() == 2
        assert await office.having(None).send() == 1

    async def test_of_nothing_sends_nothing(self, office: Office) -> None:
        office = office.having("0")
        await queue(office.sessions, reply())
        assert await office.send() == 0


class TestWhatMayHaveBeenSent:
    """X has taken it perhaps, and charged for it."""

    async def test_is_counted_until_it_is_known(self, office: Office) -> None:
        office = office.having("0.10")
        await queue(office.sessions, *[reply() for _ in range(30)])
        claimed, later = await office.claim(), NOW + timedelta(minutes=1)
        assert len(claimed) == 10
        await office.record([(one, Unknown("no answer")) for one in claimed])
        again = await office.claim(now=later)
        assert {one.id for one in again} == {one.id for one in claimed}
        assert all(one.outcome_unknown for one in again)
        await office.record([(one, Sent("1")) for one in again[:6]], now=later)
        await office.record([(one, NotAllowed("no")) for one in again[6:]], now=later)
        assert await office.send(now=later) == 4
        assert (await office.spent()).all == 100_000

    async def test_takes_its_own_place_in_the_networks_limits(self, office: Office) -> None:
        office = office.having("1.00", x_replies_per_window=4)
        await queue(office.sessions, *[reply() for _ in range(12)])
        claimed, later = await office.claim(3), NOW + timedelta(minutes=1)
        await office.record([(one, Unknown("no answer")) for one in claimed])
        (again,) = await office.claim(now=later)
        assert again.outcome_unknown

    @pytest.mark.parametrize("kind", ["confirmation", "invitation"])
    async def test_is_charged_when_it_ends_so(self, office: Office, kind: str) -> None:
        office = office.having("1.00")
        queued = reply(kind=kind)
        await queue(office.sessions, queued)
        now = NOW
        for _ in range(8):
            (claimed,) = await office.claim(now=now)
            await office.record([(claimed, Unknown("no answer"))], now=now)
            now += timedelta(minutes=2)
        for _ in range(2):
            assert await office.claim(now=now) == []
        assert await states(office.sessions, [queued]) == ["failed"]
        assert await office.spent() == Spent(10_000, 10_000 if kind == "invitation" else 0)
        assert (await rows(office.sessions))[queued.id]["cost_microusd"] == 10_000

    async def test_is_charged_when_it_expires(self, office: Office) -> None:
        office = office.having("1.00", reply_age_hours_max=1)
        dead, lost, never = reply(), reply(), reply()
        await queue(office.sessions, dead, lost)
        claimed = {one.id: one for one in await office.claim()}
        await office.record([(claimed[lost.id], Unknown("no answer"))])
        await queue(office.sessions, never)
        later = NOW + timedelta(hours=2)
        for _ in range(2):
            assert await office.claim(now=later) == []
        assert set(await states(office.sessions, [dead, lost, never])) == {"expired"}
        assert (await office.spent()).all == 20_000
        await office.record([(claimed[dead.id], Sent("1"))], now=later)
        assert (await office.spent()).all == 20_000

    async def test_is_charged_in_a_message(self, office: Office) -> None:
        office = office.having("0.03")
        await queue(office.sessions, *[farewell() for _ in range(20)])
        begun = 0
        for _ in range(4):
            claimed = await office.claim(5, channel="dm")
            begun += len(claimed)
            if claimed:
                await office.record([(one, Unknown("no answer")) for one in claimed])
        assert begun == 2
        assert (await office.spent()).all == 30_000


class TestALookUp:
    """Here $0.01 at most: a thousand posts, at a thousandth of a cent."""

    @pytest.fixture
    async def unsure(self, office: Office) -> Office:
        """Five that may have been sent."""
        office = office.having(None)
        await queue(office.sessions, *[reply() for _ in range(5)])
        claimed = await office.claim()
        await office.record([(one, Unknown("no answer")) for one in claimed])
        return office

    def having(self, office: Office, ceiling: str) -> Office:
        return office.having(ceiling, x_price_owned_read_microusd=10)

    async def test_is_begun_where_the_money_pays_for_it(self, unsure: Office) -> None:
        office, later = self.having(unsure, "0.07"), NOW + timedelta(minutes=1)
        claimed = await office.claim(now=later)
        assert len(claimed) == 2
        assert await office.claim(now=later) == []
        # nobody knows what will be read before it is
        await office.record([(one, Sent("1")) for one in claimed], now=later, posts_read=1_200)
        assert (await office.spent()).all == 32_000
        assert len(await office.claim(now=later)) == 0
        assert len(await self.having(unsure, "0.08").claim(now=later)) == 1

    async def test_is_paid_for_before_what_is_new(self, unsure: Office) -> None:
        office, later = self.having(unsure, "0.12"), NOW + timedelta(minutes=1)
        await queue(office.sessions, *[reply() for _ in range(5)])
        claimed = await office.claim(now=later)
        assert [one.outcome_unknown for one in claimed] == [True] * 5 + [False] * 2

    async def test_of_a_worker_that_died_is_given_up_with_its_lease(self, unsure: Office) -> None:
        office, later = self.having(unsure, "0.06"), NOW + timedelta(minutes=1)
        (one,) = await office.claim(now=later)
        (again,) = await office.claim(now=one.leased_until)
        assert again.leased_until > one.leased_until

    async def test_that_nobody_can_pay_for_waits_until_its_reply_expires(
        self, unsure: Office
    ) -> None:
        office = self.having(unsure, "0.05").having(
            "0.05", x_price_owned_read_microusd=10, reply_age_hours_max=1
        )
        for hours in (0.5, 2, 2):
            assert await office.claim(now=NOW + timedelta(hours=hours)) == []
        async with office.sessions() as session:
            found = (await service.summary(session))["replies"]
        assert found == {"confirmation": {"expired": 5}}
        assert (await office.spent()).all == 50_000

    async def test_costs_a_message_nothing(self, office: Office) -> None:
        office = self.having(office, "0.02")
        await queue(office.sessions, farewell())
        (one,) = await office.claim(channel="dm")
        assert len(await office.claim(channel="dm", now=one.leased_until)) == 1


class TestTheStrangersCeiling:
    async def test_holds_invitations_alone(self, office: Office) -> None:
        office = office.having("1.00", x_strangers_ceiling_percent=5)
        invitations = [reply(kind="invitation") for _ in range(20)]
        refusals = [reply(kind="refusal") for _ in range(20)]
        await queue(office.sessions, *invitations, *refusals)
        sent = [await office.send(10) for _ in range(4)]
        assert sum(sent) == 25
        assert (await office.spent()).strangers == 50_000
        assert set(await states(office.sessions, refusals)) == {"sent"}
        assert (await states(office.sessions, invitations)).count("queued") == 15
        await queue(office.sessions, reply())
        assert await office.send() == 1
        assert await office.held() == {
            "the month's ceiling for invitations is reached: $0.05 of $0.05 spent"
        }

    async def test_holds_them_where_they_hinder_nobody(
        self, office: Office, statements: list[str]
    ) -> None:
        office = office.having("1.00", x_strangers_ceiling_percent=0)
        await queue(office.sessions, *[reply(kind="invitation") for _ in range(300)])
        late = reply(kind="refusal")
        await queue(office.sessions, late)
        statements.clear()
        assert [one.id for one in await office.claim(1)] == [late.id]
        assert sum("WITH paused" in statement for statement in statements) == 1


class TestWhatWasSpent:
    async def test_is_kept_with_each_reply_and_by_kind(self, office: Office) -> None:
        office = office.having(None, x_price_post_microusd=15_000)
        sent = {
            "summoned_reply": reply(),
            "post_create": reply(kind="refusal", is_summoned=False),
            "invitation": reply(kind="invitation"),
            "dm": farewell(),
        }
        await queue(office.sessions, *sent.values())
        await office.send()
        await office.send(channel="dm")
        kept = await rows(office.sessions)
        costs = {kind: kept[one.id]["cost_microusd"] for kind, one in sent.items()}
        assert costs == {
            "summoned_reply": 10_000,
            "post_create": 15_000,
            "invitation": 10_000,
            "dm": 15_000,
        }
        async with office.sessions() as session:
            usage = await networks.usage_by_kind(session, network="x", month=Month.of(NOW))
        assert {one.kind: one.micro_usd for one in usage} == costs

    async def test_is_charged_once_however_often_it_is_recorded(self, office: Office) -> None:
        await queue(office.sessions, reply())
        first, later = await office.claim(), NOW + timedelta(minutes=5)
        second = await office.claim(now=later)
        await office.record([(second[0], Sent("77"))], now=later)
        await office.record([(first[0], Sent("77"))], now=later)
        assert (await office.spent()).all == 10_000


class TestManyWorkers:
    """Eight at once, on connections of their own, of whose sends many come to nothing or nobody
    knows what.
    """

    @pytest.mark.parametrize("seed", range(4))
    async def test_never_spend_more_than_there_is(self, office: Office, seed: int) -> None:
        office = office.having(
            "0.60", x_strangers_ceiling_percent=20, x_price_owned_read_microusd=10
        )
        kinds = ["confirmation"] * 10 + ["refusal"] * 10 + ["invitation"] * 60
        posts = [reply(kind=kind, recipient_id=str(n)) for n, kind in enumerate(kinds)]
        await queue(office.sessions, *posts, *[farewell() for _ in range(20)])
        most, now = Spent(), NOW

        async def work(number: int) -> None:
            nonlocal most, now
            chance = random.Random(seed * 100 + number)
            channel: Channel = "dm" if number % 4 == 0 else "post"
            for _ in range(12):
                claimed = await office.claim(chance.randint(1, 9), channel=channel, now=now)
                await asyncio.sleep(chance.random() / 200)
                is_in_time = all(now < one.leased_until for one in claimed)
                if claimed and is_in_time and chance.random() < 0.9:  # else it has died
                    looked_up = sum(one.outcome_unknown and channel == "post" for one in claimed)
                    await office.record(
                        [(one, self.ending(chance)) for one in claimed],
                        now=now,
                        posts_read=sum(chance.randint(0, 1_000) for _ in range(looked_up)),
                    )
                spent = await office.spent()
                most = Spent(max(most.all, spent.all), max(most.strangers, spent.strangers))
                now += timedelta(seconds=chance.randint(0, 12))

        await asyncio.gather(*(work(number) for number in range(8)))
        assert 300_000 < most.all <= 600_000
        assert 0 < most.strangers <= 120_000

    def ending(self, chance: random.Random) -> SendResult:
        return chance.choice(
            [Sent("1")] * 6 + [NotAllowed("no"), Temporary("503"), Unknown("no answer")]
        )
