"""The X stand-in over real HTTP."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from app.config import Settings
from app.sandbox.main import SandboxServer

PROGRAMME = "1000000000000000001"


@dataclass
class StandIn:
    """X, running on this machine, and how a service is told to use it."""

    settings: Settings
    client: httpx.AsyncClient

    async def post(self, text: str = "#Coffee @TagbackDemo") -> str:
        """A post of somebody's."""
        answer = await self.client.post("/sandbox/posts", json={"author_id": "1", "text": text})
        assert answer.status_code == 200, answer.text
        post_id: str = answer.json()["ids"][0]
        return post_id

    async def rules(self, *values: str) -> None:
        """Rules of the filtered stream, which gives nothing without any."""
        answer = await self.client.post(
            "/2/tweets/search/stream/rules",
            json={"add": [{"value": value} for value in values]},
            headers={"Authorization": "Bearer app"},
        )
        assert "errors" not in answer.json(), answer.text

    async def replies(self) -> list[dict[str, Any]]:
        answer = await self.client.get("/sandbox/replies", params={"limit": 10_000})
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def usage(self) -> dict[str, int]:
        state = (await self.client.get("/sandbox/state")).json()
        counts: dict[str, int] = state["usage"]["counts"]
        return counts


StartX = Callable[..., Awaitable[StandIn]]


@asynccontextmanager
async def serving(server: SandboxServer) -> AsyncIterator[str]:
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:
            assert not running.done(), "the stand-in did not start"
            await asyncio.sleep(0.01)
    own: socket.socket = server.servers[0].sockets[0]
    try:
        yield f"http://127.0.0.1:{own.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
