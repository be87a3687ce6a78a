"""What was read and is not in the database yet. Bounded: a database that is slow or away slows the
reading, and the network's own buffer takes over; what was read is not thrown away while we live.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from app.config import Settings
from app.errors import Unavailable
from app.kit import clock
from app.kit.db import DATABASE_ERRORS, Sessions, is_connection_lost
from app.networks.post import Event, Post
from app.posts import batch, events
from app.posts.enrol import Enrolled, Enroller

_RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Mark:
    """Reached when all that was put before it is stored."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)


class Intake:
    def __init__(
        self, sessions: Sessions, settings: Settings, *, source: str, read_price_microusd: int
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._source = source
        self._enroller = Enroller(sessions, settings, read_price_microusd=read_price_microusd)
        self._waiting: asyncio.Queue[Post | Event | _Mark] = asyncio.Queue(settings.batch_posts_max)

    async def put(self, found: Post | Event) -> None:
        await self._waiting.put(found)

    async def flushed(self) -> None:
        """Returns when all that was put before this call is stored."""
        mark = _Mark()
        await self._waiting.put(mark)
        await mark.reached.wait()

    async def work(self) -> None:
        """Stores what is put, a batch at a time, until it is cancelled."""
        while True:
            found = [await self._waiting.get()]
            while len(found) < self._settings.batch_posts_max and not self._waiting.empty():
                found.append(self._waiting.get_nowait())
            posts = [one for one in found if isinstance(one, Post)]
            if posts:
                await enrol_surely(self._enroller, posts, source=self._source)
            told = [one for one in found if not isinstance(one, Post | _Mark)]
            if told:
                await self._take_surely(told)
            for one in found:
                if isinstance(one, _Mark):
                    one.reached.set()

    async def _take_surely(self, told: Sequence[Event]) -> None:
        while True:
            try:
                async with self._sessions.begin() as session:
                    for event in told:
                        await events.take(session, event, settings=self._settings, now=clock.now())
            except DATABASE_ERRORS as error:
                if not is_connection_lost(error) and not batch.has_crossed(error):
                    raise
                log.warning("listener_waits", error=type(error).__name__, events=len(told))
            else:
                return
            await asyncio.sleep(_RETRY_SECONDS)


async def enrol_surely(enroller: Enroller, posts: Sequence[Post], *, source: str) -> list[Enrolled]:
    """Holds the batch while the database is away."""
    while True:
        try:
            return await enroller.enrol(posts, source=source, now=clock.now())
        except Unavailable as error:
            log.warning("listener_waits", error=error.detail, posts=len(posts))
        except DATABASE_ERRORS as error:
            if not is_connection_lost(error):
                raise
            log.warning("listener_waits", error=type(error).__name__, posts=len(posts))
        await asyncio.sleep(_RETRY_SECONDS)
