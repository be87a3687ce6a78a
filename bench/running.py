"""The service and the stand-in as processes of their own, for benchmarks that go over HTTP."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

START_SECONDS_MAX = 60


@asynccontextmanager
async def tagback(command: Sequence[str], variables: Mapping[str, str]) -> AsyncIterator[str]:
    """Runs a `tagback` command until the block ends; gives the address that it prints."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TAGBACK_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli", *command,
        env={**plain, **variables}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            line = (await process.stdout.readline()).decode()
        assert "http://" in line, f"`tagback {command[0]}` did not start: {line}"
        yield line[line.index("http://") :].split()[0]
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
