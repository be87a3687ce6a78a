"""`tagback export`."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.running import run
from app.errors import TagbackError

if TYPE_CHECKING:  # `--help` shall not wait for these
    from rich.progress import Progress

    from app.kit.db import Sessions

_EXIT_PIPE = 141  # as a shell reports it

What = Literal["redemptions", "coupons", "posts", "credits"]
Format = Literal["csv", "ndjson", "parquet"]


class ExportError(TagbackError):
    code = "export"


def export(
    what: Annotated[What, typer.Argument(help="What to write.")],
    *,
    file_format: Annotated[Format, typer.Option("--format", help="How to write it.")] = "csv",
    out: Annotated[
        Path | None, typer.Option("--out", help="A file; standard output when not given.")
    ] = None,
) -> None:
    """Write a whole set, from one snapshot and in constant memory.

    Examples:
      tagback export redemptions --format parquet --out redemptions.parquet

      tagback export credits --format ndjson | head

    """
    written = run(_export(what, file_format, out))
    typer.echo(f"{written} rows", err=True)


async def _export(what: What, file_format: Format, out: Path | None) -> int:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        FileSizeColumn,
        Progress,
        SpinnerColumn,
        TransferSpeedColumn,
    )

    from app.config import get_settings  # noqa: PLC0415 - `--help` shall not wait for these
    from app.database import open_sessions  # noqa: PLC0415

    if out is None and sys.stdout.isatty() and file_format == "parquet":
        raise ExportError("parquet is not for a terminal: give --out FILE")
    console = Console(stderr=True)
    shown = Progress(
        SpinnerColumn(), FileSizeColumn(), TransferSpeedColumn(), console=console,
        disable=out is None or not console.is_terminal, transient=True,
    )  # fmt: skip
    async with open_sessions(get_settings()) as sessions:
        try:
            with nullcontext(sys.stdout.buffer) if out is None else out.open("wb") as target, shown:
                return await _write(sessions, what, file_format, target, shown)
        except BrokenPipeError:  # whoever reads has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_EXIT_PIPE) from None
        except OSError as error:
            raise ExportError(f"cannot write {out or 'the output'}: {error.strerror}") from error


async def _write(
    sessions: "Sessions", what: What, file_format: Format, target: IO[bytes], shown: "Progress"
) -> int:
    from app.insight import exporting  # noqa: PLC0415
    from app.insight.export_queries import EXPORTS  # noqa: PLC0415

    task = shown.add_task(what, total=None)

    async def write(data: bytes) -> None:
        target.write(data)
        shown.advance(task, len(data))

    async with sessions.begin() as session:
        return await exporting.export(session, EXPORTS[what], file_format=file_format, write=write)
