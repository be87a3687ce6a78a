"""A place where a partner takes cards, from its proposal to the operator's word on it. What is
confirmed stays: purchases refer to it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Forbidden, NotFound
from app.kit.constraints import violated_constraint
from app.kit.pagination import Paging
from app.partners import queries
from app.partners.models import Acceptor
from app.partners.queries import AcceptorRow
from app.partners.schemas import AcceptorDetails, MerchantChange
from app.partners.service import DETAILS, PartnerMissing, audit, find_partner


async def register_acceptor(
    session: AsyncSession,
    *,
    actor: str,
    own_partner_id: UUID | None,
    partner: str | None,
    details: AcceptorDetails,
    is_confirmed: bool,
    now: datetime,
) -> AcceptorRow:
    """By a partner for itself (`own_partner_id`), or by the operator for the `partner` that he
    names by ref or id; only he may confirm at once.
    """
    if own_partner_id is not None and is_confirmed:
        raise Forbidden("a partner proposes a place, the operator confirms it")
    named = partner or (str(own_partner_id) if own_partner_id else None)
    if named is None:
        raise PartnerMissing("name the partner")
    owner = await find_partner(session, ref_or_id=named)
    acceptor = await propose_acceptor(session, actor=actor, partner_id=owner.id, details=details)
    if is_confirmed:
        return await confirm_acceptor(session, actor=actor, acceptor_id=acceptor.id, now=now)
    return AcceptorRow(acceptor, owner.ref)


async def propose_acceptor(
    session: AsyncSession, *, actor: str, partner_id: UUID, details: AcceptorDetails
) -> Acceptor:
    """Many may propose a place. The same proposal again is the first one; Conflict when the partner
    has the place with other details.
    """
    values = {name: getattr(details, name) for name in DETAILS}
    acceptor = await queries.insert_acceptor(session, {**values, "partner_id": partner_id})
    if acceptor is not None:
        await _audit(session, acceptor.id, "acceptor.propose", actor=actor, after=values)
        return acceptor
    known = await queries.acceptor_of_partner(
        session,
        partner_id=partner_id,
        acquirer_id=details.acquirer_id,
        acceptor_id=details.acceptor_id,
    )
    if any(getattr(known, name) != value for name, value in values.items()):
        raise _known_otherwise()
    return known


async def confirm_acceptor(
    session: AsyncSession, *, actor: str, acceptor_id: UUID, now: datetime
) -> AcceptorRow:
    """A second time changes nothing. Raises NotFound, and Conflict when the place was confirmed for
    another partner.
    """
    row = await _lock(session, acceptor_id)
    before = row.acceptor.state
    if before == "confirmed":
        return row
    try:
        async with session.begin_nested():
            row.acceptor.state = "confirmed"
            row.acceptor.confirmed_at = now
            row.acceptor.refusal = None
    except IntegrityError as error:
        if violated_constraint(error) != "uq_acceptors_confirmed":
            raise
        raise Conflict("confirmed for another partner", code="acceptor_taken") from error
    await _audit(
        session,
        acceptor_id,
        "acceptor.confirm",
        actor=actor,
        before={"state": before},
        after={"state": "confirmed"},
    )
    return row


async def refuse_acceptor(
    session: AsyncSession, *, actor: str, acceptor_id: UUID, reason: str
) -> AcceptorRow:
    """The partner reads the reason; another one later replaces it. Raises NotFound, and Conflict
    when the place is confirmed.
    """
    row = await _lock(session, acceptor_id)
    before = {"state": row.acceptor.state, "refusal": row.acceptor.refusal}
    after = {"state": "refused", "refusal": reason}
    if row.acceptor.state == "confirmed":
        raise _confirmed()
    if before == after:
        return row
    row.acceptor.state = "refused"
    row.acceptor.refusal = reason
    await session.flush()
    await _audit(session, acceptor_id, "acceptor.refuse", actor=actor, before=before, after=after)
    return row


async def correct_acceptor(
    session: AsyncSession, *, actor: str, acceptor_id: UUID, changes: MerchantChange
) -> AcceptorRow:
    """Proposes it anew, if it was refused. Raises NotFound, and Conflict when the place is
    confirmed or the partner has it already.
    """
    row = await get_acceptor(session, acceptor_id=acceptor_id)
    given = changes.model_dump(exclude_none=True)
    before = {name: getattr(row.acceptor, name) for name in (*given, "state", "refusal")}
    after = {**given, "state": "proposed", "refusal": None}
    if before == after:
        return row
    try:
        async with session.begin_nested():
            is_changed = await queries.correct_acceptor(session, acceptor_id, given)
    except IntegrityError as error:
        if violated_constraint(error) != "uq_acceptors_partner_id_acquirer_id_acceptor_id":
            raise
        raise _known_otherwise() from error
    if not is_changed:
        await get_acceptor(session, acceptor_id=acceptor_id)  # or it was withdrawn meanwhile
        raise _confirmed()
    await _audit(session, acceptor_id, "acceptor.correct", actor=actor, before=before, after=after)
    return await get_acceptor(session, acceptor_id=acceptor_id)


async def withdraw_acceptor(session: AsyncSession, *, actor: str, acceptor_id: UUID) -> None:
    """As if it had never been proposed. Raises NotFound, and Conflict when it is confirmed."""
    row = await get_acceptor(session, acceptor_id=acceptor_id)
    before = {name: getattr(row.acceptor, name) for name in (*DETAILS, "state")}
    if not await queries.delete_acceptor(session, acceptor_id):
        await get_acceptor(session, acceptor_id=acceptor_id)  # or it was withdrawn meanwhile
        raise _confirmed()
    await _audit(session, acceptor_id, "acceptor.withdraw", actor=actor, before=before)


async def get_acceptor(session: AsyncSession, *, acceptor_id: UUID) -> AcceptorRow:
    row = await queries.acceptor_by_id(session, acceptor_id)
    if row is None:
        raise _no_acceptor(acceptor_id)
    return row


async def list_acceptors(
    session: AsyncSession,
    *,
    paging: Paging,
    partner: str | None = None,
    state: str | None = None,
) -> list[AcceptorRow]:
    """Of one partner, by ref or id, or of all. Raises NotFound when there is no such partner."""
    owner = await find_partner(session, ref_or_id=partner) if partner else None
    return await queries.list_acceptors(
        session, paging, partner_id=owner.id if owner else None, state=state
    )


async def _lock(session: AsyncSession, acceptor_id: UUID) -> AcceptorRow:
    row = await queries.acceptor_by_id_locked(session, acceptor_id)
    if row is None:
        raise _no_acceptor(acceptor_id)
    return row


async def _audit(
    session: AsyncSession,
    acceptor_id: UUID,
    action: str,
    *,
    actor: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    await audit(
        session,
        actor=actor,
        action=action,
        subject_kind="acceptor",
        subject_id=str(acceptor_id),
        before=before,
        after=after,
    )


def _no_acceptor(acceptor_id: UUID) -> NotFound:
    return NotFound(f"no merchant {acceptor_id}", code="acceptor_not_found")


def _confirmed() -> Conflict:
    return Conflict("the operator has confirmed this place", code="acceptor_confirmed")


def _known_otherwise() -> Conflict:
    return Conflict("this place is registered with other details", code="acceptor_exists")
