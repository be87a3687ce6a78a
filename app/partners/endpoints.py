from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from app.deps import NowDep, SessionDep
from app.errors import Conflict, NotFound
from app.kit.pagination import Page, PagingDep, make_page
from app.openapi import problems
from app.partners import service
from app.partners.auth import OperatorDep, Principal, require
from app.partners.schemas import (
    KeyIn,
    KeyOut,
    MerchantIn,
    MerchantOut,
    NewKeyOut,
    PartnerIn,
    PartnerOut,
    PartnerRefOrId,
)
from app.partners.tenancy import TenantSession

router = APIRouter(prefix="/v1", tags=["partners"])

MerchantKeeper = Annotated[Principal, Depends(require("partner", "operator"))]


@router.post("/partners", status_code=201, responses=problems(Conflict))
async def create_partner(body: PartnerIn, who: OperatorDep, session: SessionDep) -> PartnerOut:
    """Without a credit limit, each of its offers waits for the operator's approval."""
    partner = await service.create_partner(session, actor=who.actor, **body.model_dump())
    return PartnerOut.of(partner)


@router.get("/partners")
async def list_partners(
    _who: OperatorDep, session: SessionDep, paging: PagingDep
) -> Page[PartnerOut]:
    """The oldest first."""
    rows = await service.list_partners(session, paging=paging)
    return make_page(rows, paging, show=PartnerOut.of, row_id=lambda row: row.id)


@router.post("/api-keys", status_code=201, responses=problems(NotFound))
async def create_key(body: KeyIn, who: OperatorDep, session: SessionDep) -> NewKeyOut:
    """The answer holds the key, this once. A partner's key sees that partner alone."""
    new = await service.create_key(
        session,
        actor=who.actor,
        role=body.role,
        partner=body.partner,
        expires_at=body.expires_at,
    )
    return NewKeyOut.with_key(new.record, new.partner_ref, key=new.key)


@router.get("/api-keys")
async def list_keys(_who: OperatorDep, session: SessionDep, paging: PagingDep) -> Page[KeyOut]:
    """The oldest first, revoked ones too; never a key itself."""
    rows = await service.list_keys(session, paging=paging)
    return make_page(
        rows,
        paging,
        show=lambda row: KeyOut.of(row.key, row.partner_ref),
        row_id=lambda row: row.key.id,
    )


@router.delete("/api-keys/{key_id}", status_code=204, responses=problems(NotFound))
async def revoke_key(key_id: UUID, who: OperatorDep, session: SessionDep, now: NowDep) -> None:
    """It is refused from the next request on. A key that was revoked already stays so."""
    await service.revoke_key(session, actor=who.actor, key_id=key_id, now=now)


@router.post("/merchants", status_code=201, responses=problems(Conflict, NotFound))
async def create_merchant(
    body: MerchantIn, who: MerchantKeeper, session: TenantSession, now: NowDep
) -> MerchantOut:
    """A partner proposes a place of its own. The same proposal again is answered with the first."""
    row = await service.register_acceptor(
        session,
        actor=who.actor,
        own_partner_id=who.partner_id,
        partner=body.partner,
        details=body,
        is_confirmed=body.state == "confirmed",
        now=now,
    )
    return MerchantOut.of(row.acceptor, row.partner_ref)


@router.get("/merchants", responses=problems(NotFound))
async def list_merchants(
    _who: MerchantKeeper,
    session: TenantSession,
    paging: PagingDep,
    partner: Annotated[PartnerRefOrId | None, Query(description="ref or id")] = None,
    state: Literal["proposed", "confirmed"] | None = None,
) -> Page[MerchantOut]:
    """The oldest first; a partner is shown its own."""
    rows = await service.list_acceptors(session, paging=paging, partner=partner, state=state)
    return make_page(
        rows,
        paging,
        show=lambda row: MerchantOut.of(row.acceptor, row.partner_ref),
        row_id=lambda row: row.acceptor.id,
    )


@router.post("/merchants/{merchant_id}/confirm", responses=problems(Conflict, NotFound))
async def confirm_merchant(
    merchant_id: UUID, who: OperatorDep, session: SessionDep, now: NowDep
) -> MerchantOut:
    """From then on what is paid there counts. Confirmed twice is confirmed once."""
    row = await service.confirm_acceptor(session, actor=who.actor, acceptor_id=merchant_id, now=now)
    return MerchantOut.of(row.acceptor, row.partner_ref)
