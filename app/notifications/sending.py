"""What the worker does with deliveries: claims under a lease, sends with no transaction open, and
records. At least once: one that was sent and not recorded is sent again, under the same id.
"""

import base64
import contextlib
import os
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import structlog
from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncSession
from standardwebhooks import Webhook

from app import __version__
from app.config import Settings
from app.kit.sealing import Sealer, SealError
from app.notifications import outbox_queries as queries
from app.notifications.calling import Caller
from app.notifications.domain import Answer, Claimed, attempted, is_gone, message
from app.notifications.outbox_queries import DueEndpoint

LEASE = timedelta(minutes=2)  # longer than any call
SECRET_PREFIX = "whsec_"  # noqa: S105 - how each begins
SECRET_BYTES = 32
# Whoever does not answer waits for himself alone.
FAILING_IN_FLIGHT_MAX = 1

_attempts = Counter(
    "tagback_webhook_attempts", "Deliveries to partners by how they ended.", ["outcome"]
)
log = structlog.get_logger()


class ToSend(NamedTuple):
    delivery: Claimed
    endpoint: DueEndpoint


def new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(os.urandom(SECRET_BYTES)).decode()


async def claim(
    session: AsyncSession,
    *,
    settings: Settings,
    now: datetime,
    room: int,
) -> list[ToSend]:
    """Up to `room` that are due, and are this caller's until their lease is over; of one endpoint
    no more than may be in flight, over all workers. To be committed before any is sent.
    """
    endpoints = {one.id: one for one in await queries.due_endpoints(session, now=now)}
    if not endpoints:
        return []
    most = [
        (one.id, FAILING_IN_FLIGHT_MAX)
        if one.failing_since is not None
        else (one.id, settings.webhooks_in_flight_per_endpoint_max)
        for one in endpoints.values()
    ]
    taken = await queries.take(session, most, room=room, now=now, leased_until=now + LEASE)
    return [ToSend(one, endpoints[one.endpoint_id]) for one in taken]


async def send(caller: Caller, sealer: Sealer, one: ToSend) -> Answer:
    delivery, endpoint = one
    body = message(delivery)
    try:
        signed = _signed(sealer, endpoint, delivery.id, body)
    except SealError:
        return Answer(None, "its secret was sealed with a key that is gone: rotate the secret")
    headers = {
        "content-type": "application/json",
        "user-agent": f"Tagback/{__version__}",
        **signed,
    }
    return await caller.post(endpoint.url, headers=headers, body=body.encode())


def _signed(
    sealer: Sealer, endpoint: DueEndpoint, delivery_id: UUID, body: str
) -> Mapping[str, str]:
    """With the former secret too while it counts. The time is the world's, even where a test clock
    moves the programme's: a receiver holds it against his own.
    """
    at = datetime.now(UTC)
    secrets = [sealer.open(endpoint.secret_sealed)]
    if endpoint.former_secret_sealed is not None:
        with contextlib.suppress(SealError):  # the new one does
            secrets.append(sealer.open(endpoint.former_secret_sealed))
    signatures = [Webhook(secret).sign(str(delivery_id), at, body) for secret in secrets]
    return {
        "webhook-id": str(delivery_id),
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


async def record(session: AsyncSession, one: ToSend, answer: Answer, *, now: datetime) -> None:
    """What became of it, and what that tells of its endpoint."""
    delivery, endpoint = one
    attempt = attempted(delivery, answer, now=now, chance=random.random())  # noqa: S311 - jitter
    is_failing = answer.error is not None
    # the endpoint first: that is the order of locks
    if is_gone(answer):
        await queries.disable_gone(session, endpoint.id, now=now)
    elif is_failing != (endpoint.failing_since is not None):
        await queries.set_failing(session, endpoint.id, is_failing=is_failing, now=now)
    if not await queries.write(session, delivery, attempt, now):
        return
    _attempts.labels("again" if attempt.state == "queued" else attempt.state).inc()
    if attempt.state == "parked":
        log.warning(
            "webhook_parked",
            delivery=str(delivery.id),
            endpoint=str(endpoint.id),
            status=answer.status,
        )
