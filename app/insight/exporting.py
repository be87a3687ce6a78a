"""Whole sets for an analyst, in constant memory and from one snapshot. PostgreSQL's COPY writes CSV
and NDJSON as they leave, and Arrow makes Parquet of its CSV: no value becomes a Python object.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.errors import TooManyRequests, Unavailable
from app.insight import export_queries as queries
from app.insight import filters
from app.insight.filters import Filters
from app.kit.db import Query, Sessions, copy_out
from app.partners.tenancy import confine

Format = Literal["csv", "ndjson", "parquet"]
MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv; charset=utf-8; header=present",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
RETRY_SECONDS = 15
Write = Callable[[bytes], Awaitable[None]]

# JSON escapes the two, so a CSV with them for quote and delimiter is the bare lines
_BARE = {"format": "csv", "quote": "\x01", "delimiter": "\x02"}


async def export(session: AsyncSession, query: Query, *, file_format: Format, write: Write) -> int:
    """Writes all rows and answers how many. An empty set still has its header. Raises what `write`
    does, and what the database does: what was written until then is no whole file.
    """
    await queries.take_any_time(session)
    if file_format == "csv":
        lines = queries.as_csv(query)
        return await copy_out(session, lines, write=write, format="csv", header=True)
    if file_format == "ndjson":
        return await copy_out(session, queries.as_json(query), write=write, **_BARE)

    from app.insight.parquet import ParquetFile  # noqa: PLC0415 - 100 ms and 60 MB, when asked for

    async with ParquetFile(query.selected_columns, write) as file:
        return await copy_out(session, query, write=file.take, format="csv")


async def export_sales(
    sessions: Sessions,
    *,
    wanted: Filters,
    partner_id: UUID | None,
    file_format: Format,
    write: Write,
) -> int:
    """In a transaction of its own; a partner's is confined to what is his. Raises as `export`
    does, and Invalid for a filter that names what is not there.
    """
    async with sessions.begin() as session:
        if partner_id is not None:
            await confine(session, partner_id=partner_id)
        conditions = await filters.conditions(session, wanted)
        query = queries.sales(conditions, for_partner=partner_id is not None)
        return await export(session, query, file_format=file_format, write=write)


class TooManyExports(TooManyRequests):
    code = "too_many_exports"


class Exports:
    """An export holds a connection for as long as its reader takes. So many at once in a process,
    and never the last connection of its pool, so that purchases find one; one at a time for each
    caller, so that nobody waits for another's; and none for ever.
    """

    def __init__(self, settings: Settings) -> None:
        self._most = min(settings.exports_max, settings.pool_size - 1)
        self._seconds_max = settings.export_seconds_max
        self._callers: set[UUID] = set()

    @asynccontextmanager
    async def place(self, caller: UUID) -> AsyncIterator[None]:
        """Raises TooManyExports, and Unavailable when it takes too long."""
        if caller in self._callers:
            raise TooManyExports(
                "an export of yours is still being read: one at a time",
                retry_seconds=RETRY_SECONDS,
            )
        if len(self._callers) >= self._most:
            raise TooManyExports(
                f"{self._most} exports are being read, no more run at once",
                retry_seconds=RETRY_SECONDS,
            )
        self._callers.add(caller)
        try:
            async with asyncio.timeout(self._seconds_max):
                yield
        except TimeoutError as error:
            raise Unavailable(
                f"an export may take {self._seconds_max} s: filter it, or read it faster",
                code="export_too_slow",
            ) from error
        finally:
            self._callers.remove(caller)
