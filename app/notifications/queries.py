"""All SQL on webhook endpoints and on what is delivered to them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import Row, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import locks
from app.kit.arrays import as_arrays
from app.notifications.models import WebhookDelivery, WebhookEndpoint
from app.partners.models import Partner

# Of a row that has a `partner_id`, in a query which calls it `o`. Whoever reads it with the offers
# that he locks or remembers asks nothing else where nobody wants to be told.
HAS_WEBHOOKS = """
    EXISTS (SELECT FROM webhook_endpoints w
            WHERE w.partner_id = o.partner_id AND w.disabled_at IS NULL) AS has_webhooks
"""


class NewEvent(NamedTuple):
    """What has happened to a subject. `data` is JSON, and says nothing that ties a purchase to a
    post: a post is public, with its author and its minute.
    """

    partner_id: UUID
    event: str
    subject: str
    data: dict[str, Any]


class EndpointRow(NamedTuple):
    endpoint: WebhookEndpoint
    partner_ref: str


# telling


# A number is taken by writing it, so that two who announce at once wait for each other, and whoever
# rolls back leaves no hole. The rows are written in one order.
_ANNOUNCE = """
    WITH happened AS (
        SELECT * FROM unnest(
            CAST(:partner_id AS uuid[]), CAST(:event AS text[]), CAST(:subject AS text[]),
            CAST(:data AS jsonb[])
        ) WITH ORDINALITY AS given (partner_id, event, subject, data, place)
    ), wanted AS (
        SELECT e.id AS endpoint_id, happened.*,
               row_number() OVER told_of AS number,
               count(*) OVER (PARTITION BY e.id, happened.subject) AS numbers
        FROM happened JOIN webhook_endpoints e ON e.partner_id = happened.partner_id
        WHERE e.disabled_at IS NULL AND CASE WHEN CAST(:only AS uuid) IS NULL
            THEN e.events IS NULL OR happened.event = ANY(e.events) ELSE e.id = :only END
        WINDOW told_of AS (PARTITION BY e.id, happened.subject ORDER BY happened.place)
    ), numbered AS (
        INSERT INTO webhook_sequences AS known (endpoint_id, subject, last)
        SELECT DISTINCT endpoint_id, subject, numbers FROM wanted ORDER BY 1, 2
        ON CONFLICT (endpoint_id, subject) DO UPDATE SET last = known.last + excluded.last
        RETURNING endpoint_id, subject, last
    )
    INSERT INTO webhook_deliveries (endpoint_id, event, subject, sequence, data, not_before,
                                    tried_until, created_at)
    SELECT endpoint_id, event, subject, last - numbers + number, data, CAST(:now AS timestamptz),
           CAST(:tried_until AS timestamptz), CAST(:now AS timestamptz)
    FROM wanted JOIN numbered USING (endpoint_id, subject)
    ORDER BY place, endpoint_id
    RETURNING id
"""


async def announce(
    session: AsyncSession,
    events: Sequence[NewEvent],
    *,
    now: datetime,
    tried_until: datetime,
    only: UUID | None = None,
) -> Sequence[UUID]:
    """To every enabled endpoint of these partners that wants the event, or to that one `only`,
    whatever it wants. One statement; answers the ids of the deliveries.
    """
    rows = [(*event[:3], _json(event.data)) for event in events]
    given = {"now": now, "tried_until": tried_until, "only": only}
    announced = await session.scalars(
        text(_ANNOUNCE), {**as_arrays(NewEvent._fields, rows), **given}
    )
    return announced.all()


def _json(data: dict[str, Any]) -> str:
    return msgspec.json.encode(data).decode()


# endpoints


async def lock_endpoints_of(session: AsyncSession, partner_id: UUID) -> None:
    """Nobody else adds one for this partner until the transaction ends."""
    await session.execute(
        text("SELECT pg_advisory_xact_lock(:key, hashtext(:partner))"),
        {"key": locks.WEBHOOK_ENDPOINTS, "partner": str(partner_id)},
    )


async def count_endpoints(session: AsyncSession, partner_id: UUID) -> int:
    query = select(func.count(WebhookEndpoint.id)).where(
        WebhookEndpoint.partner_id == partner_id, _is_there()
    )
    return int(await session.scalar(query) or 0)


async def insert_endpoint(session: AsyncSession, **values: Any) -> UUID:  # noqa: ANN401 - columns of many types
    row = WebhookEndpoint(**values)
    session.add(row)
    await session.flush()
    return row.id


async def get_endpoint(
    session: AsyncSession, endpoint_id: UUID, *, lock: bool = False
) -> EndpointRow | None:
    query = _endpoints().where(WebhookEndpoint.id == endpoint_id)
    if lock:
        query = query.with_for_update(of=WebhookEndpoint, key_share=True)
    row = (await session.execute(query.execution_options(populate_existing=True))).one_or_none()
    return EndpointRow(*row) if row else None


async def page_of_endpoints(
    session: AsyncSession, *, partner_id: UUID | None, after: UUID | None, limit: int
) -> list[EndpointRow]:
    query = _endpoints().order_by(WebhookEndpoint.id).limit(limit)
    if partner_id is not None:
        query = query.where(WebhookEndpoint.partner_id == partner_id)
    if after is not None:
        query = query.where(WebhookEndpoint.id > after)
    return [EndpointRow(*row) for row in await session.execute(query)]


def _endpoints() -> Any:  # noqa: ANN401 - a query
    return (
        select(WebhookEndpoint, Partner.ref)
        .join(Partner, Partner.id == WebhookEndpoint.partner_id)
        .where(_is_there())
    )


def _is_there() -> Any:  # noqa: ANN401 - a condition
    return WebhookEndpoint.disabled_because.is_distinct_from("deleted")


async def update_endpoint(
    session: AsyncSession,
    endpoint_id: UUID,
    **values: Any,  # noqa: ANN401 - columns of many types
) -> None:
    await session.execute(
        update(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id).values(**values)
    )


# deliveries


async def get_delivery(session: AsyncSession, delivery_id: UUID) -> WebhookDelivery | None:
    query = _deliveries().where(WebhookDelivery.id == delivery_id)
    found: WebhookDelivery | None = await session.scalar(
        query.execution_options(populate_existing=True)
    )
    return found


async def page_of_deliveries(
    session: AsyncSession,
    *,
    after: UUID | None,
    limit: int,
    endpoint_id: UUID | None,
    event: str | None,
    state: str | None,
    since: datetime | None,
    until: datetime | None,
) -> Sequence[WebhookDelivery]:
    query = _deliveries().order_by(WebhookDelivery.id).limit(limit)
    wanted = {
        WebhookDelivery.endpoint_id: endpoint_id,
        WebhookDelivery.event: event,
        WebhookDelivery.state: state,
    }
    for column, value in wanted.items():
        if value is not None:
            query = query.where(column == value)
    if since is not None:
        query = query.where(WebhookDelivery.created_at >= since)
    if until is not None:
        query = query.where(WebhookDelivery.created_at < until)
    if after is not None:
        query = query.where(WebhookDelivery.id > after)
    found: Sequence[WebhookDelivery] = (await session.scalars(query)).all()
    return found


def _deliveries() -> Any:  # noqa: ANN401 - a query
    return select(WebhookDelivery).where(
        WebhookDelivery.endpoint_id.in_(select(WebhookEndpoint.id).where(_is_there()))
    )


_REPLAY = """
    UPDATE webhook_deliveries SET state = 'queued', attempts = 0, not_before = :now,
        tried_until = :tried_until, ended_at = NULL
    WHERE state <> 'sending'
