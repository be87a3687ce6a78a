"""`tagback import`: any number of lines in constant memory, and what is wrong with which."""

import io
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich import progress
from rich.console import Console

from app.cli.loaders import LOADERS, Loader
from app.cli.running import run
from app.config import get_settings
from app.database import open_sessions
from app.errors import TagbackError
from app.kit.cards import looks_like_card_number
from app.kit.db import Sessions
from app.kit.lines import BadLine, FileError, Line, LineResult, read_lines

RAW_CHARACTERS_MAX = 500
BATCH_LINES_MAX = 100_000
NAMED_MAX = 20
_EXIT_FILE = 2
_STDIN = Path("-")
_JSON_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}")  # its digits are none of what follows it
_REJECTS = ".rejects.ndjson"


class UnknownKind(TagbackError):
    code = "unknown_kind"


@dataclass(slots=True)
class Tally:
    read: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    made: list[str] = field(default_factory=list)

    def add(self, result: LineResult) -> None:
        self.read += 1
        self.statuses[result.status] += 1
        self.outcomes.update(result.outcomes)
        if result.made is not None:
            self.made.append(result.made)

    def as_json(self, seconds: float) -> dict[str, Any]:
        counts = {name: self.statuses[name] for name in ("accepted", "ignored", "rejected")}
        outcomes = dict(sorted(self.outcomes.items()))
        report = {"read": self.read, **counts, "outcomes": outcomes, "seconds": round(seconds, 3)}
        return {**report, "partners_made": self.made} if self.made else report


class Rejects:
    """A file that exists only when a line was rejected; the one of an earlier run goes first.
    Raises FileError where it cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self.path = Path(f"{'stdin' if file == _STDIN else file}{_REJECTS}")
        self._out: IO[str] | None = None
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"{self.path}: {error.strerror}") from error

    def add(self, line: Line | BadLine, reason: str) -> None:
        entry: dict[str, Any] = {"line": line.number, "reason": reason}
        raw = line.raw.decode("utf-8", "replace")
        if not looks_like_card_number(_JSON_ESCAPE.sub(" ", raw)):
            entry["raw"] = raw[:RAW_CHARACTERS_MAX]
        try:
            if self._out is None:
                self._out = self.path.open("w", encoding="utf-8")
            self._out.write(json.dumps(entry, ensure_ascii=False) + "\n")
        except OSError as error:
            raise FileError(f"{self.path}: {error.strerror}") from error

    def close(self) -> None:
        if self._out is not None:
            self._out.close()


def import_file(
    kind: Annotated[str, typer.Argument(help=", ".join(LOADERS))],
    file: Annotated[Path, typer.Argument(help="NDJSON or CSV, gzip or not; - is standard input")],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="End with one line of JSON instead of a summary.")
    ] = False,
    batch: Annotated[
        int, typer.Option(min=1, max=BATCH_LINES_MAX, help="Lines to a transaction.")
    ] = 1_000,
) -> None:
    """Load a file of one kind of line; docs/files.md has the fields.

    The same file twice changes nothing. Bad lines stop nothing: each goes
    to FILE.rejects.ndjson, with its number and its reason.

    Example: tagback import members members.ndjson.gz

    Example: tagback import merchants shops.csv --json

    Example: cat members-*.ndjson | tagback import members -
    """
    started = time.monotonic()
    try:
        with _open(file) as stream, closing(Rejects(file)) as rejects:
            tally = run(_import(kind, file, stream, rejects, batch_lines=batch))
    except FileError as error:
        typer.echo(f"tagback: {file}: {error}", err=True)
        raise typer.Exit(_EXIT_FILE) from None
    report = tally.as_json(time.monotonic() - started)
    print(json.dumps(report) if as_json else _summary(kind, report, rejects.path))


@contextmanager
def _open(file: Path) -> Iterator[io.BufferedReader]:
    if file == _STDIN:
        yield sys.stdin.buffer  # type: ignore[misc] # a BufferedReader, but for who replaces it
        return
    try:
        stream = file.open("rb")
    except OSError as error:
        raise FileError(error.strerror) from error
    with stream:
        yield stream


async def _import(
    kind: str, file: Path, stream: io.BufferedReader, rejects: Rejects, *, batch_lines: int
) -> Tally:
    if kind not in LOADERS:
        raise UnknownKind(f"cannot import {kind}, only {', '.join(LOADERS)}")
    settings = get_settings()
    load = LOADERS[kind](settings)
    tally = Tally()
    lines = read_lines(stream, name=file.name)
    async with open_sessions(settings) as sessions:
        with _progress(stream, file) as advance:
            while batch := list(islice(lines, batch_lines)):
                await _load_batch(load, sessions, batch, tally, rejects)
                advance(tally)
    return tally


async def _load_batch(
    load: Loader,
    sessions: Sessions,
    batch: list[Line | BadLine],
    tally: Tally,
    rejects: Rejects,
) -> None:
    good = [line for line in batch if isinstance(line, Line)]
    results = iter(await load(sessions, good) if good else ())
    for line in batch:
        if isinstance(line, BadLine):
            result = LineResult("rejected", reason=line.reason)
        else:
            result = next(results)
        tally.add(result)
        if result.status == "rejected":
            rejects.add(line, result.reason or "not said")


@contextmanager
def _progress(stream: io.BufferedReader, file: Path) -> Iterator[Callable[[Tally], None]]:
    """A bar by bytes read on standard error, where somebody sees it."""
    if not sys.stderr.isatty():
        yield lambda _tally: None
        return
    size = None if file == _STDIN else file.stat().st_size or None
    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn() if size else progress.TimeElapsedColumn(),
        progress.TextColumn("{task.fields[lines]:,} lines, {task.fields[rejected]:,} rejected"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task(file.name, total=size, lines=0, rejected=0)

        def advance(tally: Tally) -> None:
            # Read ahead by a buffer at most, gzip or not.
            read_bytes = stream.tell() if size else None
            bar.update(
                task,
                completed=read_bytes,
                lines=tally.read,
                rejected=tally.statuses["rejected"],
            )

        yield advance


def _summary(kind: str, report: dict[str, Any], rejects: Path) -> str:
    counts = ", ".join(f"{report[name]:,} {name}" for name in ("accepted", "ignored", "rejected"))
    lines = [f"{report['read']:,} {kind} in {report['seconds']:.1f} s: {counts}"]
    lines += [f"  {count:>9,} {name}" for name, count in report["outcomes"].items()]
    if made := report.get("partners_made"):
        named = ", ".join(made[:NAMED_MAX]) + (" …" if len(made) > NAMED_MAX else "")
        lines.append(f"{len(made):,} new partners, if that was meant: {named}")
    if report["rejected"]:
        lines.append(f"why: {rejects}")
    return "\n".join(lines)
