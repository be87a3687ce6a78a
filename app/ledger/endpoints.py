from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from app.deps import NowDep, SessionDep
from app.errors import Invalid
from app.kit.pagination import Page, PagingDep, make_page
from app.ledger import service
from app.ledger.schemas import AcknowledgementIn, BatchOut, BatchWithLines, LineOut
from app.partners.auth import Principal, require

router = APIRouter(prefix="/v1", tags=["credits"])

Issuer = Annotated[Principal, Depends(require("issuer", "operator"))]


@router.post(
    "/credit-batches",
    status_code=201,
    response_model=BatchOut,
    responses={204: {"description": "nothing is owed that was not asked for already"}},
)
async def create_batch(session: SessionDep, now: NowDep, _: Issuer) -> BatchOut | Response:
    """All that is owed and no batch has asked for yet. Sent again it makes no second claim for the
    same money.
    """
    row = await service.create_batch(session, now=now)
    return Response(status_code=204) if row is None else BatchOut.of(row)


@router.get("/credit-batches")
async def list_batches(session: SessionDep, paging: PagingDep, _: Issuer) -> Page[BatchOut]:
    rows = await service.list_batches(session, paging=paging)
    return make_page(rows, paging, show=BatchOut.of, row_id=lambda row: row.batch.id)


@router.get("/credit-batches/{batch_id}")
async def get_batch(
    batch_id: UUID, session: SessionDep, paging: PagingDep, _: Issuer
) -> BatchWithLines:
    """With its lines, a page of them at a time."""
    row = await service.get_batch(session, batch_id=batch_id)
    lines = await service.lines(session, batch_id=batch_id, paging=paging)
    page = make_page(lines, paging, show=LineOut.of, row_id=lambda line: line.id)
    return BatchWithLines(**BatchOut.of(row).model_dump(), **page.model_dump())


@router.post("/credit-batches/{batch_id}/acknowledge")
async def acknowledge(
    batch_id: UUID, body: AcknowledgementIn, session: SessionDep, now: NowDep, _: Issuer
) -> BatchOut:
    """The issuer has booked the lines, but for the failures, which the next batch takes up again.
    The same acknowledgement again changes nothing.
    """
    failures = {failure.line_id: failure.reason for failure in body.failures}
    if len(failures) < len(body.failures):
        raise Invalid("a line is named twice", code="credit_line_twice")
    row = await service.acknowledge(session, batch_id=batch_id, failures=failures, now=now)
    return BatchOut.of(row)
