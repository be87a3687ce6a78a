"""Offers from draft to end. Whoever changes one locks its counter row first, as the loading of
coupons does: a pause that was answered is seen by every post decided after it.
"""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast
from uuid import UUID

from pydantic_core import to_jsonable_python
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Forbidden, Invalid, NotFound
from app.kit.constraints import violated_constraint
from app.kit.hashtags import tag_key
from app.members import service as members
from app.offers import announcing, queries
from app.offers.models import Coupon, Offer, OfferCounter, OfferVersion
from app.offers.queries import Filters
from app.offers.rows import counter_columns, differences, offer_columns, version_columns
from app.offers.schemas import OfferIn
from app.offers.terms import State, Terms, state_at
from app.partners import service as partners
from app.partners.queries import Audited

CLOCK = "clock"  # the actor of what happens by itself

Shown = tuple[Offer, OfferVersion, OfferCounter]


class Actor(NamedTuple):
    """Who does it, as the audit log names him."""

    name: str
    is_operator: bool


async def create(
    session: AsyncSession, *, partner_id: UUID, offer: OfferIn, actor: str
) -> tuple[Shown, bool]:
    """A draft, and whether it is new: the same offer again is answered as it stands.

    Raises Conflict when the partner's `offer_ref` names other terms.
    """
    acceptor_ids = await own_acceptors(session, partner_id, offer)
    offer_id = await queries.insert_offer(
        session, partner_id=partner_id, ref=offer.offer_ref, **offer_columns(offer)
    )
    if offer_id is None:
        known = await queries.find_by_ref(session, partner_id=partner_id, ref=offer.offer_ref)
        shown = await get(session, offer_id=known.id)
        versions = await queries.versions(session, known.id)
        if not _is_the_same(shown, versions, offer, acceptor_ids):
            raise Conflict(
                f"offer_ref {offer.offer_ref!r} exists with other terms", code="offer_exists"
            )
        return shown, False
    session.add(OfferVersion(offer_id=offer_id, version=1, **version_columns(offer, acceptor_ids)))
    session.add(OfferCounter(offer_id=offer_id, **counter_columns(offer)))
    await session.flush()
    await partners.audit(
        session,
        actor=actor,
        action="offer.create",
        subject_kind="offer",
        subject_id=str(offer_id),
        after=offer.model_dump(mode="json", exclude_none=True),
    )
    return await get(session, offer_id=offer_id), True


async def own_acceptors(
    session: AsyncSession, partner_id: UUID, offer: OfferIn
) -> list[UUID] | None:
    """Raises Invalid for a place that is not confirmed, or not this partner's."""
    if offer.acceptors is None:
        return None
    wanted = {(ref.acquirer_id, ref.acceptor_id) for ref in offer.acceptors}
    confirmed = await partners.find_confirmed_acceptors(session, places=sorted(wanted))
    own = {
        place: found.acceptor_id
        for place, found in confirmed.items()
        if found.partner_id == partner_id
    }
    if missing := wanted - own.keys():
        raise Invalid(f"not a confirmed acceptor of this partner: {' / '.join(min(missing))}")
    return sorted(own.values())


def _is_the_same(
    shown: Shown, versions: Sequence[OfferVersion], offer: OfferIn, acceptor_ids: list[UUID] | None
) -> bool:
    """An offer that has grown since, or has new terms, is still the one that was sent."""
    known, _, counter = shown
    terms, named = version_columns(offer, acceptor_ids), offer_columns(offer)
    return (
        any(not differences(version, terms) for version in versions)
        and not differences(known, named).keys() & {"tag_key", "currency", "starts_at"}
        and (known.state == "ended" or known.ends_at >= offer.ends_at)
        and not _is_smaller(counter.coupons_max, offer.coupons_max)
        and not _is_smaller(counter.budget_minor, offer.budget_minor)
    )


def _is_smaller(cap: int | None, other: int | None) -> bool:
    return cap is not None and (other is None or cap < other)


