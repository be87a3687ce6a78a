"""X's streams: one line is one message, silence is a dead connection, and after its end comes the
next one, as soon as X wants it to.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple

import httpx
import msgspec
import structlog
from prometheus_client import Counter

from app.kit import clock
from app.kit.stopping import pause
from app.networks.post import Event, MalformedPost, NotAPost, Post, StreamEnded
from app.networks.x.calls import CallError, call
from app.networks.x.decode import LINE_BYTES_MAX, XDecoder, reject
from app.networks.x.problems import describe_problem, read_limits

SILENCE_SECONDS_MAX = 25.0  # X sends a keep-alive at least every 20 s
FIELDS: Mapping[str, str] = {
    "tweet.fields": "author_id,created_at,entities,note_tweet,referenced_tweets,"
    "edit_history_tweet_ids,lang",
    "expansions": "author_id",
    "user.fields": "username,created_at,public_metrics,profile_image_url",
}
_TOO_MANY = "TooManyConnections"
# X's words for why a connection ended or was refused, as documented
_KNOWN_REASONS = frozenset(
    (
        "OperationalDisconnect",
        "UpstreamOperationalDisconnect",
        "ForceDisconnect",
        "UpstreamUncleanDisconnect",
        "SlowReader",
        "InternalError",
        "ClientApplicationStateDegraded",
        "InvalidRules",
        _TOO_MANY,
        "ProvisioningSubscription",
        "RuleConfigurationIssue",
        "RulesInvalidIssue",
    )
)
_CLOSED = "closed"  # without a word
_WINDOW_SECONDS = 900.0

_lines = Counter("tagback_stream_lines", "Messages read, without keep-alives.", ["stream"])
_reconnects = Counter("tagback_stream_reconnects", "Connections that ended.", ["stream", "reason"])
log = structlog.get_logger(__name__)


class Stream(NamedTuple):
    name: str
    path: str
    params: Mapping[str, str]
    hang_up_path: str  # ends its connections; of the activity stream X knows no narrower one


ACTIVITY = Stream("activity_stream", "/2/activity/stream", {}, "/2/connections/all")
FILTERED = Stream(
    "filtered_stream", "/2/tweets/search/stream", FIELDS, "/2/connections/filtered_stream"
)


class StreamEndedError(Exception):
    """X has ended the connection, with or without a word."""


class StreamRefusedError(Exception):
    """The connection was answered with a status other than 200. `issue` is X's word for what is
    wrong with connecting.
    """

    def __init__(
        self, detail: str, *, status: int, issue: str = "", resets_at: datetime | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.issue = issue
        self.resets_at = resets_at

    @property
    def is_about_connections(self) -> bool:
        """X believes that we are still connected, as it does for a while after a crash."""
        return self.issue == _TOO_MANY


class _Refusal(msgspec.Struct):
    connection_issue: str = ""


_refusal = msgspec.json.Decoder(_Refusal).decode


@dataclass
class Backoff:
    """How long to wait before connecting again, as X asks: at once after a drop, then network
    errors by 250 ms up to 16 s, other statuses from 5 s doubling to 320 s, 429 from 60 s doubling,
    or until the window ends where X says when. A connection that was hung up may be gone at once,
    or in a minute. Only one that has lived for a while lets it begin anew: X counts connections.
    """

    _network: int = 0
    _status: int = 0
    _hung_up: int = 0

    def alive(self) -> None:
        self._network = self._status = self._hung_up = 0

    def after(self, error: Exception, *, now: datetime) -> float:
        if not isinstance(error, StreamRefusedError):
            wait = min(16.0, 0.25 * self._network)
            self._network += 1
        elif error.is_about_connections:
            wait = min(60.0, 1.0 * 2.0**self._hung_up)
            self._hung_up += 1
        elif error.resets_at is not None:
            wait = min(_WINDOW_SECONDS, max(1.0, (error.resets_at - now).total_seconds()))
        else:
            first = 60.0 if error.status == HTTPStatus.TOO_MANY_REQUESTS else 5.0
            wait = min(320.0, first * 2.0**self._status)
            self._status += 1
        return wait * random.uniform(1.0, 1.1)  # noqa: S311 - jitter


async def follow(
    client: httpx.AsyncClient,
    stream: Stream,
    decoder: XDecoder,
    stop: asyncio.Event,
    *,
    silence_seconds: float = SILENCE_SECONDS_MAX,
    may_connect: Callable[[], Awaitable[object]] | None = None,
    on_connected: Callable[[], None] = lambda: None,
) -> AsyncGenerator[Post | Event | NotAPost, None]:
    """The messages of one connection after another until `stop` is set, keep-alives among them.
    `may_connect` is waited for before each connection.
    """
    backoff = Backoff()
    while not stop.is_set():
        if may_connect is not None:
            await may_connect()
        began = time.monotonic()
        try:
            connection = lines(
                client, stream, silence_seconds=silence_seconds, on_connected=on_connected
            )
            async with aclosing(connection):
                async for line in connection:
                    found = _decoded(decoder, line)
                    if isinstance(found, StreamEnded):
                        raise StreamEndedError(found.reason)  # noqa: TRY301 - as if X had hung up
                    if time.monotonic() - began >= silence_seconds:
                        backoff.alive()
                    if found is not None:
                        yield found
            error: Exception = StreamEndedError(_CLOSED)
        except (httpx.HTTPError, StreamEndedError, StreamRefusedError) as ended:
            error = ended
        if isinstance(error, StreamRefusedError) and error.is_about_connections:
            await _hang_up(client, stream)
        wait = backoff.after(error, now=clock.now())
        reason = _reason(error)
        _reconnects.labels(stream.name, reason).inc()
        log.info(
            "stream_reconnects",
            stream=stream.name,
            reason=reason,
            error=str(error),
            wait_seconds=round(wait, 2),
        )
        await pause(stop, seconds=wait)


async def lines(
    client: httpx.AsyncClient,
    stream: Stream,
    *,
    silence_seconds: float = SILENCE_SECONDS_MAX,
    on_connected: Callable[[], None] = lambda: None,
) -> AsyncGenerator[bytes, None]:
    """The lines of one connection as soon as each is whole, a keep-alive as an empty one; ends when
    X closes it. A line that is too long is left out.

    Raises StreamRefusedError, and httpx's errors when the connection breaks or falls silent.
    """
    timeout = httpx.Timeout(10.0, read=silence_seconds)
    # nothing is compressed, so nothing waits in a buffer for more of its kind
    headers = {"accept-encoding": "identity"}
    async with client.stream(
        "GET", stream.path, params=stream.params, headers=headers, timeout=timeout
    ) as response:
        if response.status_code != HTTPStatus.OK:
            raise _refused(response, await response.aread())
        log.info("stream_connected", stream=stream.name)
        on_connected()
        counted = _lines.labels(stream.name)
        pieces: list[bytes] = []  # of the line that is not whole yet
        size = 0
        async for chunk in response.aiter_raw():
            *whole, rest = chunk.split(b"\n")
            for line in whole:
                size += len(line)
                if size <= LINE_BYTES_MAX:
                    message = b"".join((*pieces, line)).strip()
                    if message:
                        counted.inc()
                    yield message
                else:
                    log.warning("line_too_long", stream=stream.name, size=size)
                pieces, size = [], 0
            size += len(rest)
            if size <= LINE_BYTES_MAX:
                pieces.append(rest)
            else:
                pieces = []


def _decoded(decoder: XDecoder, line: bytes) -> Post | Event | StreamEnded | NotAPost | None:
    try:
        found = decoder.decode(line)
    except MalformedPost as error:
        reject(error)
        return None
    if isinstance(found, NotAPost) and found.kind.startswith("error:"):
        log.warning("stream_error", error=found.kind)
    return found


def _refused(response: httpx.Response, body: bytes) -> StreamRefusedError:
    try:
        issue = _refusal(body).connection_issue
    except ValueError:
        issue = ""
    limits = read_limits(response.headers, clock.now())
    is_told = limits is not None and limits.remaining == 0
    return StreamRefusedError(
        describe_problem(response.status_code, body),
        status=response.status_code,
        issue=issue,
        resets_at=limits.resets_at if limits is not None and is_told and not issue else None,
    )


async def _hang_up(client: httpx.AsyncClient, stream: Stream) -> None:
    """Whoever reads has the lease, so a connection that X still counts is a dead one."""
    try:
        await call(client, "DELETE", stream.hang_up_path)
    except CallError as error:
        log.warning("stream_not_hung_up", stream=stream.name, error=error.detail)
    else:
        log.info("stream_hung_up", stream=stream.name)


def _reason(error: Exception) -> str:
    """One of a few: it is a metric's label, and X may say anything."""
    match error:
        case StreamRefusedError(issue=""):
            return str(error.status)
        case StreamRefusedError():
            return error.issue if error.issue in _KNOWN_REASONS else "other"
        case StreamEndedError():
            reason = str(error)
            return reason if reason in _KNOWN_REASONS or reason == _CLOSED else "other"
        case httpx.ReadTimeout():
            return "silence"
        case _:
            return type(error).__name__
