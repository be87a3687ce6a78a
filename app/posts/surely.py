import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from app.errors import Unavailable
from app.kit.db import DATABASE_ERRORS
from app.networks.x.calls import CallError
from app.posts.pace import Pace

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")


async def surely(
    do: Callable[[], Awaitable[Answer]],
    *,
    waits: str,
    pace: Pace,
    on_failure: Callable[[], None] = lambda: None,
    **about: object,
) -> Answer:
    """Until it succeeds, or is cancelled: X or the database may be away, or have no room for us.
    `waits`: what the log says of a failure.
    """
    failures = 0
    while True:
        try:
            return await do()
        except CallError as error:
            reason = error.detail
        except (Unavailable, *DATABASE_ERRORS) as error:
            reason = type(error).__name__
        failures += 1
        on_failure()
        log.warning(waits, reason=reason, **about)
        await asyncio.sleep(pace.retry(failures))