async def get(session: AsyncSession, *, offer_id: UUID) -> Shown:
    offer = await queries.get(session, offer_id)
    if offer is None:
        raise NotFound("no such offer", code="offer_not_found")
    return (
        offer,
        await queries.get_version(session, offer_id, offer.version),
        await queries.get_counter(session, offer_id),
    )


async def find(session: AsyncSession, *, id_or_hashtag: str, now: datetime) -> UUID:
    """The id of the offer, by its id or by the hashtag that means it now or next. Raises
    NotFound.
    """
    with contextlib.suppress(ValueError):
        return (await get(session, offer_id=UUID(id_or_hashtag)))[0].id
    key = tag_key(id_or_hashtag.removeprefix("#"))
    offer_id = await queries.find_by_tag(session, tag_key=key, now=now)
    if offer_id is None:
        raise NotFound(
            f"no offer has the id or, now or later, the hashtag {id_or_hashtag!r}",
            code="offer_not_found",
        )
    return offer_id


async def find_named(session: AsyncSession, *, id_or_ref: str) -> UUID:
    """The id of the offer. Raises NotFound, and Conflict for a ref that several partners use."""
    with contextlib.suppress(ValueError):
        return (await get(session, offer_id=UUID(id_or_ref)))[0].id
    found = await queries.ids_by_ref(session, id_or_ref)
    if not found:
        raise NotFound(f"no offer has the id or the ref {id_or_ref!r}", code="offer_not_found")
    if len(found) > 1:
        named = ", ".join(map(str, found))
        raise Conflict(
            f"several partners' offers have the ref {id_or_ref!r}: {named}",
            code="offer_ref_ambiguous",
        )
    return found[0]


async def list_versions(session: AsyncSession, *, offer_id: UUID) -> Sequence[OfferVersion]:
    """The first first. Raises NotFound."""
    await get(session, offer_id=offer_id)
    return await queries.versions(session, offer_id)


async def page(
    session: AsyncSession, *, after: UUID | None, limit: int, filters: Filters, now: datetime
) -> Sequence[Shown]:
    return await queries.page(session, after=after, limit=limit, filters=filters, now=now)


async def publish(session: AsyncSession, *, offer_id: UUID, by: Actor, now: datetime) -> Shown:
    """Live at once where the operator publishes or the partner's credit limit covers the budget;
    else submitted to the operator. One that the operator publishes after its end is a record:
    archived posts find it.
    """
    offer, _, counter = await lock(session, offer_id)
    if offer.state in ("scheduled", "live"):
        return await get(session, offer_id=offer_id)
    if offer.state not in ("draft", "submitted"):
        raise Conflict(f"an offer that is {offer.state} cannot be published", code="offer_state")
    if offer.ends_at <= now and not by.is_operator:
        raise Conflict("the offer's end has passed", code="offer_state")
    if not by.is_operator and not await is_covered(session, offer, counter.budget_minor):
        return await _move(session, offer, "offer.publish", by, state="submitted", refusal=None)
    return await _publish(session, offer, "offer.publish", by, now)


async def approve(session: AsyncSession, *, offer_id: UUID, by: Actor, now: datetime) -> Shown:
    offer, _, _ = await lock(session, offer_id)
    if offer.state != "submitted":
        raise Conflict(
            f"only a submitted offer is approved; this one is {offer.state}", code="offer_state"
        )
    return await _publish(session, offer, "offer.approve", by, now)


async def refuse(session: AsyncSession, *, offer_id: UUID, by: Actor, reason: str) -> Shown:
    """Gives a submitted offer back, a draft again, with the reason. The same again changes
    nothing.
    """
    offer, _, _ = await lock(session, offer_id)
    if (offer.state, offer.refusal) == ("draft", reason):
        return await get(session, offer_id=offer_id)
    if offer.state != "submitted":
        raise Conflict(
            f"only a submitted offer is refused; this one is {offer.state}", code="offer_state"
        )
    return await _move(session, offer, "offer.refuse", by, state="draft", refusal=reason)


