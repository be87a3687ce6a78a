"""What time does to offers, purchases, coupons, sign-ins and removed posts: the worker's round, and
`tagback jobs`.

A job may run twice, late, and in any number of processes at once: each step locks what it changes
and looks again whether it is still due.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings, get_settings
from app.errors import Unavailable
from app.kit import clock
from app.kit.db import DATABASE_ERRORS, Sessions
from app.kit.stopping import pause
from app.linking import service as linking
from app.notifications import service as notifications
from app.offers import service as offers
from app.partners import idempotency
from app.posts import removal
from app.redemptions import service as redemptions

ROUND_SECONDS = 15.0
ROWS_MAX = 500  # to a transaction

log = structlog.get_logger(__name__)

Step = Callable[[AsyncSession, datetime], Awaitable[int]]


async def _schedule(session: AsyncSession, now: datetime) -> int:
    return await offers.follow_clock(session, now=now, most=ROWS_MAX)


async def _lapse(session: AsyncSession, now: datetime) -> int:
    return await redemptions.lapse_purchases(session, now=now, most=ROWS_MAX)


async def _close(session: AsyncSession, now: datetime) -> int:
    return await redemptions.close_coupons(session, now=now, most=ROWS_MAX)


async def _forget(session: AsyncSession, now: datetime) -> int:
    return await linking.forget_old(session, now=now, most=ROWS_MAX)


async def _forget_answers(session: AsyncSession, now: datetime) -> int:
    return await idempotency.forget_old(session, now=now, most=ROWS_MAX)


async def _remove(session: AsyncSession, now: datetime) -> int:
    return await removal.forget_removed(session, now=now, most=ROWS_MAX)


async def _tidy(session: AsyncSession, now: datetime) -> int:
    days_kept = get_settings().webhooks_days_kept
    return await notifications.forget_old(session, now=now, days_kept=days_kept, most=ROWS_MAX)


# In the order of a round: what lapses may let a coupon close.
JOBS: dict[str, tuple[str, Step]] = {
    "schedule": ("offers started or ended", _schedule),
    "lapse": ("purchases lapsed", _lapse),
    "close": ("coupons closed", _close),
    "forget": ("unfinished sign-ins and used links forgotten", _forget),
    "answers": ("answers kept for repeated requests forgotten", _forget_answers),
    "remove": ("removed posts forgotten", _remove),
    "tidy": ("old webhook deliveries forgotten", _tidy),
}


async def run_job(sessions: Sessions, name: str, *, now: datetime) -> int:
    """All that is due, a transaction a step; answers how much it was."""
    _, step = JOBS[name]
    done = 0
    while taken := await redemptions.committed(sessions, lambda session: step(session, now)):
        done += taken
    if done:
        log.info("job_done", job=name, rows=done)
    return done


async def run_all(sessions: Sessions) -> None:
    """A round: what fails is told in the log, and is due still."""
    for name in JOBS:
        try:
            await run_job(sessions, name, now=clock.now())
        except (Unavailable, *DATABASE_ERRORS) as error:
            log.warning("job_waits", job=name, error=type(error).__name__)
        except Exception:  # one that fails must not end the others of this process
            log.exception("job_failed", job=name)


async def run(sessions: Sessions, settings: Settings, stop: asyncio.Event) -> None:
    """A round now and then, until told to stop. A database that is away is waited for."""
    del settings
    while not stop.is_set():
        await run_all(sessions)
        await pause(stop, seconds=ROUND_SECONDS)
