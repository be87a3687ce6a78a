"""One process at a time, by a row and the database's clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import text

from app.kit.db import Sessions
from app.kit.ids import new_id
from app.networks import lease_queries
from app.networks.lease import work_while_held

NAME = "test"


@dataclass
class Worker:
    """Notes when it works."""

    sessions: Sessions
    seconds: float = 5.0
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self, over: asyncio.Event) -> None:
        self.begun.set()
        await over.wait()
        self.ended.set()
        self.begun.clear()

    async def run(self) -> None:
        await work_while_held(self.sessions, NAME, self.work, seconds=self.seconds, stop=self.stop)


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(worker.run())
    try:
        yield task
    finally:
        worker.stop.set()
        await asyncio.wait([task])


async def take(sessions: Sessions, holder: UUID, seconds: float) -> bool:
    async with sessions.begin() as session:
        return await lease_queries.take(session, name=NAME, holder=holder, seconds=seconds)


class TestALease:
    async def test_is_one_holders_until_it_runs_out(self, sessions: Sessions) -> None:
        one, other = new_id(), new_id()
        assert await take(sessions, one, 60)
        assert not await take(sessions, other, 60)
        assert await take(sessions, one, 0)
        assert await take(sessions, other, 60)
        assert not await take(sessions, one, 60)

    async def test_goes_to_one_of_many_who_want_it_at_once(self, sessions: Sessions) -> None:
        taken = await asyncio.gather(*(take(sessions, new_id(), 60) for _ in range(20)))
        assert sum(taken) == 1


class TestWorking:
    async def test_goes_to_the_next_when_the_first_stops(self, sessions: Sessions) -> None:
        first, second = Worker(sessions, seconds=0.6), Worker(sessions, seconds=0.6)
        async with running(first):
            await first.begun.wait()
            async with running(second):
                await asyncio.sleep(0.9)  # longer than the lease: it is prolonged
                assert first.begun.is_set()
                assert not second.begun.is_set()
                first.stop.set()
                async with asyncio.timeout(5):
                    await second.begun.wait()
                assert not first.begun.is_set()

    async def test_ends_before_a_lease_that_cannot_be_prolonged_does(
        self, sessions: Sessions
    ) -> None:
        worker = Worker(sessions, seconds=2.0)
        async with running(worker):
            await worker.begun.wait()
            async with sessions.begin() as session:  # whoever would prolong it waits for this
                await session.execute(text("SELECT FROM leases FOR UPDATE"))
                async with asyncio.timeout(10):
                    await worker.ended.wait()
                held = "SELECT held_until > clock_timestamp() FROM leases"
                assert await session.scalar(text(held))
            async with asyncio.timeout(10):
                await worker.begun.wait()

    async def test_that_fails_is_told_and_gives_the_lease_back(self, sessions: Sessions) -> None:
        async def fail(_over: asyncio.Event) -> None:
            raise ValueError("broken")

        stop = asyncio.Event()
        failed = await asyncio.gather(
            work_while_held(sessions, NAME, fail, seconds=60, stop=stop), return_exceptions=True
        )
        assert isinstance(failed[0], ValueError)
        assert await take(sessions, new_id(), 60)
