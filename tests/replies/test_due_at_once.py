"""A thousand confirmations due at once under the limits of a self-serve app, with time compressed:
windows of four seconds in place of X's quarter of an hour. `--confirmations 1000` is the long run.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from outbox import queue, reply, rows

from app.config import Settings
from app.kit import clock
from app.kit.db import Sessions
from app.networks.x.client import open_sender
from app.replies import worker
from tests.between import POST, Between, standing_between
from tests.stand_in import StandIn

LIMIT = 100
SECONDS = 4
WORKERS = 3
STALE = 20


@pytest.fixture
async def x_and_between(settings: Settings) -> AsyncIterator[tuple[StandIn, Between]]:
    async with standing_between(settings, profile="self_serve", window_seconds=SECONDS) as found:
        x, between = found
        compressed = {"x_replies_window_seconds": SECONDS, "replies_in_flight_max": 8}
        yield StandIn(x.settings.model_copy(update=compressed), x.client), between


@pytest.fixture
def confirmations(request: pytest.FixtureRequest) -> int:
    found: int = request.config.getoption("--confirmations")
    return found


async def work(sessions: Sessions, settings: Settings, stop: asyncio.Event) -> None:
    """As a process of its own would."""
    async with open_sender(settings) as sender:
        await worker.run(sessions, sender, settings, stop)


def shares(between: Between) -> list[float]:
    """What was used of each window that X opened, but for the last, which nothing was left for."""
    remained: dict[str, int] = {}
    for headers in between.answered[POST]:
        end, remaining = headers["x-rate-limit-reset"], int(headers["x-rate-limit-remaining"])
        remained[end] = min(remained.get(end, LIMIT), remaining)
    return [1 - remained[end] / LIMIT for end in sorted(remained)[:-1]]


async def test_confirmations_that_are_due_at_once_cause_no_429_and_leave_nothing_unused(
    x_and_between: tuple[StandIn, Between], sessions: Sessions, confirmations: int
) -> None:
    x, between = x_and_between
    now = clock.now()
    fresh = [reply(post_id=await x.post(), at=now) for _ in range(confirmations)]
    stale = [
        reply(post_id=await x.post(), at=now, posted_at=now - timedelta(hours=25))
        for _ in range(STALE)
    ]
    await queue(sessions, *fresh, *stale)
    stop = asyncio.Event()
    workers = [asyncio.create_task(work(sessions, x.settings, stop)) for _ in range(WORKERS)]
    async with asyncio.timeout(20 + confirmations / LIMIT * 2 * SECONDS):
        while True:
            counts = Counter(row["state"] for row in (await rows(sessions)).values())
            if not counts["queued"] + counts["sending"]:
                break
            await asyncio.sleep(0.1)
    stop.set()
    await asyncio.gather(*workers)
    assert counts == {"sent": confirmations, "expired": STALE}
    assert Counter(headers["status"] for headers in between.answered[POST]) == {
        "201": confirmations
    }
    answered = Counter(one["in_reply_to_id"] for one in await x.replies())
    assert answered == Counter(one.post_id for one in fresh)
    used = shares(between)
    print(f"{confirmations:,} confirmations, used of each window: {used}")
    assert len(used) == (confirmations - 1) // LIMIT
    assert min(used) >= 0.95
