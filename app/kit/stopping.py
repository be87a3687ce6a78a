import asyncio
from contextlib import suppress


async def pause(stop: asyncio.Event, *, seconds: float) -> None:
    """Between two rounds of a job: over at once when it is told to stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
