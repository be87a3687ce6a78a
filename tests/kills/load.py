"""A mixed load that remembers what was acknowledged, and asks again until it is."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.kills.processes import Service

MEMBERS = 200
CAP = 60
PAID_FOR = 40  # coupons that the budget of `pie` reaches for
OFFERS: dict[str, dict[str, Any]] = {
    "tea": {},
    "cake": {"coupons_max": CAP},
    "pie": {"budget_minor": PAID_FOR * 500},
}
CALL_SECONDS_MAX = 15


def author(number: int) -> str:
    return str(5_000 + number % MEMBERS)


@dataclass
class Acknowledged:
    posts: dict[str, list[str]] = field(default_factory=dict)
    transactions: dict[str, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)
    batches: dict[str, list[dict[str, str]]] = field(default_factory=dict)


@dataclass
class Load:
    services: Sequence[Service]
    keys: dict[str, str]
    post_lines: list[dict[str, Any]]
    done: Acknowledged = field(default_factory=Acknowledged)
    unanswered: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _posted: int = 0
    _bought: int = 0

    async def run(self) -> None:
        async with httpx.AsyncClient(timeout=CALL_SECONDS_MAX) as client:
            kinds: list[Callable[[httpx.AsyncClient], Awaitable[None]]] = [
                self._post,
                self._post,
                self._buy,
                self._buy,
                self._buy,
                self._pay_out,
            ]
            await asyncio.gather(*(self._go_on(kind, client) for kind in kinds))

    async def _go_on(
        self, step: Callable[[httpx.AsyncClient], Awaitable[None]], client: httpx.AsyncClient
    ) -> None:
        while not self.stop.is_set():
            await step(client)

    async def call(
        self, client: httpx.AsyncClient, role: str, path: str, content: str | None = None
    ) -> httpx.Response:
        """The same request until somebody answers it: at any of the services."""
        headers = {
            "Authorization": f"Bearer {self.keys[role]}",
            "Content-Type": "application/json",
        }
        while True:
            address = random.choice(self.services).address
            try:
                answer = await client.post(f"{address}{path}", headers=headers, content=content)
            except httpx.HTTPError:
                self.unanswered += 1
            else:
                if answer.status_code < 500:
                    assert answer.status_code in (200, 201, 204), answer.text
                    return answer
                self.unanswered += 1
            await asyncio.sleep(0.05)

    # what is asked

    async def _post(self, client: httpx.AsyncClient) -> None:
        await asyncio.sleep(random.uniform(0, 0.3))
        lines = self.post_lines[self._posted : self._posted + random.randint(1, 20)]
        self._posted += len(lines)
        if not lines:
            await self.stop.wait()
            return
        await self.send_posts(client, lines)

    async def send_posts(
        self, client: httpx.AsyncClient, lines: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        content = "\n".join(map(json.dumps, lines))
        answer = await self.call(client, "issuer", "/v1/posts", content)
        told = [json.loads(line) for line in answer.text.splitlines()][:-1]
        for line, result in zip(lines, told, strict=True):
            assert result["status"] == "accepted", result
            self.done.posts.setdefault(line["data"]["id"], result["outcomes"])
        return told

    async def _buy(self, client: httpx.AsyncClient) -> None:
        self._bought += 1
        number = self._bought
        amount = random.choice([900, 2_000, 7_500])
        parts = [
            [("authorization", amount), ("clearing", amount)],
            [("authorization", amount), ("clearing", amount), ("refund", amount // 2)],
            [("clearing", amount), ("clearing", amount), ("refund", amount * 2)],
            [("authorization", amount), ("reversal", amount)],
            [("authorization", amount)],
        ]
        for part, (kind, minor) in enumerate(random.choice(parts)):
            await self.send_transaction(
                client,
                {
                    "id": f"T{number}-{part}",
                    "type": kind,
                    "purchase_id": f"P{number}",
                    "card_ref": f"card-{author(random.randrange(MEMBERS))}"
                    if part == 0
                    else self.done.transactions[f"T{number}-0"][0]["card_ref"],
                    "acquirer_id": "ACQ",
                    "acceptor_id": "counter",
                    "amount_minor": minor,
                    "currency": "USD",
                    "occurred_at": datetime.now(UTC).isoformat(),
                },
            )

    async def send_transaction(
        self, client: httpx.AsyncClient, transaction: dict[str, Any]
    ) -> dict[str, Any]:
        answer = await self.call(client, "processor", "/v1/transactions", json.dumps(transaction))
        told: dict[str, Any] = answer.json()
        self.done.transactions.setdefault(transaction["id"], (transaction, told))
        return told

    async def _pay_out(self, client: httpx.AsyncClient) -> None:
        await asyncio.sleep(random.uniform(0.1, 0.5))
        made = await self.call(client, "issuer", "/v1/credit-batches")
        if made.status_code == 204:
            return
        batch_id = made.json()["id"]
        address = random.choice(self.services).address
        headers = {"Authorization": f"Bearer {self.keys['issuer']}"}
        try:
            found = await client.get(f"{address}/v1/credit-batches/{batch_id}", headers=headers)
            lines = found.json()["items"]
        except (httpx.HTTPError, KeyError):
            return  # left open, as a batch may be
        failures = [{"line_id": line["id"], "reason": "no such card"} for line in lines[::7]]
        await self.acknowledge(client, batch_id, failures)

    async def acknowledge(
        self, client: httpx.AsyncClient, batch_id: str, failures: list[dict[str, str]]
    ) -> None:
        content = json.dumps({"failures": failures})
        path = f"/v1/credit-batches/{batch_id}/acknowledge"
        answer = await self.call(client, "issuer", path, content)
        assert answer.json()["state"] == "acknowledged"
        self.done.batches[batch_id] = failures
