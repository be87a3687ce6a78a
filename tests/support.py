"""What the fixtures of conftest.py give, for those who name its type, and what they stand on."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

# `await make_key(role, partner_id=None)`
MakeKey = Callable[..., Awaitable[str]]


async def until(holds: Callable[[], Awaitable[bool]], *, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - a database and another process tell nobody
            await asyncio.sleep(0.02)


class Ran(NamedTuple):
    status: int
    out: str
    err: str


# `await tagback("import", "members", "-", given=b"…", TAGBACK_PORT="1")`
Tagback = Callable[..., Awaitable[Ran]]

# `await analyse("accounts", "posts")`
Analyse = Callable[..., Awaitable[None]]


@cache
def reference_material() -> Path | None:
    """What lies beside the repository on the project's own machines, which CI does not do without;
    a clone that stands alone does not have it.
    """
    folder = ROOT.parent / "shared"
    if folder.is_dir():
        return folder
    if os.environ.get("CI") == "true":
        pytest.fail(f"no reference material at {folder}")
    return None