async def withdraw(session: AsyncSession, *, offer_id: UUID, by: Actor) -> Shown:
    """Takes a submitted offer back, a draft again. A second time changes nothing."""
    offer, _, _ = await lock(session, offer_id)
    if offer.state == "draft":
        return await get(session, offer_id=offer_id)
    if offer.state != "submitted":
        raise Conflict(
            f"only a submitted offer is withdrawn; this one is {offer.state}", code="offer_state"
        )
    return await _move(session, offer, "offer.withdraw", by, state="draft")


async def pause(session: AsyncSession, *, offer_id: UUID, by: Actor, now: datetime) -> Shown:
    offer, _, _ = await lock(session, offer_id)
    state = shown_state(offer, now)
    if state not in ("scheduled", "live", "paused"):
        raise Conflict(f"an offer that is {state} cannot be paused", code="offer_state")
    is_operators = by.is_operator or offer.paused_by == "operator"
    return await _move(
        session,
        offer,
        "offer.pause",
        by,
        state="paused",
        paused_by="operator" if is_operators else "partner",
        paused_at=offer.paused_at or now,
    )


async def resume(session: AsyncSession, *, offer_id: UUID, by: Actor, now: datetime) -> Shown:
    offer, _, _ = await lock(session, offer_id)
    state = shown_state(offer, now)
    if state in ("scheduled", "live"):
        return await get(session, offer_id=offer_id)
    if state != "paused":
        raise Conflict(f"an offer that is {state} cannot be resumed", code="offer_state")
    _check_pause(offer, by)
    return await _publish(session, offer, "offer.resume", by, now)


def _check_pause(offer: Offer, by: Actor) -> None:
    """To end a paused offer lifts the pause for posts from before it."""
    if offer.paused_by == "operator" and not by.is_operator:
        raise Forbidden("the operator has paused this offer", code="paused_by_operator")


async def end(session: AsyncSession, *, offer_id: UUID, by: Actor, now: datetime) -> Shown:
    """Ends it now, or, if it was paused, when it was paused; its coupons stay good. The window is
    cut, so that the tag is free again. One that has not begun, or was never published, is called
    off: no tag means it.
    """
    offer, _, _ = await lock(session, offer_id)
    if shown_state(offer, now) == "ended":
        return await get(session, offer_id=offer_id)
    _check_pause(offer, by)
    since = offer.paused_at or now
    was_published = offer.published_at is not None
    has_run = was_published and offer.starts_at < since
    ended = await _move(
        session,
        offer,
        "offer.end",
        by,
        state="ended",
        paused_by=None,
        paused_at=None,
        published_at=offer.published_at if has_run else None,
        ends_at=max(min(since, offer.ends_at), offer.starts_at + timedelta(microseconds=1)),
    )
    if was_published:
        await announcing.announce_ended(session, [offer_id], now=now)
    return ended


async def is_covered(session: AsyncSession, offer: Offer, budget_minor: int | None) -> bool:
    """An offer without a budget never is."""
    if budget_minor is None:
        return False
    committed = await queries.committed_budget(session, offer=offer)
    return await partners.covers(
        session,
        partner_id=offer.partner_id,
        amount_minor=committed + budget_minor,
        currency=offer.currency,
    )


def shown_state(offer: Offer, now: datetime) -> State:
    return state_at(
        cast("State", offer.state), starts_at=offer.starts_at, ends_at=offer.ends_at, at=now
    )


def etag(shown: Shown, now: datetime) -> str:
    """Of all that is shown: the terms first, by which alone a change is conditional, then what
    moves by itself.
    """
    offer, _, counter = shown
    moving = f"{shown_state(offer, now)};{counter.coupons_loaded};{counter.reserved_minor}"
    return f'"{_terms_tag(offer)};{moving}"'


def is_as_read(shown: Shown, if_match: str) -> bool:
    """Coupons that were loaded since do not count."""
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in if_match.split(",")]
    return "*" in tags or _terms_tag(shown[0]) in [tag.partition(";")[0] for tag in tags]


