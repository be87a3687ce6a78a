"""The worker that delivers to partners: each delivery is a task of its own, so that none waits for
another's receiver.
"""

import asyncio
import contextlib

import structlog

from app.config import Settings
from app.kit import clock
from app.kit.db import DATABASE_ERRORS, Sessions
from app.kit.sealing import Sealer
from app.notifications import sending
from app.notifications.calling import Caller, open_caller
from app.notifications.guard import Guard, resolve_host
from app.notifications.sending import ToSend
from app.secret_keys import can_seal, sealer_of

POLL_SECONDS = 1.0
STOP_SECONDS = 5.0

log = structlog.get_logger()


async def run(sessions: Sessions, settings: Settings, stop: asyncio.Event) -> None:
    """Until `stop`; then calls in flight have five seconds to end. What has not is sent again when
    its lease is over. Any number of workers may run.
    """
    if not can_seal(settings):
        log.info("webhooks_idle", reason="TAGBACK_SECRET_KEYS is not set")
        await stop.wait()
        return
    guard = Guard(settings.webhooks_allow, resolve_host)
    async with open_caller(guard, seconds_max=settings.webhooks_seconds_max) as caller:
        await Worker(sessions, settings, caller, sealer_of(settings)).run(stop)


class Worker:
    def __init__(
        self, sessions: Sessions, settings: Settings, caller: Caller, sealer: Sealer
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._caller = caller
        self._sealer = sealer
        self._calls: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """A claim takes all that may be sent: there is a reason for another when a call has ended,
        or something has become due.
        """
        waker = asyncio.create_task(self._wake_at(stop))
        while not stop.is_set():
            self._wake.clear()
            try:
                await self.begin()
            except DATABASE_ERRORS as error:
                log.warning("webhooks_wait", error=type(error).__name__)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
        await self.end()
        await waker

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    @property
    def _room(self) -> int:
        return self._settings.webhooks_in_flight_max - len(self._calls)

    async def begin(self) -> None:
        """One claim, and what was claimed is on its way."""
        if not self._room:
            return
        async with self._sessions.begin() as session:
            claimed = await sending.claim(
                session, settings=self._settings, now=clock.now(), room=self._room
            )
        for one in claimed:
            call = asyncio.create_task(self._call(one))
            self._calls.add(call)
            call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._wake.set()

    async def _call(self, one: ToSend) -> None:
        try:
            answer = await sending.send(self._caller, self._sealer, one)
            async with self._sessions.begin() as session:
                await sending.record(session, one, answer, now=clock.now())
        except DATABASE_ERRORS as error:
            log.warning("webhook_unrecorded", error=type(error).__name__)
        except Exception:  # a bug that one delivery meets must not end the others
            log.exception("webhook_failed", delivery=str(one.delivery.id))

    async def end(self) -> None:
        if self._calls:
            await asyncio.wait(self._calls, timeout=STOP_SECONDS)
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
