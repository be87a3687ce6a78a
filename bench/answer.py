"""Post in to reply out: how long after the stand-in has made a post it has our reply to it, with
the service, its PostgreSQL and the stand-in on one machine.

Every post is of another member and offer, mentions the account, and is answered by a confirmation.
Both moments are the stand-in's own: its ids hold the millisecond in which they were made.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from app.config import Settings
from app.database import open_sessions
from bench.running import free_port, tagback
from tests.programme import make_members, make_offer
from tests.stand_in import PROGRAMME

OFFERS = 20
POSTS_AT_ONCE = 5
ALWAYS = {"starts_at": "2006-01-01T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"}
WARM_UP_SECONDS = 3
REPLIES_LATE_SECONDS_MAX = 60
UNIT = "ms"


async def measure(*, rate: int, seconds: int) -> list[float]:
    """Milliseconds from post to reply, one a post, sorted."""
    with tempfile.TemporaryDirectory(prefix="tagback-bench-", ignore_cleanup_errors=True) as folder:
        settings = Settings(data_dir=Path(folder), _env_file=None)
        async with open_sessions(settings) as sessions:
            warm_up, posts = rate * WARM_UP_SECONDS, rate * seconds
            for number in range(OFFERS):
                await make_offer(sessions, f"Tag{number}", partner=f"p{number % 5}", **ALWAYS)
            members = await make_members(sessions, -(-(warm_up + posts) // OFFERS))
            port = free_port()
            variables = {
                "TAGBACK_DATA_DIR": folder,
                "TAGBACK_PUBLIC_URL": f"http://127.0.0.1:{port}",
                "TAGBACK_X_ACCOUNT_ID": PROGRAMME,
                "TAGBACK_X_HANDLE": "TagbackDemo",
                "TAGBACK_X_APP_TOKEN": "app",
                "TAGBACK_X_USER_TOKEN": "user",
                "TAGBACK_X_CONSUMER_SECRET": "consumer secret",
                "TAGBACK_X_REPLIES_PER_WINDOW": "1000000",
                "TAGBACK_X_REPLIES_PER_DAY": "1000000",
            }
            stand_in = ["sandbox", "--port", "0", "--profile", "enterprise"]
            async with tagback(stand_in, variables) as x_url:
                variables["TAGBACK_X_BASE_URL"] = x_url
                serve = ["serve", "--port", str(port)]
                async with (
                    tagback(serve, variables),
                    httpx.AsyncClient(base_url=x_url, timeout=60) as x,
                ):
                    await meet(x, members)
                    await listening(x)
                    pairs = [(m, f"Tag{n}") for n in range(OFFERS) for m in members]
                    await post(x, pairs[:warm_up], rate=rate)
                    await answered(x, warm_up)
                    await post(x, pairs[warm_up : warm_up + posts], rate=rate)
                    replies = await answered(x, warm_up + posts)
    return sorted(map(waited_ms, replies[warm_up:]))


async def meet(x: httpx.AsyncClient, members: list[str]) -> None:
    people = [{"id": member, "handle": f"h{member}"} for member in members]
    (await x.post("/sandbox/people", json=people)).raise_for_status()


async def listening(x: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while True:
            state = (await x.get("/sandbox/state")).json()
            if state["subscriptions"] and any(one["valid"] for one in state["webhooks"]):
                return
            await asyncio.sleep(0.1)


async def post(x: httpx.AsyncClient, pairs: list[tuple[str, str]], *, rate: int) -> None:
    """At an even pace, whatever becomes of them: who falls behind is not waited for."""
    started = time.perf_counter()
    sending: set[asyncio.Task[None]] = set()
    for start in range(0, len(pairs), POSTS_AT_ONCE):
        due = started + start / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(_send(x, pairs[start : start + POSTS_AT_ONCE]))
        sending.add(task)
        task.add_done_callback(sending.discard)
    await asyncio.gather(*sending)


async def _send(x: httpx.AsyncClient, pairs: list[tuple[str, str]]) -> None:
    lines = (
        json.dumps({"author_id": author, "text": f"@TagbackDemo #{tag}"}) for author, tag in pairs
    )
    (await x.post("/sandbox/posts", content="\n".join(lines))).raise_for_status()


async def answered(x: httpx.AsyncClient, number: int) -> list[dict[str, Any]]:
    """All replies in order, once there are so many."""
    replies: list[dict[str, Any]] = []
    async with asyncio.timeout(REPLIES_LATE_SECONDS_MAX):
        while len(replies) < number:
            cursor = replies[-1]["id"] if replies else "0"
            query = {"limit": 10_000, "cursor": cursor}
            new = (await x.get("/sandbox/replies", params=query)).json()["items"]
            replies += new
            if not new:
                await asyncio.sleep(0.5)
    assert len(replies) == number, f"{len(replies)} replies to {number} posts"
    assert max(Counter(one["in_reply_to_id"] for one in replies).values()) == 1
    return replies


def waited_ms(reply: dict[str, Any]) -> float:
    return float((int(reply["id"]) >> 22) - (int(reply["in_reply_to_id"]) >> 22))


async def run(*, runs: int, rate: int = 200, seconds: int = 60) -> list[dict[str, Any]]:
    """The contract's rows: p50 and p99, medians of the runs."""
    found: dict[str, list[float]] = {"answer_p50": [], "answer_p99": []}
    for _ in range(runs):
        waits = await measure(rate=rate, seconds=seconds)
        found["answer_p50"].append(waits[len(waits) // 2])
        found["answer_p99"].append(waits[len(waits) * 99 // 100])
    return [
        {
            "name": name,
            "value": statistics.median(values),
            "unit": UNIT,
            "bound": None,
            "ratio": None,
            "peer": None,
            "peer_ratio": None,
            "runs": runs,
            "spread": [min(values), max(values)],
        }
        for name, values in found.items()
    ]
