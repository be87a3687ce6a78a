"""The listener role: posts from X's filtered stream, enrolled as they come."""

import asyncio
from collections.abc import Sequence

import httpx
import structlog

from app.config import Settings
from app.errors import Unavailable
from app.kit import clock
from app.kit.db import DATABASE_ERRORS, Sessions, is_connection_lost
from app.networks.post import MalformedPost, Post
from app.networks.x import stream
from app.networks.x.decode import XDecoder
from app.posts.enrol import Enroller

SOURCE = "x:stream"
DRAIN_SECONDS_MAX = 5.0
_RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


async def run(sessions: Sessions, settings: Settings, stop: asyncio.Event) -> None:
    if settings.x_app_token is None:
        log.info("listener_idle", reason="TAGBACK_X_APP_TOKEN is not set")
        await stop.wait()
        return
    # bounded: a database that is slow or away slows the reading, and X's own buffer takes over
    received: asyncio.Queue[Post] = asyncio.Queue(maxsize=settings.batch_posts_max)
    enroller = Enroller(sessions, settings, read_price_microusd=settings.x_price_post_read_microusd)
    headers = {"Authorization": f"Bearer {settings.x_app_token.get_secret_value()}"}
    async with httpx.AsyncClient(base_url=str(settings.x_base_url), headers=headers) as client:
        reader = asyncio.create_task(_read(client, settings, received, stop))
        enrolling = asyncio.create_task(_enrol(enroller, settings, received))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({reader, enrolling, stopped}, return_when=asyncio.FIRST_COMPLETED)
        reader.cancel()
        stopped.cancel()
        # what was read is not thrown away: nobody would bring it again
        drained = asyncio.create_task(received.join())
        await asyncio.wait(
            {drained, enrolling}, timeout=DRAIN_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED
        )
        for task in (drained, enrolling):
            task.cancel()
        for ended in await asyncio.gather(reader, enrolling, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


async def _read(
    client: httpx.AsyncClient,
    settings: Settings,
    received: asyncio.Queue[Post],
    stop: asyncio.Event,
) -> None:
    decoder = XDecoder(settings.x_account_id, settings.x_handle)
    async for line in stream.follow(client, stream.FILTERED, stop):
        try:
            post = decoder.decode(line)
        except MalformedPost as error:
            log.warning("line_rejected", reason=error.reason)
            continue
        if isinstance(post, Post):
            await received.put(post)


async def _enrol(enroller: Enroller, settings: Settings, received: asyncio.Queue[Post]) -> None:
    while True:
        batch = [await received.get()]
        while len(batch) < settings.batch_posts_max and not received.empty():
            batch.append(received.get_nowait())
        await _enrol_surely(enroller, batch)
        for _ in batch:
            received.task_done()


async def _enrol_surely(enroller: Enroller, batch: Sequence[Post]) -> None:
    """Holds the batch while the database is away: what was read is not lost while we live."""
    while True:
        try:
            await enroller.enrol(batch, source=SOURCE, now=clock.now())
        except Unavailable as error:
            log.warning("listener_waits", error=error.detail, posts=len(batch))
        except DATABASE_ERRORS as error:
            if not is_connection_lost(error):
                raise
            log.warning("listener_waits", error=type(error).__name__, posts=len(batch))
        else:
            return
        await asyncio.sleep(_RETRY_SECONDS)
