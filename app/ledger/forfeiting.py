"""What is still owed to a member who is erased, or by him: no card is left that it could be booked
on.

He gives it up: an adjustment of the opposite amount at the programme's expense takes it back, and a
batch that nobody need book sets the one against the other. So partners' invoices stay as they are,
and every sum goes on adding up.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict
from app.kit.ids import new_id
from app.ledger import forfeit_queries, queries

REASON = "given up: the member was erased"


class Owed(NamedTuple):
    """In no batch yet. `totals`: minor units by currency, negative where he owes."""

    items: int
    totals: dict[str, int]


async def lock(session: AsyncSession, *, member_id: UUID) -> bool:
    """The member's redemptions and adjustments; his purchases are locked. False when somebody else
    is at one of them: to be tried again, in another transaction.
    """
    return await forfeit_queries.lock(session, member_id)


async def owed(session: AsyncSession, *, member_id: UUID) -> Owed:
    """Once they are locked. A line that the issuer is about to book is his alone to settle: raises
    Conflict.
    """
    batch_id = await forfeit_queries.open_batch(session, member_id)
    if batch_id is not None:
        raise Conflict(
            f"credit batch {batch_id} has a line of the member's: acknowledge it first",
            code="credit_batch_open",
        )
    found = await forfeit_queries.owed(session, member_id)
    items = sum(number for number, _ in found.values())
    return Owed(items, {currency: total for currency, (_, total) in found.items()})


async def forfeit(session: AsyncSession, *, member_id: UUID, actor: str, now: datetime) -> None:
    """All that `owed` has found."""
    due = await owed(session, member_id=member_id)
    if not due.items:
        return
    for currency, total in due.totals.items():
        if total:
            await _take_back(session, member_id, currency, total, actor=actor, now=now)
    batch_id = new_id()
    await forfeit_queries.add_settled_batch(
        session, batch_id=batch_id, member_id=member_id, now=now
    )
    await queries.post_credits(session, batch_id=batch_id, now=now)


async def _take_back(
    session: AsyncSession,
    member_id: UUID,
    currency: str,
    total: int,
    *,
    actor: str,
    now: datetime,
) -> None:
    adjustment = await queries.insert_adjustment(
        session,
        {
            "ref": f"erasure:{member_id}:{currency}",
            "member_id": member_id,
            "amount_minor": -total,
            "currency": currency,
            "funded_by": "programme",
            "reason": REASON,
            "operator": actor,
            "created_at": now,
        },
    )
    if adjustment is None:
        raise Conflict(
            "somebody has made an adjustment of the erasure's ref", code="adjustment_exists"
        )
    await queries.post_adjustment(session, adjustment)
