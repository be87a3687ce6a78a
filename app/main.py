"""The HTTP application: every context's routes, and what all of them share."""

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import cache, partial
from typing import Literal

import structlog
from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware

from app import __version__, problems
from app.claims import endpoints as claims
from app.config import Settings
from app.database import current_revision, serves
from app.deps import NowDep, SessionsDep
from app.errors import Unavailable
from app.insight import endpoints as insight
from app.insight.exporting import Exports
from app.kit.bodies import Bodies
from app.kit.db import DATABASE_ERRORS, Sessions
from app.kit.http import Heads, UnexpectedErrors
from app.kit.logs import configure_logs
from app.ledger import endpoints as ledger
from app.members import endpoints as members
from app.notifications import endpoints as notifications
from app.notifications.bodies import webhooks
from app.offers import endpoints as offers
from app.openapi import document
from app.partners import endpoints as partners
from app.partners.limits import Limits, RateLimitHeaders
from app.posts import endpoints as posts
from app.posts import webhook
from app.privacy import endpoints as privacy
from app.redemptions import endpoints as redemptions
from app.replies import endpoints as replies
from app.replies import gauges
from app.upkeep import endpoints as upkeep
from app.web import linking as link_pages
from app.web import reference
from app.web.pages import static

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

READY_SECONDS_MAX = 2.0
GZIP_BYTES_MIN = 1_000
GZIP_LEVEL = 5
# Parquet is packed already. A page has a secret in it, and its length must not tell of that.
NEVER_PACKED = ("application/vnd.apache.parquet", "text/html")

operation = APIRouter(tags=["operation"])

ROUTERS: tuple[APIRouter, ...] = (
    operation,
    partners.router,
    offers.router,
    posts.router,
    insight.router,
    members.router,
    privacy.router,
    replies.router,
    redemptions.router,
    ledger.router,
    claims.router,
    notifications.router,
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
    routers = (*ROUTERS, upkeep.router) if settings.test_clock else ROUTERS
    told = partial(
        document,
        routers,
        webhooks=webhooks(),
        title=settings.programme_name,
        version=__version__,
    )
    app.openapi = cache(told)  # type: ignore[method-assign]
    app.state.settings = settings
    app.state.sessions = sessions
    app.state.limits = Limits(settings)
    app.state.exports = Exports(settings)
    app.state.x_posts = webhook.XPosts(settings, sessions)
    # the one added last is the outermost
    app.add_middleware(
        GZipMiddleware,
        minimum_size=GZIP_BYTES_MIN,
        compresslevel=GZIP_LEVEL,
        exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, *NEVER_PACKED),
    )
    app.add_middleware(Bodies, bytes_max=settings.body_bytes_max)
    app.add_middleware(
        Bodies,
        bytes_max=min(webhook.BODY_BYTES_MAX, settings.body_bytes_max),
        path=webhook.PATH,
        on_too_large=webhook.count_too_large,
    )
    app.add_middleware(Heads)
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(RateLimitHeaders)
    problems.install(app)
    for router in routers:
        app.include_router(router)
    app.mount("/static", static)
    return app


class Alive(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "alive"}]})

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ready", "revision": "0019"}]}
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