def _terms_tag(offer: Offer) -> str:
    return f"{offer.version}-{offer.updated_at.timestamp():.6f}"


async def lock(session: AsyncSession, offer_id: UUID) -> Shown:
    if not await queries.lock_counters(session, [offer_id]):
        raise NotFound("no such offer", code="offer_not_found")
    return await get(session, offer_id=offer_id)


async def _publish(
    session: AsyncSession, offer: Offer, action: str, by: Actor, now: datetime
) -> Shown:
    state = state_at("scheduled", starts_at=offer.starts_at, ends_at=offer.ends_at, at=now)
    return await _move(
        session,
        offer,
        action,
        by,
        state=state,
        refusal=None,
        paused_by=None,
        paused_at=None,
        published_at=offer.published_at or now,
    )


async def _move(
    session: AsyncSession,
    offer: Offer,
    action: str,
    by: Actor,
    **values: Any,  # noqa: ANN401 - columns of many types
) -> Shown:
    before = {name: getattr(offer, name) for name in values}
    await update(session, offer, **values)
    await record(session, offer, action, by, before=before, after=values)
    return await get(session, offer_id=offer.id)


async def update(
    session: AsyncSession,
    offer: Offer,
    **values: Any,  # noqa: ANN401 - columns of many types
) -> None:
    """Raises Conflict when another offer has the hashtag in the window."""
    try:
        await queries.update_offer(session, offer.id, **values)
    except IntegrityError as error:
        if violated_constraint(error) != "ex_offers_tag_window":
            raise
        raise Conflict(
            f"another offer has #{offer.hashtag} in this window", code="tag_taken"
        ) from error


async def record(
    session: AsyncSession,
    offer: Offer,
    action: str,
    by: Actor,
    *,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    await partners.audit(
        session,
        actor=by.name,
        action=action,
        subject_kind="offer",
        subject_id=str(offer.id),
        before=to_jsonable_python(before),
        after=to_jsonable_python(after),
    )


async def follow_clock(session: AsyncSession, *, now: datetime, most: int) -> int:
    """Brings the stored state of published offers in step with the clock, `most` at a time; answers
    how many were not. Nobody waits for it: whoever asks goes by the clock (`terms.state_at`). A
    paused offer stays paused when its end passes, or posts of the pause would load coupons.
    """
    offer_ids = await queries.out_of_step(session, now=now, most=most)
    if not offer_ids:
        return 0
    await queries.lock_counters(session, offer_ids)
    moved = await queries.follow_clock(session, offer_ids, now=now)
    await partners.audit_all(
        session,
        entries=[
            Audited(
                CLOCK,
                "offer.end" if after == "ended" else "offer.start",
                "offer",
                str(offer_id),
                {"state": before},
                {"state": after},
            )
            for offer_id, before, after in moved
        ],
    )
    ended = [offer_id for offer_id, _, after in moved if after == "ended"]
    await announcing.announce_ended(session, ended, now=now)
    return len(moved)


async def lock_all(session: AsyncSession, *, offer_ids: Collection[UUID]) -> None:
    """The first lock of a step that touches offers, held until its transaction ends."""
    await queries.lock_counters(session, offer_ids)


async def give_back(session: AsyncSession, *, unspent_minor: Mapping[UUID, int]) -> None:
    """What coupons that are closed had reserved and not spent, by offer. The offers are locked."""
    await queries.give_back(session, unspent_minor)


async def read_terms(
    session: AsyncSession, *, versions: Collection[tuple[UUID, int]]
) -> dict[tuple[UUID, int], Terms]:
    """The terms that coupons were loaded under."""
    return await queries.read_versions(session, versions)


async def wallet(
    session: AsyncSession, *, member_id: UUID
) -> Sequence[tuple[Coupon, Offer, OfferVersion]]:
    """Each with the terms that it was loaded under. Raises NotFound."""
    await members.get_member(session, member_id=member_id)
    return await queries.member_coupons(session, member_id)
