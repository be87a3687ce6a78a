import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app.database import ENGINE
from app.kit.db import Sessions, make_engine, make_sessions
from tests.conftest import Server
from tests.races.race import CALLERS, CONNECTIONS, Race, Tally

TALLIES = pytest.StashKey[list[Tally]]()


@dataclass
class Ground:
    """A database of a subject's own, with a connection open for each caller."""

    sessions: Sessions
    wipe: Callable[[], Awaitable[None]]


@asynccontextmanager
async def open_ground(
    server: Server, *, prepare: Callable[[AsyncConnection], Awaitable[None]] | None = None
) -> AsyncIterator[Ground]:
    name = await server.databases.take()
    engine = make_engine(server.url(ENGINE, name), role=ENGINE, pool_size=CONNECTIONS)
    administration = create_async_engine(server.administration.url.set(database=name))
    if prepare is not None:
        async with administration.begin() as connection:
            await prepare(connection)

    async def wipe() -> None:
        async with administration.begin() as connection:
            await connection.execute(text(server.databases.wiping))

    sessions = make_sessions(engine)
    await _open_connections(sessions)
    yield Ground(sessions, wipe)
    await engine.dispose()
    await administration.dispose()
    await server.databases.give_back(name)


async def _open_connections(sessions: Sessions) -> None:
    """All of them, by holding each until the last is open."""
    barrier = asyncio.Barrier(CONNECTIONS)

    async def open_one() -> None:
        async with sessions() as session:
            await session.execute(text("SELECT 1"))
            await barrier.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(open_one())


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    found: int = request.config.getoption("--rounds")
    return found


@pytest.fixture
def tally(
    request: pytest.FixtureRequest, race: type[Race], record_property: Callable[[str, object], None]
) -> Iterator[Tally]:
    """Kept for the report from the start: a long run may be interrupted."""
    tally = Tally(race.__name__)
    request.config.stash.setdefault(TALLIES, []).append(tally)
    yield tally
    record_property("race", str(tally))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    tallies = config.stash.get(TALLIES, [])
    if not tallies or config.get_verbosity() < 0:
        return
    terminalreporter.section("races: rounds in which something was that must never be")
    for race in dict.fromkeys(tally.race for tally in tallies):
        found = "  ".join(str(tally) for tally in tallies if tally.race == race)
        terminalreporter.write_line(f"{race:<22} {CALLERS} callers  {found}")
