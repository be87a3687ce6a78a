"""Processes that are killed and started again, and may be killed while they start."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

START_SECONDS_MAX = 60
STARTS_MAX = 20

Environment = dict[str, str]


async def start(*command: str, environment: Environment) -> tuple[asyncio.subprocess.Process, str]:
    """The process, and the first line that it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *command,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    async with asyncio.timeout(START_SECONDS_MAX):
        return process, (await process.stdout.readline()).decode().strip()


async def kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


@dataclass
class Postgres:
    """The embedded server, durable as it is for users."""

    folder: Path
    environment: Environment
    url: str = ""
    _keeper: asyncio.subprocess.Process | None = field(default=None, repr=False)

    async def start(self) -> None:
        self._keeper, self.url = await start(
            "tests.kills.keeper", str(self.folder), environment=self.environment
        )
        assert self.url, f"PostgreSQL did not start: see {self.folder}/postgres/log"

    async def kill(self) -> None:
        """The server first, and then whoever would have stopped it."""
        pid_file = self.folder / "postgres" / "postmaster.pid"
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
        assert self._keeper is not None
        await kill(self._keeper)

    async def stop(self) -> None:
        assert self._keeper is not None
        self._keeper.terminate()
        await self._keeper.wait()
        pid_file = self.folder / "postgres" / "postmaster.pid"
        with suppress(FileNotFoundError):
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGINT)
        async with asyncio.timeout(START_SECONDS_MAX):
            while pid_file.exists():  # noqa: ASYNC110 - a file tells nobody
                await asyncio.sleep(0.05)


@dataclass
class Service:
    """`tagback serve`; `address` is where it listens now, or listened last."""

    environment: Environment
    address: str = ""
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    async def start(self) -> None:
        for _ in range(STARTS_MAX):
            self.process, line = await start(
                "app.cli",
                "serve",
                "--port",
                "0",
                "--roles",
                "api,worker",
                environment=self.environment,
            )
            if "http://" in line:
                self.address = line[line.index("http://") :].split()[0]
                return
            await self.process.wait()  # the database was just being killed: once more
            await asyncio.sleep(0.2)
        raise AssertionError("the service does not start")

    async def kill(self) -> None:
        assert self.process is not None
        await kill(self.process)
