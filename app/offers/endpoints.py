from datetime import datetime
from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Response

from app.deps import NowDep
from app.errors import Invalid
from app.kit.pagination import Page, PagingDep, make_page
from app.offers import service
from app.offers.models import Coupon, Offer
from app.offers.schemas import (
    DAYS,
    AudienceIn,
    CouponOut,
    CouponState,
    FixedReward,
    Hours,
    Objective,
    OfferGrowth,
    OfferIn,
    OfferOut,
    ShareReward,
)
from app.offers.terms import State, state_at
from app.partners import service as partners
from app.partners.auth import Principal, require
from app.partners.tenancy import TenantSession

router = APIRouter(prefix="/v1", tags=["offers"])

Partner = Annotated[Principal, Depends(require("partner", "operator"))]
Operator = Annotated[Principal, Depends(require("operator"))]
Reader = Annotated[Principal, Depends(require("partner", "operator", "analyst"))]
Issuer = Annotated[Principal, Depends(require("issuer", "operator"))]


@router.post("/offers", status_code=201, responses={200: {"model": OfferOut}})
async def create_offer(
    offer: OfferIn, session: TenantSession, principal: Partner, now: NowDep, response: Response
) -> OfferOut:
    """A draft. The same `offer_ref` with the same terms again is answered 200 as it stands."""
    partner_id = principal.partner_id
    if partner_id is None:
        if offer.partner is None:
            raise Invalid("an operator must name the partner")
        partner_id = (await partners.find_partner(session, ref_or_id=offer.partner)).id
    shown, is_new = await service.create(
        session, partner_id=partner_id, offer=offer, actor=principal.actor
    )
    if not is_new:
        response.status_code = 200
    return _answer(shown, response, now)


@router.get("/offers")
async def list_offers(
    session: TenantSession, _: Reader, paging: PagingDep, now: NowDep, state: State | None = None
) -> Page[OfferOut]:
    rows = await service.page(
        session, after=paging.after, limit=paging.limit + 1, state=state, now=now
    )
    return make_page(
        rows, paging, show=lambda row: show_offer(row, now), row_id=lambda row: row[0].id
    )


@router.get("/offers/{offer_id}")
async def get_offer(
    offer_id: UUID, session: TenantSession, _: Reader, now: NowDep, response: Response
) -> OfferOut:
    return _answer(await service.get(session, offer_id=offer_id), response, now)


@router.patch("/offers/{offer_id}")
async def grow_offer(
    offer_id: UUID,
    growth: OfferGrowth,
    session: TenantSession,
    principal: Partner,
    now: NowDep,
    response: Response,
    if_match: Annotated[str | None, Header()] = None,
) -> OfferOut:
    """Moves the end later or raises a cap; nothing that was promised shrinks."""
    shown = await service.grow(
        session, offer_id=offer_id, growth=growth, by=_actor(principal), if_match=if_match
    )
    return _answer(shown, response, now)


@router.post("/offers/{offer_id}/publish")
async def publish_offer(
    offer_id: UUID, session: TenantSession, principal: Partner, now: NowDep, response: Response
) -> OfferOut:
    """Live, or scheduled, where the partner's credit limit covers the budget or the operator asks;
    else submitted for approval.
    """
    shown = await service.publish(session, offer_id=offer_id, by=_actor(principal), now=now)
    return _answer(shown, response, now)


@router.post("/offers/{offer_id}/approve")
async def approve_offer(
    offer_id: UUID, session: TenantSession, principal: Operator, now: NowDep, response: Response
) -> OfferOut:
    shown = await service.approve(session, offer_id=offer_id, by=_actor(principal), now=now)
    return _answer(shown, response, now)


@router.post("/offers/{offer_id}/pause")
async def pause_offer(
    offer_id: UUID, session: TenantSession, principal: Partner, now: NowDep, response: Response
) -> OfferOut:
    """Posts that name it load nothing until it is resumed; coupons stay good."""
    shown = await service.pause(session, offer_id=offer_id, by=_actor(principal), now=now)
    return _answer(shown, response, now)


