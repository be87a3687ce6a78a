"""Everything that X is known to do wrong, at random moments of a run, and kill -9 of the process
that listens: every post has its coupon in the end, none has two, and every confirmation stands at X
once. `--posts 20000 --faults 100` is the long run.
"""

import asyncio
import json
import random
import socket
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, get_args

import httpx
import pytest
from sqlalchemy import text

from app.insight.verify import verify
from app.kit.db import Sessions
from app.sandbox.faults import DisconnectType
from app.sandbox.main import SandboxServer, SandboxSettings
from tests.kills.processes import Environment, kill, start
from tests.programme import link, make_offer
from tests.stand_in import PROGRAMME, serving
from tests.support import MakeKey

ALWAYS = {"starts_at": "2006-01-01T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"}
OFFERS = 40
WAVE = 20
WITHOUT_MENTION = 0.15  # heard of by the hashtag's stream alone, and not answered
EDITED = 0.02
KILLS = 0.1  # of the faults
SETTLE_SECONDS_MAX = 120
SETTLED_A_SECOND_MIN = 50

SEND, MENTIONS, SEARCH = (
    "POST /2/tweets",
    "GET /2/users/{user_id}/mentions",
    "GET /2/tweets/search/recent",
)
FILTERED = "GET /2/tweets/search/stream"
# A reply that X forbids is not sent again, and rightly: those are counted.
FORBIDDEN = ("not_summoned", "not_summoned_reworded")
AFTER_THE_EFFECT = ("bad_gateway_after", "gateway_timeout_after", "slow_after", "cut_after")
NOTHING_SENT = (
    "credits_depleted",
    "usage_capped",
    "client_forbidden",
    "unauthorized",
    "rate_limited",
    "rate_limited_bare",
    "rate_limited_v1",
    "internal_error",
    "bad_gateway",
    "unavailable",
    "over_capacity_v1",
    "gateway_timeout",
    "slow",
    "cut",
)
ASKING = ("internal_error", "unavailable", "gateway_timeout", "rate_limited", "slow", "cut")
PUSHED = ("drop", "stall", "duplicate", "reorder", "split", "lose")
TO_WEBHOOKS = ("duplicate", "reorder", "lose")


def every_fault(by: str) -> list[dict[str, Any]]:
    """Each kind at each place where it can strike."""
    kinds = [("POST /2/tweets", kind) for kind in (*FORBIDDEN, *AFTER_THE_EFFECT, *NOTHING_SENT)]
    kinds += [(place, kind) for place in (MENTIONS, SEARCH) for kind in ASKING]
    kinds += [(FILTERED, kind) for kind in ("unavailable", "cut", "slow")]
    kinds += [("filtered_stream", kind) for kind in PUSHED]
    if by == "webhook":
        kinds += [("webhook", kind) for kind in TO_WEBHOOKS]
    else:
        kinds += [("activity_stream", kind) for kind in PUSHED]
    faults: list[dict[str, Any]] = [{"kind": kind, "on": place} for place, kind in kinds]
    faults += [
        {"kind": "disconnect", "on": "filtered_stream", "disconnect_type": kind}
        for kind in get_args(DisconnectType)
    ]
    for fault in faults:
        fault |= {"seconds": 4.0 if fault["kind"] == "stall" else 1.0}
    return faults


@dataclass
class Written:
    """A post of a member's that names one offer."""

    author: str
    tag: str
    mentions: bool
    id: str = ""


