"""Posts of a time that has passed, asked for: mentions of the account, and recent search."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import NamedTuple

import httpx
import structlog

from app.kit import clock
from app.networks.post import MalformedPost, Post
from app.networks.x.calls import CallError, call
from app.networks.x.decode import XDecoder
from app.networks.x.rules import queries
from app.networks.x.stream import FIELDS

SEARCH = "/2/tweets/search/recent"
LOOKS_BACK = timedelta(days=7) - timedelta(minutes=5)
_PART = timedelta(days=1)
_PAGE_POSTS = 100
_MENTION_PAGES_MAX = 8  # X gives the newest 800 mentions, and does not say that there are more
_WINDOW_SECONDS = 900.0
_TRIES_MAX = 3
TRY_AGAIN_SECONDS = 2.0

log = structlog.get_logger(__name__)


class Found(NamedTuple):
    """Oldest first. `up_to`: all from the beginning of the time that was asked for until then has
    been given. `is_owned`: what X charges for as the account's own.
    """

    posts: list[Post]
    up_to: datetime | None
    is_owned: bool = False


class PastPosts:
    """All raise CallError. X's limits are waited for, in the middle of the pages too."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        decoder: XDecoder,
        *,
        account_id: str | None,
        handle: str | None,
        try_again_seconds: float = TRY_AGAIN_SECONDS,
    ) -> None:
        self._client = client
        self._decoder = decoder
        self._account_id = account_id
        self._handle = handle
        self._try_again_seconds = try_again_seconds

    async def mentions(self, since: datetime, until: datetime) -> AsyncGenerator[Found, None]:
        """Where there are more than X gives of them, recent search brings the older ones."""
        path = f"/2/users/{self._account_id}/mentions"
        found, pages = await self._pages(path, {}, since, until)
        is_cut = bool(found) and pages >= _MENTION_PAGES_MAX
        if is_cut and self._handle is None:
            log.error("mentions_cut", reason="TAGBACK_X_HANDLE is not set", since=since.isoformat())
            is_cut = False
        yield Found(found, None if is_cut else until, is_owned=True)
        if is_cut:
            oldest = min(found[0].posted_at + timedelta(seconds=1), until)
            searched = self._search([f"@{self._handle} -is:retweet"], since, oldest)
            async with aclosing(searched):
                async for older in searched:
                    yield older
            yield Found([], until)

    def tagged(
        self, tags: Collection[str], since: datetime, until: datetime
    ) -> AsyncGenerator[Found, None]:
        return self._search(queries(tags), since, until)

    async def _search(
        self, asked: Collection[str], since: datetime, until: datetime
    ) -> AsyncGenerator[Found, None]:
        """A part of the time after another, the oldest first, for X may make us wait for long
        between two pages, and forgets what is a week old.
        """
        while since < until:
            end = min(since + _PART, until)
            found: dict[str, Post] = {}
            for query in asked:
                posts, _ = await self._pages(SEARCH, {"query": query}, since, end)
                found |= {post.id: post for post in posts}
            yield Found(sorted(found.values(), key=_by_time), end)
            since = end

    async def _pages(
        self, path: str, asked: Mapping[str, str], since: datetime, until: datetime
    ) -> tuple[list[Post], int]:
        """Between fixed bounds, for X gives the newest first and new posts would shift the pages.
        Its own last bound would be half a minute ago.
        """
        params: dict[str, str | int] = {
            **FIELDS,
            **asked,
            "max_results": _PAGE_POSTS,
            "start_time": _written(max(since, clock.now() - LOOKS_BACK)),  # we may have waited
            "end_time": _written(until),
        }
        found: list[Post] = []
        pages = 0
        while True:
            posts, token = await self._page(path, params)
            found += posts
            pages += 1
            if token is None:
                found.sort(key=_by_time)
                return found, pages
            params["pagination_token"] = token

    async def _page(
        self, path: str, params: Mapping[str, str | int]
    ) -> tuple[list[Post], str | None]:
        failures = 0
        while True:
            try:
                return self._decoder.decode_page(
                    await call(self._client, "GET", path, params=params)
                )
            except MalformedPost as error:
                raise CallError(f"GET {path}: {error.reason}") from error
            except CallError as error:
                if error.status == HTTPStatus.TOO_MANY_REQUESTS and error.resets_at is not None:
                    wait = (error.resets_at - clock.now()).total_seconds()
                    log.info("gap_waits", path=path, seconds=round(wait))
                    await asyncio.sleep(min(_WINDOW_SECONDS, max(1.0, wait)))
                    continue
                failures += 1
                if error.is_refusal or failures >= _TRIES_MAX:
                    raise
                await asyncio.sleep(self._try_again_seconds * failures)


def _by_time(post: Post) -> tuple[datetime, str]:
    return post.posted_at, post.id


def _written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