@router.post("/offers/{offer_id}/resume")
async def resume_offer(
    offer_id: UUID, session: TenantSession, principal: Partner, now: NowDep, response: Response
) -> OfferOut:
    shown = await service.resume(session, offer_id=offer_id, by=_actor(principal), now=now)
    return _answer(shown, response, now)


@router.post("/offers/{offer_id}/end")
async def end_offer(
    offer_id: UUID, session: TenantSession, principal: Partner, now: NowDep, response: Response
) -> OfferOut:
    """Ends it now and frees its hashtag; coupons stay good."""
    shown = await service.end(session, offer_id=offer_id, by=_actor(principal), now=now)
    return _answer(shown, response, now)


@router.get("/members/{member_id}/coupons")
async def list_coupons(
    member_id: UUID, session: TenantSession, _: Issuer, now: NowDep
) -> Page[CouponOut]:
    """The wallet, newest first; a member has one coupon an offer, so it is one page."""
    wallet = await service.wallet(session, member_id=member_id)
    items = [show_coupon(coupon, offer, now) for coupon, offer in wallet]
    return Page(items=items, next_cursor=None)


def _actor(principal: Principal) -> service.Actor:
    return service.Actor(principal.actor, is_operator=principal.role == "operator")


def _answer(shown: service.Shown, response: Response, now: datetime) -> OfferOut:
    response.headers["ETag"] = service.etag(shown)
    return show_offer(shown, now)


def show_offer(shown: service.Shown, now: datetime) -> OfferOut:
    offer, terms, counter = shown
    reward: FixedReward | ShareReward
    if terms.fixed_minor is not None:
        reward = FixedReward(fixed_minor=terms.fixed_minor)
    else:
        reward = ShareReward.model_validate(
            {"basis_points": terms.basis_points, "max_minor": terms.max_minor}
        )
    hours = None
    if terms.hours_from is not None:
        hours = Hours.model_validate({"from": terms.hours_from, "to": terms.hours_to})
    return OfferOut.model_validate(
        {
            "id": offer.id,
            "offer_ref": offer.ref,
            "partner_id": offer.partner_id,
            "title": offer.title,
            "hashtag": offer.hashtag,
            "state": state_at(
                cast("State", offer.state), starts_at=offer.starts_at, ends_at=offer.ends_at, at=now
            ),
            "version": offer.version,
            "starts_at": offer.starts_at,
            "ends_at": offer.ends_at,
            "time_zone": terms.time_zone,
            "currency": offer.currency,
            "reward": reward,
            "min_spend_minor": terms.min_spend_minor,
            "channel": terms.channel,
            "acceptor_ids": terms.acceptor_ids,
            "days": None if terms.days is None else [DAYS[day - 1] for day in terms.days],
            "hours": hours,
            "coupons_max": counter.coupons_max,
            "coupons_loaded": counter.coupons_loaded,
            "budget_minor": counter.budget_minor,
            "reserved_minor": counter.reserved_minor,
            "coupon_valid_days": terms.coupon_valid_days,
            "coupon_last_day": terms.coupon_last_day,
            "redemptions_per_coupon": terms.redemptions_per_coupon,
            "audience": None if terms.audience is None else AudienceIn(**terms.audience),
            "refund_policy": terms.refund_policy,
            "objective": None if offer.objective is None else Objective(**offer.objective),
        }
    )


def show_coupon(coupon: Coupon, offer: Offer, now: datetime) -> CouponOut:
    return CouponOut(
        id=coupon.id,
        offer_id=offer.id,
        title=offer.title,
        currency=offer.currency,
        state=_coupon_state(coupon, now),
        loaded_at=coupon.loaded_at,
        valid_until=coupon.valid_until,
        uses=coupon.uses,
        uses_max=coupon.uses_max,
        reward_minor=coupon.spent_minor,
    )


def _coupon_state(coupon: Coupon, now: datetime) -> CouponState:
    if coupon.closed_at is not None:
        return "closed"
    if coupon.uses >= coupon.uses_max:
        return "used"
    return "expired" if coupon.valid_until <= now else "loaded"