@dataclass
class Run:
    sessions: Sessions
    x: httpx.AsyncClient
    environment: Environment
    operator: str
    ports: list[int]
    posts: list[Written]
    struck: Counter[str] = field(default_factory=Counter)
    processes: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start(self, port: int) -> None:
        self.processes[port], line = await start(
            "tests.faults.service", str(port), environment=self.environment
        )
        assert "http://" in line, line

    async def kill_the_listener(self) -> None:
        """The one of the two whose connections X has is not known from outside: either may be."""
        port = random.choice(self.ports)
        await kill(self.processes[port])
        await self.start(port)
        self.struck["kill -9"] += 1

    async def stop(self) -> None:
        for process in self.processes.values():
            await kill(process)

    # what happens

    async def write(self, posts: Sequence[Written]) -> None:
        lines = []
        for post in posts:
            mention = "@TagbackDemo " if post.mentions else ""
            lines.append({"author_id": post.author, "text": f"{mention}#{post.tag}"})
        for post, post_id in zip(posts, await self._post(lines), strict=True):
            post.id = post_id
        edited = [post for post in posts if random.random() < EDITED]
        edits = [
            {"author_id": post.author, "edit_of": post.id, "text": f"@TagbackDemo #{post.tag} !"}
            for post in edited
            if post.mentions
        ]
        if edits:
            await self._post(edits)

    async def _post(self, lines: Sequence[dict[str, Any]]) -> list[str]:
        answer = await self.x.post("/sandbox/posts", content="\n".join(map(json.dumps, lines)))
        answer.raise_for_status()
        ids: list[str] = answer.json()["ids"]
        return ids

    async def strike(self, fault: dict[str, Any]) -> None:
        (await self.x.post("/sandbox/faults", json=fault)).raise_for_status()

    async def resume_when_stopped(self) -> None:
        """The operator: buys credits, connects the account again, and says go on."""
        headers = {"Authorization": f"Bearer {self.operator}"}
        async with httpx.AsyncClient(headers=headers, timeout=10) as client:
            while True:
                await asyncio.sleep(0.5)
                async with self.sessions() as session:
                    stopped = await session.scalar(
                        text("SELECT count(*) FROM send_windows WHERE stopped_reason IS NOT NULL")
                    )
                if stopped:
                    address = f"http://127.0.0.1:{random.choice(self.ports)}/v1/replies/resume"
                    try:
                        (await client.post(address)).raise_for_status()
                    except httpx.TransportError:
                        continue  # it is being killed

    async def settled(self) -> None:
        """Until every post has a coupon and every reply has had its end."""
        query = (
            "SELECT (SELECT count(*) FROM coupons) AS coupons, (SELECT count(*) FROM replies "
            "WHERE state IN ('queued', 'sending')) AS waiting, "
            "(SELECT json_agg(w) FROM send_windows w) AS windows"
        )
        seconds = SETTLE_SECONDS_MAX + len(self.posts) // SETTLED_A_SECOND_MIN
        for _ in range(seconds * 2):
            async with self.sessions() as session:
                found = (await session.execute(text(query))).one()
            if found.coupons == len(self.posts) and not found.waiting:
                return
            await asyncio.sleep(0.5)
        raise AssertionError(f"not settled: {found} of {len(self.posts)} posts")