"""


async def replay(
    session: AsyncSession, delivery_id: UUID, *, now: datetime, tried_until: datetime
) -> None:
    """One that is just being sent is left to it."""
    await session.execute(
        text(f"{_REPLAY} AND id = :id"),
        {"id": delivery_id, "now": now, "tried_until": tried_until},
    )


async def replay_range(
    session: AsyncSession,
    endpoint_id: UUID,
    *,
    since: datetime,
    until: datetime,
    most: int,
    now: datetime,
    tried_until: datetime,
) -> int:
    """What was announced from `since` on and before `until`, `most` of it at most."""
    replayed = await session.scalars(
        text(
            f"""
            {_REPLAY} AND id IN (
                SELECT id FROM webhook_deliveries
                WHERE endpoint_id = :endpoint_id AND created_at >= :since AND created_at < :until
                ORDER BY created_at, id LIMIT :most
            ) RETURNING 1
            """  # noqa: S608 - the change above
        ),
        {
            "endpoint_id": endpoint_id,
            "since": since,
            "until": until,
            "most": most,
            "now": now,
            "tried_until": tried_until,
        },
    )
    return len(replayed.all())


async def forget(
    session: AsyncSession, *, announced_before: datetime, deleted_before: datetime, most: int
) -> int:
    """Up to `most` deliveries that are old or of endpoints that are deleted, as many of their
    numbers, then those endpoints; answers how much that was.
    """
    forgotten = 0
    for statement in (_FORGET_OLD, _FORGET_DELETED, _FORGET_NUMBERS, _FORGET_ENDPOINTS):
        rows: Sequence[Row[Any]] = (
            await session.execute(
                text(statement),
                {
                    "announced_before": announced_before,
                    "deleted_before": deleted_before,
                    "most": most,
                },
            )
        ).all()
        forgotten += len(rows)
    return forgotten


_DELETED = """
    SELECT id FROM webhook_endpoints
    WHERE disabled_because = 'deleted' AND disabled_at <= :deleted_before
"""
_FORGET_OLD = """
    DELETE FROM webhook_deliveries WHERE id IN (
        SELECT id FROM webhook_deliveries WHERE created_at <= :announced_before
        ORDER BY created_at LIMIT :most FOR UPDATE SKIP LOCKED
    ) RETURNING 1
"""
_FORGET_DELETED = f"""
    DELETE FROM webhook_deliveries WHERE id IN (
        SELECT id FROM webhook_deliveries WHERE endpoint_id IN ({_DELETED})
        LIMIT :most FOR UPDATE SKIP LOCKED
    ) RETURNING 1
"""  # noqa: S608 - the rule above
_FORGET_NUMBERS = f"""
    DELETE FROM webhook_sequences WHERE (endpoint_id, subject) IN (
        SELECT endpoint_id, subject FROM webhook_sequences WHERE endpoint_id IN ({_DELETED})
        LIMIT :most FOR UPDATE SKIP LOCKED
    ) RETURNING 1
"""  # noqa: S608 - the rule above
_FORGET_ENDPOINTS = f"""
    DELETE FROM webhook_endpoints e WHERE id IN ({_DELETED})
        AND NOT EXISTS (SELECT FROM webhook_deliveries d WHERE d.endpoint_id = e.id)
        AND NOT EXISTS (SELECT FROM webhook_sequences s WHERE s.endpoint_id = e.id)
    RETURNING 1
"""  # noqa: S608 - the rule above
