"""What partners are told of their offers, and of coupons: of those the offer is the subject, and
only their number is said. With a coupon's own events a partner could follow one from a public post
to a purchase.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.notifications import service as notifications
from app.notifications.domain import EventName
from app.notifications.queries import NewEvent
from app.offers import queries
from app.offers.queries import Loaded


class _Happened(NamedTuple):
    event: EventName
    offer_id: UUID
    more: Mapping[str, Any] = {}


async def announce_loaded(
    session: AsyncSession, loaded: Sequence[Loaded], *, now: datetime
) -> None:
    """One event an offer and batch; the offers are locked."""
    happened = []
    for one in loaded:
        happened.append(_Happened("coupon.loaded", one.offer_id, {"coupons": one.coupons}))
        if one.is_budget_low:
            happened.append(_Happened("offer.budget_low", one.offer_id))
        if one.has_sold_out:
            happened.append(_Happened("offer.sold_out", one.offer_id))
    await _announce(session, happened, now=now)


async def announce_closed(
    session: AsyncSession, closed: Mapping[UUID, int], *, now: datetime
) -> None:
    """How many coupons of which offers have closed; the offers are locked."""
    happened = [
        _Happened("coupon.closed", offer_id, {"coupons": number})
        for offer_id, number in closed.items()
    ]
    await _announce(session, happened, now=now)


async def announce_ended(
    session: AsyncSession, offer_ids: Collection[UUID], *, now: datetime
) -> None:
    await _announce(session, [_Happened("offer.ended", one) for one in offer_ids], now=now)


async def _announce(session: AsyncSession, happened: Sequence[_Happened], *, now: datetime) -> None:
    if not happened:
        return
    standing = await queries.read_told(session, {one.offer_id for one in happened})
    await notifications.announce(
        session,
        events=[
            NewEvent(
                partner_id=offer.partner_id,
                event=one.event,
                subject=f"offer:{one.offer_id}",
                data={**offer.data, **one.more},
            )
            for one in happened
            if (offer := standing.get(one.offer_id)) is not None
        ],
        now=now,
    )
