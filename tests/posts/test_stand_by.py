"""Two listeners, each a process: one listens, the other takes over when the first is killed."""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.kit.db import Sessions
from tests.posts.test_listener import ALWAYS, connected, count, people, post
from tests.programme import make_members, make_offer
from tests.stand_in import PROGRAMME, StandIn, StartX
from tests.support import until


@asynccontextmanager
async def listener(
    tagback: Path, environment: dict[str, str], x: StandIn, folder: Path
) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        tagback,
        "serve",
        "--roles",
        "listener",
        cwd=folder,
        env={
            **environment,
            "TAGBACK_X_BASE_URL": str(x.settings.x_base_url),
            "TAGBACK_X_APP_TOKEN": "app",
            "TAGBACK_X_ACCOUNT_ID": PROGRAMME,
            "TAGBACK_X_HANDLE": "TagbackDemo",
            "TAGBACK_X_LEASE_SECONDS": "4",
        },
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGTERM)
        await process.communicate()


async def says(process: Process, *words: str) -> str:
    """Which of them it logs first."""
    assert process.stderr is not None
    lines = []
    try:
        async with asyncio.timeout(40):
            while True:
                lines.append((await process.stderr.readline()).decode())
                assert lines[-1], "it has ended"
                for word in words:
                    if word in lines[-1]:
                        return word
    except TimeoutError:
        raise AssertionError(f"none of {words} in {lines}") from None


class TestAListenerThatIsKilled:
    async def test_is_followed_by_the_one_that_stands_by(
        self,
        sessions: Sessions,
        start_x: StartX,
        tagback_path: Path,
        environment: dict[str, str],
        tmp_path: Path,
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        authors = await make_members(sessions, 2)
        x = await start_x()
        await people(x, authors)

        async def loaded(number: int) -> None:
            async def holds() -> bool:
                return await count(sessions, "coupons") == number

            await until(holds)

        async with (
            listener(tagback_path, environment, x, tmp_path) as one,
            listener(tagback_path, environment, x, tmp_path) as other,
        ):
            first, second = one, other
            if await says(one, "stream_connected", "standing_by") == "standing_by":
                first, second = other, one
                await says(first, "stream_connected")
            else:
                await says(second, "standing_by")
            await connected(x, "activity_stream")
            await post(x, authors[0], "#Tea @TagbackDemo")
            await loaded(1)
            os.kill(first.pid, signal.SIGKILL)
            await says(second, "stream_connected")
            await post(x, authors[1], "#Tea @TagbackDemo")
            await loaded(2)
