from datetime import date
from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AfterValidator

from app.deps import NowDep, SessionDep, SessionsDep, SettingsDep
from app.errors import Forbidden, NotFound
from app.insight import explain, filters, queries
from app.insight.attribution import Asked, attribution
from app.insight.costs import costs, month_named
from app.insight.dry_run import Wanted, dry_run
from app.insight.exporting import MEDIA_TYPES, Exports, Format, export_sales
from app.insight.filters import Dimensions, FiltersDep, get_dimensions
from app.insight.models import Sale
from app.insight.performance import performance
from app.insight.schemas import (
    AttributionOut,
    CostsOut,
    DryRunIn,
    DryRunOut,
    ExplainedPost,
    ExplainedTransaction,
    ExportedRedemption,
    PerformanceOut,
    RedemptionOut,
)
from app.kit.downloads import Download, Write
from app.kit.fields import ExternalId, NetworkName, is_no_card_number
from app.kit.months import MonthName
from app.kit.pagination import Page, PagingDep, make_page
from app.openapi import lines, problems
from app.partners.auth import Principal, require
from app.partners.idempotency import ApiRoute
from app.partners.tenancy import TenantSession
from app.redemptions.transactions import FIELD_CHARACTERS_MAX

router = APIRouter(prefix="/v1", tags=["insight"], route_class=ApiRoute)

Analyst = Annotated[Principal, Depends(require("analyst", "partner", "operator"))]
Partner = Annotated[Principal, Depends(require("partner", "operator"))]
Accountant = Annotated[Principal, Depends(require("analyst", "operator"))]
Support = Annotated[Principal, Depends(require("operator", "issuer"))]
TransactionId = Annotated[
    str, Path(min_length=1, max_length=FIELD_CHARACTERS_MAX), AfterValidator(is_no_card_number)
]
Language = Annotated[str, Query(pattern="^(en|fr)$")]


@router.get("/attribution", response_model_exclude_unset=True)
async def get_attribution(
    *,
    session: TenantSession,
    principal: Analyst,
    settings: SettingsDep,
    wanted: Annotated[Dimensions, Depends(get_dimensions)],
    group_by: Annotated[
        str,
        Query(max_length=200, description="joined by commas"),
        AfterValidator(is_no_card_number),
    ] = "offer",
    since: Annotated[date | None, Query(description="the first day, of UTC")] = None,
    until: Annotated[date | None, Query(description="the last day, of UTC")] = None,
    costs: Annotated[bool, Query(description="what X has cost as well; it takes longer")] = False,
) -> AttributionOut:
    """What posts brought, by up to four of offer, hashtag, partner, network, channel,
    customer_kind, country, hour, day and week, and always by currency. Days are UTC, weeks begin on
    Monday; `as_of` says how far the figures have followed. A partner is shown null for groups under
    ten, and for as many more as it takes to keep those from being worked out; and no minutes.
    """
    is_partner = principal.partner_id is not None
    if is_partner and costs:
        raise Forbidden("what the programme pays is not a partner's affair")
    asked = Asked(
        group_by=[name.strip() for name in group_by.split(",") if name.strip()],
        wanted=wanted,
        since=since,
        until=until,
        to_partner=is_partner,
        read_price_microusd=settings.x_price_post_read_microusd if costs else None,
    )
    found = await attribution(session, asked)
    return AttributionOut.model_validate(found._asdict())


@router.get("/offers/{offer_id}/performance", responses=problems(NotFound))
async def get_performance(
    offer_id: UUID, session: TenantSession, principal: Analyst, now: NowDep
) -> PerformanceOut:
    """What an offer's posts became, what is left of its caps, what it sold, and how near it is to
    its objective. The figures are a few seconds old at most. A partner is shown null for groups
    under ten, and whole tens of posts.
    """
    found = await performance(
        session, offer_id=offer_id, now=now, to_partner=principal.partner_id is not None
    )
    return PerformanceOut.model_validate(found)


