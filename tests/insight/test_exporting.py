"""Whole sets, in three formats that say the same."""

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Integer,
    Text,
    Uuid,
    column,
    func,
    literal,
    literal_column,
    select,
    text,
    values,
)

from app.config import Settings
from app.insight import exporting, parquet
from app.insight.export_queries import EXPORTS
from app.kit.db import Query, Sessions
from app.kit.ids import new_id
from app.ledger import service as ledger
from app.ledger.adjustments import NewAdjustment, adjust
from app.members import service as members
from app.posts.enrol import Enroller
from tests.programme import NOW, make_members, make_offer, make_post, make_shop, pay

MEBIBYTE = 2**20
FORMATS: tuple[exporting.Format, ...] = ("csv", "ndjson", "parquet")
KINDS: dict[str, Any] = {
    "id": Uuid, "note": Text, "at": DateTime(timezone=True), "amount_minor": BigInteger,
    "reach": Integer, "is_new": Boolean,
}  # fmt: skip
ARROW = {
    "id": pa.string(),
    "note": pa.string(),
    "at": pa.timestamp("us", tz="UTC"),
    "amount_minor": pa.int64(),
    "reach": pa.int32(),
    "is_new": pa.bool_(),
}
NOTES = (
    "plain",
    "",
    None,
    "Grüße, 東京 🎉 \u202e",
    'a "quoted" one, with a comma',
    "two\nlines\r\nand\ttabs",
    "back\\slash \\n \\. '' $1",
    "\\.",
    "\x01\x02\x7f\u0085\u2028",
    '=HYPERLINK("http://evil")',
    "+1",
    "-1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    "'tis",
    " =1",
    "NULL",
    "null",
    "true",
    "2020-01-01",
    "'); DROP TABLE members; --",
)
TIMES = (
    datetime(2026, 7, 15, 12, tzinfo=UTC),
    datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1815, 12, 10, tzinfo=UTC),
    datetime(9999, 12, 31, tzinfo=UTC),
    None,
)
AMOUNTS = (0, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63), 2**53 + 1, None)


def hostile() -> list[tuple[Any, ...]]:
    return [
        (
            new_id(),
            note,
            TIMES[number % len(TIMES)],
            AMOUNTS[number % len(AMOUNTS)],
            (None, -5)[number % 2],
            (True, None, False)[number % 3],
        )
        for number, note in enumerate(NOTES)
    ]


def querying(rows: list[tuple[Any, ...]]) -> Query:
    named = values(*(column(name, kind) for name, kind in KINDS.items()), name="given")
    given = named.data(rows or hostile())
    return select(*given.c).where(literal(bool(rows))).order_by(given.c.id)


@pytest.fixture
async def sold(sessions: Sessions, settings: Settings) -> None:
    await make_shop(sessions, "counter")
    await make_offer(sessions, "Tea")
    accounts = await make_members(sessions, 4)
    posts = [make_post(account, "tea") for account in [*accounts, "99"]]
    await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)
    for account in accounts:
        await pay(sessions, account, "clearing", 2_000)


async def written(sessions: Sessions, query: Query, file_format: exporting.Format) -> bytes:
    out = io.BytesIO()

    async def write(data: bytes) -> None:
        out.write(data)

    async with sessions.begin() as session:
        rows = await exporting.export(session, query, file_format=file_format, write=write)
    if file_format == "parquet":
        assert pq.read_metadata(io.BytesIO(out.getvalue())).num_rows == rows
    return out.getvalue()


