"""Telling partners what happens to their offers, coupons and redemptions, and where to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Invalid, NotFound
from app.kit.db import TRANSACTION_SECONDS_MAX
from app.kit.sealing import Sealer
from app.notifications import queries
from app.notifications.domain import TEST, TRIED_FOR
from app.notifications.models import WebhookDelivery
from app.notifications.queries import EndpointRow, Listener, NewDelivery, NewEvent
from app.notifications.sending import new_secret
from app.partners import service as partners

ENDPOINTS_MAX = 20  # of a partner
REPLAYED_MAX = 100_000
FORMER_SECRET_FOR = timedelta(hours=24)
# Whoever announces may have read it as enabled.
DELETED_IS_KEPT = timedelta(seconds=TRANSACTION_SECONDS_MAX)


async def announce(session: AsyncSession, *, events: Sequence[NewEvent], now: datetime) -> None:
    """In the caller's transaction, to all who want it: what is rolled back was never told. Of one
    subject the numbers have no hole, in the order given; the number of statements does not depend
    on that of the events. A caller on a hot path asks first whether anybody listens, which
    `queries.HAS_WEBHOOKS` tells with what he reads anyway.
    """
    if not events:
        return
    listeners = await queries.listeners(session, {one.partner_id for one in events})
    of_partner: dict[UUID, list[Listener]] = {}
    for listener in listeners:
        of_partner.setdefault(listener.partner_id, []).append(listener)
    wanted = [
        (listener.endpoint_id, one)
        for one in events
        for listener in of_partner.get(one.partner_id, ())
        if listener.events is None or one.event in listener.events
    ]
    await _queue(session, wanted, now=now)


async def _queue(
    session: AsyncSession, wanted: Sequence[tuple[UUID, NewEvent]], *, now: datetime
) -> Sequence[UUID]:
    """Pairs of an endpoint and what it is told; the ids of the deliveries."""
    if not wanted:
        return []
    numbers = Counter((endpoint_id, one.subject) for endpoint_id, one in wanted)
    last = await queries.take_numbers(session, numbers)
    sequence = {key: last[key] - numbers[key] for key in numbers}
    rows = []
    for endpoint_id, one in wanted:
        key = (endpoint_id, one.subject)
        sequence[key] += 1
        data = msgspec.json.encode(one.data).decode()
        rows.append(NewDelivery(endpoint_id, one.event, one.subject, sequence[key], data))
    return await queries.insert_deliveries(session, rows, now=now, tried_until=now + TRIED_FOR)


# endpoints


async def create_endpoint(
    session: AsyncSession,
    *,
    actor: str,
    own_partner_id: UUID | None,
    partner: str | None,
    url: str,
    events: Sequence[str] | None,
    description: str | None,
    sealer: Sealer,
    now: datetime,
) -> tuple[EndpointRow, str]:
    """With its secret. By a partner for itself, or by the operator for the `partner` he names. The
    URL has been checked.
    """
    named = partner or (str(own_partner_id) if own_partner_id else None)
    if named is None:
        raise partners.PartnerMissing("name the partner")
    owner = await partners.find_partner(session, ref_or_id=named)
    await queries.lock_endpoints_of(session, owner.id)
    if await queries.count_endpoints(session, owner.id) >= ENDPOINTS_MAX:
        raise Conflict(f"a partner has {ENDPOINTS_MAX} endpoints at most", code="too_many")
    secret = new_secret()
    endpoint_id = await queries.insert_endpoint(
        session,
        partner_id=owner.id,
        url=url,
        events=_unique(events),
        description=description,
        secret_sealed=sealer.seal(secret),
        created_at=now,
    )
    after = {"partner": owner.ref, "events": _unique(events), "host": _host(url)}
    await _audit(session, actor, "create", endpoint_id, after=after)
    return await get_endpoint(session, endpoint_id=endpoint_id), secret


def _unique(events: Sequence[str] | None) -> list[str] | None:
    return None if events is None else sorted(set(events))


def _host(url: str) -> str | None:
    """A path or a query may hold what opens the door there."""
    return urlsplit(url).hostname


async def get_endpoint(
    session: AsyncSession, *, endpoint_id: UUID, lock: bool = False
) -> EndpointRow:
    """Raises NotFound."""
    row = await queries.get_endpoint(session, endpoint_id, lock=lock)
    if row is None:
        raise NotFound("no such webhook endpoint", code="webhook_endpoint_not_found")
    return row


async def list_endpoints(
    session: AsyncSession, *, partner: str | None, after: UUID | None, limit: int
) -> list[EndpointRow]:
    """Of one partner, by ref or id, or of all. Raises NotFound when there is no such partner."""
    owner = await partners.find_partner(session, ref_or_id=partner) if partner else None
    return await queries.page_of_endpoints(
        session, partner_id=owner.id if owner else None, after=after, limit=limit
    )


async def change_endpoint(
    session: AsyncSession,
    *,
    actor: str,
    endpoint_id: UUID,
    changes: Mapping[str, Any],
    now: datetime,
) -> EndpointRow:
    """Of `url`, which has been checked, `events`, `description` and `enabled` those that are given.
    What waits while it is disabled is sent when it is enabled again.
    """
    endpoint, _ = await get_endpoint(session, endpoint_id=endpoint_id, lock=True)
    values = {name: changes[name] for name in ("url", "description") if name in changes}
    if "events" in changes:
        values["events"] = _unique(changes["events"])
    is_enabled = endpoint.disabled_at is None
    if changes.get("enabled", is_enabled) != is_enabled:
        values |= {
            "disabled_at": now if is_enabled else None,
            "disabled_because": "asked" if is_enabled else None,
            "failing_since": None,
        }
    if values:
        await queries.update_endpoint(session, endpoint_id, **values)
        told = {name: value for name, value in values.items() if name != "failing_since"}
        before = {name: getattr(endpoint, name) for name in told}
        await _audit(
            session, actor, "change", endpoint_id, before=_tellable(before), after=_tellable(told)
        )
    return await get_endpoint(session, endpoint_id=endpoint_id)


def _tellable(values: Mapping[str, Any]) -> dict[str, Any]:
    told = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in values.items()
    }
    if "url" in told:
        told["host"] = _host(told.pop("url"))
    return told


async def delete_endpoint(
    session: AsyncSession, *, actor: str, endpoint_id: UUID, now: datetime
) -> None:
    """Nothing more is sent to it; what hangs on it is taken away by a job."""
    await get_endpoint(session, endpoint_id=endpoint_id, lock=True)
    await queries.update_endpoint(session, endpoint_id, disabled_at=now, disabled_because="deleted")
    await _audit(session, actor, "delete", endpoint_id)


async def rotate_secret(
    session: AsyncSession, *, actor: str, endpoint_id: UUID, sealer: Sealer, now: datetime
) -> tuple[EndpointRow, str]:
    """The new one. The one before it signs along for FORMER_SECRET_FOR; one before that, no
    more.
    """
    endpoint, _ = await get_endpoint(session, endpoint_id=endpoint_id, lock=True)
    secret = new_secret()
    await queries.update_endpoint(
        session,
        endpoint_id,
        secret_sealed=sealer.seal(secret),
        former_secret_sealed=endpoint.secret_sealed,
        former_secret_until=now + FORMER_SECRET_FOR,
    )
    await _audit(session, actor, "rotate", endpoint_id)
    return await get_endpoint(session, endpoint_id=endpoint_id), secret


async def _audit(
    session: AsyncSession,
    actor: str,
    what: str,
    endpoint_id: UUID,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    await partners.audit(
        session,
        actor=actor,
        action=f"webhook_endpoint.{what}",
        subject_kind="webhook_endpoint",
        subject_id=str(endpoint_id),
        before=before,
        after=after,
    )


# deliveries


async def send_test(session: AsyncSession, *, endpoint_id: UUID, now: datetime) -> WebhookDelivery:
    """Sends it a `webhook.test`, whatever else it wants to be told."""
    row = await _enabled(session, endpoint_id)
    event = NewEvent(
        row.endpoint.partner_id,
        TEST,
        f"endpoint:{endpoint_id}",
        {"endpoint_id": str(endpoint_id)},
    )
    (delivery_id,) = await _queue(session, [(endpoint_id, event)], now=now)
    return await get_delivery(session, delivery_id=delivery_id)


async def _enabled(session: AsyncSession, endpoint_id: UUID) -> EndpointRow:
    """Locked, so that it stays so."""
    row = await get_endpoint(session, endpoint_id=endpoint_id, lock=True)
    if row.endpoint.disabled_at is not None:
        raise Conflict("the endpoint is disabled: enable it first", code="endpoint_disabled")
    return row


async def get_delivery(session: AsyncSession, *, delivery_id: UUID) -> WebhookDelivery:
    """Raises NotFound."""
    delivery = await queries.get_delivery(session, delivery_id)
    if delivery is None:
        raise NotFound("no such delivery", code="webhook_delivery_not_found")
    return delivery


async def list_deliveries(
    session: AsyncSession,
    *,
    after: UUID | None,
    limit: int,
    endpoint_id: UUID | None = None,
    event: str | None = None,
    state: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Sequence[WebhookDelivery]:
    return await queries.page_of_deliveries(
        session,
        after=after,
        limit=limit,
        endpoint_id=endpoint_id,
        event=event,
        state=state,
        since=since,
        until=until,
    )


async def replay(session: AsyncSession, *, delivery_id: UUID, now: datetime) -> WebhookDelivery:
    """Sends it again under its id and its number, and tries for a day."""
    delivery = await get_delivery(session, delivery_id=delivery_id)
    await _enabled(session, delivery.endpoint_id)
    await queries.replay(session, delivery_id, now=now, tried_until=now + TRIED_FOR)
    return await get_delivery(session, delivery_id=delivery_id)


async def replay_range(
    session: AsyncSession, *, endpoint_id: UUID, since: datetime, until: datetime, now: datetime
) -> int:
    """Raises Invalid for more than REPLAYED_MAX."""
    await _enabled(session, endpoint_id)
    replayed = await queries.replay_range(
        session,
        endpoint_id,
        since=since,
        until=until,
        most=REPLAYED_MAX + 1,
        now=now,
        tried_until=now + TRIED_FOR,
    )
    if replayed > REPLAYED_MAX:
        raise Invalid(f"more than {REPLAYED_MAX:,}: a shorter range", code="range_too_long")
    return replayed


async def forget_old(session: AsyncSession, *, now: datetime, days_kept: int, most: int) -> int:
    """A step of the job: up to `most` of each kind; answers how many."""
    return await queries.forget(
        session,
        announced_before=now - timedelta(days=days_kept),
        deleted_before=now - DELETED_IS_KEPT,
        most=most,
    )
