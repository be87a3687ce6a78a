"""docs/analyst.md, run as it stands: every block of it, and the three libraries say the same."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import httpx
import pytest

from app.config import Settings
from app.insight import attribution
from app.kit.db import Sessions
from app.posts.enrol import Enroller
from tests.programme import NOW, make_members, make_offer, make_post, make_shop, pay
from tests.support import ROOT, MakeKey, Tagback

PAGE = (ROOT / "docs/analyst.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
SHELL = [code for language, code in BLOCKS if language == "sh"]
PYTHON = [code for language, code in BLOCKS if language == "python"]

# Which blocks are whose, and how each library is asked for plain rows.
LIBRARIES = {
    "pandas": ([0, 3, 4, 5], "frame.reset_index().values.tolist()"),
    "polars": ([1, 6], "[list(row) for row in frame.rows()]"),
    "duckdb": ([2, 7], "[list(map(plain, row)) for row in frame.fetchall()]"),
}
TOLD = """
import json
def plain(value):
    return value if isinstance(value, str) else float(value)
def rows(frame):
    return {rows}
print(json.dumps([rows(by_hashtag), rows(median_minutes), rows(by_kind)]))
"""


async def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.fixture
async def sold(sessions: Sessions, settings: Settings) -> None:
    """Two offers; Tea sold twice, once to a customer who comes again, and once it was refunded all
    but a dollar, which is below its minimum.
    """
    await make_shop(sessions, "counter")
    await make_offer(sessions, "Tea", redemptions_per_coupon=5, min_spend_minor=1_000)
    await make_offer(sessions, "Cake")
    accounts = await make_members(sessions, 3)
    posts = [make_post(account, "tea") for account in accounts[:2]]
    posts.append(make_post(accounts[2], "cake"))
    await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)
    await pay(sessions, accounts[0], "clearing", 2_000)
    await pay(sessions, accounts[0], "clearing", 3_000)
    await pay(sessions, accounts[1], "clearing", 1_500, purchase_id="back")
    await pay(sessions, accounts[1], "refund", 1_400, purchase_id="back")
    await pay(sessions, accounts[2], "clearing", 700)
    await attribution.flush(sessions)


@pytest.fixture
async def environment_of_reader(client: httpx.AsyncClient, make_key: MakeKey) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "TAGBACK": str(client.base_url).rstrip("/"),
        "KEY": await make_key("analyst"),
    }


class TestTheGuide:
    def test_every_block_is_run(self) -> None:
        numbers = sorted(number for blocks, _ in LIBRARIES.values() for number in blocks)
        assert numbers == list(range(len(PYTHON)))
        assert len(SHELL) == 4
        assert {language for language, _ in BLOCKS} == {"sh", "python"}

    async def test_makes_a_key(self, tagback: Tagback) -> None:
        program, *arguments = SHELL[0].split()
        assert program == "tagback"
        made = await tagback(*arguments)
        assert re.fullmatch(r"tb_\w{40}", made.out.splitlines()[-1])
        assert re.fullmatch(r"export TAGBACK=http://127.0.0.1:8000 KEY=tb_…\n", SHELL[1])

    @pytest.mark.usefixtures("sold")
    async def test_has_the_figures_of_the_attribution(
        self, client: httpx.AsyncClient, environment_of_reader: dict[str, str], tmp_path: Path
    ) -> None:
        await run("bash", "-c", SHELL[2], cwd=tmp_path, **environment_of_reader)
        as_csv = await run("bash", "-c", SHELL[3], cwd=tmp_path, **environment_of_reader)
        assert len(as_csv.splitlines()) == 1 + 3
        programs = [
            "\n".join([*(PYTHON[number] for number in blocks), TOLD.replace("{rows}", rows)])
            for blocks, rows in LIBRARIES.values()
        ]
        told = await asyncio.gather(
            *(
                run(sys.executable, "-c", program, cwd=tmp_path, **environment_of_reader)
                for program in programs
            )
        )
        answer = await client.get(
            "/v1/attribution?group_by=hashtag",
            headers={"Authorization": f"Bearer {environment_of_reader['KEY']}"},
        )
        names = ("hashtag", "currency", "redemptions", "sales_minor", "reward_minor")
        expected = [[row[name] for name in names] for row in answer.json()["items"]]
        for figures in map(json.loads, told):
            by_hashtag, median_minutes, by_kind = map(sorted, figures)
            assert by_hashtag == expected
            assert by_hashtag == [["Cake", "USD", 1, 700, 500], ["Tea", "USD", 2, 5_000, 1_000]]
            assert median_minutes == [["Cake", 5.0], ["Tea", 5.0]]
            assert by_kind == [["new", "USD", 2, 2_700], ["returning", "USD", 1, 3_000]]
