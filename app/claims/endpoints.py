from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.claims import service
from app.claims.models import Claim
from app.claims.schemas import (
    AcceptanceIn,
    ClaimIn,
    ClaimOut,
    ExplainedClaim,
    RefusalIn,
    State,
)
from app.claims.service import NewClaim
from app.deps import NowDep, SessionDep
from app.errors import Conflict, NotFound
from app.kit.pagination import Page, PagingDep, make_page
from app.openapi import problems
from app.partners.auth import OperatorDep, Principal, require
from app.partners.idempotency import ApiRoute

router = APIRouter(prefix="/v1", tags=["claims"], route_class=ApiRoute)

Support = Annotated[Principal, Depends(require("issuer", "operator"))]
Language = Annotated[str, Query(pattern="^(en|fr)$")]


@router.post(
    "/members/{member_id}/claims",
    status_code=201,
    responses={200: {"model": ExplainedClaim}, **problems(Conflict, NotFound)},
)
async def make_claim(
    member_id: UUID,
    body: ClaimIn,
    who: Support,
    session: SessionDep,
    now: NowDep,
    response: Response,
    locale: Language = "en",
) -> ExplainedClaim:
    """A member says that a purchase is missing. Answered with what is known of the transaction that
    is named; the same `ref` with the same contents again is answered 200, as the claim stands.
    """
    given = NewClaim(member_id=member_id, **body.model_dump(exclude={"partner"}))
    claim, is_new = await service.make(
        session, given=given, partner=body.partner, actor=who.actor, now=now
    )
    if not is_new:
        response.status_code = 200
    return await _explained(session, claim, locale)


@router.get("/members/{member_id}/claims", responses=problems(NotFound))
async def list_claims_of_member(
    member_id: UUID,
    session: SessionDep,
    paging: PagingDep,
    _: Support,
    state: State | None = None,
) -> Page[ClaimOut]:
    """The oldest first."""
    rows = await service.list_claims(session, paging=paging, member_id=member_id, state=state)
    return make_page(rows, paging, show=ClaimOut.of, row_id=lambda row: row.id)


@router.get("/claims")
async def list_claims(
    session: SessionDep, paging: PagingDep, _: Support, state: State | None = None
) -> Page[ClaimOut]:
    """The oldest first; `state=open` is what waits to be decided."""
    rows = await service.list_claims(session, paging=paging, state=state)
    return make_page(rows, paging, show=ClaimOut.of, row_id=lambda row: row.id)


@router.get("/claims/{claim_id}", responses=problems(NotFound))
async def get_claim(
    claim_id: UUID, session: SessionDep, _: Support, locale: Language = "en"
) -> ExplainedClaim:
    """With what is known by now of the transaction that it names."""
    return await _explained(session, await service.get(session, claim_id=claim_id), locale)


@router.post("/claims/{claim_id}/accept", responses=problems(Conflict, NotFound))
async def accept_claim(
    claim_id: UUID, body: AcceptanceIn, who: OperatorDep, session: SessionDep, now: NowDep
) -> ClaimOut:
    """Makes one adjustment, which the next credit batch brings to the card. The same decision again
    changes nothing.
    """
    claim = await service.accept(
        session, claim_id=claim_id, **body.model_dump(), actor=who.actor, now=now
    )
    return ClaimOut.of(claim)


@router.post("/claims/{claim_id}/refuse", responses=problems(Conflict, NotFound))
async def refuse_claim(
    claim_id: UUID, body: RefusalIn, who: OperatorDep, session: SessionDep, now: NowDep
) -> ClaimOut:
    """The same decision again changes nothing."""
    claim = await service.refuse(
        session, claim_id=claim_id, reason=body.reason, actor=who.actor, now=now
    )
    return ClaimOut.of(claim)


async def _explained(session: AsyncSession, claim: Claim, locale: str) -> ExplainedClaim:
    told = await service.explanation(session, claim=claim, locale=locale)
    return ExplainedClaim.with_explanation(claim, told)
