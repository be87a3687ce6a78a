"""Whatever goes wrong, told as a problem (RFC 9457); and `/problems`, where each code is explained.

The catalogue is docs/problems.md: a table row is a code, its status, what it means, what to do.
"""

import html
import re
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import asyncpg
import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.errors import NotAuthenticated, TagbackError, TooManyRequests, Unavailable
from app.kit.bodies import BadText
from app.kit.cards import looks_like_card_number
from app.kit.db import is_connection_lost, sqlstate
from app.kit.http import CATALOGUE, Problem, route_of
from app.web import linking as link_pages
from app.web.pages import is_page

log = structlog.get_logger()

ERRORS_MAX = 100  # told of one request
_NAME_CHARACTERS_MAX = 100
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# of SQLSTATE: serialisation and deadlock, resources, operator intervention; and data
_TRY_AGAIN_CLASSES = ("40", "53", "57")
_DATA_CLASS = "22"

_PAGE = Path(__file__).parent.parent / "docs" / "problems.md"
_ROW = re.compile(
    r"^\| `(?P<code>\w+)` \| (?P<status>\d{3}) \| (?P<means>.+) \| (?P<do>.+) \|$", re.MULTILINE
)

router = APIRouter(include_in_schema=False)


def install(app: FastAPI) -> None:
    app.exception_handler(TagbackError)(_on_tagback_error)
    app.exception_handler(RequestValidationError)(_on_invalid_request)
    app.exception_handler(HTTPException)(_on_http_error)
    for error in (ConnectionError, DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError):
        app.exception_handler(error)(_on_database_error)
    app.include_router(router)


async def _on_tagback_error(request: Request, error: TagbackError) -> Response:
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("refused", route=route_of(request.scope), code=error.code, detail=error.detail)
    if is_page(request):
        return link_pages.tell(request, error)
    headers = {}
    if isinstance(error, NotAuthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.retry_seconds)
    return Problem(error.status, code=error.code, detail=error.detail, headers=headers)


async def _on_database_error(request: Request, error: Exception) -> Response:
    """A database that is away, or two callers in each other's way, is no mistake of the caller's; a
    value that no text column can hold is. All else is ours, and answered as such.
    """
    state = sqlstate(error) or ""
    if is_connection_lost(error) or state[:2] in _TRY_AGAIN_CLASSES:
        unavailable = Unavailable("the database cannot do it now: try again", code="database")
        return await _on_tagback_error(request, unavailable)
    if state[:2] == _DATA_CLASS:
        return Problem(422, code="invalid", detail="a value that the database cannot hold")
    raise error


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    """The frameworks' own: 400, 404 and 405, whose codes are the names of the statuses."""
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request))
    return Problem(status, code=status.name.lower(), detail=error.detail, headers=headers)


def _allowed(request: Request) -> list[str]:
    """Of all routes with this path: the framework tells the first one's."""
    return [
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


# what is wrong with a request


async def _on_invalid_request(_request: Request, error: RequestValidationError) -> Response:
    if isinstance(cause := error.__cause__, BadText):
        found = [{"in": "body", "pointer": _pointer(cause.path), "detail": cause.msg}]
    else:
        found = [_describe(one, error.body) for one in error.errors()[:ERRORS_MAX]]
    detail = "; ".join(f"{one['in']}{one['pointer']}: {one['detail']}" for one in found)
    return Problem(422, code="invalid", detail=detail, errors=found)


def _describe(found: dict[str, Any], body: object) -> dict[str, str]:
    """Where and why, and never the value, which may be what nobody should have sent."""
    source, *path = found["loc"]
    if found["type"] == "json_invalid":  # its place is an offset, no member of the document
        return {"in": source, "pointer": "", "detail": f"not JSON: {found['ctx']['error']}"}
    if found["type"] == "model_attributes_type" and not path:
        return {
            "in": source,
            "pointer": "",
            "detail": "not a JSON object sent as one: is Content-Type application/json?",
        }
    if source == "body":
        path = as_sent(path, body, is_missing=found["type"] == "missing")
    return {
        "in": source,
        "pointer": _pointer(path),
        "detail": found["msg"].removeprefix("Value error, "),
    }


def as_sent(path: list[str | int], body: Any, *, is_missing: bool) -> list[str | int]:  # noqa: ANN401
    """Without what names no part of the body, as the branch of a union does not."""
    found: list[str | int] = []
    for at, part in enumerate(path):
        try:
            body = body[part]
        except (LookupError, TypeError):
            if not is_missing or at < len(path) - 1:
                continue
        found.append(part)
    return found


def _pointer(path: Sequence[str | int]) -> str:
    return "".join("/" + _pointer_part(part) for part in path)


def _pointer_part(part: str | int) -> str:
    name = str(part)
    if looks_like_card_number(name):
        return "(hidden)"
    return name[:_NAME_CHARACTERS_MAX].replace("~", "~0").replace("/", "~1")


# the catalogue


@lru_cache(maxsize=1)
def catalogue() -> list[dict[str, str]]:
    return [row.groupdict() for row in _ROW.finditer(_PAGE.read_text())]


@router.get(CATALOGUE)
async def show_catalogue() -> Response:
    """For people: a problem's `type` leads to its row."""
    rows = "".join(
        f'<tr id="{row["code"]}"><td><code>{row["code"]}</code><td>{row["status"]}'
        f"<td>{_as_html(row['means'])}<td>{_as_html(row['do'])}\n"
        for row in catalogue()
    )
    return HTMLResponse(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Problems</title>'
        '<link rel="stylesheet" href="/static/pages.css"><h1>Problems</h1>'
        f"<table><tr><th>code<th>status<th>what it means<th>what to do\n{rows}</table></html>"
    )


def _as_html(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
