"""HTTP as every endpoint has it: problems (RFC 9457) and a bound on request bodies."""

import asyncio
import contextlib
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import structlog
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.kit.ids import new_id

log = structlog.get_logger()

_DISCARD_SECONDS_MAX = 5.0

PROBLEM = "application/problem+json"
PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "stable: made for programs"},
        "detail": {"type": "string", "description": "for people: may change"},
        "error_id": {"type": "string", "description": "of an unexpected error: also in the log"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["in", "pointer", "detail"],
                "properties": {
                    "in": {"type": "string", "enum": ["body", "query", "path", "header", "cookie"]},
                    "pointer": {"type": "string", "format": "json-pointer"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}


class Problem(JSONResponse):
    """`type` is about:blank, so that `title` is the status's own phrase and `code` tells one
    problem from another.
    """

    media_type = PROBLEM

    def __init__(
        self,
        status: int,
        *,
        code: str,
        detail: str,
        headers: dict[str, str] | None = None,
        **more: Any,  # noqa: ANN401 - any JSON
    ) -> None:
        title = HTTPStatus(status).phrase
        content = {"type": "about:blank", "title": title, "status": status, "code": code}
        super().__init__({**content, "detail": detail, **more}, status, headers)


class _BodyTooLarge(Exception):
    pass


class BodyLimit:
    """Answers 413 to a body of more than `bytes_max` bytes, whether its length was announced or it
    comes in chunks; never holds more of it than the application itself does. `path`: of that route
    alone, else of all.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        bytes_max: int,
        path: str | None = None,
        on_refusal: Callable[[], None] = lambda: None,
    ) -> None:
        self.app = app
        self.bytes_max = bytes_max
        self.path = path
        self.on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.path not in (None, scope["path"]):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if _announced_length(headers) > self.bytes_max:
            # Whoever expects a "100 Continue" has not sent anything yet.
            await self._refuse(scope, receive, send, is_sending="expect" not in headers)
            return
        received = 0
        is_sending = True
        is_answered = False

        async def bounded_receive() -> Message:
            nonlocal received, is_sending
            message = await receive()
            received += len(message.get("body", b""))
            is_sending = message.get("more_body", False)
            if received > self.bytes_max:
                raise _BodyTooLarge
            return message

        async def watched_send(message: Message) -> None:
            nonlocal is_answered
            # Frameworks turn an error while the body is read into an answer of their own.
            if received <= self.bytes_max or is_answered:
                is_answered = True
                await send(message)

        try:
            await self.app(scope, bounded_receive, watched_send)
        except _BodyTooLarge:
            if is_answered:
                raise
        if received > self.bytes_max and not is_answered:
            await self._refuse(scope, receive, send, is_sending=is_sending)

    async def _refuse(
        self, scope: Scope, receive: Receive, send: Send, *, is_sending: bool
    ) -> None:
        self.on_refusal()
        # A connection that is closed on somebody who still sends loses the answer.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS_MAX):
                while is_sending:
                    is_sending = (await receive()).get("more_body", False)
        refusal = Problem(
            413,
            code="body_too_large",
            detail=f"a request body may have {self.bytes_max} bytes",
            headers={"Connection": "close"},
        )
        await refusal(scope, receive, send)


def _announced_length(headers: Headers) -> int:
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


def route_of(scope: Scope) -> str | None:
    """As in `/v1/members/{member_id}`: a path itself may hold what no log should."""
    return getattr(scope.get("route"), "path", None)


class UnexpectedErrors:
    """Logs what no handler knew, and answers with the log entry's id and nothing of the error."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_answered = False

        async def watched_send(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self.app(scope, receive, watched_send)
        except Exception:
            error_id = str(new_id())
            log.exception("unexpected_error", error_id=error_id, route=route_of(scope))
            if is_answered:
                raise
            problem = Problem(
                500,
                code="internal_error",
                detail="something went wrong here; the log has it under this error_id",
                error_id=error_id,
            )
            await problem(scope, receive, send)
