"""The database as every context uses it: one metadata, one way to connect, one way to COPY."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import BigInteger, DateTime, MetaData, Select, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase

type_annotation_map = {
    str: Text,
    int: BigInteger,
    datetime: DateTime(timezone=True),
    UUID: postgresql.UUID(as_uuid=True),
    dict[str, Any]: postgresql.JSONB,
    list[str]: postgresql.ARRAY(Text),
}

Sessions = async_sessionmaker[AsyncSession]
Query = Select[*tuple[Any, ...]]

# What a transaction has read it acts on no later than this: posts/lookback.py counts on it.
TRANSACTION_SECONDS_MAX = 180

# What SQLAlchemy raises, and the driver under it where a COPY goes past SQLAlchemy.
DATABASE_ERRORS = (OSError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError)


def sqlstate(error: BaseException | None) -> str | None:
    """PostgreSQL's five characters, from the driver's error or from SQLAlchemy's around it."""
    if isinstance(error, DBAPIError):
        error = error.orig.__cause__ if error.orig else None
    found = getattr(error, "sqlstate", None)
    return found if isinstance(found, str) else None


def is_connection_lost(error: BaseException | None) -> bool:
    """Whether the database is away, rather than a statement wrong."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or is_connection_lost(
            error.orig.__cause__ if error.orig else None
        )
    lost = (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError)
    return isinstance(error, (*lost, asyncpg.OperatorInterventionError))


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = type_annotation_map


def make_engine(
    url: str, *, role: str, pool_size: int = 10, statement_timeout_ms: int = 60_000
) -> AsyncEngine:
    """Connections that act as `role` whatever the login was, in UTC, and that cannot hold a
    transaction open across a call to the outside for longer than 30 s, nor at all for longer than
    TRANSACTION_SECONDS_MAX, unless statements may take any time (0).
    """
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        hide_parameters=True,  # an error's text goes to logs, people's data does not
        connect_args={
            "server_settings": {
                "role": role,
                "application_name": "tagback",
                "timezone": "UTC",
                "jit": "off",
                "statement_timeout": str(statement_timeout_ms),
                "transaction_timeout": f"{TRANSACTION_SECONDS_MAX if statement_timeout_ms else 0}s",
                "idle_in_transaction_session_timeout": "30000",
            }
        },
    )


def make_sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine, expire_on_commit=False)


async def copy_rows(
    session: AsyncSession, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Binary COPY inside the session's transaction, which an earlier statement must have begun.

    Raises asyncpg's own errors: the driver is called past SQLAlchemy.
    """
    if not rows:
        return
    driver = await _driver(session)
    await driver.copy_records_to_table(table, records=rows, columns=list(columns))


async def copy_out(
    session: AsyncSession,
    query: Query,
    *,
    write: Callable[[bytes], Awaitable[None]],
    **options: str | bool,
) -> int:
    """COPY of the query's rows to `write`, as fast as that takes them and no faster; answers how
    many. Each piece is of whole rows. Raises what `write` does, and asyncpg's own errors; the
    connection and its transaction are gone then, and the server ends the query when it sees that.
    """
    # COPY takes no parameters: asyncpg has PostgreSQL quote each value as its own type
    dialect = session.get_bind().dialect
    compiled = query.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    values = [compiled.params[name] for name in compiled.positiontup or ()]
    driver = await _driver(session)
    try:
        status: str = await driver.copy_from_query(str(compiled), *values, output=write, **options)
    except BaseException:
        # of a COPY that it cancels, asyncpg takes what is still under way for the end
        driver.terminate()
        await (await session.connection()).invalidate()
        raise
    return int(status.removeprefix("COPY "))


async def _driver(session: AsyncSession) -> Any:  # noqa: ANN401 - asyncpg's connection
    return (await (await session.connection()).get_raw_connection()).driver_connection