@router.post("/offers/{offer_id}/dry-run", responses=problems(NotFound))
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
        MonthName | None, Query(description="of UTC; the present one if unset")
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
    session: TenantSession, principal: Analyst, wanted: FiltersDep, paging: PagingDep
) -> Page[RedemptionOut]:
    """Purchases that used, or might have used, a coupon: all of them, or a partner's own. The buyer
    is a pseudonym that means nothing to another partner; the post is not shown.
    """
    conditions = await filters.conditions(session, wanted)
    for_partner = principal.partner_id is not None
    query = queries.page_of_sales(
        conditions, after=paging.after, limit=paging.limit + 1, for_partner=for_partner
    )
    return make_page(
        await queries.read_sales(session, query),
        paging,
        show=lambda row: RedemptionOut.of(row, for_partner=for_partner),
        row_id=lambda row: row[0].redemption_id,
    )


def get_exports(request: Request) -> Exports:
    return cast("Exports", request.app.state.exports)


@router.get(
    "/redemptions/export",
    response_class=Response,
    responses={
        200: {
            "content": {
                MEDIA_TYPES["csv"]: {"schema": {"type": "string"}},
                **lines(ExportedRedemption.model_json_schema(), "a redemption a line"),
                MEDIA_TYPES["parquet"]: {"schema": {"type": "string", "format": "binary"}},
            }
        }
    },
)
async def export_redemptions(
    sessions: SessionsDep,
    principal: Analyst,
    wanted: FiltersDep,
    exports: Annotated[Exports, Depends(get_exports)],
    now: NowDep,
    file_format: Annotated[Format, Query(alias="format")] = "csv",
) -> Download:
    """All that `GET /v1/redemptions` lists with the same filters, as one file and of one moment.
    The programme's has `posted_at` and `minutes_from_post` beside; a partner's has not.
    An answer that breaks off is no whole file: ask again.
    """

    async def write_file(write: Write) -> None:
        async with exports.place(principal.partner_id or principal.key_id):
            await export_sales(
                sessions,
                wanted=wanted,
                partner_id=principal.partner_id,
                file_format=file_format,
                write=write,
            )

    return Download(
        write_file,
        media_type=MEDIA_TYPES[file_format],
        file_name=f"redemptions-{now:%Y-%m-%dT%H%M%SZ}.{file_format}",
    )


@router.get("/redemptions/{redemption_id}", responses=problems(NotFound))
async def get_redemption(
    redemption_id: UUID, session: TenantSession, principal: Analyst
) -> RedemptionOut:
    """One of them, as the list shows it."""
    for_partner = principal.partner_id is not None
    query = queries.page_of_sales(
        [Sale.redemption_id == redemption_id], after=None, limit=1, for_partner=for_partner
    )
    rows = await queries.read_sales(session, query)
    if not rows:
        raise NotFound(f"no redemption {redemption_id}", code="redemption_not_found")
    return RedemptionOut.of(rows[0], for_partner=for_partner)


@router.get("/explain/posts/{post_id}", response_model_exclude_unset=True)
async def explain_post(
    post_id: ExternalId,
    session: SessionDep,
    _: Support,
    network: NetworkName = "x",
    locale: Language = "en",
) -> ExplainedPost:
    """Why a post did or did not load a coupon."""
    told = await explain.explain_post(session, post_id=post_id, network=network, locale=locale)
    return ExplainedPost.model_validate(told)


@router.get("/explain/transactions/{transaction_id}", response_model_exclude_unset=True)
async def explain_transaction(
    transaction_id: TransactionId, session: SessionDep, _: Support, locale: Language = "en"
) -> ExplainedTransaction:
    """Why a purchase did or did not earn a reward."""
    told = await explain.explain_transaction(session, transaction_id=transaction_id, locale=locale)
    return ExplainedTransaction.model_validate(told)
