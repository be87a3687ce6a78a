"""What was read and is not in the database yet. Bounded: a database that is slow or away slows the
reading, and the network's own buffer takes over; what was read is not thrown away while we live.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from app.config import Settings
from app.kit import clock
from app.kit.db import Sessions
from app.networks.post import Event, Post
from app.posts import batch, events
from app.posts.enrol import Enroller
from app.posts.pace import Pace
from app.posts.surely import surely

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Mark:
    """Reached when all that was put before it is stored."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)


class Intake:
    def __init__(
        self,
        sessions: Sessions,
        settings: Settings,
        *,
        source: str,
        read_price_microusd: int,
        pace: Pace,
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._source = source
        self._pace = pace
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
                await surely(partial(self._enrol, posts), waits="listener_waits", pace=self._pace)
            for one in found:
                if isinstance(one, _Mark):
                    one.reached.set()
                elif not isinstance(one, Post):
                    await surely(partial(self._take, one), waits="listener_waits", pace=self._pace)

    async def _enrol(self, posts: Sequence[Post]) -> None:
        await self._enroller.enrol(posts, source=self._source, now=clock.now())

    async def _take(self, event: Event) -> None:
        """They are few, so each has a transaction of its own. One that the database refuses is left
        out, as such a post is.
        """
        try:
            async with self._sessions.begin() as session:
                await events.take(session, event, settings=self._settings, now=clock.now())
        except batch.FROM_DATABASE as error:
            if batch.has_crossed(error) or not batch.is_about_data(error):
                raise
            log.warning("event_rejected", kind=type(event).__name__, error=type(error).__name__)
