"""The test clock: with TAGBACK_TEST_CLOCK time is moved forward for all processes that share the
database, so that what takes weeks is tried in seconds.

`kit.clock.now` is the one source of the service's time, and it alone is moved. What stays on the
real time decides nothing that a member, a partner or an issuer sees: columns that say when a row
was written (`created_at` and the audit log's `at`, where the database fills them in), ids, the
listener's lease, which is a matter of seconds between processes, and whatever waits between two
tries.
"""

import asyncio
import math
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings, SettingsError
from app.errors import Invalid
from app.kit import clock
from app.kit.db import DATABASE_ERRORS, Sessions
from app.kit.stopping import pause
from app.testclock import queries

FOLLOW_SECONDS = 0.1  # how often a process looks whether time was moved
MOVE_SECONDS_MAX = 366 * 24 * 3_600
AHEAD_SECONDS_MAX = 3_660 * 24 * 3_600

log = structlog.get_logger(__name__)


class ClockMovedError(SettingsError):
    pass


async def adopt(sessions: Sessions, settings: Settings) -> None:
    """At the start of a process. Raises ClockMovedError when the setting is off and time was moved
    in this database: what was written there since would lie in the future.
    """
    async with sessions() as session:
        seconds = await queries.ahead_seconds(session)
    if settings.test_clock:
        _follow(seconds)
    elif seconds:
        raise ClockMovedError(
            f"the time of this database was moved {timedelta(seconds=seconds)} ahead: set "
            "TAGBACK_TEST_CLOCK=1 again, or use another database"
        )


async def run(sessions: Sessions, settings: Settings, stop: asyncio.Event) -> None:
    """Follows what other processes move, until told to stop."""
    del settings
    while not stop.is_set():
        try:
            async with sessions() as session:
                _follow(await queries.ahead_seconds(session))
        except DATABASE_ERRORS as error:
            log.warning("test_clock_waits", error=type(error).__name__)
        await pause(stop, seconds=FOLLOW_SECONDS)


async def move(
    session: AsyncSession, *, advance_seconds: int | None = None, to: datetime | None = None
) -> int:
    """By so many seconds, or to a time or less than a second after it; answers how far ahead that
    is. This process follows once the caller has committed. Raises Invalid for a time that has
    passed, and for a move that is too far.
    """
    known = await queries.lock_ahead_seconds(session)
    if advance_seconds is None:
        if to is None:
            raise ValueError("neither how far nor where to")
        advance_seconds = math.ceil((to - datetime.now(UTC)).total_seconds()) - known
    if advance_seconds <= 0:
        raise Invalid("time moves forward only", code="time_has_passed")
    ahead = known + advance_seconds
    if advance_seconds > MOVE_SECONDS_MAX or ahead > AHEAD_SECONDS_MAX:
        raise Invalid(
            "time moves 366 days at once, and ten years in all, at most", code="too_far_ahead"
        )
    await queries.set_ahead_seconds(session, ahead)
    return ahead


async def follow(sessions: Sessions) -> None:
    """What was committed, in this process at once and in the others before this returns, for they
    look every FOLLOW_SECONDS.
    """
    async with sessions() as session:
        _follow(await queries.ahead_seconds(session))
    await asyncio.sleep(3 * FOLLOW_SECONDS)


def _follow(seconds: int) -> None:
    """Never back: what was read earlier may come later."""
    ahead = timedelta(seconds=seconds)
    if ahead > clock.ahead():
        clock.set_ahead(ahead)
        log.info("test_clock_moved", ahead=str(ahead), now=clock.now().isoformat())
