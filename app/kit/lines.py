"""Files of one JSON object a line, or CSV with the same names, read in constant memory."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

LINE_BYTES_MAX = 1024 * 1024
DOCUMENT_BYTES_MAX = 64 * 1024 * 1024
_BUFFER_BYTES = 256 * 1024
_KEPT_BYTES = 4_096  # of a line that is too long: what a report of it may want to show

LineStatus = Literal["accepted", "ignored", "rejected"]

_BOM = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"
_CSV_HEADER = re.compile(rb'\s*"?[A-Za-z_][\w.]*"?\s*(?:,\s*"?[A-Za-z_][\w.]*"?\s*)+')


class FileError(Exception):
    """The file as a whole cannot be read on; what was read before it stands."""


class Line(NamedTuple):
    """`number` counts from 1 in the file; `raw` is JSON, or what should have been."""

    number: int
    raw: bytes


class BadLine(NamedTuple):
    """Not fit to be given to a loader. `raw` is its beginning."""

    number: int
    raw: bytes
    reason: str


class LineResult(NamedTuple):
    """What became of a line. `ignored`: well-formed, and nothing to do with us. `outcomes` are
    counted by name; `reason` belongs to a rejection and repeats no value of the line; `made` names
    what was made because the line named it, which may have been a slip.
    """

    status: LineStatus
    outcomes: tuple[str, ...] = ()
    reason: str | None = None
    made: str | None = None


def read_lines(stream: io.BufferedReader, *, name: str) -> Iterator[Line | BadLine]:
    """Every line that is not blank, of gzip or not; of a JSON document over several lines, its
    items. CSV by the ending of `name`, else by a first line that is a header and no JSON. An empty
    cell is left out, a row of such alone is blank, a dot makes an object within, a cell that is a
    JSON list or object becomes one, and every other cell is a string.

    Raises FileError when reading fails, for damaged gzip, for a header that makes no sense.
    """
    try:
        if stream.peek(2)[:2] == _GZIP_MAGIC:
            unzipped = gzip.GzipFile(fileobj=stream)
            stream = io.BufferedReader(unzipped, _BUFFER_BYTES)
        lines = _physical_lines(stream)
        first = next(lines, None)
        if first is None:
            return
        first = first._replace(raw=first.raw.removeprefix(_BOM))
        if _is_csv(name, first):
            yield from _csv_rows(first, lines)
            return
        for line in _document(first, lines) if _opens_a_document(first) else _chain(first, lines):
            if isinstance(line, BadLine) or line.raw.strip():
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileError("the gzip data is damaged or ends too early") from error
    except OSError as error:
        raise FileError(error.strerror or str(error)) from error


def _opens_a_document(first: Line | BadLine) -> bool:
    return first.raw.strip() in (b"{", b"[")


def _document(first: Line | BadLine, rest: Iterator[Line | BadLine]) -> Iterator[Line | BadLine]:
    """One JSON document spread over lines, as editors and `jq` write it: a list is a line for each
    of its items, anything else is one line. What is none, or too large to hold, is lines again.
    """
    held: list[Line | BadLine] = [first]
    size = 0
    for line in rest:
        held.append(line)
        size += len(line.raw)
        if isinstance(line, BadLine) or size > DOCUMENT_BYTES_MAX:
            yield from held
            yield from rest
            return
    try:
        found = json.loads(b"\n".join(line.raw for line in held))
    except ValueError:
        yield from held
        return
    items = found if isinstance(found, list) else [found]
    for number, item in enumerate(items, start=1):
        yield Line(number, json.dumps(item).encode())


def _chain(first: Line | BadLine, rest: Iterator[Line | BadLine]) -> Iterator[Line | BadLine]:
    yield first
    yield from rest


def _physical_lines(stream: io.BufferedReader) -> Iterator[Line | BadLine]:
    number = 0
    while raw := stream.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(raw) <= LINE_BYTES_MAX or raw.endswith(b"\n"):
            yield Line(number, raw.rstrip(b"\r\n"))
            continue
        beginning = raw[:_KEPT_BYTES]
        while raw and not raw.endswith(b"\n"):
            raw = stream.readline(LINE_BYTES_MAX)
        yield BadLine(number, beginning, "line too long")


def _is_csv(name: str, first: Line | BadLine) -> bool:
    name = name.lower().removesuffix(".gz")
    if name.endswith(".csv"):
        return True
    if name.endswith((".ndjson", ".jsonl", ".json")):
        return False
    return _CSV_HEADER.fullmatch(first.raw) is not None


def _csv_rows(first: Line | BadLine, rest: Iterator[Line | BadLine]) -> Iterator[Line | BadLine]:
    too_long: list[BadLine] = []
    numbers: list[int] = []  # of the lines read since the last row: a quoted cell may span some

    def as_text() -> Iterator[str]:
        for line in rest:
            if isinstance(line, BadLine):
                too_long.append(line)
            else:
                numbers.append(line.number)
                yield line.raw.decode("utf-8", "surrogateescape") + "\n"

    header = _header(first)
    rows = csv.reader(as_text(), strict=True)
    while True:
        cells: list[str] | None = None
        reason = ""
        try:
            cells = next(rows)
        except StopIteration:
            yield from too_long
            return
        except csv.Error as error:
            reason = f"not CSV: {error}"
        number = numbers[0] if numbers else first.number
        numbers.clear()
        yield from too_long
        too_long.clear()
        if cells is None:
            yield BadLine(number, b"", reason)
        elif any(cells):
            yield _as_json(number, header, cells)


def _header(first: Line | BadLine) -> list[list[str]]:
    """Each name as its parts."""
    try:
        names = next(csv.reader([first.raw.decode()]))
    except (UnicodeDecodeError, csv.Error, StopIteration):
        raise FileError("the first line is no CSV header") from None
    names = [name.strip() for name in names]
    known = set(names)
    if len(known) < len(names) or not all(all(name.split(".")) for name in names):
        raise FileError("the CSV header has an empty name, or one twice")
    for name in names:
        parts = name.split(".")
        if any(".".join(parts[:count]) in known for count in range(1, len(parts))):
            raise FileError("a name in the CSV header is both a value and an object")
    return [name.split(".") for name in names]


def _as_json(number: int, header: list[list[str]], cells: list[str]) -> Line | BadLine:
    beginning = ",".join(cells).encode("utf-8", "replace")[:_KEPT_BYTES]
    if len(cells) != len(header):
        return BadLine(number, beginning, f"{len(cells)} cells under {len(header)} names")
    row: dict[str, Any] = {}
    for (*outer, last), cell in zip(header, cells, strict=True):
        if cell == "":
            continue
        place = row
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = _value(cell)
    try:
        return Line(number, json.dumps(row, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        return BadLine(number, beginning, "not UTF-8")


def _value(cell: str) -> Any:  # noqa: ANN401 - any JSON
    if cell[0] in "[{":
        try:
            return json.loads(cell)
        except ValueError:
            return cell  # a name in brackets, say
    return cell
