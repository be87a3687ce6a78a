"""The service as `tagback serve` runs it, in every role, but quicker to look for what it may have
missed. `python -m tests.faults.service PORT`
"""

import asyncio
import sys
from functools import partial

from app.cli.roles import run_api, run_together, run_worker
from app.cli.running import run
from app.config import get_settings
from app.database import open_sessions
from app.posts import listening
from app.posts.pace import Pace

QUICK = Pace(
    silence_seconds=3.0,
    tail_seconds=12.0,  # what is asked for has passed for ten seconds
    between_gaps_seconds=0.5,
    retry_seconds=0.1,
    retry_seconds_max=1.0,
    gaps_every_seconds=3.0,
    subscriptions_every_seconds=3.0,
    rules_heeded_seconds=1.0,
    cursor_every_seconds=2.0,
)


async def main(port: int) -> None:
    settings = get_settings().model_copy(update={"port": port})
    stop = asyncio.Event()
    async with open_sessions(settings) as sessions:
        roles = [run_api, partial(listening.run, pace=QUICK), run_worker]
        await run_together(roles, sessions, settings, stop)


if __name__ == "__main__":
    run(main(int(sys.argv[1])))
