"""Closing gaps: what may have been missed is asked for again, and takes the path that live posts
take, which finds what is known already.

Each way to the posts has a cursor of its own: the time up to which surely everything was read. It
is moved by a pass, with each part of the time that it has read, and by a stream whose gap is closed
and that is still connected; never by a post that came, for others before it may have been lost.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial

import structlog
from prometheus_client import Counter

from app.config import Settings
from app.kit import clock
from app.kit.db import Sessions
from app.networks.post import Post
from app.networks.x.gaps import LOOKS_BACK, Found
from app.posts import queries
from app.posts.enrol import DUPLICATE, NO_OFFER, Enrolled, Enroller
from app.posts.gap import Gap
from app.posts.pace import Pace
from app.posts.surely import surely

SOURCE = "x:gap"
# X asks for a last bound that has passed for ten seconds, and its index for half a minute.
_UNTIL_BEFORE = timedelta(seconds=10)
SETTLED_AFTER = timedelta(seconds=30)

_closed = Counter("tagback_gaps_closed", "Passes that have ended.", ["source"])
_found = Counter("tagback_gap_posts", "Posts that only a pass has brought.", ["source"])
log = structlog.get_logger(__name__)

Read = Callable[[datetime, datetime], AsyncGenerator[Found, None]]


class CatchUp:
    """Of one way: `source` names its cursor, `read` asks for the posts between two times."""

    def __init__(
        self,
        sessions: Sessions,
        settings: Settings,
        read: Read,
        *,
        gap: Gap,
        source: str,
        pace: Pace,
    ) -> None:
        self._sessions = sessions
        self._overlap = timedelta(minutes=settings.x_gap_minutes)
        self._batch_posts_max = settings.batch_posts_max
        self._read = read
        self._gap = gap
        self._source = source
        self._pace = pace
        self._mentions = Enroller(
            sessions,
            settings,
            read_price_microusd=settings.x_price_owned_read_microusd,
            read_kind="owned_read",
        )
        self._searched = Enroller(
            sessions, settings, read_price_microusd=settings.x_price_post_read_microusd
        )
        self._passed: dict[str, datetime] = {}  # posts that were seen, and a next pass sees again

    async def work(self, *, by_the_clock: bool) -> None:
        """Closes a gap when there is one, twice: what was posted in the last half minute may not be
        found before that has passed. And every so often where posts may be lost in silence: always,
        or while something is lacking. Until it is cancelled.
        """
        while True:
            if not await self._gap.is_wanted_within(self._pace.gaps_every_seconds):
                if by_the_clock or self._gap.is_lacking:
                    await self._pass_surely()
                continue
            self._gap.begin()
            await self._pass_surely()
            if await self._gap.is_wanted_within(self._pace.tail_seconds):  # the next one already
                await asyncio.sleep(self._pace.between_gaps_seconds)
                continue
            await self._pass_surely()
            self._gap.close()

    async def read_up_to(self, moment: datetime) -> None:
        """All that was posted until then has been read and stored."""
        now = clock.now()
        settled = min(moment, now - SETTLED_AFTER)
        async with self._sessions.begin() as session:
            await queries.move_cursor(session, source=self._source, posted_at=settled, now=now)
        self._forget_before(settled - self._overlap)

    async def _pass_surely(self) -> None:
        await surely(self._pass, waits="gap_open", pace=self._pace, source=self._source)

    async def _pass(self) -> None:
        now = clock.now()
        since, until = await self._since(now), now - _UNTIL_BEFORE
        if since >= until:  # the first time, where no overlap is wanted
            await self.read_up_to(until)
            return
        read = new = 0
        async with aclosing(self._read(since, until)) as parts:
            async for part in parts:
                read += len(part.posts)
                new += await self._enrol(part)
                if part.up_to is not None:
                    await self.read_up_to(part.up_to)
        _closed.labels(self._source).inc()
        log.info("gap_closed", source=self._source, since=since.isoformat(), read=read, new=new)

    async def _since(self, now: datetime) -> datetime:
        async with self._sessions.begin() as session:
            cursor = await queries.read_cursor(session, source=self._source)
        return max((cursor or now) - self._overlap, now - LOOKS_BACK)

    async def _enrol(self, found: Found) -> int:
        """Those that nobody has seen before, oldest first; answers how many of them were news."""
        enroller = self._mentions if found.is_owned else self._searched
        unseen = [post for post in found.posts if post.id not in self._passed]
        new = 0
        for start in range(0, len(unseen), self._batch_posts_max):
            chunk = unseen[start : start + self._batch_posts_max]
            results = await surely(
                partial(_store, enroller, chunk), waits="listener_waits", pace=self._pace
            )
            new += sum(not {DUPLICATE, NO_OFFER}.issuperset(one.outcomes) for one in results)
            self._passed |= {post.id: post.posted_at for post in chunk}
        _found.labels(self._source).inc(new)
        return new

    def _forget_before(self, since: datetime) -> None:
        self._passed = {
            post_id: posted_at for post_id, posted_at in self._passed.items() if posted_at >= since
        }


async def _store(enroller: Enroller, posts: Sequence[Post]) -> list[Enrolled]:
    return await enroller.enrol(posts, source=SOURCE, now=clock.now())
