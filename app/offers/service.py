"""Offers from draft to end. Whoever changes one locks its counter row first, as the loading of
coupons does: a pause that was answered is seen by every post decided after it.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Invalid, NotFound
from app.kit.constraints import violated_constraint
from app.kit.hashtags import tag_key
from app.offers import queries
from app.offers.models import Coupon, Offer, OfferCounter, OfferVersion
from app.offers.schemas import DAYS, FixedReward, OfferGrowth, OfferIn, ShareReward
from app.offers.terms import State, Terms, state_at
from app.partners import service as partners

Shown = tuple[Offer, OfferVersion, OfferCounter]


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


async def publish(
    session: AsyncSession, *, offer_id: UUID, actor: str, approves: bool, now: datetime
) -> Shown:
    """Live at once where the actor approves or the partner's credit limit covers the budget; else
    submitted to the operator. One that the operator publishes after its end is a record: archived
    posts find it.
    """
    offer, _, counter = await _locked(session, offer_id)
    if offer.state in ("scheduled", "live"):
        return await get(session, offer_id=offer_id)
    if offer.state not in ("draft", "submitted"):
        raise Conflict(f"an offer that is {offer.state} cannot be published")
    if offer.ends_at <= now and not approves:
        raise Conflict("the offer's end has passed")
    covered = approves or await partners.covers(
        session,
        partner_id=offer.partner_id,
        amount_minor=counter.budget_minor,
        currency=offer.currency,
    )
    state = _published_state(offer, now) if covered else "submitted"
    return await _move(session, offer, state=state, action="offer.publish", actor=actor)


async def approve(session: AsyncSession, *, offer_id: UUID, actor: str, now: datetime) -> Shown:
    offer, _, _ = await _locked(session, offer_id)
    if offer.state != "submitted":
        raise Conflict(f"only a submitted offer is approved; this one is {offer.state}")
    state = _published_state(offer, now)
    return await _move(session, offer, state=state, action="offer.approve", actor=actor)


async def pause(session: AsyncSession, *, offer_id: UUID, actor: str) -> Shown:
    offer, _, _ = await _locked(session, offer_id)
    if offer.state not in ("scheduled", "live", "paused"):
        raise Conflict(f"an offer that is {offer.state} cannot be paused")
    return await _move(session, offer, state="paused", action="offer.pause", actor=actor)


async def resume(session: AsyncSession, *, offer_id: UUID, actor: str, now: datetime) -> Shown:
    offer, _, _ = await _locked(session, offer_id)
    if offer.state in ("scheduled", "live"):
        return await get(session, offer_id=offer_id)
    if offer.state != "paused":
        raise Conflict(f"an offer that is {offer.state} cannot be resumed")
    state = _published_state(offer, now)
    return await _move(session, offer, state=state, action="offer.resume", actor=actor)


async def end(session: AsyncSession, *, offer_id: UUID, actor: str, now: datetime) -> Shown:
    """Ends it now; its coupons stay good. The window is cut, so that the tag is free again."""
    offer, _, _ = await _locked(session, offer_id)
    if offer.state == "ended":
        return await get(session, offer_id=offer_id)
    cut = max(min(now, offer.ends_at), offer.starts_at + timedelta(microseconds=1))
    return await _move(session, offer, state="ended", action="offer.end", actor=actor, ends_at=cut)


async def grow(session: AsyncSession, *, offer_id: UUID, growth: OfferGrowth, actor: str) -> Shown:
    """Raises Invalid for what would shrink."""
    offer, _, counter = await _locked(session, offer_id)
    if offer.state == "ended":
        raise Conflict("an offer that has ended does not change")
    if growth.ends_at is not None and growth.ends_at < offer.ends_at:
        raise Invalid("ends_at may only move later")
    for name in ("coupons_max", "budget_minor"):
        wanted, current = getattr(growth, name), getattr(counter, name)
        if wanted is not None and (current is None or wanted < current):
            raise Invalid(f"{name} may only grow")
    caps = growth.model_dump(include={"coupons_max", "budget_minor"}, exclude_none=True)
    if caps:
        await queries.update_counter(session, offer_id, **caps)
    ends_at = growth.ends_at or offer.ends_at
    return await _move(
        session, offer, state=offer.state, action="offer.grow", actor=actor, ends_at=ends_at
    )


async def _locked(session: AsyncSession, offer_id: UUID) -> Shown:
    if not await queries.lock_counters(session, [offer_id]):
        raise NotFound("no such offer")
    return await get(session, offer_id=offer_id)


def _published_state(offer: Offer, now: datetime) -> str:
    return state_at("scheduled", starts_at=offer.starts_at, ends_at=offer.ends_at, at=now)


async def _move(
    session: AsyncSession,
    offer: Offer,
    *,
    state: str,
    action: str,
    actor: str,
    ends_at: datetime | None = None,
) -> Shown:
    before = {"state": offer.state, "ends_at": offer.ends_at.isoformat()}
    try:
        await queries.update_offer(session, offer.id, state=state, ends_at=ends_at or offer.ends_at)
    except IntegrityError as error:
        if violated_constraint(error) != "ex_offers_tag_window":
            raise
        raise Conflict(
            f"another offer has #{offer.hashtag} in this window", code="tag_taken"
        ) from error
    shown = await get(session, offer_id=offer.id)
    await partners.audit(
        session,
        actor=actor,
        action=action,
        subject_kind="offer",
        subject_id=str(offer.id),
        before=before,
        after={"state": state, "ends_at": shown[0].ends_at.isoformat()},
    )
    return shown


async def read_terms(
    session: AsyncSession, *, versions: Collection[tuple[UUID, int]]
) -> dict[tuple[UUID, int], Terms]:
    """The terms that coupons were loaded under."""
    return await queries.read_versions(session, versions)


async def wallet(session: AsyncSession, *, member_id: UUID) -> Sequence[tuple[Coupon, Offer]]:
    return await queries.member_coupons(session, member_id)
