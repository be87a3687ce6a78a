"""A local server that speaks the part of the X API that Tagback uses. It stands for X, not for
Tagback: it knows nothing of offers or members.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.sandbox import (
    control,
    control_faults,
    issuer_page,
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
from app.sandbox.faults import Faults
from app.sandbox.problems import Refusal, invalid
from app.sandbox.request_faults import CutError
from app.sandbox.settings import SandboxSettings
from app.sandbox.state import State
from app.sandbox.streams import Streams
from app.sandbox.web import answer_nothing, answer_refusal
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
    control_faults,
    page,
    issuer_page,
)

__all__ = ["SandboxServer", "SandboxSettings", "create_sandbox"]


def create_sandbox(settings: SandboxSettings) -> FastAPI:
    """Reads the data file, if there is one: a ValueError names a line that is not ours."""
    state = State(settings)
    faults = Faults(settings.faults)
    sandbox = Sandbox(state, Streams(state), Webhooks(state), faults)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sandbox.webhooks.start()
        yield
        for timer in sandbox.timers:
            timer.cancel()
        await sandbox.webhooks.stop()
        state.close()

    app = FastAPI(title="X stand-in", lifespan=lifespan, openapi_url=None)
    app.state.sandbox = sandbox
    for routes in _ROUTES:
        app.include_router(routes.router)
    app.exception_handler(Refusal)(answer_refusal)
    app.exception_handler(CutError)(answer_nothing)
    app.exception_handler(RequestValidationError)(_answer_bad_parameter)
    app.exception_handler(ClientDisconnect)(answer_nothing)
    return app


async def _answer_bad_parameter(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    return await answer_refusal(request, invalid(f"$.{first['loc'][-1]}: {first['msg']}"))


class CuttableProtocol(H11Protocol):
    """Gives a route the means to cut its connection, for which ASGI has no word."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "cut": transport.abort}


class SandboxServer(uvicorn.Server):
    """Ends its open streams when told to stop, which uvicorn alone would wait for in vain."""

    def __init__(self, settings: SandboxSettings, *, host: str = "127.0.0.1", port: int) -> None:
        self._app = create_sandbox(settings)
        config = uvicorn.Config(
            self._app, host=host, port=port, http=CuttableProtocol, log_level="warning"
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        sandbox: Sandbox = self._app.state.sandbox
        sandbox.faults.stopping.set()
        sandbox.streams.hang_up_all("OperationalDisconnect")
        await super().shutdown(sockets)
