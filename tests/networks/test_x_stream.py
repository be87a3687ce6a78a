"""Reading X's streams: lines whatever the chunks, and when to connect again."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.networks.post import NotAPost, Post
from app.networks.x.decode import LINE_BYTES_MAX
from app.networks.x.stream import (
    ACTIVITY,
    Backoff,
    StreamEndedError,
    StreamRefusedError,
    follow,
    lines,
)
from tests.networks.x_messages import DECODER, line_of, streamed

NOW = datetime(2026, 7, 1, tzinfo=UTC)
OK = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
ENDED = line_of({"errors": [{"disconnect_type": "OperationalDisconnect"}]}) + b"\r\n"
TOO_MANY = b'{"title":"ConnectionException","connection_issue":"TooManyConnections"}'

PAUSE, PAUSE_SECONDS = b"", 0.6

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def server(*answers: Sequence[bytes]) -> AsyncIterator[tuple[httpx.AsyncClient, list[str]]]:
    """Gives each connection the next of these, each piece as a chunk of its own where it begins
    with OK, and none for a while where it is PAUSE; then it hangs up. The last one stays. Notes
    what it was asked for.
    """
    asked: list[str] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(" ".join(head.decode().split()[:2]))
        pieces = answers[min(len(asked), len(answers)) - 1]
        writer.write(pieces[0])
        for piece in pieces[1:]:
            if piece == PAUSE:
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
        if len(asked) >= len(answers):
            await over.wait()
        elif pieces[0] == OK:
            writer.write(b"0\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        yield client, asked
        over.set()
    listening.close()
    await listening.wait_closed()


async def read(*pieces: bytes) -> list[bytes]:
    async with server((OK, *pieces), (OK,)) as (client, _):
        return [line async for line in lines(client, ACTIVITY)]


class TestLines:
    @pytest.mark.parametrize("size", [1, 2, 7, 1_000])
    async def test_are_whole_whatever_the_chunks(self, size: int) -> None:
        body = '{"a":"é"}\r\n\r\n{"b":1}\n{"c"'.encode()
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        assert await read(*pieces) == ['{"a":"é"}'.encode(), b"", b'{"b":1}']

    async def test_that_are_too_long_are_left_out(self) -> None:
        long = b"x" * (LINE_BYTES_MAX + 1)
        assert await read(b"a\n" + long[:100], long[100:] + b"y", b"\nb\n") == [b"a", b"b"]
        assert await read(long + b"\nb\n") == [b"b"]

    async def test_come_before_the_next_one_does(self) -> None:
        async with server((OK, b"a\r\n")) as (client, _):  # and then silence, but no end
            found = lines(client, ACTIVITY)
            assert await anext(found) == b"a"
            await found.aclose()

    async def test_silence_is_an_error(self) -> None:
        async with server((OK, b"a\r\n")) as (client, _):
            found = lines(client, ACTIVITY, silence_seconds=0.1)
            assert await anext(found) == b"a"
            with pytest.raises(httpx.ReadTimeout):
                await anext(found)


class TestFollowing:
    async def test_connects_again_at_once_after_an_end_in_band(self) -> None:
        line = line_of(streamed()) + b"\r\n"
        connected = []
        async with server((OK, line, ENDED, line), (OK, b"\r\n", line)) as (client, asked):
            found = follow(
                client, ACTIVITY, DECODER, asyncio.Event(), on_connected=lambda: connected.append(1)
            )
            kinds = [type(await anext(found)) for _ in range(3)]
            await found.aclose()
        assert kinds == [Post, NotAPost, Post]  # nothing is read after the end
        assert len(connected) == len(asked) == 2

    async def test_begins_at_once_again_only_after_a_connection_that_lived(self) -> None:
        short = (OK, b"\r\n")
        long = (OK, b"\r\n", PAUSE, b"\r\n", PAUSE, b"\r\n")
        silence_seconds = 1.5 * PAUSE_SECONDS
        with capture_logs() as logs:
            async with server(short, short, short, long, short) as (client, _):
                found = follow(
                    client, ACTIVITY, DECODER, asyncio.Event(), silence_seconds=silence_seconds
                )
                for _ in range(7):
                    await anext(found)
                await found.aclose()
        waited = [one["wait_seconds"] for one in logs if one["event"] == "stream_reconnects"]
        for wait, least in zip(waited, [0.0, 0.25, 0.5, 0.0], strict=True):
            assert least <= wait <= 1.1 * least + 0.01  # as it is rounded

    async def test_what_x_gives_as_a_reason_makes_no_new_label(self) -> None:
        told = [line_of({"errors": [{"disconnect_type": word}]}) for word in ("SlowReader", "Moon")]
        refusal = (answer("429 No", b'{"connection_issue":"Moon"}'),)
        before = labels_of_reconnects()
        async with server(*((OK, line + b"\r\n") for line in told), refusal, (OK, b"\r\n")) as (
            client,
            _,
        ):
            stop = asyncio.Event()
            found = follow(client, ACTIVITY, DECODER, stop)
            reading = asyncio.ensure_future(anext(found, None))
            async with asyncio.timeout(10):
                while labels_of_reconnects()["other"] < before["other"] + 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            stop.set()
            await reading
            await found.aclose()
        assert labels_of_reconnects()["SlowReader"] == before["SlowReader"] + 1
        assert "Moon" not in labels_of_reconnects()

    async def test_hangs_up_what_x_counts_too_many(self) -> None:
        refusal = (answer("429 Too Many Requests", TOO_MANY),)
        hung_up = (answer("200 OK", b"{}"),)
        async with server(refusal, hung_up, (OK, b"\r\n")) as (client, asked):
            found = follow(client, ACTIVITY, DECODER, asyncio.Event())
            await anext(found)
            await found.aclose()
        assert asked == [
            "GET /2/activity/stream",
            "DELETE /2/connections/all",
            "GET /2/activity/stream",
        ]


def labels_of_reconnects() -> Counter[str]:
    return Counter(
        {
            sample.labels["reason"]: int(sample.value)
            for metric in REGISTRY.collect()
            if metric.name == "tagback_stream_reconnects"
            for sample in metric.samples
            if sample.name.endswith("_total")
        }
    )


def refused(status: int, **more: object) -> StreamRefusedError:
    return StreamRefusedError("no", status=status, **more)  # type: ignore[arg-type]


class TestBackoff:
    @pytest.mark.parametrize(
        ("error", "waits"),
        [
            (StreamEndedError("closed"), [0, 0.25, 0.5, 0.75]),
            (httpx.ReadError("broken"), [0, 0.25, 0.5, 0.75]),
            (refused(503), [5, 10, 20, 40, 80, 160, 320, 320]),
            (refused(429), [60, 120, 240, 320]),
            (refused(429, issue="TooManyConnections"), [1, 2, 4, 8, 16, 32, 60, 60]),
            (refused(429, resets_at=NOW + timedelta(seconds=90)), [90, 90]),
        ],
    )
    def test_is_as_x_asks_and_a_little_more(self, error: Exception, waits: list[float]) -> None:
        backoff = Backoff()
        for wait in waits:
            assert wait <= backoff.after(error, now=NOW) <= 1.1 * wait
        backoff.alive()
        assert backoff.after(error, now=NOW) <= 1.1 * waits[0]

    def test_of_broken_connections_ends_at_16_seconds(self) -> None:
        backoff = Backoff()
        found = [backoff.after(httpx.ReadError("broken"), now=NOW) for _ in range(100)]
        assert 16 <= found[-1] <= 17.6
