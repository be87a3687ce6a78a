"""A member says that a purchase is missing: what is known of it is told at once, and the operator
decides, once. A claim that is accepted is paid by one adjustment.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.claims import queries
from app.claims.models import Claim
from app.errors import Conflict, NotFound
from app.insight import explain
from app.kit.pagination import Paging
from app.ledger import adjustments
from app.ledger.adjustments import FundedBy, NewAdjustment
from app.members import service as members
from app.partners import service as partners


class NewClaim(NamedTuple):
    """`amount_minor` is the purchase's."""

    ref: str
    member_id: UUID
    transaction_id: str | None
    amount_minor: int
    currency: str
    occurred_at: datetime
    note: str


class Explanation(NamedTuple):
    known: bool
    sentence: str
    state: str | None


async def make(
    session: AsyncSession, *, given: NewClaim, partner: str | None, actor: str, now: datetime
) -> tuple[Claim, bool]:
    """The claim, and whether it is new: the same again is the first one, as it stands. `partner` is
    a ref or an id.

    Raises NotFound for a member or a partner that is not there, Conflict when the ref names another
    claim, or another claim that was not refused names the transaction.
    """
    await members.get_member(session, member_id=given.member_id)
    values = {**given._asdict(), "partner_id": await _partner_id(session, partner)}
    claim = await queries.insert_claim(session, {**values, "created_at": now})
    if claim is None:
        known = await queries.claim_by_ref(session, given.ref)
        if known is None:
            raise Conflict(
                "the member has claimed this transaction already", code="transaction_claimed"
            )
        if any(getattr(known, name) != value for name, value in values.items()):
            raise Conflict(
                f"ref {given.ref!r} names a claim with other contents", code="claim_exists"
            )
        return known, False
    await _audit(session, claim, action="claim.make", actor=actor)
    return claim, True


async def get(session: AsyncSession, *, claim_id: UUID) -> Claim:
    claim = await queries.claim_by_id(session, claim_id)
    if claim is None:
        raise _no_claim(claim_id)
    return claim


async def list_claims(
    session: AsyncSession, *, paging: Paging, member_id: UUID | None = None, state: str | None
) -> Sequence[Claim]:
    """The oldest first. Raises NotFound for a member that is not there."""
    if member_id is not None:
        await members.get_member(session, member_id=member_id)
    return await queries.page_claims(session, paging=paging, member_id=member_id, state=state)


async def explanation(session: AsyncSession, *, claim: Claim, locale: str) -> Explanation | None:
    """What has become of the transaction that the claim names; None when it names none."""
    if claim.transaction_id is None:
        return None
    told = await explain.explain_transaction(
        session,
        transaction_id=claim.transaction_id,
        member_id=claim.member_id,
        locale=locale,
    )
    return Explanation(told["known"], told["sentence"], told.get("state"))


async def accept(
    session: AsyncSession,
    *,
    claim_id: UUID,
    amount_minor: int,
    funded_by: FundedBy,
    partner: str | None,
    reason: str,
    actor: str,
    now: datetime,
) -> Claim:
    """Gives the member an amount in the claim's currency, by one adjustment whose ref is `claim:`
    and the claim's id. `partner` is whom it concerns, by ref or id: if not given, the claim's own.

    Raises NotFound; Conflict when the claim was decided otherwise, or its purchase earns by the
    rules; and what `adjust` raises.
    """
    claim = await _lock(session, claim_id)
    if claim.state == "refused":
        raise _decided(claim)
    if claim.state == "open":
        await _check_not_rewarded(session, claim)
    given = NewAdjustment(
        ref=f"claim:{claim.id}",
        member_id=claim.member_id,
        amount_minor=amount_minor,
        currency=claim.currency,
        funded_by=funded_by,
        reason=reason,
        partner_id=await _partner_id(session, partner) or claim.partner_id,
    )
    try:
        adjustment, _ = await adjustments.adjust(session, given=given, operator=actor, now=now)
    except Conflict as error:
        if claim.state == "accepted":
            raise _decided(claim) from error
        raise
    if claim.state == "open":
        claim.state = "accepted"
        claim.adjustment_id = adjustment.id
        await _decide(session, claim, reason=reason, actor=actor, now=now)
    return claim


async def _check_not_rewarded(session: AsyncSession, claim: Claim) -> None:
    """It would be paid twice. Who means to give more makes an adjustment."""
    told = await explanation(session, claim=claim, locale="en")
    if told is not None and told.state in ("pending", "earned"):
        raise Conflict(
            f"this purchase is {told.state} already: refuse the claim, or make an adjustment",
            code="purchase_rewarded",
        )


async def refuse(
    session: AsyncSession, *, claim_id: UUID, reason: str, actor: str, now: datetime
) -> Claim:
    """Raises NotFound, and Conflict when the claim was accepted, or refused for another reason."""
    claim = await _lock(session, claim_id)
    if claim.state == "accepted" or claim.reason not in (None, reason):
        raise _decided(claim)
    if claim.state == "open":
        claim.state = "refused"
        await _decide(session, claim, reason=reason, actor=actor, now=now)
    return claim


async def _lock(session: AsyncSession, claim_id: UUID) -> Claim:
    """Whoever decides goes one after the other."""
    claim = await queries.claim_by_id_locked(session, claim_id)
    if claim is None:
        raise _no_claim(claim_id)
    return claim


async def _decide(
    session: AsyncSession, claim: Claim, *, reason: str, actor: str, now: datetime
) -> None:
    claim.reason = reason
    claim.decided_at = now
    claim.decided_by = actor
    await session.flush()
    action = "claim.accept" if claim.state == "accepted" else "claim.refuse"
    await _audit(session, claim, action=action, actor=actor)


async def _audit(session: AsyncSession, claim: Claim, *, action: str, actor: str) -> None:
    """Without what the member says of himself."""
    after: dict[str, Any] = {"ref": claim.ref, "state": claim.state}
    if claim.adjustment_id is not None:
        after["adjustment_id"] = str(claim.adjustment_id)
    before = None if claim.state == "open" else {"ref": claim.ref, "state": "open"}
    await partners.audit(
        session,
        actor=actor,
        action=action,
        subject_kind="claim",
        subject_id=str(claim.id),
        before=before,
        after=after,
    )


async def _partner_id(session: AsyncSession, ref_or_id: str | None) -> UUID | None:
    if ref_or_id is None:
        return None
    return (await partners.find_partner(session, ref_or_id=ref_or_id)).id


def _no_claim(claim_id: UUID) -> NotFound:
    return NotFound(f"no claim {claim_id}", code="claim_not_found")


def _decided(claim: Claim) -> Conflict:
    return Conflict(f"this claim was {claim.state} already: {claim.reason}", code="claim_decided")
