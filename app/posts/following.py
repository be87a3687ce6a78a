"""One of X's streams, from its lines to the database."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime

import httpx
import structlog

from app.kit import clock
from app.kit.db import DATABASE_ERRORS
from app.networks.post import NotAPost
from app.networks.x.decode import XDecoder
from app.networks.x.stream import Stream, follow
from app.posts.catching_up import SETTLED_AFTER, CatchUp
from app.posts.gap import Gap
from app.posts.intake import Intake
from app.posts.pace import Pace

log = structlog.get_logger(__name__)


class Following:
    """Each connection begins with a gap. Once it is closed, and for as long as the connection shows
    signs of life, the cursor may be moved along with it.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        stream: Stream,
        decoder: XDecoder,
        *,
        intake: Intake,
        gap: Gap,
        pace: Pace,
        may_connect: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._client = client
        self._stream = stream
        self._decoder = decoder
        self._intake = intake
        self._gap = gap
        self._pace = pace
        self._may_connect = may_connect
        self._alive_at = clock.now()

    async def read(self, stop: asyncio.Event) -> None:
        found = follow(
            self._client,
            self._stream,
            self._decoder,
            stop,
            silence_seconds=self._pace.silence_seconds,
            may_connect=self._may_connect,
            on_connected=self._gap.want,
        )
        async with aclosing(found):
            async for one in found:
                self._alive_at = clock.now()
                if not isinstance(one, NotAPost):
                    await self._intake.put(one)

    async def keep_cursor(self, catch_up: CatchUp) -> None:
        while True:
            await asyncio.sleep(self._pace.cursor_every_seconds)
            moment = self._alive_at
            if self._gap.is_closed:
                await self._intake.flushed()
                await self._move_cursor(catch_up, moment - SETTLED_AFTER)

    async def _move_cursor(self, catch_up: CatchUp, moment: datetime) -> None:
        """Unless the connection has broken since."""
        if not self._gap.is_closed:
            return
        try:
            await catch_up.read_up_to(moment)
        except DATABASE_ERRORS as error:
            log.warning("cursor_waits", stream=self._stream.name, error=type(error).__name__)
