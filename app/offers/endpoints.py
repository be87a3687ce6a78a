from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Response

from app.deps import NowDep
from app.errors import Conflict, Invalid, NotFound, PreconditionFailed
from app.kit.fields import Instant, ShortText
from app.kit.hashtags import tag_key
from app.kit.http import is_current
from app.kit.pagination import Page, PagingDep, make_page
from app.offers import changing, service
from app.offers.models import Coupon, Offer, OfferVersion
from app.offers.queries import Filters
from app.offers.rows import written_terms
from app.offers.schemas import (
    CouponOut,
    CouponState,
    OfferChange,
    OfferIn,
    OfferOut,
    VersionOut,
)
from app.offers.terms import State
from app.openapi import ETAG, problems
from app.partners import service as partners
from app.partners.auth import Principal, require
from app.partners.idempotency import ApiRoute
from app.partners.schemas import PartnerRefOrId, RefusalIn
from app.partners.tenancy import TenantSession

router = APIRouter(prefix="/v1", tags=["offers"], route_class=ApiRoute)

Partner = Annotated[Principal, Depends(require("partner", "operator"))]
Operator = Annotated[Principal, Depends(require("operator"))]
Reader = Annotated[Principal, Depends(require("partner", "operator", "analyst"))]
Issuer = Annotated[Principal, Depends(require("issuer", "operator"))]


@router.post(
    "/offers",
    status_code=201,
    responses={200: {"model": OfferOut, **ETAG}, 201: ETAG, **problems(Conflict, NotFound)},
)
async def create_offer(
    offer: OfferIn, session: TenantSession, principal: Partner, now: NowDep, response: Response
) -> OfferOut:
    """A draft. The same `offer_ref` with the same terms again is answered 200 as it stands."""
    partner_id = principal.partner_id
    if offer.partner is not None:  # a partner finds nobody but himself
        partner_id = (await partners.find_partner(session, ref_or_id=offer.partner)).id
    if partner_id is None:
        raise Invalid("an operator must name the partner", code="partner_missing")
    shown, is_new = await service.create(
        session, partner_id=partner_id, offer=offer, actor=principal.actor
    )
    if not is_new:
        response.status_code = 200
    return _answer(shown, response, now)


@router.get("/offers", responses=problems(NotFound))
async def list_offers(
    session: TenantSession,
    _: Reader,
    paging: PagingDep,
    now: NowDep,
    *,
    state: State | None = None,
    hashtag: Annotated[ShortText | None, Query(description="with or without its sign")] = None,
    offer_ref: Annotated[ShortText | None, Query(description="the partner's name for it")] = None,
    partner: Annotated[PartnerRefOrId | None, Query(description="its ref or id")] = None,
    runs_from: Annotated[Instant | None, Query(description="that end after this")] = None,
    runs_until: Annotated[Instant | None, Query(description="that start before this")] = None,
) -> Page[OfferOut]:
    """The oldest first; a partner is shown its own."""
    filters = Filters(
        state=state,
        tag_key=None if hashtag is None else tag_key(hashtag.removeprefix("#")),
        ref=offer_ref,
        runs_from=runs_from,
        runs_until=runs_until,
    )
    if partner is not None:  # a partner finds nobody but himself
        found = await partners.find_partner(session, ref_or_id=partner)
        filters = filters._replace(partner_id=found.id)
    rows = await service.page(
        session, after=paging.after, limit=paging.limit + 1, filters=filters, now=now
    )
    return make_page(
        rows, paging, show=lambda row: show_offer(row, now), row_id=lambda row: row[0].id
    )


@router.get(
    "/offers/{offer_id}",
    response_model=OfferOut,
    responses={
        200: ETAG,
        304: {"description": "As `If-None-Match` has it.", **ETAG},
        **problems(NotFound),
    },
)
async def get_offer(
    offer_id: UUID,
    session: TenantSession,
    _: Reader,
    now: NowDep,
    response: Response,
    if_none_match: Annotated[str | None, Header(max_length=1_000)] = None,
) -> OfferOut | Response:
    """As it stands, with what is taken of its caps; 304 where `If-None-Match` names its `ETag`."""
    shown = await service.get(session, offer_id=offer_id)
    etag = service.etag(shown, now)
    if is_current(etag, if_none_match):
        return Response(status_code=304, headers={"ETag": etag})
    return _answer(shown, response, now)


@router.patch(
    "/offers/{offer_id}", responses={200: ETAG, **problems(Conflict, NotFound, PreconditionFailed)}
)
async def change_offer(
    offer_id: UUID,
    changes: OfferChange,
    session: TenantSession,
    principal: Partner,
    now: NowDep,
    response: Response,
    if_match: Annotated[str | None, Header(max_length=1_000)] = None,
) -> OfferOut:
    """Corrects a draft in anything. Once published, the end and the caps may only grow; hashtag,
    currency and start stand; other terms change by a new version, and coupons keep the one that
    they were loaded under. A partner's published offer changes as far as its credit limit covers
    the budget; else the operator changes it.
    """
    shown = await changing.change(
        session,
        offer_id=offer_id,
        changes=changes,
        by=_actor(principal),
        now=now,
        if_match=if_match,
    )
    return _answer(shown, response, now)


@router.get("/offers/{offer_id}/versions", responses=problems(NotFound))
async def list_versions(offer_id: UUID, session: TenantSession, _: Reader) -> Page[VersionOut]:
    """The terms that the offer has had, the first first; they are so few that it is one page."""
    versions = await service.list_versions(session, offer_id=offer_id)
    return Page(items=[show_version(version) for version in versions], next_cursor=None)


