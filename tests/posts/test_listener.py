"""The listener role against the stand-in's stream."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import SecretStr
from sqlalchemy import text

from app.config import Settings
from app.kit.db import Sessions
from app.posts import listening
from tests.programme import make_members, make_offer
from tests.stand_in import StandIn, StartX

ALWAYS = {"starts_at": "2006-01-01T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"}


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(400):
        if await holds():
            return
        await asyncio.sleep(0.05)
    raise TimeoutError


def told(x: StandIn) -> Settings:
    return x.settings.model_copy(update={"x_app_token": SecretStr("app")})


async def count(sessions: Sessions, table: str) -> int:
    async with sessions.begin() as session:
        found: int = (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
        return found


class TestTheListener:
    async def test_enrols_what_the_stream_brings_in_pieces_and_twice(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        authors = await make_members(sessions, 20)
        x = await start_x(profile="enterprise", stream_chunk_bytes=37)
        await x.rules("#Tea")
        people = [{"id": author, "handle": f"h{author}"} for author in authors]
        await x.client.post("/sandbox/people", json=people)
        stop = asyncio.Event()
        running = asyncio.create_task(listening.run(sessions, told(x), stop))

        async def is_connected() -> bool:
            state: dict[str, Any] = (await x.client.get("/sandbox/state")).json()
            return bool(state["connections"]["filtered_stream"])

        await until(is_connected)
        for _ in range(2):
            for number, author in enumerate(authors):
                post = {"author_id": author, "text": "#Tea", "id": str(1_900_000_000_000 + number)}
                await x.client.post("/sandbox/posts", json=post)

        async def are_enrolled() -> bool:
            return await count(sessions, "coupons") == 20

        await until(are_enrolled)
        stop.set()
        await running
        assert await count(sessions, "posts") == 20
        async with sessions.begin() as session:
            usage = await session.execute(text("SELECT kind, units FROM network_usage"))
            assert [tuple(row) for row in usage] == [("post_read", 20)]

    async def test_comes_back_after_the_stream_has_ended(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        (author,) = await make_members(sessions, 1)
        x = await start_x(profile="enterprise")
        await x.rules("#Tea")
        await x.client.post("/sandbox/people", json=[{"id": author, "handle": "ann1"}])
        stop = asyncio.Event()
        running = asyncio.create_task(listening.run(sessions, told(x), stop))
        connections = 0

        async def is_connected() -> bool:
            state: dict[str, Any] = (await x.client.get("/sandbox/state")).json()
            return bool(state["connections"]["filtered_stream"])

        for _ in range(2):
            await until(is_connected)
            connections += 1
            headers = {"Authorization": "Bearer app"}
            ended = await x.client.delete("/2/connections/all", headers=headers)
            assert ended.status_code == 200, ended.text
        await until(is_connected)
        await x.client.post("/sandbox/posts", json={"author_id": author, "text": "#Tea"})

        async def is_enrolled() -> bool:
            return await count(sessions, "coupons") == 1

        await until(is_enrolled)
        stop.set()
        await running
        assert connections == 2
