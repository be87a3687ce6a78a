"""What a confirmed coupon costs on X at the least: counted by the stand-in, and by us."""

import asyncio
from decimal import Decimal

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.cli.roles import run_together, run_worker
from app.kit.db import Sessions
from app.posts import listening
from tests.programme import make_members, make_offer
from tests.stand_in import StartX
from tests.support import until

POSTS = 60
ALWAYS = {"starts_at": "2006-01-01T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"}


async def test_a_confirmed_coupon_costs_a_read_and_a_reply(
    sessions: Sessions, start_x: StartX, capsys: pytest.CaptureFixture[str]
) -> None:
    """The activity API, every post a coupon: $0.005 and $0.010."""
    await make_offer(sessions, "Tea", **ALWAYS)
    authors = await make_members(sessions, POSTS)
    x = await start_x(profile="enterprise")
    await x.client.post(
        "/sandbox/people", json=[{"id": author, "handle": f"h{author}"} for author in authors]
    )
    before = await x.usage()
    settings = x.settings.model_copy(
        update={
            "x_app_token": SecretStr("app"),
            "x_handle": "TagbackDemo",
            "x_mentions_by": "stream",
            "x_replies_per_window": 1_000_000,
        }
    )
    stop = asyncio.Event()
    running = asyncio.create_task(
        run_together([listening.run, run_worker], sessions, settings, stop)
    )

    async def is_listening() -> bool:
        state = (await x.client.get("/sandbox/state")).json()
        is_connected: int = state["connections"]["activity_stream"]
        return bool(is_connected) and state["subscriptions"] > POSTS  # deletions by each author

    async def all_are_answered() -> bool:
        return len(await x.replies()) == POSTS

    await until(is_listening)
    for author in authors:
        post = {"author_id": author, "text": "#Tea @TagbackDemo"}
        (await x.client.post("/sandbox/posts", json=post)).raise_for_status()
    await until(all_are_answered)
    stop.set()
    await running
    async with sessions.begin() as session:
        coupons = await session.scalar(text("SELECT count(*) FROM coupons"))
        rows = await session.execute(text("SELECT kind, units FROM network_usage"))
        ours = {row.kind: row.units for row in rows}
        micro_usd = await session.scalar(text("SELECT sum(micro_usd) FROM network_usage"))
    state = (await x.client.get("/sandbox/state")).json()
    theirs = {
        kind: count - before.get(kind, 0)
        for kind, count in state["usage"]["counts"].items()
        if count != before.get(kind, 0)
    }
    assert coupons == POSTS
    assert theirs == ours == {"post_read": POSTS, "summoned_reply": POSTS}
    assert Decimal(micro_usd) / coupons == 15_000
    with capsys.disabled():
        cost = Decimal(micro_usd) / coupons / 1_000_000
        print(f"\na confirmed coupon cost ${cost}: {theirs} for {coupons} coupons")
