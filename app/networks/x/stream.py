"""X's streams: one line is one message, silence is a dead connection."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import structlog

from app.kit.stopping import pause
from app.networks.x.decode import LINE_BYTES_MAX

SILENCE_SECONDS_MAX = 25.0  # X sends a keep-alive at least every 20 s
FILTERED = "/2/tweets/search/stream"
_FIELDS = {
    "tweet.fields": "author_id,created_at,entities,note_tweet,referenced_tweets,"
    "edit_history_tweet_ids,lang",
    "expansions": "author_id",
    "user.fields": "username,created_at,public_metrics,profile_image_url",
}

log = structlog.get_logger(__name__)


class StreamRefusedError(Exception):
    """The connection was answered with a status other than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the stream answered {status}")
        self.status = status


@dataclass
class Backoff:
    """How long to wait before connecting again, as X asks: at once after a drop, then network
    errors by 250 ms up to 16 s, other statuses from 5 s doubling to 320 s, 429 from 60 s doubling.
    """

    _network: int = 0
    _status: int = 0

    def connected(self) -> None:
        self._network = self._status = 0

    def after(self, error: Exception) -> float:
        if isinstance(error, StreamRefusedError):
            first = 60.0 if error.status == 429 else 5.0  # noqa: PLR2004 - too many requests
            wait = min(320.0, first * 2.0**self._status)
            self._status += 1
        else:
            wait = min(16.0, 0.25 * self._network)
            self._network += 1
        return wait * random.uniform(1.0, 1.1)  # noqa: S311 - jitter


async def lines(client: httpx.AsyncClient, path: str) -> AsyncIterator[bytes]:
    """The messages of one connection, without keep-alives; ends when X closes it.

    Raises StreamRefusedError, and httpx's errors when the connection breaks or falls silent.
    """
    timeout = httpx.Timeout(10.0, read=SILENCE_SECONDS_MAX)
    params = _FIELDS if path == FILTERED else None
    async with client.stream("GET", path, params=params, timeout=timeout) as response:
        if response.status_code != httpx.codes.OK:
            raise StreamRefusedError(response.status_code)
        pending = b""
        is_too_long = False
        async for chunk in response.aiter_bytes():
            *complete, pending = (pending + chunk).split(b"\n")
            for line in complete:
                message = line.strip()
                if message and not is_too_long:
                    yield message
                is_too_long = False
            if len(pending) > LINE_BYTES_MAX:
                pending, is_too_long = b"", True


async def follow(client: httpx.AsyncClient, path: str, stop: asyncio.Event) -> AsyncIterator[bytes]:
    """The messages of one connection after another until `stop` is set."""
    backoff = Backoff()
    while not stop.is_set():
        try:
            async for line in lines(client, path):
                backoff.connected()
                yield line
            error: Exception = ConnectionError("closed by X")
        except (httpx.HTTPError, StreamRefusedError) as found:
            error = found
        wait = backoff.after(error)
        log.info("stream_reconnects", path=path, error=repr(error), wait_seconds=round(wait, 2))
        await pause(stop, seconds=wait)
