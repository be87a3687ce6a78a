"""The client against real sockets: what it takes for sent, not sent and unknown."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.config import Settings, SettingsError
from app.networks.sender import (
    Found,
    LookupFailed,
    NotAllowed,
    OutOfCredits,
    Sent,
    Temporary,
    Unknown,
)
from app.networks.x.client import XSender, open_sender
from app.sandbox.main import SandboxServer, SandboxSettings
from tests.stand_in import PROGRAMME, serving
from tests.watching import TESTER, watched

TOKEN = "a-token-that-nobody-may-see"

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def settings_for(address: str, **more: Any) -> Settings:
    given = {"x_user_token": TOKEN, "x_account_id": PROGRAMME, "x_base_url": address, **more}
    return Settings.model_validate(given)


@asynccontextmanager
async def sender_to(handle: Handle) -> AsyncIterator[XSender]:
    """A sender whose network does with each connection what it is told."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_sender(settings_for(f"http://127.0.0.1:{port}")) as sender:
        yield sender


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if b"content-length" in line.lower()
        ),
        0,
    )
    return head + await reader.readexactly(length)


@pytest.fixture
async def x() -> AsyncIterator[httpx.AsyncClient]:
    """The stand-in, whose token is ours."""
    server = SandboxServer(SandboxSettings(user_token=TOKEN), port=0)
    with watched(server):
        async with (
            serving(server) as address,
            httpx.AsyncClient(base_url=address, headers=TESTER) as client,
        ):
            await client.post("/sandbox/people", json={"id": "1", "handle": "ann"})
            yield client


@pytest.fixture
async def sender(x: httpx.AsyncClient) -> AsyncIterator[XSender]:
    async with open_sender(settings_for(str(x.base_url))) as sender:
        yield sender


async def post(x: httpx.AsyncClient, text: str = "#Coffee @TagbackDemo") -> str:
    answer = await x.post("/sandbox/posts", json={"author_id": "1", "text": text})
    post_id: str = answer.json()["ids"][0]
    return post_id


