"""The CSV of a COPY in, Parquet out, by Arrow's own reader and writer."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from sqlalchemy import BigInteger, Boolean, ColumnElement, DateTime, Integer, String, Uuid

BLOCK_BYTES = 2 * 2**20  # of CSV, read at once
GROUP_BYTES = 16 * 2**20  # of Arrow's columns, written as one row group

# `BigInteger` is an `Integer` too: the first that fits counts. An id is what it is in JSON: 36
# characters that every tool compares with those it has from elsewhere.
_TYPES = (
    (DateTime, pa.timestamp("us", tz="UTC")),
    (BigInteger, pa.int64()),
    (Integer, pa.int32()),
    (Boolean, pa.bool_()),
    (Uuid, pa.string()),
    (String, pa.string()),
)


def schema(columns: Iterable[ColumnElement[Any]]) -> pa.Schema:
    return pa.schema([(column.name, _type_of(column)) for column in columns])


def _type_of(column: ColumnElement[Any]) -> pa.DataType:
    return next(arrow for sql, arrow in _TYPES if isinstance(column.type, sql))


class ParquetFile:
    """While one block is read and written in a thread, the next one comes in; no more than those
    two and a row group are in memory, whatever the speed of either side. What is left by an error
    has no footer, so that no reader takes it for a whole file.
    """

    def __init__(
        self, columns: Iterable[ColumnElement[Any]], write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        columns = list(columns)
        self._write = write
        self._made = _Made()
        # an id is in no other row: a dictionary of them would be built for nothing
        repeated = [one.name for one in columns if isinstance(one.type, String)]
        self._writer = pa.parquet.ParquetWriter(
            self._made, schema(columns), compression="zstd", use_dictionary=repeated
        )
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._group: list[pa.Table] = []
        self._working: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _tb: TracebackType | None,
    ) -> None:
        if kind is None:
            await self._turn()
            await self._work_done()
            await self._write(await asyncio.to_thread(self._end))
        elif self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)

    async def take(self, rows: bytes) -> None:
        """Whole rows, as COPY spells them."""
        self._block.append(rows)
        self._block_bytes += len(rows)
        if self._block_bytes >= BLOCK_BYTES:
            await self._turn()

    async def _turn(self) -> None:
        await self._work_done()
        block, self._block, self._block_bytes = b"".join(self._block), [], 0
        if block:
            self._working = asyncio.create_task(self._work(block))

    async def _work_done(self) -> None:
        if self._working is not None:
            await self._working

    async def _work(self, block: bytes) -> None:
        if made := await asyncio.to_thread(self._add, block):
            await self._write(made)

    def _add(self, block: bytes) -> bytes:
        self._group.append(_read(block, self._writer.schema))
        if sum(table.nbytes for table in self._group) >= GROUP_BYTES:
            self._end_group()
        return self._made.take()

    def _end_group(self) -> None:
        if self._group:
            self._writer.write_table(pa.concat_tables(self._group))
            self._group = []

    def _end(self) -> bytes:
        self._end_group()
        self._writer.close()
        return self._made.take()


def _read(block: bytes, wanted: pa.Schema) -> pa.Table:
    """COPY quotes an empty text and never a null; times have their zone."""
    return pa.csv.read_csv(
        pa.BufferReader(block),
        read_options=pa.csv.ReadOptions(
            column_names=wanted.names, block_size=len(block) + 1, use_threads=False
        ),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=wanted,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )


class _Made(io.RawIOBase):
    """A file that forgets what is taken from it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken
