"""Moving the test clock, and doing what has become due by it."""

from datetime import datetime, timedelta
from typing import NamedTuple

from app.kit import clock
from app.kit.db import Sessions
from app.partners import service as partners
from app.testclock import service as testclock
from app.upkeep import jobs


class Moment(NamedTuple):
    now: datetime
    ahead: timedelta


def moment() -> Moment:
    return Moment(clock.now(), clock.ahead())


async def move(
    sessions: Sessions,
    *,
    advance_seconds: int | None = None,
    to: datetime | None = None,
    actor: str,
) -> Moment:
    """Answers when all processes have seen it and the jobs have done what is due; what a worker
    does by itself, such as sending a reply, comes within a second or two. Raises Invalid.
    """
    async with sessions.begin() as session:
        ahead_seconds = await testclock.move(session, advance_seconds=advance_seconds, to=to)
        await partners.audit(
            session,
            actor=actor,
            action="test_clock.move",
            subject_kind="test_clock",
            subject_id="1",
            after={"ahead_seconds": ahead_seconds},
        )
    await testclock.follow(sessions)
    await jobs.run_all(sessions)
    return moment()
