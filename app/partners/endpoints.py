from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Header, Query, Response

from app.deps import NowDep, SessionDep
from app.errors import Conflict, NotFound, PreconditionFailed
from app.kit.fields import Instant
from app.kit.pagination import Page, PagingDep, make_page
from app.openapi import ETAG, problems
from app.partners import audit_log, keys, proposals, service
from app.partners.auth import LimitsDep, OperatorDep, Principal, PrincipalDep, require
from app.partners.idempotency import ApiRoute
from app.partners.models import Partner
from app.partners.queries import AuditFilter
from app.partners.schemas import (
    AuditEntryOut,
    CurrentKeyOut,
    KeyChange,
    KeyIn,
    KeyOut,
    MerchantChange,
    MerchantIn,
    MerchantOut,
    MerchantState,
    NewKeyOut,
    PartnerChange,
    PartnerIn,
    PartnerOut,
    PartnerRefOrId,
    RefusalIn,
    RotationIn,
)
from app.partners.tenancy import TenantSession

router = APIRouter(prefix="/v1", tags=["partners"], route_class=ApiRoute)

PartnerOrOperator = Annotated[Principal, Depends(require("partner", "operator"))]


@router.post("/partners", status_code=201, responses={201: ETAG, **problems(Conflict)})
async def create_partner(
    body: PartnerIn, who: OperatorDep, session: SessionDep, response: Response
) -> PartnerOut:
    """Without a credit limit, each of its offers waits for the operator's approval."""
    partner = await service.create_partner(session, actor=who.actor, **body.model_dump())
    return _answer(partner, response)


@router.get("/partners")
async def list_partners(
    _who: OperatorDep, session: SessionDep, paging: PagingDep
) -> Page[PartnerOut]:
    """The oldest first."""
    rows = await service.list_partners(session, paging=paging)
    return make_page(rows, paging, show=PartnerOut.of, row_id=lambda row: row.id)


@router.get("/partners/{partner}", responses={200: ETAG, **problems(NotFound)})
async def get_partner(
    partner: PartnerRefOrId, _who: PartnerOrOperator, session: TenantSession, response: Response
) -> PartnerOut:
    """By ref or id. A partner finds nobody but itself."""
    return _answer(await service.find_partner(session, ref_or_id=partner), response)


@router.patch(
    "/partners/{partner}", responses={200: ETAG, **problems(NotFound, PreconditionFailed)}
)
async def change_partner(
    partner: PartnerRefOrId,
    body: PartnerChange,
    who: OperatorDep,
    session: SessionDep,
    response: Response,
    if_match: Annotated[str | None, Header(max_length=1_000)] = None,
) -> PartnerOut:
    """By ref or id. What is published already stays so, whatever the credit limit becomes."""
    known = await service.find_partner(session, ref_or_id=partner)
    changed = await service.change_partner(
        session, actor=who.actor, partner_id=known.id, changes=body, if_match=if_match
    )
    return _answer(changed, response)


def _answer(partner: Partner, response: Response) -> PartnerOut:
    response.headers["ETag"] = service.etag(partner)
    return PartnerOut.of(partner)


@router.post("/api-keys", status_code=201, responses=problems(NotFound))
async def create_key(body: KeyIn, who: OperatorDep, session: SessionDep, now: NowDep) -> NewKeyOut:
    """Its answer shows it, and nothing else ever does."""
    new = await keys.create_key(session, actor=who.actor, now=now, **body.model_dump())
    return NewKeyOut.with_key(new.record, new.partner_ref, key=new.key)


@router.get("/api-keys")
async def list_keys(
    _who: PartnerOrOperator, session: TenantSession, paging: PagingDep
) -> Page[KeyOut]:
    """All of them, or a partner's own; the oldest first, revoked ones too; never a key itself."""
    rows = await keys.list_keys(session, paging=paging)
    return make_page(
        rows,
        paging,
        show=lambda row: KeyOut.of(row.key, row.partner_ref),
        row_id=lambda row: row.key.id,
    )


@router.get("/api-keys/current")
async def get_current_key(
    who: PrincipalDep, session: TenantSession, limits: LimitsDep
) -> CurrentKeyOut:
    """What the key is that this request comes with."""
    row = await keys.get_key(session, key_id=who.key_id)
    return CurrentKeyOut.with_limit(
        row.key,
        row.partner_ref,
        requests_per_minute=limits.limit_of(who.role, who.rate_limit_per_minute),
    )


# by the looks of an id: `current`, above, is none
@router.patch("/api-keys/{key_id:uuid}", responses=problems(Conflict, NotFound))
async def change_key(
    key_id: UUID, body: KeyChange, who: OperatorDep, session: SessionDep
) -> KeyOut:
    """Its limit, and that of all its family."""
    row = await keys.set_limit(
        session,
        actor=who.actor,
        key_id=key_id,
        rate_limit_per_minute=body.rate_limit_per_minute,
    )
    return KeyOut.of(row.key, row.partner_ref)


