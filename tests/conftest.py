import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.types import ASGIApp, Receive, Scope, Send

from app.cli.roles import ApiServer, address, open_socket
from app.config import Settings
from app.database import ENGINE, OWNER, Database, create_database, create_roles, upgrade
from app.kit import embedded
from app.kit.clock import now
from app.kit.db import Sessions, make_engine, make_sessions
from app.kit.logs import configure_logs
from app.main import create_app
from app.partners import keys
from app.partners.roles import Role
from app.sandbox.main import SandboxServer, SandboxSettings
from tests.databases import TEMPLATE, Databases
from tests.stand_in import PROGRAMME, StandIn, StartX, serving
from tests.support import Analyse, MakeKey, Ran, Tagback, reference_material
from tests.watching import TESTER, watched


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference material that lies beside the repository on the project's own machines."""
    folder = reference_material()
    if folder is None:
        pytest.skip("no reference material: a clone that stands alone does not have it")
    return folder


@pytest.fixture(scope="session", autouse=True)
def logs() -> None:
    """As the service has them, which else would find them set up by the first `capture_logs`."""
    configure_logs()


class Server(NamedTuple):
    socket_dir: Path
    port: int
    administration: AsyncEngine
    databases: Databases

    def url(self, user: str, database: str) -> str:
        """With a host beside the socket's, which settings ask for."""
        return (
            f"postgresql+asyncpg://{user}@localhost/{database}"
            f"?host={self.socket_dir}&port={self.port}"
        )


@pytest.fixture(scope="session")
def data_dir() -> Iterator[Path]:
    # Not pytest's own folder: that is closed to other users whenever a second pytest starts, and
    # root's server runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="tagback-test-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
async def server(data_dir: Path) -> AsyncIterator[Server]:
    """A PostgreSQL with the roles and one migrated database to copy."""
    running = embedded.start(data_dir)
    admin_url = embedded.url(running, user="postgres", database="postgres")
    administration = create_async_engine(admin_url, isolation_level="AUTOCOMMIT")
    async with administration.connect() as connection:
        await connection.execute(text("ALTER SYSTEM SET fsync = off"))
        await connection.execute(text("SELECT pg_reload_conf()"))
    await create_roles(admin_url, login=True)
    await create_database(admin_url, TEMPLATE)
    found = running.get_postmaster_info()
    server = Server(found.socket_dir, found.port, administration, Databases(administration))
    await upgrade(
        Database(server.url(ENGINE, TEMPLATE), server.url(OWNER, TEMPLATE), is_embedded=True)
    )
    await server.databases.watch_template()
    yield server
    await administration.dispose()
    running.cleanup()


@pytest.fixture
async def database(server: Server) -> AsyncIterator[Database]:
    """A database of the test's own, as the migrations leave it."""
    name = await server.databases.take()
    yield Database(server.url(ENGINE, name), server.url(OWNER, name), is_embedded=False)
    await server.databases.give_back(name)


@pytest.fixture
async def sessions(database: Database) -> AsyncIterator[Sessions]:
    """Sessions as the engine role, as the service has them."""
    engine = make_engine(database.url, role=ENGINE)
    yield make_sessions(engine)
    await engine.dispose()


@pytest.fixture
def analyse(database: Database) -> Analyse:
    """Renews the planner's statistics: those of a database handed on are of another test."""

    async def run(*tables: str) -> None:
        engine = create_async_engine(database.owner_url)
        async with engine.begin() as connection:
            await connection.execute(text(f"ANALYZE {', '.join(tables)}"))
        await engine.dispose()

    return run