@router.post("/offers/{offer_id}/publish", responses={200: ETAG, **problems(Conflict, NotFound)})
async def publish_offer(
    offer_id: UUID, session: TenantSession, principal: Partner, now: NowDep, response: Response
) -> OfferOut:
    """Live, or scheduled, where the partner's credit limit covers the budget or the operator asks;
    else submitted for approval.
    """
    shown = await service.publish(session, offer_id=offer_id, by=_actor(principal), now=now)
    return _answer(shown, response, now)


@router.post("/offers/{offer_id}/approve", responses={200: ETAG, **problems(Conflict, NotFound)})
async def approve_offer(
    offer_id: UUID, session: TenantSession, principal: Operator, now: NowDep, response: Response
) -> OfferOut:
    """A submitted offer becomes live, or scheduled. The terms' caps are what it can cost."""
    shown = await service.approve(session, offer_id=offer_id, by=_actor(principal), now=now)
    return _answer(shown, response, now)


@router.post("/offers/{offer_id}/refuse", responses={200: ETAG, **problems(Conflict, NotFound)})
async def refuse_offer(
    offer_id: UUID,
    body: RefusalIn,
    session: TenantSession,
    principal: Operator,
    now: NowDep,
    response: Response,
) -> OfferOut:
    """Makes a submitted offer a draft again; the partner reads the reason as `refusal`, until it
    publishes again.
    """
    shown = await service.refuse(
        session, offer_id=offer_id, by=_actor(principal), reason=body.reason
    )
    return _answer(shown, response, now)


@router.post("/offers/{offer_id}/withdraw", responses={200: ETAG, **problems(Conflict, NotFound)})
async def withdraw_offer(
    offer_id: UUID, session: TenantSession, principal: Partner, now: NowDep, response: Response
) -> OfferOut:
    """Makes a submitted offer a draft again, which can be changed."""
    shown = await service.withdraw(session, offer_id=offer_id, by=_actor(principal))
    return _answer(shown, response, now)


@router.post("/offers/{offer_id}/pause", responses={200: ETAG, **problems(Conflict, NotFound)})
async def pause_offer(
    offer_id: UUID, session: TenantSession, principal: Partner, now: NowDep, response: Response
) -> OfferOut:
    """Posts that name it load nothing until it is resumed; coupons stay good."""
    shown = await service.pause(session, offer_id=offer_id, by=_actor(principal), now=now)
    return _answer(shown, response, now)


@router.post("/offers/{offer_id}/resume", responses={200: ETAG, **problems(Conflict, NotFound)})
async def resume_offer(
    offer_id: UUID, session: TenantSession, principal: Partner, now: NowDep, response: Response
) -> OfferOut:
    """What the operator has paused, the operator resumes."""
    shown = await service.resume(session, offer_id=offer_id, by=_actor(principal), now=now)
    return _answer(shown, response, now)


@router.post("/offers/{offer_id}/end", responses={200: ETAG, **problems(Conflict, NotFound)})
async def end_offer(
    offer_id: UUID, session: TenantSession, principal: Partner, now: NowDep, response: Response
) -> OfferOut:
    """Ends it now and frees its hashtag; coupons stay good."""
    shown = await service.end(session, offer_id=offer_id, by=_actor(principal), now=now)
    return _answer(shown, response, now)


@router.get("/members/{member_id}/coupons", responses=problems(NotFound))
async def list_coupons(
    member_id: UUID, session: TenantSession, _: Issuer, now: NowDep
) -> Page[CouponOut]:
    """The wallet, newest first; a member has one coupon an offer, so it is one page."""
    wallet = await service.wallet(session, member_id=member_id)
    items = [show_coupon(coupon, offer, version, now) for coupon, offer, version in wallet]
    return Page(items=items, next_cursor=None)


def _actor(principal: Principal) -> service.Actor:
    return service.Actor(principal.actor, is_operator=principal.role == "operator")


def _answer(shown: service.Shown, response: Response, now: datetime) -> OfferOut:
    response.headers["ETag"] = service.etag(shown, now)
    return show_offer(shown, now)


def show_offer(shown: service.Shown, now: datetime) -> OfferOut:
    offer, version, counter = shown
    return OfferOut.model_validate(
        {
            **written_terms(version),
            "id": offer.id,
            "offer_ref": offer.ref,
            "partner_id": offer.partner_id,
            "hashtag": offer.hashtag,
            "state": service.shown_state(offer, now),
            "version": offer.version,
            "starts_at": offer.starts_at,
            "ends_at": offer.ends_at,
            "currency": offer.currency,
            "acceptor_ids": version.acceptor_ids,
            "coupons_max": counter.coupons_max,
            "coupons_loaded": counter.coupons_loaded,
            "budget_minor": counter.budget_minor,
            "reserved_minor": counter.reserved_minor,
            "objective": offer.objective,
            "refusal": offer.refusal,
        }
    )


def show_version(version: OfferVersion) -> VersionOut:
    return VersionOut.model_validate(
        {
            **written_terms(version),
            "version": version.version,
            "created_at": version.created_at,
            "acceptor_ids": version.acceptor_ids,
        }
    )


def show_coupon(coupon: Coupon, offer: Offer, version: OfferVersion, now: datetime) -> CouponOut:
    return CouponOut(
        id=coupon.id,
        offer_id=offer.id,
        title=version.title,
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
