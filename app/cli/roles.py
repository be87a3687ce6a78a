"""What `tagback serve` runs. Every role is `run(sessions, settings, stop)`: it works until `stop`
is set, then ends within STOP_SECONDS_MAX.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Literal

import structlog
import uvicorn
from prometheus_client import start_http_server
from starlette.types import ASGIApp

from app.config import Settings
from app.database import open_sessions
from app.errors import TagbackError
from app.insight import attribution
from app.kit.db import Sessions
from app.main import create_app
from app.networks import accounts
from app.networks.x.client import open_sender
from app.notifications import worker as webhooks
from app.posts import listening, lookback
from app.replies import worker
from app.testclock import service as testclock
from app.upkeep import jobs

STOP_SECONDS_MAX = 10
_DRAIN_SECONDS_MAX = 5
_BACKLOG = 2_048

log = structlog.get_logger()

Run = Callable[[Sessions, Settings, asyncio.Event], Awaitable[None]]


class ServeError(TagbackError):
    code = "serve"


class ApiServer(uvicorn.Server):
    """uvicorn, but stopped by an event that it shares with the other roles."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        trusted_proxies: str = "",
        lifespan: Literal["auto", "on", "off"] = "auto",
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan=lifespan,
                log_config=None,
                access_log=False,
                server_header=False,
                forwarded_allow_ips=trusted_proxies,
                timeout_graceful_shutdown=_DRAIN_SECONDS_MAX,
            )
        )
        self.is_ready = asyncio.Event()

    async def run_until(self, stop: asyncio.Event, listening: socket.socket) -> None:
        watch = asyncio.create_task(self._exit_when(stop))
        try:
            await self.serve(sockets=[listening])
        finally:
            watch.cancel()

    async def _exit_when(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def open_socket(host: str, port: int) -> socket.socket:
    """Raises ServeError, most often because another process has the port."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ServeError(f"cannot listen on {host}, port {port}: {error.strerror}") from error
    # Its connections have it from here: asyncio, unlike uvloop, does not see to it that the body of
    # an answer leaves before the caller has acknowledged the head, which takes him 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def run_api(sessions: Sessions, settings: Settings, stop: asyncio.Event) -> None:
    with open_socket(settings.host, settings.port) as listening:
        app = create_app(settings, sessions)
        server = ApiServer(app, trusted_proxies=settings.trusted_proxies)
        running = asyncio.create_task(server.run_until(stop, listening))
        ready = asyncio.create_task(server.is_ready.wait())
        await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
        if server.is_ready.is_set():
            print(f"Tagback is ready at {address(listening)}", flush=True)
        ready.cancel()
        await running


async def run_worker(sessions: Sessions, settings: Settings, stop: asyncio.Event) -> None:
    """Sends replies, tells partners, looks back when an author links, follows redemptions into
    attribution, and does what time has made due.
    """
    work: list[Run] = [run_sender, webhooks.run, lookback.run, attribution.run, jobs.run]
    await run_together(work, sessions, settings, stop)


async def run_sender(sessions: Sessions, settings: Settings, stop: asyncio.Event) -> None:
    if not accounts.is_configured(settings):
        log.info("sender_idle", reason="TAGBACK_X_CLIENT_ID and TAGBACK_SECRET_KEYS are not set")
        await stop.wait()
        return
    async with (
        accounts.open_account(settings, sessions) as account,
        open_sender(settings, account) as sender,
    ):
        await worker.run(sessions, sender, settings, stop)


# A role is one line here.
ROLES: dict[str, Run] = {
    "api": run_api,
    "listener": listening.run,
    "worker": run_worker,
}


async def serve_roles(settings: Settings, roles: Sequence[str]) -> None:
    """Until SIGINT or SIGTERM; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    with metrics_served(settings, roles):
        async with open_sessions(settings) as sessions:
            runs = [ROLES[role] for role in roles]
            if settings.test_clock:
                runs.append(testclock.run)
            await run_together(runs, sessions, settings, stop)


@contextlib.contextmanager
def metrics_served(settings: Settings, roles: Sequence[str]) -> Generator[None]:
    """Of a process without the API, which has them at /metrics. Raises ServeError."""
    if settings.metrics_port is None or "api" in roles:
        yield
        return
    try:
        server, thread = start_http_server(settings.metrics_port, addr=settings.host)
    except OSError as error:
        raise ServeError(
            f"cannot show metrics on {settings.host}, port {settings.metrics_port}: "
            f"{error.strerror}"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def run_together(
    runs: Sequence[Run], sessions: Sessions, settings: Settings, stop: asyncio.Event
) -> None:
    """One that ends, or fails, takes the others with it: a process that is up does all its work.
    Raises what the first in order failed with.
    """
    tasks = [asyncio.ensure_future(run(sessions, settings, stop)) for run in runs]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS_MAX)
    for task in late:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
