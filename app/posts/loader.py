"""Posts from a file or a request: decoded line by line, enrolled a batch at a time, on the path
that live posts take.
"""

from collections.abc import Sequence

from app.config import Settings
from app.kit import clock
from app.kit.db import Sessions
from app.kit.lines import Line, LineResult
from app.networks.post import MalformedPost, NotAPost, Post
from app.networks.x.decode import XDecoder
from app.posts.enrol import Enrolled, Enroller


class PostLoader:
    """Called once for each batch of lines; keeps the offers in memory between batches."""

    def __init__(self, settings: Settings, *, source: str) -> None:
        self._settings = settings
        self._decoder = XDecoder(settings.x_account_id, settings.x_handle)
        self._enroller: Enroller | None = None
        self._source = source

    async def __call__(self, sessions: Sessions, lines: Sequence[Line]) -> list[LineResult]:
        if self._enroller is None:
            self._enroller = Enroller(sessions, self._settings)
        decoded = [self._decode(line) for line in lines]
        posts = [found for found in decoded if isinstance(found, Post)]
        enrolled = iter(
            await self._enroller.enrol(posts, source=self._source, now=clock.now()) if posts else ()
        )
        return [
            _accepted(next(enrolled)) if isinstance(found, Post) else found for found in decoded
        ]

    def _decode(self, line: Line) -> Post | LineResult:
        try:
            found = self._decoder.decode(line.raw)
        except MalformedPost as error:
            return LineResult("rejected", reason=error.reason)
        return LineResult("ignored") if isinstance(found, NotAPost) else found


def _accepted(enrolled: Enrolled) -> LineResult:
    if enrolled.rejected is not None:
        return LineResult("rejected", reason=enrolled.rejected)
    return LineResult("accepted", enrolled.outcomes)
