"""Everything that passes between a stand-in and its clients in a test is held against X's own
documents when the test ends.

A client with the user agent of `TESTER` may ask for what is wrong, if it is refused. All others,
ours above all, may not. Without the reference material nothing is watched.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import pytest
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.sandbox.main import SandboxServer
from tests.openapi import Documents, Exchange, documents

TESTER = {"user-agent": "tester"}
_OF_X = ("/2/", "/i/")  # the stand-in's own pages are elsewhere
_SHOWN_MAX = 20


@dataclass
class _Recorded:
    exchange: Exchange
    sent: list[bytes] = field(default_factory=list)
    is_sent: bool = False
    said: list[bytes] = field(default_factory=list)

    def whole(self) -> Exchange:
        self.exchange.sent = b"".join(self.sent) if self.is_sent else None
        self.exchange.said = b"".join(self.said)
        return self.exchange


class Watch:
    """Stands before the stand-in, and keeps what it sees: judging waits for the end, so that
    nothing is slower and nothing is changed.
    """

    def __init__(self, app: ASGIApp, *, app_token: str) -> None:
        self._app = app
        self._app_token = app_token
        self._recorded: list[_Recorded] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_OF_X):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        exchange = Exchange(
            scope["method"],
            scope["path"],
            scope["query_string"].decode(),
            content_type=headers.get("content-type", ""),
            scheme=self._scheme(headers.get("authorization", "")),
            is_a_testers=headers.get("user-agent") == TESTER["user-agent"],
        )
        recorded = _Recorded(exchange)
        self._recorded.append(recorded)

        async def heard() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                recorded.sent.append(message.get("body", b""))
                recorded.is_sent = not message.get("more_body", False)
            return message

        async def saying(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                exchange.answer_type = Headers(raw=message["headers"]).get("content-type", "")
            else:
                recorded.said.append(message.get("body", b""))
            await send(message)

        await self._app(scope, heard, saying)

    def _scheme(self, authorization: str) -> str | None:
        kind, _, token = authorization.partition(" ")
        if kind.lower() != "bearer":
            return None
        return "BearerToken" if token == self._app_token else "OAuth2UserToken"

    def exchanges(self) -> list[Exchange]:
        return [recorded.whole() for recorded in self._recorded]

    def faults(self, x: Documents) -> Counter[str]:
        return Counter(
            f"{x.operation(exchange) or exchange}: {fault}"
            for exchange in self.exchanges()
            for fault in x.faults(exchange)
        )

    def operations(self, x: Documents) -> set[str]:
        """Those that somebody other than a tester was answered rightly, with success."""
        return {
            operation
            for exchange in self.exchanges()
            if not exchange.is_a_testers and 0 < exchange.status < HTTPStatus.BAD_REQUEST
            if not x.faults(exchange) and (operation := x.operation(exchange))
        }


@contextmanager
def watched(server: SandboxServer) -> Iterator[Watch]:
    """For a server that has not started; it must have stopped when this ends."""
    app = server.config.app
    watch = Watch(app, app_token=app.state.sandbox.state.settings.app_token)
    server.config.app = watch
    yield watch
    if x := documents():
        _tell(watch.faults(x))


def judge_events(bodies: Iterable[bytes]) -> None:
    """What a webhook was sent is what the activity stream would have said."""
    said = b"".join(body + b"\r\n" for body in bodies)
    stream = Exchange(
        "GET", "/2/activity/stream", status=200, answer_type="application/json", said=said
    )
    if x := documents():
        _tell(Counter(x.faults(stream)))


def _tell(faults: Counter[str]) -> None:
    if faults:
        told = [f"{times} × {fault}" for fault, times in faults.most_common(_SHOWN_MAX)]
        pytest.fail("\n".join(["X's documents know nothing of this:", *told]), pytrace=False)
