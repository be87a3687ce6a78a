"""`tagback export`, as a process of its own."""

import asyncio
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from app.config import Settings
from app.kit.db import Sessions
from app.posts.enrol import Enroller
from tests.many import write_redemptions
from tests.programme import NOW, make_members, make_offer, make_post
from tests.support import Tagback


@pytest.fixture
async def loaded(sessions: Sessions, settings: Settings) -> None:
    await make_offer(sessions, "Tea")
    posts = [make_post(account, "tea") for account in await make_members(sessions, 3)]
    await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)


class TestTheCommand:
    @pytest.mark.usefixtures("loaded")
    async def test_writes_to_a_file_or_to_standard_output(
        self, tagback: Tagback, tmp_path: Path
    ) -> None:
        printed = await tagback("export", "coupons", "--format", "ndjson")
        coupons = {json.loads(line)["coupon_id"] for line in printed.out.splitlines()}
        assert (printed.status, len(coupons), printed.err) == (0, 3, "3 rows\n")
        file = tmp_path / "coupons.parquet"
        done = await tagback("export", "coupons", "--format", "parquet", "--out", file)
        assert (done.status, done.out, done.err) == (0, "", "3 rows\n")
        assert set(pq.read_table(file)["coupon_id"].to_pylist()) == coupons

    async def test_ends_quietly_when_its_reader_has_enough(
        self, tagback_path: Path, environment: dict[str, str], sessions: Sessions
    ) -> None:
        await write_redemptions(sessions, 400)
        async with sessions.begin() as session:
            await session.execute(text("UPDATE posts SET lang = repeat('en', 20000)"))
        piped = f"'{tagback_path}' export posts | head -c 100; echo ${{PIPESTATUS[0]}}"
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", piped, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert (out.decode()[100:], err.decode()) == ("141\n", "")
