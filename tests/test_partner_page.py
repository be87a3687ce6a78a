"""docs/partner.md can be followed word for word, and answers are as it shows them."""

import asyncio
import json
import re
from typing import Any

import httpx

from app.config import Settings
from app.insight import attribution
from app.kit.db import Sessions
from tests.support import ROOT, MakeKey

BLOCK = re.compile(r"```sh\n(.*?)```\n```json\n(.*?)```", re.DOTALL)
END = "--- end of the block ---"


def differences(shown: Any, real: Any, place: str = "$") -> list[str]:
    """What is shown must be so; the page leaves out what it does not speak of."""
    if isinstance(shown, dict) and isinstance(real, dict):
        return [
            found
            for name, value in shown.items()
            for found in differences(value, real.get(name, "missing"), f"{place}.{name}")
        ]
    if isinstance(shown, list) and isinstance(real, list) and len(shown) == len(real):
        return [
            found
            for number, value in enumerate(shown)
            for found in differences(value, real[number], f"{place}[{number}]")
        ]
    return [] if shown == real else [f"{place} is {real!r}, not {shown!r}"]


async def test_the_walk_leads_to_a_redemption(
    client: httpx.AsyncClient, sessions: Sessions, settings: Settings, make_key: MakeKey
) -> None:
    page = (ROOT / "docs" / "partner.md").read_text()
    blocks = BLOCK.findall(page)
    assert len(blocks) == page.count("```sh\n") == 13
    script = "set -euo pipefail\n" + "".join(f"{code}echo\necho '{END}'\n" for code, _ in blocks)
    stop = asyncio.Event()
    following = asyncio.create_task(attribution.run(sessions, settings, stop))
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "TAGBACK": str(client.base_url).rstrip("/"),
            "OPERATOR": await make_key("operator"),
            "ISSUER": await make_key("issuer"),
            "PROCESSOR": await make_key("processor"),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    stop.set()
    await following
    assert process.returncode == 0, err.decode()
    answers = out.decode().split(END)[:-1]
    for (code, shown), answer in zip(blocks, answers, strict=True):
        first = answer.strip().splitlines()[0]
        assert differences(json.loads(shown), json.loads(first)) == [], code
