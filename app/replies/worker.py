"""The worker that empties the outbox: claims, sends, records, no two of them in one transaction.

Twice as many replies are claimed as are sent at once, so that the next one waits neither for a
claim nor for the slowest send. Sends that end together are recorded together.
"""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from app.config import Settings
from app.kit import clock
from app.kit.db import DATABASE_ERRORS, Sessions
from app.networks.sender import (
    LOOKUP_POSTS_MAX,
    MESSAGES_IN_FLIGHT_MAX,
    AccessRefused,
    Found,
    LookupFailed,
    OutOfCredits,
    RateLimited,
    Sender,
    SendResult,
    Sent,
    Temporary,
    Unknown,
)
from app.replies import sending
from app.replies.budget import Channel
from app.replies.domain import Claimed
from app.replies.hints import listen
from app.replies.queries import CHANNEL

POLL_SECONDS = 1.0
STOP_SENDING_SECONDS = 5.0
STOP_RECORDING_SECONDS = 3.0
RECORD_AFTER_SECONDS = 0.01
# A send is not begun in the last quarter of its lease, and ends before the lease does.
LEASE_LEFT_MIN = 0.25
LEASE_USED_MAX = 0.8
DATABASE_BACK_OFF_SECONDS_MAX = 10.0
# So many sends in a row that the network did not take: from then on only one at a time is tried.
FAILURES_SEEN = 3
NETWORK_BACK_OFF_SECONDS_MAX = 60.0

log = structlog.get_logger()


async def run(sessions: Sessions, sender: Sender, settings: Settings, stop: asyncio.Event) -> None:
    """Until `stop`; then sends in flight have five seconds to end, and what was not sent is given
    back. Any number of workers may run. Cancelled, it leaves its leases to run out.
    """
    async with asyncio.TaskGroup() as group:
        database = _Database()
        workers = [
            _Worker(sessions, database, sender, settings, stop, group, channel)
            for channel in sending.CHANNELS
        ]
        wakes = [worker.wake for worker in workers]
        helpers = [
            group.create_task(listen(sessions, channel=CHANNEL, wakes=wakes)),
            group.create_task(_wake_at_stop(stop, wakes)),
            *(group.create_task(worker.record_ended()) for worker in workers),
        ]
        await asyncio.wait([group.create_task(worker.run()) for worker in workers])
        for helper in helpers:
            helper.cancel()


async def _wake_at_stop(stop: asyncio.Event, wakes: Sequence[asyncio.Event]) -> None:
    await stop.wait()
    for wake in wakes:
        wake.set()


class _Database:
    """One for all workers here, so that its absence is told once."""

    def __init__(self) -> None:
        self._failures = 0

    def failed(self, error: Exception) -> float:
        """How many seconds to wait before the next try."""
        if not self._failures:
            # Its own words alone: SQLAlchemy would add the statement and its values.
            log.warning("database_away", error=str(getattr(error, "orig", error)))
        seconds = min(0.25 * 2.0**self._failures, DATABASE_BACK_OFF_SECONDS_MAX)
        self._failures = min(self._failures + 1, 16)
        return seconds

    def answered(self) -> None:
        if self._failures:
            log.info("database_back")
        self._failures = 0


