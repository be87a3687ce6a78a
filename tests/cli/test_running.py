"""What a command says when the database goes away, in a process of its own."""

import subprocess
import sys

LOST = "asyncpg.exceptions.ConnectionDoesNotExistError('connection was closed')"


def ran(body: str) -> subprocess.CompletedProcess[str]:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    program = (
        "import asyncio, gc, sys, asyncpg\n"
        "from app.cli.running import run\n"
        "from app.errors import TagbackError\n"
        f"async def main():\n{lines}\n"
        "try:\n    run(main())\nexcept TagbackError as error:\n    sys.exit(error.detail)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


def left_behind(error: str) -> str:
    """A future that fails and that nobody asks."""
    return (
        f"asyncio.get_running_loop().create_future().set_exception({error})\n"
        "gc.collect()\nawait asyncio.sleep(0)"
    )


class TestALostConnection:
    def test_is_told_once_however_many_waited_for_it(self) -> None:
        done = ran(f"{left_behind(LOST)}\nraise {LOST}")
        assert done.stderr == "the database does not answer: connection was closed\n"

    def test_is_told_by_what_was_first(self) -> None:
        busy = "asyncpg.exceptions.InterfaceError('another operation is in progress')"
        done = ran(f"try:\n    raise {LOST}\nfinally:\n    raise {busy}")
        assert done.stderr == "the database does not answer: connection was closed\n"


class TestAnyOtherErrorThatNobodyAskedFor:
    def test_is_told(self) -> None:
        assert "ValueError: ours" in ran(left_behind("ValueError('ours')")).stderr
