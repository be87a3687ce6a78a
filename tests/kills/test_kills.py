"""kill -9 at any moment of a mixed load, of two services and of PostgreSQL itself: nothing that was
acknowledged is lost, and nothing happens twice. `--kills 200` is the long run.
"""

import asyncio
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.database import ENGINE
from app.insight.verify import verify
from app.kit.db import Sessions, make_engine, make_sessions
from app.members import service as members
from app.members.schemas import MemberLine
from app.partners.keys import create_key
from app.sandbox.main import SandboxServer, SandboxSettings
from tests.kills.load import CAP, MEMBERS, OFFERS, PAID_FOR, Load, author
from tests.kills.processes import Postgres, Service
from tests.programme import make_offer, make_shop
from tests.stand_in import PROGRAMME, serving

POSTGRES_EVERY = 10  # kills
POSTS_PER_KILL = 60
DRAIN_SECONDS_MAX = 120


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    # not pytest's own, which is closed to the user that root's PostgreSQL runs as
    folder = Path(tempfile.mkdtemp(prefix="tagback-kills-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def postgres(folder: Path) -> AsyncIterator[Postgres]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TAGBACK_")}
    postgres = Postgres(folder, plain)
    await postgres.start()
    yield postgres
    await postgres.stop()


@pytest.fixture
async def x() -> AsyncIterator[httpx.AsyncClient]:
    told = SandboxSettings(user_token="user", app_token="app", profile="enterprise")
    async with (
        serving(SandboxServer(told, port=0)) as address,
        httpx.AsyncClient(base_url=address, timeout=60) as client,
    ):
        yield client


