from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Response

from app.deps import NowDep, SessionDep
from app.errors import Conflict, Invalid, NotFound
from app.kit.months import MonthName
from app.kit.pagination import Page, PagingDep, make_page
from app.ledger import adjustments, invoices, service
from app.ledger.adjustments import NewAdjustment
from app.ledger.invoices import Month
from app.ledger.schemas import (
    AcknowledgementIn,
    AdjustmentIn,
    AdjustmentOut,
    BatchOut,
    BatchWithLines,
    InvoiceOut,
    LineOut,
)
from app.openapi import problems
from app.partners.auth import OperatorDep, Principal, require
from app.partners.idempotency import ApiRoute

router = APIRouter(prefix="/v1", tags=["ledger"], route_class=ApiRoute)

Issuer = Annotated[Principal, Depends(require("issuer", "operator"))]
OptionalFailures = Annotated[AcknowledgementIn | None, Body()]
Payer = Annotated[Principal, Depends(require("operator", "partner"))]


@router.post(
    "/credit-batches",
    status_code=201,
    response_model=BatchOut,
    responses={204: {"description": "nothing is owed that was not asked for already"}},
)
async def create_batch(session: SessionDep, now: NowDep, who: Issuer) -> BatchOut | Response:
    """All that is owed and no batch has asked for yet. Sent again it makes no second claim for the
    same money.
    """
    row = await service.create_batch(session, actor=who.actor, now=now)
    return Response(status_code=204) if row is None else BatchOut.of(row)


@router.get("/credit-batches")
async def list_batches(session: SessionDep, paging: PagingDep, _: Issuer) -> Page[BatchOut]:
    """The oldest first."""
    rows = await service.list_batches(session, paging=paging)
    return make_page(rows, paging, show=BatchOut.of, row_id=lambda row: row.batch.id)


@router.get("/credit-batches/{batch_id}", responses=problems(NotFound))
async def get_batch(
    batch_id: UUID, session: SessionDep, paging: PagingDep, _: Issuer
) -> BatchWithLines:
    """With its lines, a page of them at a time."""
    row = await service.get_batch(session, batch_id=batch_id)
    lines = await service.lines(session, batch_id=batch_id, paging=paging)
    page = make_page(lines, paging, show=LineOut.of, row_id=lambda line: line.id)
    return BatchWithLines(**BatchOut.of(row).model_dump(), **page.model_dump())


@router.post("/credit-batches/{batch_id}/acknowledge", responses=problems(Conflict, NotFound))
async def acknowledge_batch(
    batch_id: UUID, session: SessionDep, now: NowDep, who: Issuer, body: OptionalFailures = None
) -> BatchOut:
    """The issuer has booked the lines, but for the failures, which the next batch takes up again:
    without a body, all of them. The same acknowledgement again changes nothing.
    """
    named = body.failures if body else []
    failures = {failure.line_id: failure.reason for failure in named}
    if len(failures) < len(named):
        raise Invalid("a line is named twice", code="credit_line_twice")
    row = await service.acknowledge(
        session, batch_id=batch_id, failures=failures, actor=who.actor, now=now
    )
    return BatchOut.of(row)


@router.post(
    "/adjustments",
    status_code=201,
    responses={200: {"model": AdjustmentOut}, **problems(Conflict, NotFound)},
)
async def make_adjustment(
    body: AdjustmentIn, who: OperatorDep, session: SessionDep, now: NowDep, response: Response
) -> AdjustmentOut:
    """Gives a member money outside the rules, or takes it back; the next credit batch brings it to
    the card. The same `ref` with the same contents again is answered 200 and moves nothing.
    """
    adjustment, is_new = await adjustments.adjust(
        session, given=NewAdjustment(**body.model_dump()), operator=who.actor, now=now
    )
    if not is_new:
        response.status_code = 200
    return AdjustmentOut.of(adjustment)


@router.get("/adjustments")
async def list_adjustments(
    session: SessionDep, paging: PagingDep, _who: OperatorDep, member_id: UUID | None = None
) -> Page[AdjustmentOut]:
    """The oldest first."""
    rows = await adjustments.list_adjustments(session, paging=paging, member_id=member_id)
    return make_page(rows, paging, show=AdjustmentOut.of, row_id=lambda row: row.id)


@router.get("/invoices")
async def list_invoices(
    session: SessionDep,
    principal: Payer,
    now: NowDep,
    month: MonthName,
) -> Page[InvoiceOut]:
    """What each partner owes for a month, by currency, on one page; a partner is shown his own.
    `is_final` an hour after the month is over: from then on it does not change.
    """
    # A partner's role may not read transfers, which are of members. So the service reads them, for
    # the partner whose key it is: nothing in the request says whose.
    wanted = Month.parse(month)
    rows = await invoices.invoices(session, month=wanted, partner_id=principal.partner_id)
    items = [InvoiceOut.of(row, month=month, is_final=wanted.is_final(now)) for row in rows]
    return Page(items=items, next_cursor=None)
