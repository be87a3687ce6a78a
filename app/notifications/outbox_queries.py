"""The SQL of sending: which deliveries are due, and what became of them. An endpoint is locked
before its deliveries.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.arrays import as_arrays
from app.notifications.domain import Attempt, Claimed

# What somebody else is just claiming is his.
DUE_ENDPOINTS = text(
    """
    SELECT e.id, e.url, e.secret_sealed,
           CASE WHEN e.former_secret_until > :now THEN e.former_secret_sealed END,
           e.failing_since IS NOT NULL
    FROM webhook_endpoints e
    WHERE e.disabled_at IS NULL AND EXISTS (
        SELECT FROM webhook_deliveries d
        WHERE d.endpoint_id = e.id AND d.state IN ('queued', 'sending') AND d.not_before <= :now
    )
    FOR NO KEY UPDATE OF e SKIP LOCKED
    """
)
TAKE = text(
    """
    WITH asked AS (
        SELECT * FROM unnest(
            CAST(:endpoint_id AS uuid[]), CAST(:most AS int[]), CAST(:is_failing AS boolean[])
        ) AS given (endpoint_id, most, is_failing)
    ), in_flight_of AS (
        SELECT e.partner_id, count(*) AS number FROM webhook_deliveries d
        JOIN webhook_endpoints e ON e.id = d.endpoint_id
        WHERE d.state = 'sending' AND d.not_before > :now GROUP BY e.partner_id
    ), due AS (
        SELECT found.id FROM asked JOIN webhook_endpoints e ON e.id = asked.endpoint_id
        LEFT JOIN in_flight_of ON in_flight_of.partner_id = e.partner_id
        CROSS JOIN LATERAL (
            SELECT count(*) AS number FROM webhook_deliveries d
            WHERE d.endpoint_id = asked.endpoint_id AND d.state = 'sending'
                AND d.not_before > :now
        ) in_flight
        CROSS JOIN LATERAL (
            SELECT d.id FROM webhook_deliveries d
            WHERE d.endpoint_id = asked.endpoint_id AND d.state IN ('queued', 'sending')
                AND d.not_before <= :now
            ORDER BY d.not_before, d.id
            LIMIT greatest(asked.most - in_flight.number, 0)
            FOR UPDATE SKIP LOCKED
        ) found
        ORDER BY asked.is_failing, coalesce(in_flight_of.number, 0)
            + row_number() OVER (PARTITION BY e.partner_id ORDER BY found.id), found.id
        LIMIT :room
    )
    UPDATE webhook_deliveries d SET state = 'sending', attempts = d.attempts + 1,
        not_before = :leased_until
    FROM due WHERE d.id = due.id
    RETURNING d.id, d.endpoint_id, d.event, d.subject, d.sequence, d.data, d.created_at,
        d.attempts, d.tried_until, d.not_before
    """
)


class DueEndpoint(NamedTuple):
    id: UUID
    url: str
    secret_sealed: bytes
    former_secret_sealed: bytes | None
    is_failing: bool


async def due_endpoints(session: AsyncSession, *, now: datetime) -> list[DueEndpoint]:
    """Enabled ones with something to send, locked."""
    return [DueEndpoint(*row) for row in await session.execute(DUE_ENDPOINTS, {"now": now})]


class Asked(NamedTuple):
    """`most`: what may be in flight to it, with those that others are sending."""

    endpoint_id: UUID
    most: int
    is_failing: bool


async def take(
    session: AsyncSession,
    asked: Sequence[Asked],
    *,
    room: int,
    now: datetime,
    leased_until: datetime,
) -> list[Claimed]:
    """Of these endpoints, which are locked, up to `room` in all: those that fail come last, and of
    the others first those whose partner has fewest in flight, so that none has all the room. The
    lease of what was taken before and not heard of is over.
    """
    rows = await session.execute(
        TAKE,
        {
            **as_arrays(Asked._fields, asked),
            "room": room,
            "now": now,
            "leased_until": leased_until,
        },
    )
    return sorted((Claimed(*row) for row in rows), key=lambda one: one.id)


async def write(session: AsyncSession, delivery: Claimed, attempt: Attempt, now: datetime) -> bool:
    """False when the lease was over, and somebody else has it or has ended it."""
    written = await session.scalar(
        text(
            """
            UPDATE webhook_deliveries SET state = :state, not_before = :not_before,
                last_status = :status, last_error = :error,
                ended_at = CASE WHEN :state IN ('delivered', 'parked')
                    THEN CAST(:now AS timestamptz) END
            WHERE id = :id AND state = 'sending' AND not_before = :leased_until
            RETURNING 1
            """
        ),
        {
            **attempt._asdict(),
            "id": delivery.id,
            "leased_until": delivery.leased_until,
            "now": now,
        },
    )
    return written is not None


async def set_failing(
    session: AsyncSession, endpoint_id: UUID, *, is_failing: bool, now: datetime
) -> None:
    await session.execute(
        text(
            "UPDATE webhook_endpoints SET failing_since = CASE WHEN :is_failing "
            "THEN CAST(:now AS timestamptz) END "
            "WHERE id = :id AND (failing_since IS NOT NULL) <> :is_failing"
        ),
        {"id": endpoint_id, "is_failing": is_failing, "now": now},
    )


async def disable_gone(session: AsyncSession, endpoint_id: UUID, *, now: datetime) -> None:
    await session.execute(
        text(
            "UPDATE webhook_endpoints SET disabled_at = :now, disabled_because = 'gone' "
            "WHERE id = :id AND disabled_at IS NULL"
        ),
        {"id": endpoint_id, "now": now},
    )
