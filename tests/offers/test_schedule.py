"""Offers that start and end by the clock: the stored state follows, and nobody waits for it."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from app.errors import Conflict
from app.kit.db import Sessions
from app.offers import service as offers
from app.offers.changing import change
from app.offers.schemas import OfferChange
from app.upkeep.jobs import JOBS, run_job
from tests.programme import NOW, OPERATOR, make_offer
from tests.support import Tagback

STARTS, ENDS = NOW + timedelta(days=1), NOW + timedelta(days=2)


@pytest.fixture
async def offer_id(sessions: Sessions) -> UUID:
    window = {"starts_at": STARTS.isoformat(), "ends_at": ENDS.isoformat()}
    return await make_offer(sessions, "Tea", **window)


async def stored(sessions: Sessions, offer_id: UUID) -> str:
    async with sessions() as session:
        offer, _, _ = await offers.get(session, offer_id=offer_id)
        return offer.state


class TestTheSchedule:
    async def test_starts_and_ends_an_offer(self, sessions: Sessions, offer_id: UUID) -> None:
        told = []
        for at in (STARTS - timedelta(seconds=1), STARTS, ENDS - timedelta(seconds=1), ENDS):
            done = await run_job(sessions, "schedule", now=at)
            told.append((done, await stored(sessions, offer_id)))
        assert told == [(0, "scheduled"), (1, "live"), (0, "live"), (1, "ended")]

    async def test_that_comes_late_ends_what_it_never_started(
        self, sessions: Sessions, offer_id: UUID
    ) -> None:
        assert await run_job(sessions, "schedule", now=ENDS) == 1
        assert await stored(sessions, offer_id) == "ended"

    async def test_in_several_places_at_once_is_written_down_once(
        self, sessions: Sessions, offer_id: UUID
    ) -> None:
        done = await asyncio.gather(*(run_job(sessions, "schedule", now=STARTS) for _ in range(4)))
        assert sum(done) == 1
        async with sessions() as session:
            entries = await session.execute(
                text(
                    "SELECT actor, before, after FROM audit_entries "
                    "WHERE subject_id = :id AND action = 'offer.start'"
                ),
                {"id": str(offer_id)},
            )
            assert [tuple(entry) for entry in entries] == [
                ("clock", {"state": "scheduled"}, {"state": "live"})
            ]

    async def test_leaves_a_paused_offer_paused(self, sessions: Sessions, offer_id: UUID) -> None:
        async with sessions.begin() as session:
            await offers.pause(session, offer_id=offer_id, by=OPERATOR, now=NOW)
        assert await run_job(sessions, "schedule", now=ENDS) == 0
        assert await stored(sessions, offer_id) == "paused"

    async def test_leaves_a_draft_alone(self, sessions: Sessions) -> None:
        draft = await make_offer(sessions, "Draft", publish=False)
        assert await run_job(sessions, "schedule", now=NOW + timedelta(days=99)) == 0
        assert await stored(sessions, draft) == "draft"


class TestAPausedOffer:
    async def test_that_is_ended_ended_when_it_was_paused_whatever_was_changed_since(
        self, sessions: Sessions, offer_id: UUID
    ) -> None:
        paused = STARTS + timedelta(hours=1)
        growth = OfferChange.model_validate({"ends_at": (ENDS + timedelta(days=1)).isoformat()})
        async with sessions.begin() as session:
            await offers.pause(session, offer_id=offer_id, by=OPERATOR, now=paused)
        async with sessions.begin() as session:
            again = paused + timedelta(hours=1)
            await offers.pause(session, offer_id=offer_id, by=OPERATOR, now=again)
            await change(session, offer_id=offer_id, changes=growth, by=OPERATOR, now=again)
        async with sessions.begin() as session:
            offer, _, _ = await offers.end(session, offer_id=offer_id, by=OPERATOR, now=ENDS)
        assert offer.ends_at == paused


class TestWhatTheClockHasEnded:
    async def test_is_ended_before_the_schedule_says_so(
        self, sessions: Sessions, offer_id: UUID
    ) -> None:
        async with sessions.begin() as session:
            for change in (offers.pause, offers.resume):
                with pytest.raises(Conflict):
                    await change(session, offer_id=offer_id, by=OPERATOR, now=ENDS)
        async with sessions.begin() as session:
            offer, _, _ = await offers.end(session, offer_id=offer_id, by=OPERATOR, now=ENDS)
            assert offer.ends_at == ENDS


class TestTheCommand:
    async def test_says_what_each_job_has_done(
        self, sessions: Sessions, offer_id: UUID, tagback: Tagback
    ) -> None:
        ran = await tagback("jobs", "run")
        assert ran.status == 0, ran.err
        told = [line.split(maxsplit=1) for line in ran.out.splitlines()]
        assert told[0] == ["1", "offers started or ended"]
        assert [number for number, _ in told[1:]] == ["0"] * (len(JOBS) - 1)
        assert await stored(sessions, offer_id) == "ended"  # its window lies in the past
        again = await tagback("jobs", "run", "schedule")
        assert again.out.split() == ["0", "offers", "started", "or", "ended"]

    async def test_lists_the_jobs_to_whoever_asks_for_another(self, tagback: Tagback) -> None:
        ran = await tagback("jobs", "run", "tea")
        assert ran.status == 1
        assert ran.err == f"tagback: no job 'tea', only {', '.join(JOBS)}\n"
