"""Where the database is and who the service is in it.

Three roles: `tagback_owner` owns the schema and migrates it, `tagback_engine` is the service, and
`tagback_partner` is what a partner's request becomes for the length of its transaction. With an
external server the login of `TAGBACK_DATABASE_URL` is a member of the engine's role and that of
`TAGBACK_DATABASE_OWNER_URL` (default: the same) of the owner's.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from app.config import Settings
from app.errors import TagbackError
from app.kit import embedded, locks
from app.kit.db import Sessions, make_engine, make_sessions, sqlstate
from app.testclock import service as testclock

OWNER = "tagback_owner"
ENGINE = "tagback_engine"
PARTNER = "tagback_partner"
EMBEDDED_DATABASE = "tagback"

_MIGRATIONS = Path(__file__).parent.parent / "migrations"


class DatabaseError(TagbackError):
    code = "database"
    status = 503


@dataclass(frozen=True)
class Database:
    url: str
    owner_url: str
    is_embedded: bool


async def locate(settings: Settings) -> Database:
    """The configured server, or the embedded one, started and with its roles and database made."""
    if settings.database_url is not None:
        engine_url = _with_driver(str(settings.database_url))
        owner_url = _with_driver(str(settings.database_owner_url or settings.database_url))
        return Database(engine_url, owner_url, is_embedded=False)
    try:
        server = await asyncio.to_thread(embedded.start, settings.data_dir)
    except OSError as error:
        raise DatabaseError(
            f"the embedded database cannot use its folder: {error}. Set TAGBACK_DATA_DIR, "
            "or TAGBACK_DATABASE_URL to use a PostgreSQL server of yours"
        ) from error
    except subprocess.SubprocessError as error:
        raise DatabaseError(
            f"the embedded database did not start; why is in {settings.data_dir}/postgres/log"
        ) from error
    admin_url = embedded.url(server, user="postgres", database="postgres")
    await create_roles(admin_url, login=True)
    await create_database(admin_url, EMBEDDED_DATABASE)
    return Database(
        url=embedded.url(server, user=ENGINE, database=EMBEDDED_DATABASE),
        owner_url=embedded.url(server, user=OWNER, database=EMBEDDED_DATABASE),
        is_embedded=True,
    )


def _with_driver(url: str) -> str:
    return "postgresql+asyncpg://" + url.split("://", 1)[1]


async def create_roles(admin_url: str, *, login: bool) -> None:
    """Idempotent. `login` is for the embedded server, which only this machine's socket reaches."""
    may = "LOGIN" if login else "NOLOGIN"
    async with _administration(admin_url) as connection:
        for role in (OWNER, ENGINE, PARTNER):
            await connection.execute(
                text(
                    f"DO $$ BEGIN CREATE ROLE {role} {may} NOSUPERUSER NOCREATEDB NOCREATEROLE; "
                    "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
                )
            )
        member = "SELECT pg_has_role(:engine, :partner, 'SET')"
        roles = {"engine": ENGINE, "partner": PARTNER}
        if not (await connection.execute(text(member), roles)).scalar_one():
            await connection.execute(text(f"GRANT {PARTNER} TO {ENGINE}"))


async def create_database(admin_url: str, name: str) -> None:
    async with _administration(admin_url) as connection:
        known = await connection.execute(
            text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}
        )
        if known.first() is not None:
            return
        try:
            await connection.execute(
                text(
                    f'CREATE DATABASE "{name}" OWNER {OWNER} TEMPLATE template0 ENCODING UTF8 '
                    "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
                )
            )
        except DBAPIError as error:
            if sqlstate(error) not in ("42P04", "23505"):  # another process was quicker
                raise


@asynccontextmanager
async def _administration(url: str) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


@asynccontextmanager
async def open_sessions(settings: Settings) -> AsyncIterator[Sessions]:
    """Sessions as the engine role on a schema that is up to date. The embedded database is brought
    up to date here; another is its operator's, who is told the command.
    """
    database = await locate(settings)
    if database.is_embedded:
        await upgrade(database)
    engine = make_engine(database.url, role=ENGINE, pool_size=settings.pool_size)
    try:
        sessions = make_sessions(engine)
        if not database.is_embedded:
            await _require_current(sessions)
        await testclock.adopt(sessions, settings)
        yield sessions
    finally:
        await engine.dispose()


async def _require_current(sessions: Sessions) -> None:
    """With the service's own login, so that a wrong one is told before anything is said to run."""
    try:
        async with sessions() as session:
            current = await current_revision(session)
    except DBAPIError as error:
        if sqlstate(error) != "42P01":  # no such table: nothing was ever migrated
            raise DatabaseError(f"cannot use the database: {error.orig}") from error
        current = None
    except OSError as error:
        raise DatabaseError(f"cannot reach the database: {error}") from error
    if not serves(current):
        raise DatabaseError(
            f"the database is at revision {current or 'none'}, this release needs "
            f"{newest_revision()}: run `tagback db upgrade`"
        )


@lru_cache(maxsize=1)
def newest_revision() -> str | None:
    return ScriptDirectory(str(_MIGRATIONS)).get_current_head()


def serves(revision: str | None) -> bool:
    """Whether this release works with a database at that revision: its own newest one, or one that
    it does not know, which is of a release after it.
    """
    if revision is None:
        return False
    script = ScriptDirectory(str(_MIGRATIONS))
    known = {one.revision for one in script.walk_revisions()}
    return revision == script.get_current_head() or revision not in known


async def current_revision(session: AsyncSession) -> str | None:
    revision: str | None = await session.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


async def revisions(database: Database) -> tuple[str | None, str | None]:
    """The revision the database is at, and the newest this release brings."""
    newest = newest_revision()
    engine = create_async_engine(database.owner_url)
    try:
        async with engine.connect() as connection:
            current = await connection.run_sync(
                lambda sync: MigrationContext.configure(sync).get_current_revision()
            )
    except (OSError, DBAPIError) as error:
        raise DatabaseError(f"cannot reach the database: {error}") from error
    finally:
        await engine.dispose()
    return current, newest


async def upgrade(database: Database, revision: str = "head") -> None:
    """Migrates as the owner; processes that start together wait for the first."""
    await _as_owner(database, lambda config: command.upgrade(config, revision))


async def check(database: Database) -> None:
    """Raises alembic's AutogenerateDiffsDetected when models and migrations are out of step."""
    await _as_owner(database, command.check)


async def _as_owner(database: Database, run: Callable[[Config], None]) -> None:
    def under_lock(sync: Connection) -> None:
        sync.execute(text("SELECT pg_advisory_lock(:key)"), {"key": locks.UPGRADE})
        sync.commit()
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        config.attributes["connection"] = sync
        run(config)

    engine = make_engine(database.owner_url, role=OWNER, statement_timeout_ms=0)
    try:
        async with _connected(engine) as connection:
            await connection.run_sync(under_lock)
            await connection.commit()
    finally:
        await engine.dispose()


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Raises DatabaseError when there is no connection as the owner to be had."""
    connection = engine.connect()
    try:
        await connection.start()
    except (OSError, DBAPIError) as error:
        cause = getattr(error, "orig", error)
        raise DatabaseError(f"cannot use the database as {OWNER}: {cause}") from error
    try:
        yield connection
    finally:
        await connection.close()
