"""What becomes of an offer that its partner or the operator changes.

A draft is corrected freely. Of a published one the end and the caps may only grow; other terms
change by a new version, and each coupon keeps the version that it was loaded under.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Forbidden, Invalid, PreconditionFailed
from app.kit.fields import explain, failures, pointer
from app.offers import queries, service
from app.offers.models import Offer, OfferCounter
from app.offers.queries import Counter
from app.offers.rows import (
    counter_columns,
    differences,
    offer_columns,
    version_columns,
    written,
)
from app.offers.schemas import OfferChange, OfferIn
from app.offers.service import Actor, Shown
from app.offers.terms import Terms

VERSIONS_MAX = 1_000
# posts that were decided, and the card-holders who read of it, know a published offer by these
_FIXED_ONCE_PUBLISHED = ("hashtag", "currency", "starts_at")


async def change(
    session: AsyncSession,
    *,
    offer_id: UUID,
    changes: OfferChange,
    by: Actor,
    now: datetime,
    if_match: str | None = None,
) -> Shown:
    """The offer as it would be must be valid as a whole. Raises Invalid for what it may not become,
    Conflict in a state that allows no change, Forbidden for what the partner's credit does not
    cover, PreconditionFailed when the offer is no longer as `if_match` has it.
    """
    shown = offer, version, counter = await service.lock(session, offer_id)
    if if_match is not None and not service.is_as_read(shown, if_match):
        raise PreconditionFailed("the offer has changed: read it again")
    _check_state(offer, by, now)
    after, acceptor_ids = await _after(session, shown, changes)
    of_offer = differences(offer, offer_columns(after))
    of_version = differences(version, version_columns(after, acceptor_ids))
    of_counter = differences(counter, counter_columns(after))
    if not (of_offer or of_version or of_counter):
        return shown
    if offer.published_at is not None:
        _check_promises(offer, counter, after, of_offer)
        if not by.is_operator and (of_version or of_counter or of_offer.keys() - {"objective"}):
            await _check_credit(session, offer, after)
        if of_version:
            of_offer["version"] = _next_version(offer)
    elif of_version:
        await queries.update_version(session, offer_id, version.version, **of_version)
    changed = of_version | of_counter | of_offer
    before = {name: _value(shown, name) for name in changed}
    if of_counter:
        await queries.update_counter(session, offer_id, **of_counter)
    # the offer before its version: whoever waits for a hashtag's window must not hold the
    # catalogue's number, which a change of either raises
    await service.update(session, offer, **of_offer)
    if "version" in of_offer:
        await queries.insert_version(
            session, offer.id, of_offer["version"], **version_columns(after, acceptor_ids)
        )
    await service.record(session, offer, "offer.change", by, before=before, after=changed)
    return await service.get(session, offer_id=offer_id)


async def tried(
    session: AsyncSession, *, shown: Shown, changes: OfferChange
) -> tuple[Terms, Counter]:
    """The terms that the offer would have, and its caps with nothing taken of them. Changes
    nothing, and so a published offer may be tried with any terms that are valid as a whole. Raises
    Invalid.
    """
    after, acceptor_ids = await _after(session, shown, changes)
    offer_id = shown[0].id
    current = (await queries.read_current(session, [offer_id]))[offer_id]
    columns = {**offer_columns(after), **version_columns(after, acceptor_ids)}
    del columns["objective"]
    terms = current._replace(**queries.as_terms(columns))
    return terms, Counter(after.coupons_max, 0, after.budget_minor, 0)


async def _after(
    session: AsyncSession, shown: Shown, changes: OfferChange
) -> tuple[OfferIn, list[UUID] | None]:
    """The offer as it would be, and its acceptors."""
    offer, version, _ = shown
    after = _merge(shown, changes)
    if "acceptors" in changes.model_fields_set:
        return after, await service.own_acceptors(session, offer.partner_id, after)
    return after, version.acceptor_ids


def _check_state(offer: Offer, by: Actor, now: datetime) -> None:
    """By the clock, as everybody is shown it. What waits for approval changes by the operator's
    hand alone, or he would approve what he has not read.
    """
    state = service.shown_state(offer, now)
    if state == "ended" or (state == "submitted" and not by.is_operator):
        raise Conflict(f"an offer that is {state} does not change", code="offer_state")


def _merge(shown: Shown, changes: OfferChange) -> OfferIn:
    """Null takes away what an offer may do without; what is nested is replaced whole."""
    given = changes.model_dump(mode="json", by_alias=True, exclude_unset=True)
    merged = {**written(*shown), **given}
    wanted = {name: value for name, value in merged.items() if value is not None}
    try:
        return OfferIn.model_validate(wanted)
    except ValidationError as error:
        found = [(pointer(one.place), one.reason) for one in failures(error, wanted)]
        raise Invalid(explain(error, wanted), fields=found) from None


def _check_promises(
    offer: Offer, counter: OfferCounter, after: OfferIn, of_offer: dict[str, Any]
) -> None:
    for name in _FIXED_ONCE_PUBLISHED:
        if name in of_offer:
            raise Invalid(f"{name} does not change once the offer is published")
    if after.ends_at < offer.ends_at:
        raise Invalid("ends_at may only move later")
    for name, wanted in counter_columns(after).items():
        current = getattr(counter, name)
        if wanted is not None and (current is None or wanted < current):
            raise Invalid(f"{name} may only grow")


async def _check_credit(session: AsyncSession, offer: Offer, after: OfferIn) -> None:
    """What the operator approved a partner changes as far as it could have published it itself: new
    terms may cost more, and without a budget there is no saying how much.
    """
    if not await service.is_covered(session, offer, after.budget_minor):
        raise Forbidden("the partner's credit limit does not cover this: ask the operator")


def _next_version(offer: Offer) -> int:
    if offer.version >= VERSIONS_MAX:
        raise Conflict(f"an offer has {VERSIONS_MAX:,} versions at most", code="too_many")
    return offer.version + 1


def _value(shown: Shown, column: str) -> Any:  # noqa: ANN401 - columns of many types
    return next(getattr(row, column) for row in shown if hasattr(row, column))
