"""NOTIFY as a hint: it saves waiting for the next poll, and nothing is lost without it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from app.kit.db import DATABASE_ERRORS, Sessions

AGAIN_SECONDS = 5.0

log = structlog.get_logger()


async def listen(sessions: Sessions, *, channel: str, wakes: Sequence[asyncio.Event]) -> None:
    """Sets them all at every NOTIFY, until cancelled. Connects again when the connection is
    lost.
    """

    def wake(*_: object) -> None:
        for one in wakes:
            one.set()

    while True:
        try:
            async with _own_connection(sessions) as connection:
                await connection.add_listener(channel, wake)
                wake()  # for what was said while nobody listened
                await _until_lost(connection)
        except DATABASE_ERRORS as error:
            log.debug("not_listening", channel=channel, error=type(error).__name__)
        await asyncio.sleep(AGAIN_SECONDS)


@asynccontextmanager
async def _own_connection(sessions: Sessions) -> AsyncIterator[Any]:
    """The driver's own, beside the pool: it is held for as long as the process runs."""
    engine: AsyncEngine = sessions.kw["bind"]
    async with engine.connect() as connection:
        pooled = await connection.get_raw_connection()
        own = pooled.driver_connection
        pooled.detach()
        yield own


async def _until_lost(connection: Any) -> None:  # noqa: ANN401 - the driver's
    lost = asyncio.Event()
    connection.add_termination_listener(lambda _: lost.set())
    if not connection.is_closed():
        await lost.wait()
