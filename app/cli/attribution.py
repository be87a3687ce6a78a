"""`tagback attribution`."""

import typer

from app.cli.running import run

app = typer.Typer(help="Make the figures of attribution anew.")


@app.callback()
def _group() -> None:
    """Make the figures of attribution anew."""


@app.command()
def rebuild() -> None:
    """Forget what was made of the redemptions for attribution, and follow all of them again.

    The service may go on meanwhile: until it is done, `as_of` is in the past and the figures are
    those of the older redemptions. What is interrupted, the service goes on with.

    Example: tagback attribution rebuild
    """
    print(f"{run(_rebuild()):,} redemptions followed")


async def _rebuild() -> int:
    from rich.console import Console  # noqa: PLC0415 - `--help` shall not wait for these
    from rich.progress import Progress  # noqa: PLC0415

    from app.config import get_settings  # noqa: PLC0415
    from app.database import open_sessions  # noqa: PLC0415
    from app.insight import attribution  # noqa: PLC0415

    console = Console(stderr=True)
    shown = Progress(console=console, disable=not console.is_terminal, transient=True)
    async with open_sessions(get_settings()) as sessions:
        number = await attribution.forget(sessions)
        with shown:
            task = shown.add_task("following", total=number)
            await attribution.flush(sessions, progress=lambda taken: shown.advance(task, taken))
    return number
