"""Who stands between the service and the stand-in for X: he counts, and spoils what he is told."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import SecretStr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import Settings
from app.sandbox.main import SandboxServer, SandboxSettings
from tests.stand_in import PROGRAMME, StandIn, serving

TOKEN = "POST /2/oauth2/token"
POST = "POST /2/tweets"


@dataclass(frozen=True)
class Fault:
    """What becomes of a request. `after`: X has done what was asked; else it has heard nothing.
    Without a status the connection is lost in the middle of the answer.
    """

    status: int | None = None
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False


@dataclass(frozen=True)
class Held:
    """A request that waits."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Between:
    """`faults`: for the next requests of that name, in order; None lets one pass."""

    asked: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[Fault | None]] = field(default_factory=dict)
    slow_seconds: dict[str, float] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    answered: dict[str, list[dict[str, str]]] = field(default_factory=dict)  # the headers

    def hold(self, name: str) -> Held:
        """The next request of that name."""
        return self.held.setdefault(name, Held())

    def around(self, app: ASGIApp) -> ASGIApp:
        async def between(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            name = f"{scope['method']} {scope['path']}"
            self.asked[name] += 1
            await asyncio.sleep(self.slow_seconds.get(name, 0))
            if held := self.held.pop(name, None):
                held.arrived.set()
                await held.go_on.wait()
            waiting = self.faults.get(name, [])
            fault = waiting.pop(0) if waiting else None
            if fault is None:
                await app(scope, receive, self._noting(name, send))
                return
            if fault.after:
                await app(scope, receive, _unheard)
            await _spoil(fault, send)

        return between

    def _noting(self, name: str, send: Send) -> Send:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                answers = self.answered.setdefault(name, [])
                answers.append({**_text(message["headers"]), "status": str(message["status"])})
            await send(message)

        return noting


def _text(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers}


async def _unheard(_message: Message) -> None:
    pass


async def _spoil(fault: Fault, send: Send) -> None:
    body = json.dumps(fault.body).encode()
    length = len(body) + (fault.status is None)
    headers = {"content-length": str(length), **fault.headers}
    await send(
        {
            "type": "http.response.start",
            "status": fault.status or 201,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
    )
    # an answer that is shorter than it says is lost: the server closes the connection
    await send({"type": "http.response.body", "body": body, "more_body": fault.status is None})


StartBetween = Callable[..., Awaitable[tuple[StandIn, Between]]]


@asynccontextmanager
async def standing_between(
    settings: Settings, **given: Any
) -> AsyncIterator[tuple[StandIn, Between]]:
    told = SandboxSettings(user_token="user", app_token="app", **given)
    server = SandboxServer(told, port=0)
    between = Between()
    server.config.app = between.around(server.config.app)  # type: ignore[arg-type]
    async with serving(server) as address, httpx.AsyncClient(base_url=address) as client:
        await client.post("/sandbox/people", json={"id": "1", "handle": "ann"})
        changed = {
            "x_base_url": address,
            "x_user_token": SecretStr("user"),
            "x_account_id": PROGRAMME,
        }
        yield StandIn(settings.model_copy(update=changed), client), between
