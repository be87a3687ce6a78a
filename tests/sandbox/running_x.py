"""A stand-in that runs, and the other end of its webhooks."""

import asyncio
import hmac
import json
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx
import uvicorn
from starlette.types import Message, Receive, Scope, Send

from app.sandbox.main import SandboxServer, SandboxSettings

ACCOUNT = "1000000000000000001"
SECRET = "the secret of the tests"
APP = {"authorization": "Bearer app"}
USER = {"authorization": "Bearer user"}

Start = Callable[..., Awaitable["X"]]
Listen = Callable[..., Awaitable["Receiver"]]


@dataclass
class X:
    """A running stand-in, and what its users do with it."""

    server: SandboxServer
    client: httpx.AsyncClient

    async def people(self, *handles: str) -> None:
        """Ids are 1, 2, 3 …"""
        people = [{"id": str(n), "handle": handle} for n, handle in enumerate(handles, start=1)]
        answer = await self.client.post("/sandbox/people", json=people)
        assert answer.status_code == 200, answer.text

    async def post(self, author_id: str, text: str, **more: object) -> str:
        line = {"author_id": author_id, "text": text, **more}
        answer = await self.client.post("/sandbox/posts", json=line)
        assert answer.status_code == 200, answer.text
        post_id: str = answer.json()["ids"][0]
        return post_id

    async def create(self, text: str, reply_to: str | None = None) -> httpx.Response:
        body: dict[str, Any] = {"text": text}
        if reply_to:
            body["reply"] = {"in_reply_to_tweet_id": reply_to}
        return await self.client.post("/2/tweets", json=body, headers=USER)

    async def subscribe(self, webhook_id: str | None = None) -> str:
        body = {"event_type": "post.mention.create", "filter": {"user_id": ACCOUNT}, "tag": "ours"}
        if webhook_id:
            body["webhook_id"] = webhook_id
        answer = await self.client.post("/2/activity/subscriptions", json=body, headers=APP)
        assert answer.status_code == 200, answer.text
        subscription_id: str = answer.json()["data"]["subscription"]["subscription_id"]
        return subscription_id

    async def rules(self, *values: str) -> list[str]:
        """The ids of new rules of the filtered stream, each tagged with its own value."""
        body = {"add": [{"value": value, "tag": value} for value in values]}
        answer = await self.client.post("/2/tweets/search/stream/rules", json=body, headers=APP)
        assert "errors" not in answer.json(), answer.text
        return [rule["id"] for rule in answer.json()["data"]]

    async def register(self, url: str) -> httpx.Response:
        return await self.client.post("/2/webhooks", json={"url": url}, headers=APP)

    async def state(self) -> dict[str, Any]:
        state: dict[str, Any] = (await self.client.get("/sandbox/state")).json()
        return state

    async def events(self, channel: str) -> dict[str, int]:
        """When none is pending any more."""
        async with asyncio.timeout(10):
            while True:
                counts: dict[str, int] = (await self.state())["events"][channel]
                if not counts["pending"]:
                    return counts
                await asyncio.sleep(0.02)


@dataclass
class Receiver:
    """A webhook's other end: answers the check, and each event with the next of `statuses`, then
    with 200.
    """

    secret: str = SECRET
    statuses: list[int] = field(default_factory=list)
    delay_seconds: float = 0.0
    url: str = ""
    received: list[tuple[str, bytes]] = field(default_factory=list)
    in_flight: int = 0
    in_flight_max: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message: Message = {"more_body": True}
        body = b""
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        status, answer = 200, b""
        if scope["method"] == "GET":
            token = parse_qs(scope["query_string"])[b"crc_token"][0]
            answer = json.dumps({"response_token": signed(self.secret, token)}).encode()
        else:
            status = await self._take(dict(scope["headers"]), body)
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _take(self, headers: dict[bytes, bytes], body: bytes) -> int:
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        await asyncio.sleep(self.delay_seconds)
        self.in_flight -= 1
        self.received.append((headers[b"x-twitter-webhooks-signature"].decode(), body))
        return self.statuses.pop(0) if self.statuses else 200


def signed(secret: str, message: bytes) -> str:
    return "sha256=" + b64encode(hmac.digest(secret.encode(), message, "sha256")).decode()


@asynccontextmanager
async def serving(server: uvicorn.Server) -> AsyncIterator[str]:
    """The address of a server that runs on a free port of its choice."""
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:
            assert not running.done(), "the server did not start"
            await asyncio.sleep(0.01)
    own: socket.socket = server.servers[0].sockets[0]
    try:
        yield f"http://127.0.0.1:{own.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


@asynccontextmanager
async def running_x(**settings: Any) -> AsyncIterator[X]:
    given = {"app_token": "app", "user_token": "user", "consumer_secret": SECRET, **settings}
    server = SandboxServer(SandboxSettings(**given), port=0)
    async with (
        serving(server) as address,
        httpx.AsyncClient(base_url=address, trust_env=False, timeout=30) as client,
    ):
        yield X(server, client)
