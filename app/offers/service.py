"""Offers from draft to end. Whoever changes one locks its counter row first, as the loading of
coupons does: a pause that was answered is seen by every post decided after it.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Forbidden, Invalid, NotFound, PreconditionFailed
from app.kit.constraints import violated_constraint
from app.kit.hashtags import tag_key
from app.offers import queries
from app.offers.models import Coupon, Offer, OfferCounter, OfferVersion
from app.offers.schemas import DAYS, FixedReward, OfferGrowth, OfferIn, ShareReward
from app.offers.terms import State, Terms, state_at
from app.partners import service as partners

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
    acceptor_ids = await _acceptor_ids(session, partner_id, offer)
    known = await queries.find_by_ref(session, partner_id=partner_id, ref=offer.offer_ref)
    if known is not None:
        shown = await get(session, offer_id=known.id)
        if _differs(shown, offer, acceptor_ids):
            raise Conflict(f"offer_ref {offer.offer_ref!r} exists with other terms")
        return shown, False
    row = Offer(
        partner_id=partner_id,
        ref=offer.offer_ref,
        title=offer.title,
        hashtag=offer.hashtag,
        tag_key=tag_key(offer.hashtag),
        starts_at=offer.starts_at,
        ends_at=offer.ends_at,
        state="draft",
        currency=offer.currency,
        version=1,
        objective=None if offer.objective is None else offer.objective.model_dump(mode="json"),
    )
    session.add(row)
    await session.flush()
    session.add(_version(row.id, 1, offer, acceptor_ids))
    session.add(
        OfferCounter(
            offer_id=row.id, coupons_max=offer.coupons_max, budget_minor=offer.budget_minor
        )
    )
    await session.flush()
    await partners.audit(
        session,
        actor=actor,
        action="offer.create",
        subject_kind="offer",
        subject_id=str(row.id),
        after=offer.model_dump(mode="json", exclude_none=True),
    )
    return await get(session, offer_id=row.id), True


def _version(
    offer_id: UUID, version: int, offer: OfferIn, acceptor_ids: list[UUID] | None
) -> OfferVersion:
    reward, hours = offer.reward, offer.hours
    return OfferVersion(
        offer_id=offer_id,
        version=version,
        time_zone=offer.time_zone,
        fixed_minor=reward.fixed_minor if isinstance(reward, FixedReward) else None,
        basis_points=reward.basis_points if isinstance(reward, ShareReward) else None,
        max_minor=reward.max_minor if isinstance(reward, ShareReward) else None,
        min_spend_minor=offer.min_spend_minor,
        channel=offer.channel,
        acceptor_ids=acceptor_ids,
        days=None if offer.days is None else sorted({DAYS.index(day) + 1 for day in offer.days}),
        hours_from=None if hours is None else hours.from_,
        hours_to=None if hours is None else hours.to,
        coupon_valid_days=offer.coupon_valid_days,
        coupon_last_day=offer.coupon_last_day,
        redemptions_per_coupon=offer.redemptions_per_coupon,
        audience=None if offer.audience is None else offer.audience.model_dump(exclude_none=True),
        refund_policy=offer.refund_policy,
    )


async def _acceptor_ids(
    session: AsyncSession, partner_id: UUID, offer: OfferIn
) -> list[UUID] | None:
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


def _differs(shown: Shown, offer: OfferIn, acceptor_ids: list[UUID] | None) -> bool:
    known, terms, counter = shown
    wanted = _version(known.id, known.version, offer, acceptor_ids)
    columns = [
        column.name for column in OfferVersion.__table__.columns if column.name != "created_at"
    ]
    # an offer that has grown since is still the one that was sent
    return (
        any(getattr(terms, name) != getattr(wanted, name) for name in columns)
        or (known.title, known.tag_key, known.currency, known.starts_at)
        != (offer.title, tag_key(offer.hashtag), offer.currency, offer.starts_at)
        or (known.state != "ended" and known.ends_at < offer.ends_at)
        or _is_smaller(counter.coupons_max, offer.coupons_max)
        or _is_smaller(counter.budget_minor, offer.budget_minor)
    )


def _is_smaller(cap: int | None, other: int | None) -> bool:
    return cap is not None and (other is None or cap < other)


async def get(session: AsyncSession, *, offer_id: UUID) -> Shown:
    offer = await queries.get(session, offer_id)
    if offer is None:
        raise NotFound("no such offer")
    return (
        offer,
        await queries.get_version(session, offer_id, offer.version),
        await queries.get_counter(session, offer_id),
    )


async def page(
    session: AsyncSession, *, after: UUID | None, limit: int, state: State | None, now: datetime
) -> Sequence[Shown]:
    return await queries.page(session, after=after, limit=limit, state=state, now=now)


async def publish(session: AsyncSession, *, offer_id: UUID, by: Actor, now: datetime) -> Shown:
    """Live at once where the operator publishes or the partner's credit limit covers the budget;
    else submitted to the operator. One that the operator publishes after its end is a record:
    archived posts find it.
    """
    offer, _, counter = await _locked(session, offer_id)
    if offer.state in ("scheduled", "live"):
        return await get(session, offer_id=offer_id)
    if offer.state not in ("draft", "submitted"):
        raise Conflict(f"an offer that is {offer.state} cannot be published")
    if offer.ends_at <= now and not by.is_operator:
        raise Conflict("the offer's end has passed")
    if not by.is_operator and not await _is_covered(session, offer, counter.budget_minor):
        return await _move(session, offer, "offer.publish", by, state="submitted")
    return await _publish(session, offer, "offer.publish", by, now)


async def approve(session: AsyncSession, *, offer_id: UUID, by: Actor, now: datetime) -> Shown:
    offer, _, _ = await _locked(session, offer_id)
    if offer.state != "submitted":
        raise Conflict(f"only a submitted offer is approved; this one is {offer.state}")
    return await _publish(session, offer, "offer.approve", by, now)


async def pause(session: AsyncSession, *, offer_id: UUID, by: Actor, now: datetime) -> Shown:
    offer, _, _ = await _locked(session, offer_id)
    state = _state(offer, now)
    if state not in ("scheduled", "live", "paused"):
        raise Conflict(f"an offer that is {state} cannot be paused")
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
    offer, _, _ = await _locked(session, offer_id)
    state = _state(offer, now)
    if state in ("scheduled", "live"):
        return await get(session, offer_id=offer_id)
    if state != "paused":
        raise Conflict(f"an offer that is {state} cannot be resumed")
    if offer.paused_by == "operator" and not by.is_operator:
        raise Forbidden("the operator has paused this offer", code="paused_by_operator")
    return await _publish(session, offer, "offer.resume", by, now)


async def end(session: AsyncSession, *, offer_id: UUID, by: Actor, now: datetime) -> Shown:
    """Ends it now, or, if it was paused, when it was paused; its coupons stay good. The window is
    cut, so that the tag is free again. One that has not begun, or was never published, is called
    off: no tag means it.
    """
    offer, _, _ = await _locked(session, offer_id)
    if _state(offer, now) == "ended":
        return await get(session, offer_id=offer_id)
    since = offer.paused_at or now
    has_run = offer.published_at is not None and offer.starts_at < since
    return await _move(
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


def _state(offer: Offer, now: datetime) -> State:
    stored = cast("State", offer.state)
    return state_at(stored, starts_at=offer.starts_at, ends_at=offer.ends_at, at=now)


async def grow(
    session: AsyncSession,
    *,
    offer_id: UUID,
    growth: OfferGrowth,
    by: Actor,
    if_match: str | None = None,
) -> Shown:
    """Raises Invalid for what would shrink, Forbidden for caps that the partner's credit does not
    cover, PreconditionFailed when the offer is no longer as `if_match` has it.
    """
    shown = offer, terms, counter = await _locked(session, offer_id)
    if if_match is not None and if_match != etag(shown):
        raise PreconditionFailed("the offer has changed: read it again")
    if offer.state in ("submitted", "ended"):
        raise Conflict(f"an offer that is {offer.state} does not change")
    if growth.ends_at is not None:
        _check_end(offer, terms, growth.ends_at)
    for name in ("coupons_max", "budget_minor"):
        wanted, current = getattr(growth, name), getattr(counter, name)
        if wanted is not None and (current is None or wanted < current):
            raise Invalid(f"{name} may only grow")
    caps = growth.model_dump(include={"coupons_max", "budget_minor"}, exclude_none=True)
    if caps:
        budget_minor = growth.budget_minor or counter.budget_minor
        is_free = by.is_operator or offer.state == "draft"
        if not is_free and not await _is_covered(session, offer, budget_minor):
            raise Forbidden("the partner's credit limit does not cover this: ask the operator")
        await queries.update_counter(session, offer_id, **caps)
    ends_at = growth.ends_at or offer.ends_at
    return await _move(session, offer, "offer.grow", by, ends_at=ends_at)


def _check_end(offer: Offer, terms: OfferVersion, ends_at: datetime) -> None:
    if ends_at < offer.ends_at:
        raise Invalid("ends_at may only move later")
    last_post = ends_at.astimezone(ZoneInfo(terms.time_zone)).date()
    if terms.coupon_last_day is not None and last_post > terms.coupon_last_day:
        raise Invalid("ends_at must not be after coupon_last_day")


async def _is_covered(session: AsyncSession, offer: Offer, budget_minor: int | None) -> bool:
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


def etag(shown: Shown) -> str:
    offer = shown[0]
    return f'"{offer.version}-{offer.updated_at.timestamp():.6f}"'


async def _locked(session: AsyncSession, offer_id: UUID) -> Shown:
    if not await queries.lock_counters(session, [offer_id]):
        raise NotFound("no such offer")
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
    before = {name: _plain(getattr(offer, name)) for name in values}
    try:
        await queries.update_offer(session, offer.id, **values)
    except IntegrityError as error:
        if violated_constraint(error) != "ex_offers_tag_window":
            raise
        raise Conflict(
            f"another offer has #{offer.hashtag} in this window", code="tag_taken"
        ) from error
    await partners.audit(
        session,
        actor=by.name,
        action=action,
        subject_kind="offer",
        subject_id=str(offer.id),
        before=before,
        after={name: _plain(value) for name, value in values.items()},
    )
    return await get(session, offer_id=offer.id)


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


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
    for offer_id, before, after in moved:
        await partners.audit(
            session,
            actor=CLOCK,
            action="offer.end" if after == "ended" else "offer.start",
            subject_kind="offer",
            subject_id=str(offer_id),
            before={"state": before},
            after={"state": after},
        )
    return len(moved)


async def lock(session: AsyncSession, *, offer_ids: Collection[UUID]) -> None:
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


async def wallet(session: AsyncSession, *, member_id: UUID) -> Sequence[tuple[Coupon, Offer]]:
    return await queries.member_coupons(session, member_id)