def read_csv(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def read_ndjson(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.split(b"\n")[:-1]]


def read_parquet(data: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(io.BytesIO(data)).to_pylist()
    return found


def plain(value: Any) -> str:
    """As the CSV has it, but for what guards a text against spreadsheets."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime) else str(value)


class TestValues:
    async def test_are_the_same_in_every_format(self, sessions: Sessions) -> None:
        rows = hostile()
        query = querying(rows)
        expected = [dict(zip(KINDS, (str(row[0]), *row[1:]), strict=True)) for row in sorted(rows)]
        assert read_parquet(await written(sessions, query, "parquet")) == expected
        as_json = read_ndjson(await written(sessions, query, "ndjson"))
        for row in as_json:
            row["at"] = row["at"] and datetime.fromisoformat(row["at"])
        assert as_json == expected
        as_csv = read_csv(await written(sessions, query, "csv"))
        for row in as_csv:
            row["note"] = row["note"].removeprefix("'")
        assert as_csv == [{name: plain(value) for name, value in row.items()} for row in expected]

    async def test_have_the_types_of_the_statement_whatever_their_names(
        self, sessions: Sessions
    ) -> None:
        for rows in ([], hostile()):
            data = await written(sessions, querying(rows), "parquet")
            assert pq.read_schema(io.BytesIO(data)) == pa.schema(ARROW)

    async def test_of_an_empty_set_are_none_under_a_header(self, sessions: Sessions) -> None:
        query = querying([])
        assert await written(sessions, query, "csv") == ",".join(KINDS).encode() + b"\n"
        assert await written(sessions, query, "ndjson") == b""
        assert read_parquet(await written(sessions, query, "parquet")) == []

    async def test_that_are_empty_are_not_null_in_csv(self, sessions: Sessions) -> None:
        rows = [(new_id(), note, None, None, None, None) for note in ("", None)]
        lines = (await written(sessions, querying(rows), "csv")).splitlines()
        assert [line.split(b",", 1)[1] for line in lines[1:]] == [b'"",,,,', b",,,,"]

    async def test_are_no_formulas_in_csv_and_come_back_without_one_apostrophe(
        self, sessions: Sessions
    ) -> None:
        rows = hostile()
        notes = [row["note"] for row in read_csv(await written(sessions, querying(rows), "csv"))]
        assert not [note for note in notes if note[:1] in tuple("=+-@\t\r\n\uff1d")]
        assert [note.removeprefix("'") for note in notes] == [note or "" for note in NOTES]
        assert sum(note.startswith("'") for note in notes) == 10

    async def test_that_are_given_are_quoted_by_the_database(self, sessions: Sessions) -> None:
        """COPY takes no parameters, so what a caller filters by becomes part of its text."""
        await make_members(sessions, 1)
        given = values(column("note", Text), name="given").data([(note,) for note in NOTES])
        for note in NOTES:
            if note is not None:
                asked = select(given.c.note).where(given.c.note.in_([note, "$1", "$2 \\' "]))
                found = read_ndjson(await written(sessions, asked, "ndjson"))
                assert found == [{"note": note}]
        async with sessions.begin() as session:
            assert await session.scalar(text("SELECT count(*) FROM members")) == 1


class TestAnExport:
    @pytest.mark.usefixtures("sold")
    @pytest.mark.parametrize(
        ("what", "rows"), [("redemptions", 4), ("coupons", 4), ("posts", 5), ("credits", 0)]
    )
    async def test_says_the_same_in_every_format(
        self, sessions: Sessions, what: str, rows: int
    ) -> None:
        query = EXPORTS[what]
        as_csv = read_csv(await written(sessions, query, "csv"))
        as_json = read_ndjson(await written(sessions, query, "ndjson"))
        as_parquet = read_parquet(await written(sessions, query, "parquet"))
        assert len(as_csv) == len(as_json) == len(as_parquet) == rows
        for flat, typed, columnar in zip(as_csv, as_json, as_parquet, strict=True):
            assert list(flat) == list(typed) == list(columnar)
            assert flat == {name: plain(value) for name, value in typed.items()}
            assert flat == {name: plain(value) for name, value in columnar.items()}

    @pytest.mark.usefixtures("sold")
    async def test_of_credits_shows_adjustments_beside_redemptions(
        self, sessions: Sessions
    ) -> None:
        (account,) = await make_members(sessions, 1)
        async with sessions.begin() as session:
            member = await members.find_member(session, ref_or_id=f"m-{account}")
            given = NewAdjustment("case-1", member.id, -70, "USD", "programme", "As agreed")
            made, _ = await adjust(session, given=given, operator="test", now=NOW)
            await ledger.create_batch(session, actor="test", now=NOW)
        rows = read_parquet(await written(sessions, EXPORTS["credits"], "parquet"))
        (of_adjustment,) = [row for row in rows if row["redemption_id"] is None]
        assert of_adjustment["adjustment_id"] == str(made.id)
        assert (of_adjustment["adjustment_ref"], of_adjustment["amount_minor"]) == ("case-1", -70)
        of_redemptions = [row for row in rows if row["adjustment_id"] is None]
        assert [row["amount_minor"] for row in of_redemptions] == [500] * 4

    async def test_may_take_longer_than_other_transactions(self, sessions: Sessions) -> None:
        async def write(_data: bytes) -> None:
            pass

        async with sessions() as session:
            await exporting.export(session, querying([]), file_format="csv", write=write)
            for limit in ("transaction_timeout", "statement_timeout"):
                assert await session.scalar(text(f"SHOW {limit}")) == "0"


def many(rows: int) -> Query:
    """Of 200 bytes each and more."""
    number = func.generate_series(1, rows).column_valued("number")
    return select(
        number.cast(BigInteger).label("amount_minor"),
        func.md5(number.cast(Text)).cast(Text).label("buyer"),
        func.repeat(func.md5(number.cast(Text)), 5).cast(Text).label("note"),
        literal_column("timestamptz '2026-01-01Z'", DateTime(timezone=True)).label("at"),
    )


@pytest.fixture
def arrow() -> Iterator[pa.MemoryPool]:
    """All that Arrow takes goes through it, so that it knows the most there was."""
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    yield pool
    pa.set_memory_pool(usual)


class TestMemory:
    @pytest.mark.parametrize("file_format", FORMATS)
    async def test_does_not_grow_with_the_rows(
        self,
        sessions: Sessions,
        arrow: pa.MemoryPool,
        monkeypatch: pytest.MonkeyPatch,
        file_format: exporting.Format,
    ) -> None:
        monkeypatch.setattr(parquet, "BLOCK_BYTES", MEBIBYTE)
        monkeypatch.setattr(parquet, "GROUP_BYTES", 2 * MEBIBYTE)
        given = 0

        async def write(data: bytes) -> None:
            nonlocal given
            given += len(data)

        tracemalloc.start()
        try:
            async with sessions.begin() as session:
                await exporting.export(session, many(100_000), file_format=file_format, write=write)
            highest = tracemalloc.get_traced_memory()[1] + arrow.max_memory()
        finally:
            tracemalloc.stop()
        assert given > 3 * MEBIBYTE  # Parquet; the CSV that it is made of is of 23
        assert highest < 12 * MEBIBYTE


class TestAQueryThatFails:
    @pytest.mark.parametrize("file_format", FORMATS)
    async def test_says_so_and_leaves_no_whole_file(
        self, sessions: Sessions, file_format: exporting.Format
    ) -> None:
        rows = 40_000
        number = func.generate_series(1, rows).column_valued("number")
        failing = many(rows).with_only_columns(
            (1 / (rows - number)).cast(Integer).label("share"),
            func.repeat(func.md5(number.cast(Text)), 5).cast(Text).label("note"),
        )
        out = io.BytesIO()

        async def write(data: bytes) -> None:
            out.write(data)

        with pytest.raises(asyncpg.DivisionByZeroError):
            async with sessions.begin() as session:
                await exporting.export(session, failing, file_format=file_format, write=write)
        assert out.tell() > 0
        if file_format == "parquet":
            with pytest.raises(pa.ArrowInvalid):
                pq.read_table(out)


class TestAWriteThatFails:
    @pytest.mark.parametrize("file_format", FORMATS)
    async def test_ends_the_query(self, sessions: Sessions, file_format: exporting.Format) -> None:
        async def write(_data: bytes) -> None:
            raise BrokenPipeError

        async with sessions() as session:
            with pytest.raises(BrokenPipeError):
                await exporting.export(session, many(400_000), file_format=file_format, write=write)
            await session.rollback()
            assert await session.scalar(text("SELECT 1")) == 1  # the connection is good again
