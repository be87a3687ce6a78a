"""A local server that speaks the part of the X API that Tagback uses. It stands for X, not for
Tagback: it knows nothing of offers or members.
"""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect

from app.sandbox import (
    control,
    page,
    x_activity,
    x_messages,
    x_oauth,
    x_posts,
    x_rules,
    x_search,
    x_streams,
    x_webhooks,
)
from app.sandbox.delivery import Sandbox
from app.sandbox.gate import XProblem, answer_problem, invalid
from app.sandbox.oauth import OAuthError
from app.sandbox.settings import SandboxSettings
from app.sandbox.state import State
from app.sandbox.streams import Streams
from app.sandbox.webhooks import Webhooks

_ROUTES = (
    x_search,
    x_posts,
    x_rules,
    x_streams,
    x_activity,
    x_webhooks,
    x_messages,
    x_oauth,
    control,
    page,
)

__all__ = ["SandboxServer", "SandboxSettings", "create_sandbox"]


def create_sandbox(settings: SandboxSettings) -> FastAPI:
    """Reads the data file, if there is one: a ValueError names a line that is not ours."""
    state = State(settings)
    sandbox = Sandbox(state, Streams(state), Webhooks(state))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sandbox.webhooks.start()
        yield
        await sandbox.webhooks.stop()
        state.close()

    app = FastAPI(title="X stand-in", lifespan=lifespan, openapi_url=None)
    app.state.sandbox = sandbox
    for routes in _ROUTES:
        app.include_router(routes.router)
    app.exception_handler(XProblem)(answer_problem)
    app.exception_handler(OAuthError)(x_oauth.answer_oauth_error)
    app.exception_handler(RequestValidationError)(_answer_bad_parameter)
    app.exception_handler(ClientDisconnect)(_answer_nobody)
    return app


async def _answer_nobody(_request: Request, _error: ClientDisconnect) -> Response:
    """Who asked has gone before he had said it all: no fault of ours to be logged."""
    return Response(status_code=400)


async def _answer_bad_parameter(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    return await answer_problem(request, invalid(f"$.{first['loc'][-1]}: {first['msg']}"))


class SandboxServer(uvicorn.Server):
    """Ends its open streams when told to stop, which uvicorn alone would wait for in vain."""

    def __init__(self, settings: SandboxSettings, *, host: str = "127.0.0.1", port: int) -> None:
        self._app = create_sandbox(settings)
        super().__init__(uvicorn.Config(self._app, host=host, port=port, log_level="warning"))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        sandbox: Sandbox = self._app.state.sandbox
        sandbox.streams.hang_up_all("OperationalDisconnect")
        await super().shutdown(sockets)
