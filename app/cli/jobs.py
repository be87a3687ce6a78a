"""`tagback jobs`: what the worker does every few seconds, done once."""

from typing import Annotated

import typer

from app.cli.running import run as run_command
from app.config import get_settings
from app.database import open_sessions
from app.errors import TagbackError
from app.kit import clock
from app.upkeep.jobs import JOBS, run_job

app = typer.Typer(help="Run what time does to offers, purchases and coupons.")


@app.callback()
def _jobs() -> None:
    """The worker runs them all every few seconds; these are for the impatient and for cron."""


class UnknownJob(TagbackError):
    code = "unknown_job"


@app.command("run")
def run_once(
    name: Annotated[str | None, typer.Argument(help=", ".join(JOBS) + "; all if unset")] = None,
) -> None:
    """Do what is due: start and end offers, lapse purchases, close coupons, forget what must be.

    Twice or late does no harm.

    Example: tagback jobs run

    Example: tagback jobs run close
    """
    if name is not None and name not in JOBS:
        raise UnknownJob(f"no job {name!r}, only {', '.join(JOBS)}")
    done = run_command(_run_once([name] if name else list(JOBS)))
    for job, rows in done.items():
        print(f"{rows:>9,} {JOBS[job][0]}")


async def _run_once(names: list[str]) -> dict[str, int]:
    async with open_sessions(get_settings()) as sessions:
        now = clock.now()
        return {name: await run_job(sessions, name, now=now) for name in names}
