"""One process at a time: a row that is held until a moment of the database's clock and prolonged
long before. Whoever finds it run out takes it; so a process that was killed is followed by another
within the lease's length.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

import structlog

from app.kit.db import DATABASE_ERRORS, Sessions
from app.kit.ids import new_id
from app.kit.stopping import pause
from app.networks import lease_queries

# Work is told to end when so much of the lease is left: nobody else has begun by then.
_MARGIN = 0.2
_RENEWALS = 3  # to a lease

log = structlog.get_logger(__name__)

Work = Callable[[asyncio.Event], Awaitable[None]]


async def work_while_held(
    sessions: Sessions, name: str, work: Work, *, seconds: float, stop: asyncio.Event
) -> None:
    """Calls `work(over)` whenever this process has the lease, until `stop` is set. `over` is set
    when it must end, because of `stop` or because the lease could not be prolonged in time. Raises
    what `work` raises.
    """
    holder = new_id()
    is_standing_by = False
    while not stop.is_set():
        until = await _take(sessions, name, holder, seconds)
        if until is None:
            if not is_standing_by:
                log.info("standing_by", lease=name)
            is_standing_by = True
            await pause(stop, seconds=seconds / _RENEWALS)
            continue
        is_standing_by = False
        log.info("lease_taken", lease=name)
        await _work(sessions, name, holder, work, until=until, seconds=seconds, stop=stop)


async def _work(
    sessions: Sessions,
    name: str,
    holder: UUID,
    work: Work,
    *,
    until: float,
    seconds: float,
    stop: asyncio.Event,
) -> None:
    over = asyncio.Event()
    working = asyncio.ensure_future(work(over))
    working.add_done_callback(lambda _: over.set())
    stopping = asyncio.create_task(_set_after(stop, over))
    try:
        while not over.is_set():
            await pause(over, seconds=seconds / _RENEWALS)
            if over.is_set():
                break
            until = await _take(sessions, name, holder, seconds, while_held_until=until) or 0.0
            if time.monotonic() >= until:
                log.warning("lease_lost", lease=name)
                over.set()
        await working
    finally:
        stopping.cancel()
        working.cancel()
        await _give_up(sessions, name, holder)


async def _take(
    sessions: Sessions,
    name: str,
    holder: UUID,
    seconds: float,
    *,
    while_held_until: float | None = None,
) -> float | None:
    """Until when, by this process's own clock, work may go on; None when the lease is another's. A
    database that does not answer is asked again for as long as the lease that is held lasts.
    """
    while True:
        asked = time.monotonic()  # before the database looks at its clock, so never too late
        limit = seconds if while_held_until is None else while_held_until - asked
        if limit <= 0:
            return None
        try:
            async with asyncio.timeout(limit), sessions.begin() as session:
                taken = await lease_queries.take(session, name=name, holder=holder, seconds=seconds)
        except DATABASE_ERRORS as error:  # a timeout is one of them
            if while_held_until is None:
                log.warning("lease_waits", lease=name, error=type(error).__name__)
                return None
            await asyncio.sleep(min(1.0, seconds / 10))
        else:
            return asked + seconds * (1 - _MARGIN) if taken else None


async def _give_up(sessions: Sessions, name: str, holder: UUID) -> None:
    """So that the next one need not wait. When the database is away, it runs out by itself."""
    with suppress(*DATABASE_ERRORS):
        async with sessions.begin() as session:
            await lease_queries.give_up(session, name=name, holder=holder)


async def _set_after(stop: asyncio.Event, over: asyncio.Event) -> None:
    await stop.wait()
    over.set()