def free_ports(number: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports: list[int] = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.mark.parametrize("by", ["webhook", "stream"])
async def test_every_post_has_its_coupon_and_every_confirmation_is_sent_once(
    by: str,
    sessions: Sessions,
    environment: Environment,
    make_key: MakeKey,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    number: int = request.config.getoption("--posts")
    faults: int = request.config.getoption("--faults")
    authors = [str(7_000_000 + one) for one in range(-(-number // OFFERS))]
    for offer in range(OFFERS):
        await make_offer(sessions, f"Tag{offer}", partner=f"p{offer % 5}", **ALWAYS)
    await link(sessions, *authors)
    pairs = [(author, f"Tag{offer}") for offer in range(OFFERS) for author in authors][:number]
    random.shuffle(pairs)
    posts = [Written(*pair, mentions=random.random() >= WITHOUT_MENTION) for pair in pairs]
    told = SandboxSettings(
        user_token="user", app_token="app", profile="enterprise", window_seconds=2,
        keep_alive_seconds=1.0, webhook_retries_after_seconds=(0.2, 0.5),
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving(SandboxServer(told, port=0)))
        x = await stack.enter_async_context(httpx.AsyncClient(base_url=address, timeout=60))
        people = [{"id": author, "handle": f"h{author}"} for author in authors]
        (await x.post("/sandbox/people", json=people)).raise_for_status()
        ports = free_ports(2)
        variables = {
            **environment,
            "TAGBACK_PUBLIC_URL": f"http://127.0.0.1:{ports[0]}",
            "TAGBACK_X_BASE_URL": address,
            "TAGBACK_X_ACCOUNT_ID": PROGRAMME,
            "TAGBACK_X_HANDLE": "TagbackDemo",
            "TAGBACK_X_APP_TOKEN": "app",
            "TAGBACK_X_USER_TOKEN": "user",
            "TAGBACK_X_CONSUMER_SECRET": told.consumer_secret,
            "TAGBACK_X_MENTIONS_BY": by,
            "TAGBACK_X_HASHTAG_STREAM": "true",
            "TAGBACK_X_LEASE_SECONDS": "2",
            "TAGBACK_X_REPLIES_PER_WINDOW": "1000000",
            "TAGBACK_X_REPLIES_PER_DAY": "1000000",
            "TAGBACK_X_REPLIES_WINDOW_SECONDS": "2",
            "TAGBACK_REPLY_LEASE_SECONDS": "5",
        }
        run = Run(sessions, x, variables, await make_key("operator"), ports, posts)
        stack.push_async_callback(run.stop)
        for port in ports:
            await run.start(port)
        resuming = asyncio.create_task(run.resume_when_stopped())
        await strike_at_random(run, every_fault(by), faults)
        # the last gap: nothing breaks a connection any more, and one must be broken to be closed
        app = {"Authorization": "Bearer app"}
        (await x.delete("/2/connections/all", headers=app)).raise_for_status()
        await run.settled()
        resuming.cancel()
        await nothing_is_wrong(run)
    with capsys.disabled():
        print(f"\nmentions by {by}: {number} posts; struck: {dict(sorted(run.struck.items()))}")


async def strike_at_random(run: Run, kinds: list[dict[str, Any]], faults: int) -> None:
    """While posts are written: first each kind once, in any order, then any."""
    random.shuffle(kinds)
    waves = [run.posts[at : at + WAVE] for at in range(0, len(run.posts), WAVE)]
    when = Counter(random.choices(range(len(waves)), k=faults))
    fired = 0
    for number, wave in enumerate(waves):
        for _ in range(when[number]):
            if random.random() < KILLS:
                await run.kill_the_listener()
            else:
                await run.strike(kinds[fired % len(kinds)])
                fired += 1
        await run.write(wave)
        await asyncio.sleep(random.uniform(0.02, 0.15))
    state = (await run.x.get("/sandbox/faults")).json()
    await run.x.delete("/sandbox/faults")  # those for which there was no occasion
    run.struck.update(state["fired"])


async def nothing_is_wrong(run: Run) -> None:
    async with run.sessions() as session:
        loaded = Counter(await session.scalars(text("SELECT post_id FROM coupons")))
        ends = (await session.execute(text("SELECT post_id, state, problem FROM replies"))).all()
    assert set(loaded.values()) == {1}
    assert len(loaded) == len(run.posts)
    forbidden = [post_id for post_id, state, _ in ends if state == "not_allowed"]
    assert len(forbidden) == sum(run.struck[kind] for kind in FORBIDDEN)
    assert {state for _, state, _ in ends} <= {"sent", "not_allowed"}, ends
    answers = (await run.x.get("/sandbox/replies", params={"limit": 10_000})).json()
    replies = answers["items"]
    while answers["next_cursor"]:
        query = {"limit": 10_000, "cursor": answers["next_cursor"]}
        answers = (await run.x.get("/sandbox/replies", params=query)).json()
        replies += answers["items"]
    sent = Counter(reply["in_reply_to_id"] for reply in replies)
    assert max(sent.values()) == 1
    assert len(sent) == len(ends) - len(forbidden)
    mentioning = {post.author + post.tag for post in run.posts if post.mentions}
    assert len(ends) == len(mentioning)
    async with run.sessions.begin() as session:
        assert [one for one in await verify(session) if one.wrong] == []
