"""HTTP as every endpoint has it: problems (RFC 9457), and answers that are not sent twice."""

from http import HTTPStatus
from typing import Any

import structlog
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.kit.ids import new_id

log = structlog.get_logger()

PROBLEM = "application/problem+json"
CATALOGUE = "/problems"
PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "where the catalogue explains the code",
        },
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
    """`code` tells one problem from another, `type` is its place in the catalogue, and `title` the
    status's own phrase.
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
        self.code = code
        title = HTTPStatus(status).phrase
        content = {"type": f"{CATALOGUE}#{code}", "title": title, "status": status, "code": code}
        super().__init__({**content, "detail": detail, **more}, status, headers)


def route_of(scope: Scope) -> str | None:
    """As in `/v1/members/{member_id}`: a path itself may hold what no log should."""
    return getattr(scope.get("route"), "path", None)


def is_current(etag: str, wanted: str | None) -> bool:
    """Whether an `If-None-Match` names it. Compared weakly, as RFC 9110 says."""
    names = [] if wanted is None else [name.strip() for name in wanted.split(",")]
    return "*" in names or etag in [name.removeprefix("W/") for name in names]


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
