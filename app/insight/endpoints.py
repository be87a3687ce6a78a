from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator

from app.deps import NowDep, SessionDep, SessionsDep, SettingsDep
from app.errors import Forbidden
from app.insight import attribution, explain, queries
from app.insight.costs import costs, month_named
from app.insight.dry_run import Wanted, dry_run
from app.insight.performance import performance
from app.insight.schemas import CostsOut, DryRunIn, DryRunOut, PerformanceOut, RedemptionOut
from app.kit.fields import is_no_card_number
from app.kit.pagination import Page, PagingDep, make_page
from app.partners.auth import Principal, require
from app.partners.tenancy import TenantSession

router = APIRouter(prefix="/v1", tags=["insight"])

Analyst = Annotated[Principal, Depends(require("analyst", "partner", "operator"))]
Partner = Annotated[Principal, Depends(require("partner", "operator"))]
Accountant = Annotated[Principal, Depends(require("analyst", "operator"))]
Support = Annotated[Principal, Depends(require("operator", "issuer"))]
NoCardNumber = Annotated[str, AfterValidator(is_no_card_number)]
Language = Annotated[str, Query(pattern="^(en|fr)$")]


@router.get("/attribution")
async def get_attribution(
    session: TenantSession,
    principal: Analyst,
    group_by: Annotated[str, Query(max_length=200)] = "offer",
    since: date | None = None,
    until: date | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Posts, coupons, redemptions, sales and rewards by one or several of offer, hashtag, partner,
    network, channel, customer_kind, country and day, and always by currency. Days are UTC; the
    figures are a few seconds old at most. A partner is shown null for groups under ten.
    """
    names = [name.strip() for name in group_by.split(",") if name.strip()]
    rows = await attribution.attribution(session, group_by=names, since=since, until=until)
    if principal.partner_id is not None:
        rows = attribution.suppress_small_groups(rows)
    return {"items": rows}


@router.get("/offers/{offer_id}/performance")
async def get_performance(
    offer_id: UUID, session: TenantSession, principal: Analyst, now: NowDep
) -> PerformanceOut:
    """What an offer's posts became, what is left of its caps, what it sold, and how near it is to
    its objective. The figures are a few seconds old at most. A partner is shown null for groups
    under ten.
    """
    found = await performance(
        session, offer_id=offer_id, now=now, to_partner=principal.partner_id is not None
    )
    return PerformanceOut.model_validate(found)


@router.post("/offers/{offer_id}/dry-run")
async def dry_run_offer(
    offer_id: UUID,
    sessions: SessionsDep,
    principal: Partner,
    settings: SettingsDep,
    now: NowDep,
    body: DryRunIn | None = None,
) -> DryRunOut:
    """What the posts and purchases of the last 30 days would have done under the offer's terms, in
    whatever state it is, or under other terms. Changes nothing.
    """
    # A partner's role may read no post. So the service reads them, for the partner whose key it is.
    asked = body or DryRunIn()
    wanted = Wanted(offer_id, asked.changes, asked.days, principal.partner_id)
    found = await dry_run(sessions, wanted=wanted, settings=settings, now=now)
    return DryRunOut.model_validate(found)


@router.get("/costs")
async def get_costs(
    session: SessionDep,
    principal: Accountant,
    settings: SettingsDep,
    now: NowDep,
    month: Annotated[
        str | None, Query(description="as in 2026-07, of UTC; this one if unset")
    ] = None,
) -> CostsOut:
    """What X has cost, by kind, a coupon and an offer, with a forecast and what is left of the
    ceilings. In millionths of a US dollar.
    """
    if principal.partner_id is not None:
        raise Forbidden("what the programme pays is not a partner's affair")
    found = await costs(session, month=month_named(month, now), settings=settings, now=now)
    return CostsOut.model_validate(found)


@router.get("/redemptions")
async def list_redemptions(
    session: TenantSession,
    principal: Analyst,
    paging: PagingDep,
    state: Literal["pending", "earned", "returned", "rejected"] | None = None,
) -> Page[RedemptionOut]:
    """Purchases that used, or might have used, a coupon: all of them, or a partner's own. The buyer
    is a pseudonym that means nothing to another partner; the post is not shown.
    """
    rows = await queries.page_of_sales(
        session, after=paging.after, limit=paging.limit + 1, state=state
    )
    for_partner = principal.partner_id is not None
    return make_page(
        rows,
        paging,
        show=lambda row: RedemptionOut.of(row, for_partner=for_partner),
        row_id=lambda row: row[0].redemption_id,
    )


@router.get("/explain/posts/{post_id}")
async def explain_post(
    post_id: str, session: SessionDep, _: Support, network: str = "x", locale: Language = "en"
) -> dict[str, Any]:
    """Why a post did or did not load a coupon."""
    return await explain.explain_post(session, post_id=post_id, network=network, locale=locale)


@router.get("/explain/transactions/{transaction_id}")
async def explain_transaction(
    transaction_id: NoCardNumber, session: SessionDep, _: Support, locale: Language = "en"
) -> dict[str, Any]:
    """Why a purchase did or did not earn a reward."""
    return await explain.explain_transaction(session, transaction_id=transaction_id, locale=locale)
