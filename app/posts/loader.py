"""Posts from a file or a request: decoded line by line, enrolled a batch at a time, on the path
that live posts take. That a post was removed is heeded too, whoever tells it.
"""

from collections.abc import Sequence

from app.config import Settings
from app.kit import clock
from app.kit.db import Sessions
from app.kit.lines import Line, LineResult
from app.networks import accounts
from app.networks.post import MalformedPost, Post, PostRemoved, Received
from app.networks.x.decode import XDecoder
from app.posts import events
from app.posts.enrol import Enrolled, Enroller


class PostLoader:
    """Called once for each batch of lines; keeps the offers in memory between batches."""

    def __init__(self, settings: Settings, *, source: str) -> None:
        self._settings = settings
        self._decoder: XDecoder | None = None
        self._enroller: Enroller | None = None
        self._source = source

    async def __call__(self, sessions: Sessions, lines: Sequence[Line]) -> list[LineResult]:
        if self._enroller is None or self._decoder is None:
            self._enroller = Enroller(sessions, self._settings)
            async with sessions.begin() as session:
                who = await accounts.identity(session, settings=self._settings)
            self._decoder = XDecoder(who.account_id, who.handle)
        decoded = [_decode(self._decoder, line) for line in lines]
        removed = [found for found in decoded if isinstance(found, PostRemoved)]
        if removed:
            await self._take(sessions, removed)
        posts = [found for found in decoded if isinstance(found, Post)]
        enrolled = iter(
            await self._enroller.enrol(posts, source=self._source, now=clock.now()) if posts else ()
        )
        results = []
        for found in decoded:
            if isinstance(found, Post):
                results.append(_accepted(next(enrolled)))
            elif isinstance(found, LineResult):
                results.append(found)
            else:
                results.append(LineResult("ignored"))
        return results

    async def _take(self, sessions: Sessions, removed: Sequence[PostRemoved]) -> None:
        async with sessions.begin() as session:
            for event in removed:
                await events.take(session, event, settings=self._settings, now=clock.now())


def _accepted(enrolled: Enrolled) -> LineResult:
    if enrolled.rejected is not None:
        return LineResult("rejected", reason=enrolled.rejected)
    return LineResult("accepted", enrolled.outcomes)


def _decode(decoder: XDecoder, line: Line) -> Received | LineResult:
    try:
        return decoder.decode(line.raw)
    except MalformedPost as error:
        return LineResult("rejected", reason=error.reason)
