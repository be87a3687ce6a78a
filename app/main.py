"""The HTTP application: every context's routes, and what all of them share."""

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import cache, partial
from http import HTTPStatus
from typing import Any, Literal

import asyncpg
import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from app import __version__
from app.claims import endpoints as claims
from app.config import Settings
from app.database import current_revision, serves
from app.deps import NowDep, SessionsDep
from app.errors import TagbackError, Unavailable
from app.insight import endpoints as insight
from app.kit.cards import looks_like_card_number
from app.kit.db import DATABASE_ERRORS, Sessions, is_connection_lost, sqlstate
from app.kit.http import BodyLimit, Problem, UnexpectedErrors, route_of
from app.kit.logs import configure_logs
from app.ledger import endpoints as ledger
from app.members import endpoints as members
from app.offers import endpoints as offers
from app.openapi import document
from app.partners import endpoints as partners
from app.posts import endpoints as posts
from app.posts import webhook
from app.redemptions import endpoints as redemptions
from app.replies import endpoints as replies
from app.replies import gauges
from app.web import linking as link_pages
from app.web import reference
from app.web.pages import is_page, static

log = structlog.get_logger()

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

READY_SECONDS_MAX = 2.0
# of SQLSTATE: serialisation and deadlock, resources, operator intervention; and data
_TRY_AGAIN_CLASSES = ("40", "53", "57")
_DATA_CLASS = "22"

operation = APIRouter(tags=["operation"])

ROUTERS: tuple[APIRouter, ...] = (
    operation,
    partners.router,
    offers.router,
    posts.router,
    insight.router,
    members.router,
    replies.router,
    redemptions.router,
    ledger.router,
    claims.router,
    link_pages.router,
    reference.router,
)


def create_app(
    settings: Settings, sessions: Sessions, *, lifespan: Lifespan | None = None
) -> FastAPI:
    if not structlog.is_configured():
        configure_logs()  # its default would print the variables of a traceback
    app = FastAPI(
        title=settings.programme_name,
        version=__version__,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    told = partial(document, ROUTERS, title=settings.programme_name, version=__version__)
    app.openapi = cache(told)  # type: ignore[method-assign]
    app.state.settings = settings
    app.state.sessions = sessions
    app.state.x_posts = webhook.XPosts(settings, sessions)
    app.exception_handler(TagbackError)(_on_tagback_error)
    app.exception_handler(RequestValidationError)(_on_invalid_request)
    app.exception_handler(HTTPException)(_on_http_error)
    for error in (ConnectionError, DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError):
        app.exception_handler(error)(_on_database_error)
    app.add_middleware(BodyLimit, bytes_max=settings.body_bytes_max)
    app.add_middleware(
        BodyLimit,
        bytes_max=min(webhook.BODY_BYTES_MAX, settings.body_bytes_max),
        path=webhook.PATH,
        on_refusal=webhook.count_too_large,
    )
    app.add_middleware(UnexpectedErrors)  # the one added last is the outermost
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", static)
    return app


async def _on_tagback_error(request: Request, error: TagbackError) -> Response:
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("refused", route=route_of(request.scope), code=error.code, detail=error.detail)
    if is_page(request):
        return link_pages.tell(request, error)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == HTTPStatus.UNAUTHORIZED else None
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
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:  # Starlette names the first route's methods alone
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return Problem(
        status,
        code=status.name.lower(),
        detail=error.detail,
        headers=headers,
    )


def _methods(request: Request) -> set[str]:
    return {
        method
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and route.path_regex.match(request.scope["path"])
        for method in route.methods or ()
    }


async def _on_invalid_request(_request: Request, error: RequestValidationError) -> Response:
    found = [_describe(one) for one in error.errors()]
    detail = "; ".join(f"{one['in']}{one['pointer']}: {one['detail']}" for one in found)
    return Problem(422, code="invalid", detail=detail, errors=found)


def _describe(found: dict[str, Any]) -> dict[str, str]:
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
    return {
        "in": source,
        "pointer": "".join("/" + _pointer_part(part) for part in path),
        "detail": found["msg"].removeprefix("Value error, "),
    }


def _pointer_part(part: str | int) -> str:
    name = str(part)
    if looks_like_card_number(name):
        return "(hidden)"
    return name.replace("~", "~0").replace("/", "~1")


class Alive(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "alive"}]})

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ready", "revision": "0014"}]}
    )

    status: Literal["ready"] = "ready"
    revision: str = Field(description="of the database's schema")


@operation.get("/healthz")
async def healthz() -> Alive:
    """The process is alive; nothing else is asked."""
    return Alive()


@operation.get("/readyz")
async def readyz(sessions: SessionsDep) -> Ready:
    """The database answers, and its schema is the one this release needs; else 503."""
    try:
        async with asyncio.timeout(READY_SECONDS_MAX), sessions() as session:
            current = await current_revision(session)
    except DATABASE_ERRORS as error:
        raise Unavailable("the database does not answer", code="database") from error
    if not serves(current):
        raise Unavailable("the schema is not this release's: run `tagback db upgrade`")
    return Ready(revision=str(current))


@operation.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}},
)
async def metrics(sessions: SessionsDep, now: NowDep) -> Response:
    """Prometheus text. What is read from the database stays as it was while that is away."""
    with contextlib.suppress(*DATABASE_ERRORS):
        async with asyncio.timeout(READY_SECONDS_MAX), sessions() as session:
            await gauges.renew(session, now=now)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