class TestSend:
    async def test_posts_a_reply_and_learns_the_limits(
        self, x: httpx.AsyncClient, sender: XSender
    ) -> None:
        post_id = await post(x)
        result = await sender.send("Done! Ça marche ☕ (7K3Q9ZXM)", post_id)
        assert isinstance(result, Sent)
        (there,) = (await x.get("/sandbox/replies")).json()["items"]
        assert there["id"] == result.post_id
        assert there["in_reply_to_id"] == post_id
        assert there["text"] == "Done! Ça marche ☕ (7K3Q9ZXM)"
        assert result.limits is not None
        assert (result.limits.limit, result.limits.remaining) == (100, 99)
        left = result.limits.resets_at - datetime.now(UTC)
        assert timedelta() < left <= timedelta(minutes=15, seconds=2)

    async def test_an_unsummoned_reply_is_not_allowed(
        self, x: httpx.AsyncClient, sender: XSender
    ) -> None:
        result = await sender.send("Done!", await post(x, "#Coffee"))
        assert isinstance(result, NotAllowed)

    async def test_a_connection_that_is_refused_sent_nothing(self) -> None:
        async with open_sender(settings_for("http://127.0.0.1:9")) as sender:
            assert await sender.send("Done!", "1") == Temporary(
                "not reached: ConnectError", reached=False
            )

    async def test_a_connection_that_closes_without_an_answer_may_have_sent_it(self) -> None:
        async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await read_request(reader)

        async with sender_to(hang_up) as sender:
            assert isinstance(await sender.send("Done!", "1"), Unknown)

    async def test_an_answer_that_is_cut_may_have_sent_it(self) -> None:
        async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(b'HTTP/1.1 201 Created\r\ncontent-length: 50\r\n\r\n{"data"')
            await writer.drain()

        async with sender_to(cut) as sender:
            assert isinstance(await sender.send("Done!", "1"), Unknown)

    async def test_an_answer_that_does_not_come_may_have_sent_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.networks.x.client._TIMEOUT", httpx.Timeout(0.2))

        async def wait(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await read_request(reader)
            await reader.read()

        async with sender_to(wait) as sender:
            assert await sender.send("Done!", "1") == Unknown("no answer: ReadTimeout")

    async def test_connections_are_kept_for_the_next_send(self) -> None:
        connections = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            body = b'{"data":{"id":"5","text":""}}'
            for _ in range(3):
                await read_request(reader)
                head = f"HTTP/1.1 201 Created\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()

        async with sender_to(answer) as sender:
            for _ in range(3):
                assert await sender.send("Done!", "1") == Sent("5")
        assert connections == 1


class TestFindOwn:
    async def test_finds_a_reply_behind_the_handle_and_the_escapes(
        self, x: httpx.AsyncClient, sender: XSender
    ) -> None:
        before = datetime.now(UTC)
        wanted = "Bread & butter <3 (7K3Q9ZXM)"
        result = await sender.send(wanted, await post(x))
        assert isinstance(result, Sent)
        await sender.send("Bread & butter <3 (AAAAAAAA)", await post(x))
        assert await sender.find_own(wanted, before) == Found(result.post_id, reads=2)
        assert await sender.find_own("Bread & butter <3 (BBBBBBBB)", before) == Found(None, reads=2)

    async def test_turns_pages_back_to_the_time_asked_for(
        self, x: httpx.AsyncClient, sender: XSender
    ) -> None:
        before = datetime.now(UTC)
        results = [await sender.send(f"Done! ({n})", await post(x)) for n in range(100)]
        (first, *_) = results
        assert isinstance(first, Sent)
        await x.post(
            "/sandbox/posts", json={"author_id": PROGRAMME, "text": "an announcement of ours"}
        )
        assert await sender.find_own("Done! (0)", before) == Found(first.post_id, reads=101)
        assert await sender.find_own("Done! (0)", before + timedelta(hours=1)) == Found(None, 0)

    async def test_says_when_it_could_not_find_out(self) -> None:
        async with open_sender(settings_for("http://127.0.0.1:9")) as sender:
            found = await sender.find_own("Done!", datetime.now(UTC))
        assert isinstance(found.problem, LookupFailed)
        assert "ConnectError" in found.problem.detail

    async def test_says_what_it_has_read_before_it_failed(self) -> None:
        page = b'{"data":[{"id":"1","text":"a"},{"id":"2","text":"b"}],"meta":{"next_token":"n"}}'
        asked = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            await read_request(reader)
            asked += 1
            status = b"200 OK" if asked == 1 else b"402 Payment Required"
            body = page if asked == 1 else b"{}"
            length = f"content-length: {len(body)}".encode()
            writer.write(b"HTTP/1.1 %s\r\nconnection: close\r\n%s\r\n\r\n" % (status, length))
            writer.write(body)
            await writer.drain()

        async with sender_to(answer) as sender:
            found = await sender.find_own("Done!", datetime.now(UTC))
        assert (found.post_id, found.reads) == (None, 2)
        assert isinstance(found.problem, OutOfCredits)

    async def test_a_strange_answer_is_no_answer(self) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull")
            await writer.drain()

        async with sender_to(answer) as sender:
            found = await sender.find_own("Done!", datetime.now(UTC))
        assert isinstance(found.problem, LookupFailed)


class TestOpenSender:
    @pytest.mark.parametrize("missing", ["x_user_token", "x_account_id"])
    async def test_names_what_is_not_set(self, missing: str) -> None:
        settings = settings_for("http://127.0.0.1:9", **{missing: None})
        with pytest.raises(SettingsError, match=f"TAGBACK_{missing.upper()}"):
            async with open_sender(settings):
                pass

    async def test_shows_the_token_to_nobody_but_the_network(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(0)
        heard: list[bytes] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await read_request(reader))
            writer.write(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()

        async with sender_to(answer) as sender:
            result = await sender.send("Done!", "1")
            shown = repr(result) + repr(vars(sender)) + repr(vars(sender._client))  # noqa: SLF001
        assert f"authorization: bearer {TOKEN}".encode() in heard[0].lower()
        assert TOKEN not in shown + caplog.text
