"""`tagback demo`."""

import asyncio
import json
from typing import Annotated

import typer

from app.cli.running import run


def demo(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="End when done, instead of leaving the service up.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Watch posts become coupons, replies, purchases, credits and attributed sales.

    Starts the service, on the embedded database in TAGBACK_DATA_DIR, and a stand-in for X that it
    talks to over HTTP; then a made-up programme plays itself. The same data again adds nothing.

    Example: tagback demo --once --json
    """
    from rich.console import Console  # noqa: PLC0415 - `--help` shall not wait for these

    from app.cli.demo.run import run as play  # noqa: PLC0415
    from app.cli.demo.run import show  # noqa: PLC0415
    from app.config import get_settings  # noqa: PLC0415

    console = Console(stderr=as_json)
    try:
        result = run(play(get_settings(), once=once, console=console))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        show(result, console)