async def make_programme(sessions: Sessions, x: httpx.AsyncClient, posts: int) -> Load:
    """A member for each author, three offers, a shop, and posts that X knows."""
    for tag, caps in OFFERS.items():
        window = {"starts_at": "2026-01-01T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"}
        await make_offer(sessions, tag, **window, **caps)
    await make_shop(sessions, "counter")
    people = [{"id": author(number), "handle": f"m{number}"} for number in range(MEMBERS)]
    (await x.post("/sandbox/people", json=people)).raise_for_status()
    rows = [
        MemberLine.model_validate(
            {
                "member_ref": author(number),
                "account": {"network": "x", "id": author(number)},
                "card": {"card_ref": f"card-{author(number)}"},
                "consented_at": "2026-01-01T00:00:00Z",
            }
        )
        for number in range(MEMBERS)
    ]
    keys = {}
    now = datetime.now(UTC)
    async with sessions.begin() as session:
        await members.save_members(session, rows=rows, now=now)
        for role in ("issuer", "processor"):
            new = await create_key(session, actor="test", role=role, now=now)
            keys[role] = new.key
    tags = list(OFFERS)
    lines = []
    for number in range(posts):
        tag = tags[number // MEMBERS % len(tags)]
        post = {"author_id": author(number), "text": f"@TagbackDemo #{tag} {number}"}
        answer = await x.post("/sandbox/posts", json=post)
        post_id = answer.json()["ids"][0]
        start = len("@TagbackDemo ")
        lines.append(
            {
                "data": {
                    "id": post_id,
                    "author_id": author(number),
                    "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "text": post["text"],
                    "edit_history_tweet_ids": [post_id],
                    "entities": {
                        "hashtags": [{"start": start, "end": start + 1 + len(tag), "tag": tag}],
                        "mentions": [
                            {"start": 0, "end": 12, "username": "TagbackDemo", "id": PROGRAMME}
                        ],
                    },
                }
            }
        )
    return Load([], keys, lines)


async def test_nothing_acknowledged_is_lost_and_nothing_happens_twice(
    postgres: Postgres,
    x: httpx.AsyncClient,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kills: int = request.config.getoption("--kills")
    async with AsyncExitStack() as stack:
        engine = make_engine(postgres.url, role=ENGINE)
        stack.push_async_callback(engine.dispose)
        sessions = make_sessions(engine)
        load = await make_programme(sessions, x, posts=kills * POSTS_PER_KILL)
        environment = {
            **postgres.environment,
            "TAGBACK_DATABASE_URL": postgres.url,
            "TAGBACK_X_BASE_URL": str(x.base_url),
            "TAGBACK_X_USER_TOKEN": "user",
            "TAGBACK_X_ACCOUNT_ID": PROGRAMME,
            "TAGBACK_X_REPLIES_PER_WINDOW": "1000000",
            "TAGBACK_X_REPLIES_PER_DAY": "1000000",
            "TAGBACK_REPLY_LEASE_SECONDS": "5",
        }
        load.services = [Service(environment), Service(environment)]
        for service in load.services:
            await service.start()
            stack.push_async_callback(service.kill)
        running = asyncio.create_task(load.run())
        killed = await kill_at_random(load, postgres, kills, running)
        load.stop.set()
        await running
        await engine.dispose()  # its connections were to a server that was killed
        await drained(sessions)
        await nothing_lost(load, sessions)
        await nothing_twice(load, sessions, x)
        async with sessions.begin() as session:
            assert [one for one in await verify(session) if one.wrong] == []
    with capsys.disabled():
        print(
            f"\nkilled: {dict(killed)}; acknowledged: {len(load.done.posts)} posts, "
            f"{len(load.done.transactions)} transactions, {len(load.done.batches)} credit batches; "
            f"asked again: {load.unanswered}"
        )


async def kill_at_random(
    load: Load, postgres: Postgres, kills: int, running: asyncio.Task[None]
) -> Counter[str]:
    killed: Counter[str] = Counter()
    for number in range(1, kills + 1):
        await asyncio.sleep(random.uniform(0.05, 0.6))
        assert not running.done(), running.result()
        if number % POSTGRES_EVERY == 0 or number == kills:
            await postgres.kill()
            await postgres.start()
            killed["postgres"] += 1
        else:
            service = random.choice(load.services)
            await service.kill()
            await service.start()
            killed["services"] += 1
    return killed


async def drained(sessions: Sessions) -> None:
    """Every reply has been sent, those of unknown outcome looked up."""
    async with asyncio.timeout(DRAIN_SECONDS_MAX):
        while True:
            async with sessions() as session:
                waiting = await session.scalar(
                    text("SELECT count(*) FROM replies WHERE state IN ('queued', 'sending')")
                )
            if waiting == 0:
                return
            await asyncio.sleep(0.2)


async def nothing_lost(load: Load, sessions: Sessions) -> None:
    async with sessions() as session:
        decided = {
            row.post_id: row.outcome
            for row in await session.execute(text("SELECT post_id, outcome FROM decisions"))
        }
        batches = await session.execute(
            text(
                "SELECT b.id::text, b.state, count(*) FILTER (WHERE l.state = 'failed') AS failed "
                "FROM credit_batches b JOIN credit_lines l ON l.batch_id = b.id GROUP BY 1, 2"
            )
        )
        known = {row.id: (row.state, row.failed) for row in batches}
    for post_id, outcomes in load.done.posts.items():
        assert outcomes in (["duplicate"], [decided[post_id]])
    for batch_id, failures in load.done.batches.items():
        assert known[batch_id] == ("acknowledged", len(failures))


async def nothing_twice(load: Load, sessions: Sessions, x: httpx.AsyncClient) -> None:
    before = await figures(sessions)
    assert before["cake"] <= CAP
    assert before["pie"] <= PAID_FOR
    async with httpx.AsyncClient(timeout=60) as client:
        sent = [line for line in load.post_lines if line["data"]["id"] in load.done.posts]
        for start in range(0, len(sent), 500):
            told = await load.send_posts(client, sent[start : start + 500])
            assert {tuple(one["outcomes"]) for one in told} <= {("duplicate",)}
        for transaction, answer in list(load.done.transactions.values()):
            assert await load.send_transaction(client, transaction) == answer
        for batch_id, failures in list(load.done.batches.items()):
            await load.acknowledge(client, batch_id, failures)
    assert await figures(sessions) == before
    answer = await x.get("/sandbox/replies", params={"limit": 10_000})
    replies = Counter(reply["in_reply_to_id"] for reply in answer.json()["items"])
    assert max(replies.values(), default=0) <= 1
    assert len(replies) == before["replies"]


async def figures(sessions: Sessions) -> dict[str, Any]:
    queries = {
        **{
            tag: "SELECT count(*) FROM coupons c JOIN offers o ON o.id = c.offer_id "
            f"WHERE o.ref = '{tag}'"
            for tag in OFFERS
        },
        "posts": "SELECT count(*) FROM posts",
        "transactions": "SELECT count(*) FROM card_transactions",
        "transfers": "SELECT count(*) FROM transfers",
        "owed": "SELECT coalesce(sum(owed_minor), 0) FROM redemptions",
        "replies": "SELECT count(*) FROM replies WHERE state = 'sent'",
    }
    async with sessions() as session:
        return {name: await session.scalar(text(query)) for name, query in queries.items()}
