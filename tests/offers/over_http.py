"""Offers as their partner and the operator reach them."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

Call = Callable[..., Awaitable[httpx.Response]]


def caller(client: httpx.AsyncClient, key: str) -> Call:
    async def call(
        path: str, body: Any = None, method: str = "POST", **headers: str
    ) -> httpx.Response:
        sent = {"Authorization": f"Bearer {key}", **headers}
        return await client.request(method, f"/v1/offers{path}", json=body, headers=sent)

    return call


def terms(**changes: Any) -> dict[str, Any]:
    """Up to 7 EUR back in Paris, from an hour ago for five days."""
    now = datetime.now(UTC)
    return {
        "offer_ref": "tea-1",
        "title": "Tea for two",
        "hashtag": "#TeaForTwo",
        "starts_at": (now - timedelta(hours=1)).isoformat(),
        "ends_at": (now + timedelta(days=5)).isoformat(),
        "time_zone": "Europe/Paris",
        "currency": "EUR",
        "reward": {"basis_points": 1_000, "max_minor": 700},
        **changes,
    }
