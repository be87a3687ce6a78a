"""What was read is stored, whatever the database says in the meantime."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from structlog.testing import capture_logs

from app.config import Settings
from app.database import Database
from app.kit.db import Sessions, make_sessions
from app.networks.post import Event, Post, PostRemoved
from app.posts.intake import Intake
from app.posts.pace import Pace
from tests.posts.test_listener import ALWAYS, count
from tests.programme import make_offer

QUICK = Pace(retry_seconds=0.02, retry_seconds_max=0.05)
TEA = Post(
    "x", "11", "11", "1", datetime.now(UTC), ("Tea",), mentions_programme=False, is_repost=False
)


@asynccontextmanager
async def working(sessions: Sessions, settings: Settings) -> AsyncIterator[Intake]:
    intake = Intake(sessions, settings, source="x:stream", read_price_microusd=0, pace=QUICK)
    work = asyncio.create_task(intake.work())
    try:
        yield intake
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


@pytest.mark.parametrize(
    ("found", "table"), [(TEA, "posts"), (PostRemoved("x", "12"), "removed_posts")]
)
async def test_a_pool_without_a_free_connection_is_waited_for(
    found: Post | Event, table: str, sessions: Sessions, database: Database, settings: Settings
) -> None:
    await make_offer(sessions, "Tea", **ALWAYS)
    engine = create_async_engine(
        database.url, pool_size=1, max_overflow=0, pool_timeout=0.02, hide_parameters=True
    )
    async with working(make_sessions(engine), settings) as intake, asyncio.timeout(10):
        with capture_logs() as logs:
            async with engine.connect():
                await intake.put(found)
                while len(logs) < 2:  # noqa: ASYNC110 - a log tells nobody
                    await asyncio.sleep(0.01)
            await intake.flushed()
    await engine.dispose()
    assert {(one["event"], one["reason"]) for one in logs} == {("listener_waits", "TimeoutError")}
    assert await count(sessions, table) == 1


async def test_an_event_that_the_database_refuses_holds_up_no_other(
    sessions: Sessions, settings: Settings
) -> None:
    async with working(sessions, settings) as intake, asyncio.timeout(10):
        with capture_logs() as logs:
            await intake.put(PostRemoved("x", "\0"))
            await intake.put(PostRemoved("x", "12"))
            await intake.flushed()
    assert [one["event"] for one in logs] == ["event_rejected"]
    assert await count(sessions, "removed_posts") == 1
