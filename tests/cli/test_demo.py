"""`tagback demo`: the whole way, in processes that speak HTTP, twice on the same data."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    # not pytest's own folder, which is closed to the user that root's PostgreSQL runs as
    folder = Path(tempfile.mkdtemp(prefix="tagback-demo-"))
    yield folder
    shutil.rmtree(folder)


async def play(data_dir: Path) -> dict[str, Any]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TAGBACK_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli", "demo", "--once", "--json",
        env={**plain, "TAGBACK_DATA_DIR": str(data_dir)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    result: dict[str, Any] = json.loads(out.decode().splitlines()[-1])
    return result


async def test_the_way_from_posts_to_credits_and_the_same_data_again(data_dir: Path) -> None:
    first = await play(data_dir)
    assert first["posts"] >= 1_000
    assert len(first["outcomes"]) >= 10
    assert first["coupons"] == first["outcomes"]["loaded"]
    assert first["replies"]["confirmations"] == first["coupons_with_mention"] > 0
    assert first["rewards_minor"] == first["credits_minor"]
    rewards: dict[str, int] = {}
    for row in first["attribution"]:
        rewards[row["currency"]] = rewards.get(row["currency"], 0) + row["reward_minor"]
    assert rewards == first["credits_minor"]
    assert sum(row["coupons"] for row in first["attribution"]) == first["coupons"]
    assert sum(row["redemptions"] for row in first["attribution"]) == first["redemptions"]["earned"]
    assert await play(data_dir) == first