class _Worker:
    """Of one channel: neither waits for the other's limits."""

    def __init__(
        self,
        sessions: Sessions,
        database: _Database,
        sender: Sender,
        settings: Settings,
        stop: asyncio.Event,
        group: asyncio.TaskGroup,
        channel: Channel,
    ) -> None:
        self._sessions = sessions
        self._database = database
        self._sender = sender
        self._settings = settings
        self._stop = stop
        self._group = group
        self._channel = channel
        self._at_once = (
            MESSAGES_IN_FLIGHT_MAX if channel == "dm" else settings.replies_in_flight_max
        )
        self.wake = asyncio.Event()
        # The window's row lets only one at a time anyway; this keeps what is counted here in step.
        self._window = asyncio.Lock()
        self._slots = asyncio.Semaphore(self._at_once)
        self._sends: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Queue[tuple[Claimed, SendResult | None]] = asyncio.Queue()
        self._unrecorded = 0  # claimed and not yet recorded
        self._posts_read = 0  # our own, and not yet recorded
        self._more_may_wait = True
        self._is_refused = False  # for all alike, and not yet recorded
        self._network_failures = 0

    async def run(self) -> None:
        while not self._stop.is_set():
            await self.claim_and_start()
        await self.end()

    async def claim_and_start(self) -> None:
        """One claim, then a wait for a reason to claim again."""
        self.wake.clear()
        if self._is_network_away():
            await self._wait_for_network()
        room = self._room()
        claim = await self._claim(room) if room else sending.Claim([])
        self._more_may_wait = len(claim.replies) == room
        for reply in claim.replies:
            task = self._group.create_task(self._send(reply))
            self._sends.add(task)
            task.add_done_callback(self._sends.discard)
        if claim.is_cut_short:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self.wake.wait()

    def _room(self) -> int:
        """While more than can be sent at once is at hand, a claim is not worth its transaction."""
        if self._is_refused or self._unrecorded > self._at_once:
            return 0
        if self._is_network_away():
            return 0 if self._unrecorded else 1
        return 2 * self._at_once - self._unrecorded

    async def _claim(self, most: int) -> sending.Claim:
        try:
            async with self._window:
                async with self._sessions.begin() as session:
                    claim = await sending.claim(
                        session,
                        network=self._sender.network,
                        channel=self._channel,
                        settings=self._settings,
                        now=clock.now(),
                        most=most,
                    )
                self._unrecorded += len(claim.replies)
        except DATABASE_ERRORS as error:
            await self._sleep_unless_stopped(self._database.failed(error))
            return sending.Claim([])
        self._database.answered()
        return claim

    async def _send(self, reply: Claimed) -> None:
        result: SendResult | None = None
        try:
            async with self._slots:
                if self._may_send(reply):
                    result = Unknown("stopped while it was sent")
                    result = await self._deliver(reply)
                    self._note(result)
        finally:
            self._ended.put_nowait((reply, result))

    def _may_send(self, reply: Claimed) -> bool:
        left = self._lease_left(reply)
        is_long = left > LEASE_LEFT_MIN * self._settings.reply_lease_seconds
        is_tried_by_another = self._is_network_away() and self._unrecorded > 1
        return is_long and not (self._stop.is_set() or self._is_refused or is_tried_by_another)

    def _lease_left(self, reply: Claimed) -> float:
        return (reply.leased_until - clock.now()).total_seconds()

    async def _deliver(self, reply: Claimed) -> SendResult:
        try:
            async with asyncio.timeout(self._lease_left(reply) * LEASE_USED_MAX):
                if reply.channel == "dm":
                    return await self._deliver_message(reply)
                if reply.outcome_unknown:
                    found = await self._look_up(reply)
                    if found.problem is not None:
                        return found.problem
                    if found.post_id is not None:
                        return Sent(found.post_id)
                return await self._sender.send(reply.text, reply.post_id)
        except TimeoutError:
            return Unknown("no answer for most of the lease")
        except Exception as error:
            # A worker that a bug can end would end with every worker on the same reply.
            log.exception("send_failed", network=reply.network, reply=str(reply.id))
            return Unknown(f"failed here: {type(error).__name__}")

    async def _look_up(self, reply: Claimed) -> Found:
        reads = LOOKUP_POSTS_MAX  # what one that is broken off has read is not known
        try:
            found = await self._sender.find_own(reply.text, reply.created_at)
            reads = found.reads
        finally:
            self._posts_read += reads
        return found

    async def _deliver_message(self, reply: Claimed) -> SendResult:
        """At most once: a second farewell would be what the first says will not come."""
        if reply.outcome_unknown:
            return Unknown("it was sent before, and what came of it was not recorded")
        return await self._sender.send_message(reply.text, reply.recipient_id)

    def _note(self, result: SendResult) -> None:
        """What the others that are claimed must know before it is recorded."""
        if isinstance(result, RateLimited | OutOfCredits | AccessRefused):
            self._is_refused = True
        if isinstance(result, LookupFailed):
            return
        was_away = self._is_network_away()
        failures = self._network_failures + 1 if isinstance(result, Temporary) else 0
        self._network_failures = min(failures, 16)
        if self._is_network_away() and not was_away:
            log.warning("network_away", network=self._sender.network, detail=str(result))
        elif was_away and not self._is_network_away():
            log.info("network_back", network=self._sender.network)

    async def record_ended(self) -> None:
        while True:
            batch = [await self._ended.get()]
            if self._sends:
                await asyncio.sleep(RECORD_AFTER_SECONDS)
            while not self._ended.empty():
                batch.append(self._ended.get_nowait())
            while not await self._record(batch):
                continue
            self._unrecorded -= len(batch)
            if not self._unrecorded:
                self._is_refused = False
            for _ in batch:
                self._ended.task_done()
            if self._more_may_wait and self._unrecorded <= self._at_once:
                self.wake.set()

    async def _record(self, batch: Sequence[tuple[Claimed, SendResult | None]]) -> bool:
        results = [(reply, result) for reply, result in batch if result is not None]
        unsent = [reply for reply, result in batch if result is None]
        posts_read, now = self._posts_read, clock.now()
        try:
            async with self._window, self._sessions.begin() as session:
                if results:
                    await sending.record(
                        session,
                        network=self._sender.network,
                        channel=self._channel,
                        results=results,
                        settings=self._settings,
                        now=now,
                        posts_read=posts_read,
                    )
                if unsent:
                    await sending.give_back(session, replies=unsent, now=now)
        except DATABASE_ERRORS as error:
            await asyncio.sleep(self._database.failed(error))
            return False
        if results:
            self._posts_read -= posts_read
        self._database.answered()
        return True

    async def end(self) -> None:
        """What is still being sent after the time for it counts as of unknown outcome."""
        if self._sends:
            await asyncio.wait(self._sends, timeout=STOP_SENDING_SECONDS)
        for task in self._sends:
            task.cancel()
        try:
            async with asyncio.timeout(STOP_RECORDING_SECONDS):
                await asyncio.gather(*self._sends, return_exceptions=True)
                await self._ended.join()
        except TimeoutError:
            log.warning("replies_unrecorded", replies=self._unrecorded)

    # what cannot be reached, told once

    def _is_network_away(self) -> bool:
        return self._network_failures >= FAILURES_SEEN

    async def _wait_for_network(self) -> None:
        seconds = 2.0 ** (self._network_failures - FAILURES_SEEN)
        await self._sleep_unless_stopped(min(seconds, NETWORK_BACK_OFF_SECONDS_MAX))

    async def _sleep_unless_stopped(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
