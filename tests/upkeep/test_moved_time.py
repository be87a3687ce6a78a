"""An integrator moves time over HTTP, on a service whose parts are processes of their own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.insight.verify import verify
from app.kit.db import Sessions
from tests.programme import make_offer, make_shop, member_line
from tests.stand_in import PROGRAMME, StartX
from tests.support import MakeKey, until

DAY = timedelta(days=1)


@asynccontextmanager
async def serving_role(
    command: Path, role: str, environment: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        command, "serve", "--roles", role, "--port", "0", env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


class World:
    """The served service, and everybody who talks to it."""

    def __init__(self, client: httpx.AsyncClient, sessions: Sessions, keys: dict[str, str]) -> None:
        self._client = client
        self._sessions = sessions
        self._keys = keys
        self._made = 0

    async def ask(self, role: str, method: str, path: str, **sent: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._keys[role]}"}
        answer = await self._client.request(method, path, headers=headers, timeout=30, **sent)
        assert answer.is_success, answer.text
        return answer

    async def now(self) -> datetime:
        answer = await self.ask("operator", "GET", "/v1/test-clock")
        return datetime.fromisoformat(answer.json()["now"])

    async def advance(self, length: timedelta) -> None:
        seconds = int(length.total_seconds())
        await self.ask("operator", "POST", "/v1/test-clock", json={"advance_seconds": seconds})

    async def post(self, author_id: str, tag: str) -> str:
        """What comes of a post that is made now."""
        self._made += 1
        post_id = str(1_900_000_000_000_000_000 + self._made)
        post = {
            "id": post_id,
            "author_id": author_id,
            "created_at": (await self.now()).isoformat(),
            "text": f"#{tag} @TagbackDemo",
            "edit_history_tweet_ids": [post_id],
            "entities": {
                "hashtags": [{"start": 0, "end": len(tag) + 1, "tag": tag}],
                "mentions": [{"start": 10, "end": 22, "id": PROGRAMME, "username": "TagbackDemo"}],
            },
        }
        body = json.dumps({"data": post})
        answer = await self.ask("issuer", "POST", "/v1/posts", content=body)
        (outcome,) = json.loads(answer.text.splitlines()[0])["outcomes"]
        return str(outcome)

    async def pay(self, author_id: str, kind: str) -> tuple[str | None, str | None]:
        """What comes of a payment that is made now, and why."""
        self._made += 1
        payment = {
            "id": f"t{self._made}",
            "type": kind,
            "purchase_id": f"p{self._made}",
            "card_ref": f"c-{author_id}",
            "acquirer_id": "ACQ",
            "acceptor_id": "counter",
            "amount_minor": 4_000,
            "currency": "USD",
            "occurred_at": (await self.now()).isoformat(),
        }
        answer = (await self.ask("processor", "POST", "/v1/transactions", json=payment)).json()
        return answer["decision"], answer["reason"]

    async def state_of(self, offer_id: object) -> str:
        offer = (await self.ask("operator", "GET", f"/v1/offers/{offer_id}")).json()
        return str(offer["state"])

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        async with self._sessions.begin() as session:
            return [tuple(row) for row in await session.execute(text(query))]


@pytest.fixture
async def world(
    sessions: Sessions,
    start_x: StartX,
    make_key: MakeKey,
    tagback_path: Path,
    environment: dict[str, str],
) -> AsyncIterator[World]:
    """The API and the worker, each in a process of its own."""
    x = await start_x()
    told = {
        **environment,
        "TAGBACK_TEST_CLOCK": "1",
        "TAGBACK_X_BASE_URL": str(x.client.base_url),
        "TAGBACK_X_USER_TOKEN": "user",
        "TAGBACK_X_ACCOUNT_ID": PROGRAMME,
    }
    keys = {role: await make_key(role) for role in ("operator", "issuer", "processor")}
    async with AsyncExitStack() as stack:
        api, _ = [
            await stack.enter_async_context(serving_role(tagback_path, role, told))
            for role in ("api", "worker")
        ]
        assert api.stdout
        async with asyncio.timeout(30):
            said = (await api.stdout.readline()).decode()
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=said.split()[-1]))
        yield World(client, sessions, keys)


class TestMovingTime:
    async def test_brings_all_that_weeks_would_bring(
        self, world: World, sessions: Sessions
    ) -> None:
        start = await world.now()
        window = {"starts_at": start - DAY, "ends_at": start + 90 * DAY}
        ahead = {"starts_at": start + 10 * DAY, "ends_at": start + 20 * DAY}
        for tag, times in (("Tea", window), ("Cake", ahead)):
            shown = {name: time.isoformat() for name, time in times.items()}
            offer_id = await make_offer(sessions, tag, coupon_valid_days=30, **shown)
        await make_shop(sessions, "counter")
        for number in ("1", "2"):
            await world.ask("issuer", "POST", "/v1/members", json=member_line(number))

        await world.ask("operator", "POST", "/v1/replies/pause")
        assert await world.post("1", "Tea") == "loaded"
        assert await world.post("1", "Cake") == "not_started"
        assert await world.pay("1", "authorization") == ("pending", None)

        # a reply gets too old: the worker, which is another process, lets it expire
        await world.advance(DAY + timedelta(hours=1))
        await world.ask("operator", "POST", "/v1/replies/resume")

        async def nothing_waits() -> bool:
            return await world.rows("SELECT DISTINCT state FROM replies") == [("expired",)]

        await until(nothing_waits)

        # an authorisation lapses, and the coupon is free again
        await world.advance(7 * DAY)
        lapsed = await world.rows("SELECT state, reason FROM redemptions")
        assert lapsed == [("rejected", "lapsed")]

        # an offer starts and ends
        await world.advance(3 * DAY)
        assert await world.state_of(offer_id) == "live"
        assert await world.rows(f"SELECT state FROM offers WHERE id = '{offer_id}'") == [("live",)]
        assert await world.post("2", "Cake") == "loaded"
        await world.advance(9 * DAY)
        assert await world.rows(f"SELECT state FROM offers WHERE id = '{offer_id}'") == [("ended",)]
        assert await world.post("1", "Cake") == "ended"

        # a coupon expires, and is closed when thirty days of settlement are past
        assert await world.post("2", "Tea") == "loaded"
        await world.advance(11 * DAY)
        assert await world.pay("1", "clearing") == (None, None)
        assert await world.pay("2", "clearing") == ("earned", None)
        closed = (
            "SELECT bool_and(closed_at IS NOT NULL) FROM coupons JOIN members m "
            "ON m.id = member_id WHERE m.ref = 'm-1'"
        )
        assert await world.rows(closed) == [(False,)]
        await world.advance(30 * DAY)
        assert await world.rows(closed) == [(True,)]
        async with sessions() as session:
            assert not [found for found in await verify(session) if found.wrong]
