import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from outbox import NOW, OFFER, queue, reply, rows, states
from sqlalchemy import text

from app.config import Settings
from app.database import OWNER, Database
from app.errors import NotFound
from app.kit.db import Sessions, make_engine
from app.kit.ids import new_id
from app.networks.sender import (
    AccessRefused,
    Duplicate,
    Limits,
    NotAllowed,
    OutOfCredits,
    RateLimited,
    SendResult,
    Sent,
    Temporary,
    Unknown,
)
from app.replies import queries, sending, service
from app.replies.budget import Channel
from app.replies.domain import Claimed
from app.replies.hints import listen

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


class Outbox:
    """The service's functions, each in a transaction of its own."""

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self.sessions = sessions
        self.settings = settings

    def having(self, **changed: Any) -> "Outbox":
        return Outbox(self.sessions, self.settings.model_copy(update=changed))

    async def claim(
        self, most: int = 100, *, now: Any = NOW, channel: Channel = "post"
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
        self, *results: tuple[Claimed, SendResult], now: Any = NOW, posts_read: int = 0
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

    async def pause(self, scope: Any = "all") -> None:
        async with self.sessions.begin() as session:
            await queries.insert_pause(session, scope=str(scope), actor="test", now=NOW)

    async def resume(self, *, now: Any = NOW) -> None:
        async with self.sessions.begin() as session:
            await service.resume(session, scope="all", actor="test", now=now)

    async def window(self) -> dict[str, Any]:
        async with self.sessions() as session:
            found: dict[str, Any] = (await service.summary(session))["windows"]["x"]["post"]
            return found

    async def usage(self) -> list[tuple[Any, ...]]:
        async with self.sessions() as session:
            found = await session.execute(text("SELECT kind, units, micro_usd FROM network_usage"))
            return [tuple(row) for row in found]


@pytest.fixture
def outbox(sessions: Sessions, settings: Settings) -> Outbox:
    return Outbox(sessions, settings)


@pytest.fixture
async def offer(sessions: Sessions) -> UUID:
    """One that exists; most tests need none."""
    partner_id = new_id()
    async with sessions.begin() as session:
        await session.execute(
            text("INSERT INTO partners (id, ref, name) VALUES (:id, 'cafe', 'Corner Coffee')"),
            {"id": partner_id},
        )
        await session.execute(
            text(
                "INSERT INTO offers (id, partner_id, ref, hashtag, tag_key, starts_at, ends_at, "
                "currency) VALUES (:id, :partner_id, 'o', 'Coffee', 'coffee', :now, :end, 'USD')"
            ),
            {"id": OFFER, "partner_id": partner_id, "now": NOW, "end": NOW + DAY},
        )
        await session.execute(
            text(
                "INSERT INTO offer_versions (offer_id, version, title, time_zone, fixed_minor) "
                "VALUES (:id, 1, 'Flat white', 'UTC', 500)"
            ),
            {"id": OFFER},
        )
        await session.execute(
            text("INSERT INTO offer_counters (offer_id) VALUES (:id)"), {"id": OFFER}
        )
    return OFFER


class TestQueue:
    async def test_writes_all_rows_or_none(self, outbox: Outbox) -> None:
        first = reply()
        await queue(outbox.sessions, first)
        again = first._replace(id=new_id())
        with pytest.raises(asyncpg.UniqueViolationError):
            await queue(outbox.sessions, reply(), again)
        assert list(await rows(outbox.sessions)) == [first.id]

    async def test_nothing_is_no_error(self, outbox: Outbox) -> None:
        await queue(outbox.sessions)
        assert not await rows(outbox.sessions)

    async def test_wakes_those_who_listen(self, outbox: Outbox) -> None:
        wake = asyncio.Event()
        listening = asyncio.create_task(
            listen(outbox.sessions, channel=queries.CHANNEL, wakes=[wake])
        )
        async with asyncio.timeout(5):
            await wake.wait()  # it listens
            wake.clear()
            await queue(outbox.sessions, reply())
            await wake.wait()
        listening.cancel()


class TestInvitations:
    async def invite(self, sessions: Sessions, *accounts: str, now: Any = NOW) -> set[str]:
        async with sessions.begin() as session:
            return await service.claim_invitations(
                session, network="x", account_ids=accounts, now=now, every_days=30
            )

    async def test_an_account_is_invited_once_in_thirty_days(self, sessions: Sessions) -> None:
        assert await self.invite(sessions, "1", "2", "1") == {"1", "2"}
        assert await self.invite(sessions, "2", "3", now=NOW + 29 * DAY) == {"3"}
        assert await self.invite(sessions, "1", "3", now=NOW + 30 * DAY) == {"1"}
        assert await self.invite(sessions) == set()

    async def test_of_two_at_once_only_one_invites(self, sessions: Sessions) -> None:
        accounts = [str(number) for number in range(50)]
        invited = await asyncio.gather(
            self.invite(sessions, *accounts),
            self.invite(sessions, *reversed(accounts)),
            self.invite(sessions, *accounts),
        )
        assert sorted(account for found in invited for account in found) == sorted(accounts)

    async def test_what_did_not_commit_was_no_invitation(self, sessions: Sessions) -> None:
        async with sessions() as session:
            await service.claim_invitations(
                session, network="x", account_ids=["1"], now=NOW, every_days=30
            )
        assert await self.invite(sessions, "1") == {"1"}


class TestRefusals:
    async def refuse(
        self, sessions: Sessions, *pairs: tuple[str, UUID], network: str = "x"
    ) -> set[tuple[str, UUID]]:
        async with sessions.begin() as session:
            return await service.claim_refusals(session, network=network, pairs=pairs, now=NOW)

    async def test_are_told_once_to_an_account_for_an_offer(self, sessions: Sessions) -> None:
        other = new_id()
        assert await self.refuse(sessions, ("7", OFFER), ("8", other)) == {
            ("7", OFFER),
            ("8", other),
        }
        again = [("7", OFFER), ("7", other), ("8", OFFER), ("8", other)]
        assert await self.refuse(sessions, *again) == {("7", other), ("8", OFFER)}
        assert await self.refuse(sessions, ("7", OFFER), network="elsewhere") == {("7", OFFER)}
        assert await self.refuse(sessions) == set()

    async def test_of_two_at_once_only_one_is_told(self, sessions: Sessions) -> None:
        pairs = [(str(number), OFFER) for number in range(50)]
        told = await asyncio.gather(
            self.refuse(sessions, *pairs),
            self.refuse(sessions, *reversed(pairs)),
            self.refuse(sessions, *pairs),
        )
        assert sorted(pair for found in told for pair in found) == sorted(pairs)


class TestClaim:
    async def test_takes_confirmations_first_then_the_oldest(self, outbox: Outbox) -> None:
        refusal = reply(kind="refusal", created_at=NOW - 3 * MINUTE)
        new, old = reply(created_at=NOW - MINUTE), reply(created_at=NOW - 2 * MINUTE)
        await queue(outbox.sessions, refusal, new, old)
        first = await outbox.claim(most=1)
        rest = await outbox.claim()
        assert [one.id for one in first] == [old.id]
        assert {one.id for one in rest} == {new.id, refusal.id}

    async def test_leaves_what_another_has_claimed(self, outbox: Outbox) -> None:
        await queue(outbox.sessions, *[reply() for _ in range(40)])
        claims = await asyncio.gather(*[outbox.claim(most=10) for _ in range(6)])
        ids = [one.id for claim in claims for one in claim]
        assert len(ids) == len(set(ids)) == 40

    async def test_leaves_what_is_not_due(self, outbox: Outbox) -> None:
        later = reply(not_before=NOW + MINUTE)
        await queue(outbox.sessions, later, reply(network="elsewhere"))
        assert await outbox.claim() == []
        assert [one.id for one in await outbox.claim(now=NOW + MINUTE)] == [later.id]

    async def test_counts_the_window_down_and_stops_at_its_end(self, outbox: Outbox) -> None:
        outbox = outbox.having(x_replies_per_window=5)
        await queue(outbox.sessions, *[reply() for _ in range(12)])
        first, second = await outbox.claim(most=3), await outbox.claim(most=3)
        assert (len(first), len(second)) == (3, 2)
        assert await outbox.claim(most=3) == []
        await outbox.record(*((one, Sent("99")) for one in first + second))
        assert await outbox.claim(now=NOW + 15 * MINUTE) == []
        later = NOW + 15 * MINUTE + timedelta(seconds=1)
        assert len(await outbox.claim(now=later)) == 5

    async def test_heeds_the_limit_of_a_day(self, outbox: Outbox) -> None:
        outbox = outbox.having(x_replies_per_day=4)
        await queue(outbox.sessions, *[reply() for _ in range(12)])
        claimed = await outbox.claim()
        await outbox.record(*((one, Sent("99")) for one in claimed))
        assert len(claimed) == 4
        assert await outbox.claim(now=NOW + 23 * 60 * MINUTE) == []

    async def test_what_a_dead_worker_left_may_have_been_sent_and_keeps_its_place(
        self, outbox: Outbox
    ) -> None:
        outbox = outbox.having(x_replies_per_window=5)
        await queue(outbox.sessions, *[reply() for _ in range(12)])
        lost = await outbox.claim(most=4)
        later = lost[0].leased_until
        again = await outbox.claim(now=later)
        assert {one.id for one in lost} < {one.id for one in again}
        assert len(again) == 5

    async def test_takes_a_reply_again_when_its_lease_is_over(self, outbox: Outbox) -> None:
        await queue(outbox.sessions, reply())
        (first,) = await outbox.claim()
        assert not first.outcome_unknown
        assert await outbox.claim(now=first.leased_until - timedelta(seconds=1)) == []
        (second,) = await outbox.claim(now=first.leased_until)
        assert second.id == first.id
        assert second.outcome_unknown
        assert second.attempts == 2

    async def test_expires_what_is_too_old_to_answer(self, outbox: Outbox) -> None:
        stale = [reply(posted_at=NOW - DAY - MINUTE) for _ in range(30)]
        fresh = reply(posted_at=NOW - DAY + MINUTE, created_at=NOW + MINUTE)
        await queue(outbox.sessions, *stale, fresh)
        claimed = await outbox.claim(most=2)
        assert [one.id for one in claimed] == [fresh.id]
        assert set(await states(outbox.sessions, stale)) == {"expired"}

    async def test_expires_a_reply_of_unknown_outcome_too(self, outbox: Outbox) -> None:
        old = reply(posted_at=NOW - DAY + MINUTE)
        await queue(outbox.sessions, old)
        assert await outbox.claim()
        assert await outbox.claim(now=NOW + 5 * MINUTE) == []
        row = (await rows(outbox.sessions))[old.id]
        assert (row["state"], row["outcome_unknown"]) == ("expired", True)

    async def test_takes_nothing_while_all_is_paused(self, outbox: Outbox) -> None:
        waiting = reply()
        await queue(outbox.sessions, waiting)
        await outbox.pause()
        assert await outbox.claim() == []
        assert await states(outbox.sessions, [waiting]) == ["queued"]

    async def test_a_paused_offer_holds_nobody_else_back(self, outbox: Outbox) -> None:
        paused = [reply(created_at=NOW - MINUTE) for _ in range(300)]
        other = [reply(offer_id=new_id(), kind="refusal") for _ in range(3)]
        await queue(outbox.sessions, *paused, *other)
        await outbox.pause(OFFER)
        claimed = await outbox.claim(most=10)
        assert {one.id for one in claimed} == {one.id for one in other}
        assert set(await states(outbox.sessions, paused)) == {"queued"}


class TestWithdrawing:
    async def withdraw(self, outbox: Outbox, *accounts: str) -> None:
        async with outbox.sessions.begin() as session:
            await service.withdraw_for(session, network="x", account_ids=accounts, now=NOW + MINUTE)

    async def test_takes_whatever_would_answer_these_accounts(self, outbox: Outbox) -> None:
        kinds = ("confirmation", "invitation", "refusal")
        withdrawn = [reply(kind=kind, recipient_id=one) for kind in kinds for one in ("1", "2")]
        others = [
            reply(recipient_id="3"),
            reply(recipient_id="1", network="y"),
            reply(recipient_id="1", kind="announcement", post_id=None),
            reply(recipient_id="1", kind="farewell", channel="dm", offer_id=None),
        ]
        sent = reply(recipient_id="1", state="sent")
        await queue(outbox.sessions, *withdrawn, *others, sent)
        await self.withdraw(outbox, "1", "2")
        assert set(await states(outbox.sessions, withdrawn)) == {"expired"}
        assert set(await states(outbox.sessions, others)) == {"queued"}
        assert await states(outbox.sessions, [sent]) == ["sent"]

    async def test_takes_what_a_dead_worker_left_and_not_what_is_on_its_way(
        self, outbox: Outbox
    ) -> None:
        left, under_way = reply(recipient_id="1"), reply(recipient_id="1")
        await queue(outbox.sessions, left)
        (lapsed,) = await outbox.claim()
        await queue(outbox.sessions, under_way)
        await outbox.claim(now=NOW + MINUTE / 2)
        await self.withdraw(outbox, "1")
        assert await states(outbox.sessions, [left, under_way]) == ["expired", "sending"]
        row = (await rows(outbox.sessions))[left.id]
        assert (row["outcome_unknown"], row["problem"]) == (True, queries.SAID_STOP)
        await outbox.record((lapsed, Sent("99")), now=NOW + 2 * MINUTE)
        assert await states(outbox.sessions, [left]) == ["sent"]


class TestThePlans:
    async def test_read_the_index_of_what_waits_and_nothing_else(
        self, outbox: Outbox, database: Database
    ) -> None:
        sent = [reply(state="sent", kind="refusal", recipient_id=str(n)) for n in range(50_000)]
        waiting = [reply() for _ in range(5_000)]
        async with outbox.sessions.begin() as session:
            await session.execute(
                text(
                    "INSERT INTO stopped_accounts (network, account_id, told_by, stopped_at) "
                    "SELECT 'x', n::text, 'post', now() FROM generate_series(1, 10000) n"
                )
            )
            await queries.insert_replies(session, [*sent, *waiting])
            await session.execute(
                text(
                    "UPDATE replies SET outcome_unknown = true WHERE id IN "
                    "(SELECT id FROM replies WHERE state = 'queued' LIMIT 20)"
                )
            )
        engine = make_engine(database.owner_url, role=OWNER)
        async with engine.begin() as connection:
            await connection.execute(text("ANALYZE replies, stopped_accounts"))
        await engine.dispose()
        indexes: dict[queries.Of, str] = {
            "fresh": "ix_replies_waiting",
            "unsure": "ix_replies_under_way",
            "lapsed": "ix_replies_under_way",
        }
        for of, index in indexes.items():
            plan = await self.plan(outbox.sessions, of, most=16)
            assert f"Index Scan using {index}" in plan, plan
            assert "Seq Scan on replies" not in plan, plan
            assert "Sort" not in plan, plan
            assert "using pk_stopped_accounts" in plan, plan
            assert "Seq Scan on stopped_accounts" not in plan, plan
        async with outbox.sessions() as session:
            counting = await session.scalars(
                text("EXPLAIN " + queries.COUNT_UNDER_WAY.text), {"network": "x", "now": NOW}
            )
            plan = "\n".join(counting)
        assert "ix_replies_under_way" in plan, plan
        async with outbox.sessions() as session:
            withdrawing = await session.scalars(
                text("EXPLAIN " + queries.WITHDRAW.text),
                {"network": "x", "account_ids": ["1", "2"], "now": NOW},
            )
            plan = "\n".join(withdrawing)
        assert "Index Scan using ix_replies_waiting" in plan, plan
        assert "Seq Scan on replies" not in plan, plan

    async def plan(self, sessions: Sessions, of: queries.Of, *, most: int) -> str:
        async with sessions() as session:
            await queries.read_in_order(session)
            found = await session.scalars(
                text("EXPLAIN " + queries.TAKE[of].text).bindparams(queries.MOST),
                {
                    "network": "x",
                    "channel": "post",
                    "below": queries.PARKED,
                    "now": NOW,
                    "oldest": NOW - DAY,
                    "leased_until": NOW + MINUTE,
                    "most": most,
                },
            )
            return "\n".join(found)


class TestRecord:
    async def one(self, outbox: Outbox) -> Claimed:
        await queue(outbox.sessions, reply())
        (claimed,) = await outbox.claim()
        return claimed

    async def row(self, outbox: Outbox, claimed: Claimed) -> Any:
        return (await rows(outbox.sessions))[claimed.id]

    async def test_what_was_sent_is_kept_with_its_id_and_counted(self, outbox: Outbox) -> None:
        await queue(outbox.sessions, reply(), reply(), reply())
        one, two, three = await outbox.claim()
        await outbox.record((one, Sent("99")), (two, Duplicate()), (three, NotAllowed("no")))
        row = await self.row(outbox, one)
        assert (row["state"], row["sent_post_id"], row["leased_until"]) == ("sent", "99", None)
        assert (await self.row(outbox, two))["state"] == "sent"
        assert (await self.row(outbox, three))["state"] == "not_allowed"
        assert await outbox.usage() == [("summoned_reply", 2, 20_000)]

    async def test_a_rate_limit_closes_the_window_until_its_reset(self, outbox: Outbox) -> None:
        claimed = await self.one(outbox)
        waiting = reply()
        await queue(outbox.sessions, waiting)
        reset = NOW + 4 * MINUTE
        await outbox.record((claimed, RateLimited(reset, limits=Limits(100, 0, reset))))
        assert await outbox.claim(now=reset) == []
        assert len(await outbox.claim(now=reset + timedelta(seconds=1))) == 2
        assert (await self.row(outbox, claimed))["attempts"] == 1

    async def test_the_networks_count_holds_where_it_is_smaller(self, outbox: Outbox) -> None:
        claimed = await self.one(outbox)
        reset = NOW + 4 * MINUTE
        await outbox.record((claimed, Sent("99", limits=Limits(100, 2, reset))))
        await queue(outbox.sessions, *[reply() for _ in range(5)])
        assert len(await outbox.claim()) == 2

    @pytest.mark.parametrize("result", [OutOfCredits("no credits"), AccessRefused("token")])
    async def test_nothing_is_sent_until_an_operator_resumes(
        self, outbox: Outbox, result: SendResult
    ) -> None:
        claimed = await self.one(outbox)
        await outbox.record((claimed, result))
        assert (await outbox.window())["stopped_reason"] == result.detail  # type: ignore[union-attr]
        assert await outbox.claim(now=NOW + 30 * MINUTE) == []
        await outbox.resume(now=NOW + 30 * MINUTE)
        assert [one.id for one in await outbox.claim(now=NOW + 30 * MINUTE)] == [claimed.id]

    async def test_what_may_have_been_sent_is_claimed_as_such(self, outbox: Outbox) -> None:
        claimed = await self.one(outbox)
        await outbox.record((claimed, Unknown("no answer")))
        assert await outbox.claim() == []
        (again,) = await outbox.claim(now=NOW + MINUTE)
        assert again.outcome_unknown

    async def test_what_fails_for_a_time_is_tried_eight_times(self, outbox: Outbox) -> None:
        claimed, now = await self.one(outbox), NOW
        for _ in range(7):
            await outbox.record((claimed, Temporary("503")), now=now)
            now += timedelta(hours=2)
            (claimed,) = await outbox.claim(now=now)
        await outbox.record((claimed, Temporary("503")), now=now)
        row = await self.row(outbox, claimed)
        assert (row["state"], row["attempts"], row["problem"]) == ("failed", 8, "503")

    async def test_a_claim_that_is_over_changes_nothing(self, outbox: Outbox) -> None:
        late = await self.one(outbox)
        (current,) = await outbox.claim(now=late.leased_until)
        await outbox.record((late, Temporary("503")), now=late.leased_until)
        row = await self.row(outbox, late)
        assert (row["state"], row["leased_until"]) == ("sending", current.leased_until)

    async def test_that_it_was_sent_is_a_fact_even_when_told_late(self, outbox: Outbox) -> None:
        late = await self.one(outbox)
        (current,) = await outbox.claim(now=late.leased_until)
        await outbox.record((late, Sent("99")), now=late.leased_until)
        await outbox.record((current, Temporary("503")), now=late.leased_until)
        row = await self.row(outbox, late)
        assert (row["state"], row["sent_post_id"]) == ("sent", "99")


class TestGiveBack:
    async def give_back(self, outbox: Outbox, *replies: Claimed) -> None:
        async with outbox.sessions.begin() as session:
            await sending.give_back(session, replies=replies, now=NOW)

    async def test_undoes_the_claim(self, outbox: Outbox) -> None:
        outbox = outbox.having(x_replies_per_window=2)
        await queue(outbox.sessions, reply(), reply())
        (claimed,) = await outbox.claim(most=1)
        await self.give_back(outbox, claimed)
        again = await outbox.claim()
        assert len(again) == 2
        assert {one.attempts for one in again} == {1}
        assert not any(one.outcome_unknown for one in again)

    async def test_opens_no_window_that_the_network_has_closed(self, outbox: Outbox) -> None:
        await queue(outbox.sessions, reply(), reply(), reply())
        refused, *unsent = await outbox.claim()
        await outbox.record((refused, RateLimited(NOW + 4 * MINUTE)))
        await self.give_back(outbox, *unsent)
        assert await outbox.claim(now=NOW + 3 * MINUTE) == []


class TestTheRedButton:
    async def press(self, outbox: Outbox, what: str, scope: Any) -> None:
        async with outbox.sessions.begin() as session:
            await getattr(service, what)(session, scope=scope, actor="key:1", now=NOW)

    async def test_stops_and_starts_one_offers_replies(self, outbox: Outbox, offer: UUID) -> None:
        mine, other = reply(), reply(offer_id=new_id())
        await queue(outbox.sessions, mine, other)
        await self.press(outbox, "pause", offer)
        assert [one.id for one in await outbox.claim()] == [other.id]
        await self.press(outbox, "resume", offer)
        assert [one.id for one in await outbox.claim()] == [mine.id]

    async def test_keeps_the_order_of_what_it_had_stopped(
        self, outbox: Outbox, offer: UUID
    ) -> None:
        refusal, confirmation = reply(kind="refusal"), reply()
        await queue(outbox.sessions, refusal, confirmation)
        await self.press(outbox, "pause", offer)
        assert await outbox.claim() == []
        await self.press(outbox, "resume", offer)
        first = await outbox.claim(most=1)
        assert [one.id for one in first] == [confirmation.id]

    async def test_sends_no_stale_burst_when_it_is_lifted(
        self, outbox: Outbox, offer: UUID
    ) -> None:
        stale = [reply() for _ in range(20)]
        await queue(outbox.sessions, *stale)
        await self.press(outbox, "pause", offer)
        assert await outbox.claim() == []
        await self.press(outbox, "resume", offer)
        assert await outbox.claim(now=NOW + 2 * DAY) == []
        assert set(await states(outbox.sessions, stale)) == {"expired"}

    async def test_of_all_and_of_an_offer_are_two(self, outbox: Outbox, offer: UUID) -> None:
        await queue(outbox.sessions, reply(), reply(offer_id=new_id()))
        await self.press(outbox, "pause", offer)
        await self.press(outbox, "pause", "all")
        assert await outbox.claim() == []
        await self.press(outbox, "resume", "all")
        assert len(await outbox.claim()) == 1

    async def test_is_in_the_audit_log_once(self, outbox: Outbox) -> None:
        for what in ("pause", "pause", "resume", "resume"):
            await self.press(outbox, what, "all")
        async with outbox.sessions() as session:
            found = await session.execute(
                text("SELECT actor, action, subject_id FROM audit_entries ORDER BY id")
            )
            assert [tuple(row) for row in found] == [
                ("key:1", "replies.pause", "all"),
                ("key:1", "replies.resume", "all"),
            ]

    async def test_knows_no_offer_that_does_not_exist(self, outbox: Outbox) -> None:
        for what in ("pause", "resume"):
            with pytest.raises(NotFound):
                await self.press(outbox, what, new_id())


class TestSummary:
    async def test_counts_by_kind_and_state(self, outbox: Outbox) -> None:
        await queue(outbox.sessions, reply(), reply(), reply(kind="invitation"))
        (claimed,) = await outbox.claim(most=1)
        await outbox.record((claimed, Sent("99")))
        await outbox.pause()
        async with outbox.sessions() as session:
            found = await service.summary(session)
            assert await service.waiting_count(session) == 2
        assert found["replies"] == {
            "confirmation": {"queued": 1, "sent": 1},
            "invitation": {"queued": 1},
        }
        assert found["pauses"] == {"all": NOW}
        assert found["windows"]["x"]["post"]["remaining"] == 99