@pytest.fixture
def statements(sessions: Sessions) -> Iterator[list[str]]:
    """Every statement that goes to the test's database through `sessions`."""
    seen: list[str] = []
    engine = sessions.kw["bind"].sync_engine

    def on_statement(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", on_statement)
    yield seen
    event.remove(engine, "before_cursor_execute", on_statement)


@pytest.fixture
def settings(database: Database, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Defaults, but for the database: neither the environment nor `.env` has a say. Change one by
    `settings.model_copy(update={...})`.
    """
    for name in [name for name in os.environ if name.startswith("TAGBACK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    return Settings.model_validate(
        {
            "database_url": database.url,
            "database_owner_url": database.owner_url,
            "data_dir": data_dir,
        }
    )


class Stage:
    """The one server of all tests; each puts its own application on it."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
async def stage() -> AsyncIterator[tuple[Stage, str]]:
    stage = Stage()
    with open_socket("127.0.0.1", 0) as listening:
        base_url = address(listening)
        server = ApiServer(stage, lifespan="off", trusted_proxies="127.0.0.1")
        stop = asyncio.Event()
        running = asyncio.create_task(server.run_until(stop, listening))
        await server.is_ready.wait()
        yield stage, base_url
        stop.set()
        await running


@pytest.fixture
async def client(
    stage: tuple[Stage, str], settings: Settings, sessions: Sessions
) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks real HTTP to the service, which runs in the test's own loop."""
    stage[0].app = create_app(settings, sessions)
    async with httpx.AsyncClient(base_url=stage[1]) as client:
        yield client


@pytest.fixture
def make_key(sessions: Sessions) -> MakeKey:
    """Makes a key of a role, for `Authorization: Bearer <key>`; a partner's of a partner's id."""

    async def make(role: Role, partner_id: UUID | None = None) -> str:
        async with sessions.begin() as session:
            new = await keys.create_key(
                session,
                actor="test",
                role=role,
                now=now(),
                partner=str(partner_id) if partner_id else None,
            )
        return new.key

    return make


@pytest.fixture(scope="session")
def tagback_path() -> Path:
    return Path(sys.executable).parent / "tagback"


@pytest.fixture
def environment(database: Database) -> dict[str, str]:
    """Of a process that works on the test's database, whatever is set here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TAGBACK_")}
    return {
        **kept,
        "TAGBACK_DATABASE_URL": database.url,
        "TAGBACK_DATABASE_OWNER_URL": database.owner_url,
    }


@pytest.fixture
def tagback(tagback_path: Path, environment: dict[str, str], tmp_path: Path) -> Tagback:
    """Runs the command line as a process of its own, in an empty folder: `tmp_path`."""

    async def run(*arguments: str | Path, given: bytes = b"", **variables: str) -> Ran:
        process = await asyncio.create_subprocess_exec(
            tagback_path,
            *arguments,
            cwd=tmp_path,
            env={**environment, **variables},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(given)
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    return run


@pytest.fixture
async def start_x(settings: Settings) -> AsyncIterator[StartX]:
    """Starts stand-ins with any of their settings, and stops them at the end."""
    async with AsyncExitStack() as stack:

        async def start(**given: Any) -> StandIn:
            told = SandboxSettings(user_token="user", app_token="app", **given)
            server = SandboxServer(told, port=0)
            stack.enter_context(watched(server))
            address = await stack.enter_async_context(serving(server))
            client = await stack.enter_async_context(
                httpx.AsyncClient(base_url=address, headers=TESTER)
            )
            await client.post("/sandbox/people", json={"id": "1", "handle": "ann"})
            changed = {
                "x_base_url": address,
                "x_user_token": SecretStr("user"),
                "x_account_id": PROGRAMME,
            }
            return StandIn(settings.model_copy(update=changed), client)

        yield start


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the proofs go on; the defaults are for every day."""
    parser.addoption("--examples", type=int, default=50, help="stories of the state machine")
    parser.addoption("--kills", type=int, default=5, help="processes killed")
    parser.addoption("--posts", type=int, default=300, help="posts of a run with faults")
    parser.addoption("--faults", type=int, default=8, help="faults of X in that run")
    parser.addoption("--cases", type=int, default=100, help="requests made up from the document")
    parser.addoption("--rounds", type=int, default=1, help="rounds of each race")
    parser.addoption("--confirmations", type=int, default=130, help="due at once")