@router.post("/api-keys/{key_id}/rotate", status_code=201, responses=problems(Conflict, NotFound))
async def rotate_key(
    key_id: UUID,
    who: PartnerOrOperator,
    session: SessionDep,
    now: NowDep,
    body: Annotated[RotationIn | None, Body()] = None,
) -> NewKeyOut:
    """A new key of the same role, partner and limit; the old one ends after the overlap. A key is
    rotated once.
    """
    # A partner's role may not write keys, so the service does, for the partner whose key it is.
    wanted = body or RotationIn()
    new = await keys.rotate_key(
        session,
        actor=who.actor,
        key_id=key_id,
        own_partner_id=who.partner_id,
        overlap=timedelta(hours=wanted.overlap_hours),
        expires_at=wanted.expires_at,
        now=now,
    )
    return NewKeyOut.with_key(new.record, new.partner_ref, key=new.key)


@router.delete("/api-keys/{key_id:uuid}", status_code=204, responses=problems(Conflict, NotFound))
async def revoke_key(key_id: UUID, who: OperatorDep, session: SessionDep, now: NowDep) -> None:
    """It is refused from the next request on; what was revoked already stays so. The last operator
    key that works is revoked by the command line alone.
    """
    await keys.revoke_key(session, actor=who.actor, key_id=key_id, now=now)


@router.post("/merchants", status_code=201, responses=problems(Conflict, NotFound))
async def create_merchant(
    body: MerchantIn, who: PartnerOrOperator, session: TenantSession, now: NowDep
) -> MerchantOut:
    """A partner proposes a place of its own. The same proposal again is answered with the first."""
    row = await proposals.register_acceptor(
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
    _who: PartnerOrOperator,
    session: TenantSession,
    paging: PagingDep,
    partner: Annotated[PartnerRefOrId | None, Query(description="ref or id")] = None,
    state: MerchantState | None = None,
) -> Page[MerchantOut]:
    """The oldest first; a partner is shown its own."""
    rows = await proposals.list_acceptors(session, paging=paging, partner=partner, state=state)
    return make_page(
        rows,
        paging,
        show=lambda row: MerchantOut.of(row.acceptor, row.partner_ref),
        row_id=lambda row: row.acceptor.id,
    )


@router.get("/merchants/{merchant_id}", responses=problems(NotFound))
async def get_merchant(
    merchant_id: UUID, _who: PartnerOrOperator, session: TenantSession
) -> MerchantOut:
    """A partner finds its own."""
    row = await proposals.get_acceptor(session, acceptor_id=merchant_id)
    return MerchantOut.of(row.acceptor, row.partner_ref)


@router.patch("/merchants/{merchant_id}", responses=problems(Conflict, NotFound))
async def correct_merchant(
    merchant_id: UUID, body: MerchantChange, who: PartnerOrOperator, session: TenantSession
) -> MerchantOut:
    """Until it is confirmed. What was refused is proposed anew."""
    row = await proposals.correct_acceptor(
        session, actor=who.actor, acceptor_id=merchant_id, changes=body
    )
    return MerchantOut.of(row.acceptor, row.partner_ref)


@router.delete("/merchants/{merchant_id}", status_code=204, responses=problems(Conflict, NotFound))
async def withdraw_merchant(
    merchant_id: UUID, who: PartnerOrOperator, session: TenantSession
) -> None:
    """Until it is confirmed."""
    await proposals.withdraw_acceptor(session, actor=who.actor, acceptor_id=merchant_id)


@router.post("/merchants/{merchant_id}/confirm", responses=problems(Conflict, NotFound))
async def confirm_merchant(
    merchant_id: UUID, who: OperatorDep, session: SessionDep, now: NowDep
) -> MerchantOut:
    """From then on what is paid there counts. Confirmed twice is confirmed once."""
    row = await proposals.confirm_acceptor(
        session, actor=who.actor, acceptor_id=merchant_id, now=now
    )
    return MerchantOut.of(row.acceptor, row.partner_ref)


@router.post("/merchants/{merchant_id}/refuse", responses=problems(Conflict, NotFound))
async def refuse_merchant(
    merchant_id: UUID, body: RefusalIn, who: OperatorDep, session: SessionDep
) -> MerchantOut:
    """What is only proposed; the partner reads the reason, and corrects the place or withdraws
    it.
    """
    row = await proposals.refuse_acceptor(
        session, actor=who.actor, acceptor_id=merchant_id, reason=body.reason
    )
    return MerchantOut.of(row.acceptor, row.partner_ref)


Exactly = Annotated[str | None, Query(max_length=200)]


@router.get("/audit-entries")
async def list_audit_entries(
    _who: OperatorDep,
    session: SessionDep,
    paging: PagingDep,
    subject_kind: Exactly = None,
    subject_id: Exactly = None,
    actor: Exactly = None,
    action: Exactly = None,
    since: Instant | None = None,
    until: Instant | None = None,
) -> Page[AuditEntryOut]:
    """Who changed what, the newest first. `since` is in it, `until` is not."""
    wanted = AuditFilter(subject_kind, subject_id, actor, action, since, until)
    rows = await audit_log.list_entries(session, wanted=wanted, paging=paging)
    return make_page(rows, paging, show=AuditEntryOut.of, row_id=lambda row: UUID(int=row.id))
