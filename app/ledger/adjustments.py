"""Money that the operator gives a member or takes back, outside the rules of any offer.

The programme pays, or a partner does. Whoever asks names each adjustment by a ref of his own, so
that asking again never pays twice. It reaches the card by the next credit batch.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Invalid, NotFound
from app.kit.pagination import Paging
from app.ledger import queries
from app.ledger.models import Adjustment
from app.members import cards
from app.members import service as members
from app.partners import service as partners
from app.partners.service import PartnerMissing

FundedBy = Literal["programme", "partner"]


class NewAdjustment(NamedTuple):
    """`amount_minor` is not 0; negative: it is taken back."""

    ref: str
    member_id: UUID
    amount_minor: int
    currency: str
    funded_by: FundedBy
    reason: str
    partner_id: UUID | None = None
    redemption_id: UUID | None = None


async def adjust(
    session: AsyncSession, *, given: NewAdjustment, operator: str, now: datetime
) -> tuple[Adjustment, bool]:
    """The adjustment, and whether it is new: the same again is the first one and moves nothing.

    Raises NotFound for a member, a partner or a redemption that is not there; Invalid where they do
    not belong together, and PartnerMissing; Conflict when the ref names another adjustment, and
    when the member has no card that the money could reach.
    """
    wanted = await _completed(session, given)
    adjustment = await queries.insert_adjustment(
        session, {**wanted._asdict(), "operator": operator, "created_at": now}
    )
    if adjustment is None:
        known = await queries.adjustment_by_ref(session, wanted.ref)
        if any(getattr(known, name) != value for name, value in wanted._asdict().items()):
            raise Conflict(
                f"ref {wanted.ref!r} names an adjustment with other contents",
                code="adjustment_exists",
            )
        return known, False
    if not await cards.list_cards(session, member_id=wanted.member_id):
        raise Conflict(
            "the member has no card, so this would reach nobody: add a card first",
            code="member_without_card",
        )
    await queries.post_adjustment(session, adjustment)
    await partners.audit(
        session,
        actor=operator,
        action="adjustment.make",
        subject_kind="adjustment",
        subject_id=str(adjustment.id),
        after={
            "ref": adjustment.ref,
            "amount_minor": adjustment.amount_minor,
            "currency": adjustment.currency,
            "funded_by": adjustment.funded_by,
        },
    )
    return adjustment, True


async def _completed(session: AsyncSession, given: NewAdjustment) -> NewAdjustment:
    """With the partner of its redemption, once all that it names is known to belong together."""
    await members.lock_member(session, given.member_id)  # nobody is given money while he is erased
    if given.partner_id is not None:
        await partners.find_partner(session, ref_or_id=str(given.partner_id))
    if given.redemption_id is not None:
        concern = await queries.concern_of(session, given.redemption_id)
        if concern is None:
            raise NotFound(f"no redemption {given.redemption_id}", code="redemption_not_found")
        named = (given.member_id, given.partner_id or concern.partner_id, given.currency)
        if named != concern:
            raise Invalid(
                "the redemption is of another member, partner or currency",
                code="redemption_mismatch",
            )
        given = given._replace(partner_id=concern.partner_id)
    if given.funded_by == "partner" and given.partner_id is None:
        raise PartnerMissing("name the partner who pays")
    return given


async def list_adjustments(
    session: AsyncSession, *, paging: Paging, member_id: UUID | None = None
) -> Sequence[Adjustment]:
    """The first made first: a member's, or all."""
    return await queries.page_adjustments(session, paging=paging, member_id=member_id)
