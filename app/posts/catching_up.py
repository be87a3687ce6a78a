"""Closing gaps: what may have been missed is asked for again, and takes the path that live posts
take, which finds what is known already.

Each way to the posts has a cursor of its own: the time up to which surely everything was read. It
is moved by a pass that has ended, and by a stream whose gap is closed and that is still connected;
never by a post that came, for others before it may have been lost.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter

from app.config import Settings
from app.errors import Unavailable
from app.kit import clock
from app.kit.db import DATABASE_ERRORS, Sessions
from app.networks.post import Post
from app.networks.x.calls import CallError
from app.networks.x.gaps import LOOKS_BACK, Found
from app.posts import queries
from app.posts.enrol import DUPLICATE, NO_OFFER, Enroller
from app.posts.intake import enrol_surely
from app.posts.pace import Pace

SOURCE = "x:gap"
# X asks for a last bound that has passed for ten seconds, and its index for half a minute.
_UNTIL_BEFORE = timedelta(seconds=10)
SETTLED_AFTER = timedelta(seconds=30)

_closed = Counter("tagback_gaps_closed", "Passes that have ended.", ["source"])
_found = Counter("tagback_gap_posts", "Posts that only a pass has brought.", ["source"])
log = structlog.get_logger(__name__)

Read = Callable[[datetime, datetime], Awaitable[Found]]


class CatchUp:
    """Of one way: `source` names its cursor, `read` asks for the posts between two times."""

    def __init__(
        self, sessions: Sessions, settings: Settings, read: Read, *, source: str, pace: Pace
    ) -> None:
        self._sessions = sessions
        self._overlap = timedelta(minutes=settings.x_gap_minutes)
        self._batch_posts_max = settings.batch_posts_max
        self._read = read
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
        self._passed: dict[str, datetime] = {}  # posts of earlier passes that a next one sees again
        self._wanted = asyncio.Event()
        self.is_closed = False

    def want(self) -> None:
        """There is a gap: from now on nothing is sure until a pass has ended."""
        self.is_closed = False
        self._wanted.set()

    async def work(self, *, every_seconds: float | None) -> None:
        """Closes a gap when there is one, twice: what was posted in the last half minute may not be
        found before that has passed. And every so often, where posts may be lost in silence. Until
        it is cancelled.
        """
        while True:
            if not await self._is_wanted_within(every_seconds):
                await self._pass_surely()
                continue
            self._wanted.clear()
            await self._pass_surely()
            if await self._is_wanted_within(self._pace.tail_seconds):  # the next gap already
                await asyncio.sleep(self._pace.between_gaps_seconds)
                continue
            await self._pass_surely()
            self.is_closed = not self._wanted.is_set()

    async def _is_wanted_within(self, seconds: float | None) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._wanted.wait()
        return False

    async def read_up_to(self, moment: datetime) -> None:
        """All that was posted until then has been read and stored."""
        async with self._sessions.begin() as session:
            await queries.move_cursor(
                session, source=self._source, posted_at=moment - SETTLED_AFTER, now=clock.now()
            )

    async def _pass_surely(self) -> None:
        """Until it succeeds: X or the database may be away."""
        failures = 0
        while True:
            try:
                await self._pass(clock.now())
            except CallError as error:
                log.warning("gap_open", source=self._source, reason=error.detail)
            except (Unavailable, *DATABASE_ERRORS) as error:
                log.warning("gap_open", source=self._source, reason=type(error).__name__)
            else:
                return
            failures += 1
            await asyncio.sleep(self._pace.retry(failures))

    async def _pass(self, now: datetime) -> None:
        since, until = await self._since(now), now - _UNTIL_BEFORE
        if since >= until:  # the first time, where no overlap is wanted
            await self.read_up_to(now)
            return
        found = await self._read(since, until)
        new = await self._enrol(self._mentions, found.mentions)
        new += await self._enrol(self._searched, found.searched)
        self._forget_before(since)
        await self.read_up_to(now)
        _closed.labels(self._source).inc()
        _found.labels(self._source).inc(new)
        log.info(
            "gap_closed",
            source=self._source,
            since=since.isoformat(),
            read=len(found.mentions) + len(found.searched),
            new=new,
        )

    async def _since(self, now: datetime) -> datetime:
        async with self._sessions.begin() as session:
            cursor = await queries.read_cursor(session, source=self._source)
        return max((cursor or now) - self._overlap, now - LOOKS_BACK)

    async def _enrol(self, enroller: Enroller, posts: list[Post]) -> int:
        """Those that no earlier pass has seen, oldest first; answers how many of them were news."""
        unseen = [post for post in posts if post.id not in self._passed]
        new = 0
        for start in range(0, len(unseen), self._batch_posts_max):
            chunk = unseen[start : start + self._batch_posts_max]
            results = await enrol_surely(enroller, chunk, source=SOURCE)
            new += sum(not {DUPLICATE, NO_OFFER}.issuperset(one.outcomes) for one in results)
            self._passed |= {post.id: post.posted_at for post in chunk}
        return new

    def _forget_before(self, since: datetime) -> None:
        self._passed = {
            post_id: posted_at for post_id, posted_at in self._passed.items() if posted_at >= since
        }
