"""Rewards owed, and the statement credits by which the issuer pays them and adjustments out.

A reward moves from what partners owe to what members are due, a credit from there to the issuer's
settlement. A decrease is the same transfer the other way round. Nothing is ever changed: a balance
is a sum.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Invalid, NotFound
from app.kit.ids import new_id
from app.kit.pagination import Paging
from app.ledger import queries
from app.ledger.models import CreditLine
from app.ledger.queries import BatchRow
from app.partners import service as partners

# what one statement may take of its time; the next batch takes up the rest
BATCH_LINES_MAX = 100_000

Account = Literal["partner_payable", "member_due", "issuer_settlement", "programme"]


class Reward(NamedTuple):
    """The difference that one card transaction makes to what is owed; negative: it is taken
    back.
    """

    transaction_id: str
    redemption_id: UUID
    partner_id: UUID
    member_id: UUID
    amount_minor: int
    currency: str
    at: datetime


async def post_rewards(session: AsyncSession, *, rows: Sequence[Reward]) -> None:
    """Their redemptions are written already. Raises asyncpg.UniqueViolationError for a transaction
    that has had its transfer.
    """
    await queries.add_transfers(session, [_transfer(row) for row in rows])


def _transfer(row: Reward) -> queries.NewTransfer:
    debit, credit = "partner_payable", "member_due"
    if row.amount_minor < 0:
        debit, credit = credit, debit
    return queries.NewTransfer(
        debit_account=debit,
        credit_account=credit,
        amount_minor=abs(row.amount_minor),
        currency=row.currency,
        code="reward",
        cause_kind="transaction",
        cause_id=row.transaction_id,
        partner_id=row.partner_id,
        member_id=row.member_id,
        redemption_id=row.redemption_id,
        at=row.at,
    )


async def create_batch(session: AsyncSession, *, actor: str, now: datetime) -> BatchRow | None:
    """All that is owed and was not yet asked of the issuer, up to BATCH_LINES_MAX lines: one for an
    adjustment, one for a redemption, negative where more was credited than is owed by now. None
    when there is nothing.
    """
    batch_id = new_id()
    line_count = await queries.add_batch(
        session, batch_id=batch_id, lines_max=BATCH_LINES_MAX, now=now
    )
    if not line_count:
        return None
    await _audit(session, batch_id, "credit_batch.make", actor, after={"lines": line_count})
    return await get_batch(session, batch_id=batch_id)


async def acknowledge(
    session: AsyncSession,
    *,
    batch_id: UUID,
    failures: Mapping[UUID, str],
    actor: str,
    now: datetime,
) -> BatchRow:
    """The issuer has booked the batch's lines but for `failures`, each with its reason, which the
    next batch takes up again. The same acknowledgement again changes nothing.

    Raises NotFound; Invalid for a line of another batch; Conflict when the batch was acknowledged
    with other failures.
    """
    batch = await queries.lock_batch(session, batch_id)
    if batch is None:
        raise NotFound(f"no credit batch {batch_id}", code="credit_batch_not_found")
    if batch.state == "acknowledged":
        if await queries.failures_of(session, batch_id) != dict(failures):
            raise Conflict(
                "this batch was acknowledged with other failures", code="already_acknowledged"
            )
        return await get_batch(session, batch_id=batch_id)
    stranger = await queries.not_of_batch(session, batch_id, list(failures))
    if stranger is not None:
        raise Invalid(f"{stranger} is no line of this batch", code="credit_line_unknown")
    await queries.close_lines(session, batch_id=batch_id, failures=failures)
    if failures:
        await queries.give_back_failed(session, batch_id)
    await queries.post_credits(session, batch_id=batch_id, now=now)
    batch.state = "acknowledged"
    batch.acknowledged_at = now
    await session.flush()
    await _audit(
        session,
        batch_id,
        "credit_batch.acknowledge",
        actor,
        before={"state": "open"},
        after={"state": "acknowledged", "failed_lines": len(failures)},
    )
    return await get_batch(session, batch_id=batch_id)


async def _audit(
    session: AsyncSession,
    batch_id: UUID,
    action: str,
    actor: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any],
) -> None:
    await partners.audit(
        session,
        actor=actor,
        action=action,
        subject_kind="credit_batch",
        subject_id=str(batch_id),
        before=before,
        after=after,
    )


async def get_batch(session: AsyncSession, *, batch_id: UUID) -> BatchRow:
    row = await queries.find_batch(session, batch_id)
    if row is None:
        raise NotFound(f"no credit batch {batch_id}", code="credit_batch_not_found")
    return row


async def list_batches(session: AsyncSession, *, paging: Paging) -> list[BatchRow]:
    return await queries.page_batches(session, paging=paging)


async def lines(session: AsyncSession, *, batch_id: UUID, paging: Paging) -> Sequence[CreditLine]:
    return await queries.page_lines(session, batch_id=batch_id, paging=paging)


async def balance(
    session: AsyncSession,
    *,
    account: Account,
    partner_id: UUID | None = None,
    member_id: UUID | None = None,
) -> dict[str, int]:
    """What was credited to the account less what was debited, in minor units by currency; of one
    partner or one member, or of all.
    """
    return await queries.balance(
        session, account=account, partner_id=partner_id, member_id=member_id
    )
