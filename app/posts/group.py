"""Group commit: posts that arrive together share a transaction, and none waits for a timer.

While a batch commits, the posts that arrive wait and become the next batch; an idle group enrols a
post at once. Whoever submits is answered when his posts are durable.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from app.config import Settings
from app.errors import Unavailable
from app.kit import clock
from app.kit.db import Sessions
from app.networks.post import Post
from app.posts.enrol import Enrolled, Enroller

WAITING_BATCHES_MAX = 4  # more than can be committed in time: say so instead of growing

log = structlog.get_logger(__name__)


class _Waiting(NamedTuple):
    posts: Sequence[Post]
    answer: "asyncio.Future[list[Enrolled]]"


class PostGroup:
    def __init__(
        self, sessions: Sessions, settings: Settings, *, source: str, read_price_microusd: int = 0
    ) -> None:
        self._enroller = Enroller(sessions, settings, read_price_microusd=read_price_microusd)
        self._settings = settings
        self._source = source
        self._waiting: deque[_Waiting] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, posts: Sequence[Post]) -> list[Enrolled]:
        """Returns when the posts have committed. Raises Unavailable when that takes too long; they
        may still commit, and the same posts sent again change nothing.
        """
        if len(self._waiting) >= WAITING_BATCHES_MAX * self._settings.batch_posts_max:
            raise Unavailable("more posts are waiting than can be stored in time: send them again")
        answer: asyncio.Future[list[Enrolled]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(posts, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            async with asyncio.timeout(self._settings.webhook_wait_seconds):
                return await answer
        except TimeoutError:
            raise Unavailable("the posts were not stored in time: send them again") from None

    async def _work(self) -> None:
        while self._waiting:
            batch: list[_Waiting] = []
            posts: list[Post] = []
            while self._waiting and len(posts) < self._settings.batch_posts_max:
                waiting = self._waiting.popleft()
                if not waiting.answer.cancelled():  # else its sender has gone, and sends it again
                    batch.append(waiting)
                    posts += waiting.posts
            try:
                results = await self._enroller.enrol(posts, source=self._source, now=clock.now())
            except Exception as error:  # whatever it is, each sender must hear of it
                log.exception("batch_failed", source=self._source, posts=len(posts))
                _fail(batch, error)
            else:
                _answer(batch, results)


def _answer(batch: Sequence[_Waiting], results: Sequence[Enrolled]) -> None:
    start = 0
    for posts, answer in batch:
        if not answer.done():
            answer.set_result(list(results[start : start + len(posts)]))
        start += len(posts)


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for _, answer in batch:
        if not answer.done():
            unavailable = Unavailable("the posts could not be stored: send them again")
            unavailable.__cause__ = error
            answer.set_exception(unavailable)
