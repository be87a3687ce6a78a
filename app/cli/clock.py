"""`tagback clock`: the test clock, see docs/testing.md."""

import re
from datetime import timedelta
from typing import Annotated

import typer

from app.cli.running import run
from app.config import get_settings
from app.database import open_sessions
from app.errors import Invalid, TagbackError
from app.upkeep import moving

ACTOR = "command line"
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LENGTH = re.compile(r"(\d{1,9})([smhd])")

app = typer.Typer(help="Show and move the test clock.")


class ClockNotMovableError(TagbackError):
    code = "test_clock"


@app.command()
def show() -> None:
    """Show the time as the service sees it.

    Example: tagback clock show
    """
    _print(run(_move(None)))


@app.command()
def advance(
    by: Annotated[str, typer.Argument(help="How far: 30d, 12h, 90m or 45s.")],
) -> None:
    """Move time forward, for every process that shares the database.

    Example: tagback clock advance 30d
    """
    length = _LENGTH.fullmatch(by)
    if length is None:
        raise Invalid(f"{by!r} is no length of time as in 30d, 12h, 90m or 45s")
    _print(run(_move(int(length[1]) * _SECONDS[length[2]])))


async def _move(seconds: int | None) -> moving.Moment:
    settings = get_settings()
    if not settings.test_clock:
        raise ClockNotMovableError("time is moved only with TAGBACK_TEST_CLOCK=1")
    async with open_sessions(settings) as sessions:
        if seconds is None:
            return moving.moment()
        return await moving.move(sessions, advance_seconds=seconds, actor=ACTOR)


def _print(moment: moving.Moment) -> None:
    ahead = timedelta(seconds=round(moment.ahead.total_seconds()))
    print(f"{moment.now:%Y-%m-%d %H:%M:%S} UTC, {ahead} ahead")
