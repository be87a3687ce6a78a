"""All SQL on transfers and statement credits. `redemptions.credited_minor` is the ledger's column
in a table of redemptions: nobody else writes it, and the table's other columns are not written
here.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.db import copy_rows
from app.kit.pagination import Paging
from app.ledger.models import CreditBatch, CreditLine

CLAIM = """
    WITH due AS MATERIALIZED (
        SELECT r.id, r.owed_minor, r.owed_minor - r.credited_minor AS amount_minor,
               p.member_id, p.currency, coalesce(own.ref, newest.ref, p.card_ref) AS card
        FROM redemptions r
        JOIN purchases p ON p.id = r.purchase_id
        LEFT JOIN cards own ON own.ref = p.card_ref AND own.state = 'active'
        LEFT JOIN LATERAL (
            SELECT ref FROM cards
            WHERE cards.member_id = p.member_id AND cards.state = 'active'
            ORDER BY added_at DESC, ref LIMIT 1
        ) newest ON own.ref IS NULL
        WHERE r.owed_minor <> r.credited_minor
        ORDER BY r.id LIMIT :lines_max
        FOR UPDATE OF r SKIP LOCKED
    ), batch AS (
        INSERT INTO credit_batches (id, state, created_at)
        SELECT CAST(:batch_id AS uuid), 'open', CAST(:now AS timestamptz)
        WHERE EXISTS (SELECT FROM due)
    ), taken AS (
        UPDATE redemptions r SET credited_minor = due.owed_minor
        FROM due WHERE r.id = due.id
    ), lines AS (
        INSERT INTO credit_lines (id, batch_id, redemption_id, member_id, card_ref,
                                  amount_minor, currency)
        SELECT uuidv7(), CAST(:batch_id AS uuid), id, member_id, card, amount_minor,
               currency
        FROM due
    )
    SELECT count(*) FROM due
"""


class NewTransfer(NamedTuple):
    """In the order of the columns that COPY writes."""

    debit_account: str
    credit_account: str
    amount_minor: int
    currency: str
    code: str
    cause_kind: str
    cause_id: str
    partner_id: UUID
    member_id: UUID
    redemption_id: UUID
    at: datetime


class BatchRow(NamedTuple):
    batch: CreditBatch
    lines: int
    failed: int
    totals: dict[str, int]  # minor units by currency, without what has failed


async def add_transfers(session: AsyncSession, transfers: Sequence[NewTransfer]) -> None:
    await copy_rows(session, "transfers", NewTransfer._fields, transfers)


async def add_batch(session: AsyncSession, *, batch_id: UUID, lines_max: int, now: datetime) -> int:
    """One line for each redemption that owes another sum than was credited; the batch itself only
    when there is one. Rows that another transaction is at are left to the next batch. Says how many
    lines there are.
    """
    lines = await session.scalar(
        text(CLAIM),
        {"batch_id": batch_id, "lines_max": lines_max, "now": now},
    )
    return int(lines or 0)


async def lock_batch(session: AsyncSession, batch_id: UUID) -> CreditBatch | None:
    return await session.scalar(
        select(CreditBatch).where(CreditBatch.id == batch_id).with_for_update()
    )


async def failures_of(session: AsyncSession, batch_id: UUID) -> dict[UUID, str]:
    found = await session.execute(
        select(CreditLine.id, CreditLine.failure).where(
            CreditLine.batch_id == batch_id, CreditLine.state == "failed"
        )
    )
    return {line_id: failure or "" for line_id, failure in found}


async def not_of_batch(
    session: AsyncSession, batch_id: UUID, line_ids: Sequence[UUID]
) -> UUID | None:
    """One of the lines that the batch does not have."""
    found: UUID | None = await session.scalar(
        text(
            "SELECT given.id FROM unnest(CAST(:ids AS uuid[])) AS given (id) WHERE NOT EXISTS ("
            "SELECT FROM credit_lines l WHERE l.id = given.id AND l.batch_id = :batch_id) LIMIT 1"
        ),
        {"ids": list(line_ids), "batch_id": batch_id},
    )
    return found


async def close_lines(
    session: AsyncSession, *, batch_id: UUID, failures: Mapping[UUID, str]
) -> None:
    """Every line is acknowledged or has failed."""
    await session.execute(
        text(
            """
            UPDATE credit_lines l
            SET state = CASE WHEN f.reason IS NULL THEN 'acknowledged' ELSE 'failed' END,
                failure = f.reason
            FROM credit_lines mine
            LEFT JOIN unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS f (id, reason)
                ON f.id = mine.id
            WHERE mine.batch_id = :batch_id AND l.id = mine.id
            """
        ),
        {"batch_id": batch_id, "ids": list(failures), "reasons": list(failures.values())},
    )


async def give_back_failed(session: AsyncSession, batch_id: UUID) -> None:
    """What did not reach the card is owed again. The redemptions are locked in the order that those
    who record transactions keep to.
    """
    await session.execute(
        text(
            """
            WITH failed AS MATERIALIZED (
                SELECT r.id, l.amount_minor
                FROM credit_lines l JOIN redemptions r ON r.id = l.redemption_id
                WHERE l.batch_id = :batch_id AND l.state = 'failed'
                ORDER BY r.id FOR UPDATE OF r
            )
            UPDATE redemptions r SET credited_minor = r.credited_minor - failed.amount_minor
            FROM failed WHERE r.id = failed.id
            """
        ),
        {"batch_id": batch_id},
    )


async def post_credits(session: AsyncSession, *, batch_id: UUID, now: datetime) -> None:
    """A transfer for each line that the issuer has booked."""
    await session.execute(
        text(
            """
            INSERT INTO transfers (debit_account, credit_account, amount_minor, currency, code,
                                   cause_kind, cause_id, partner_id, member_id, redemption_id, at)
            SELECT CASE WHEN l.amount_minor > 0 THEN 'member_due' ELSE 'issuer_settlement' END,
                   CASE WHEN l.amount_minor > 0 THEN 'issuer_settlement' ELSE 'member_due' END,
                   abs(l.amount_minor), l.currency, 'credit', 'credit_line', l.id::text,
                   p.partner_id, l.member_id, l.redemption_id, CAST(:now AS timestamptz)
            FROM credit_lines l
            JOIN redemptions r ON r.id = l.redemption_id
            JOIN purchases p ON p.id = r.purchase_id
            WHERE l.batch_id = :batch_id AND l.state = 'acknowledged'
            ORDER BY l.id
            """
        ),
        {"batch_id": batch_id, "now": now},
    )


async def page_batches(session: AsyncSession, *, paging: Paging) -> list[BatchRow]:
    query = select(CreditBatch).order_by(CreditBatch.id).limit(paging.limit + 1)
    if paging.after is not None:
        query = query.where(CreditBatch.id > paging.after)
    return await _counted(session, (await session.scalars(query)).all())


async def find_batch(session: AsyncSession, batch_id: UUID) -> BatchRow | None:
    batch = await session.get(CreditBatch, batch_id, populate_existing=True)
    return None if batch is None else (await _counted(session, [batch]))[0]


async def _counted(session: AsyncSession, batches: Sequence[CreditBatch]) -> list[BatchRow]:
    has_failed = CreditLine.state == "failed"
    found = await session.execute(
        select(
            CreditLine.batch_id,
            CreditLine.currency,
            func.count(),
            func.count().filter(has_failed),
            func.coalesce(func.sum(CreditLine.amount_minor).filter(~has_failed), 0),
        )
        .where(CreditLine.batch_id.in_([batch.id for batch in batches]))
        .group_by(CreditLine.batch_id, CreditLine.currency)
        .order_by(CreditLine.batch_id, CreditLine.currency)
    )
    counted = {batch.id: BatchRow(batch, 0, 0, {}) for batch in batches}
    for batch_id, currency, lines, failed, total in found:
        row = counted[batch_id]
        counted[batch_id] = row._replace(
            lines=row.lines + lines,
            failed=row.failed + failed,
            totals={**row.totals, currency: int(total)},
        )
    return list(counted.values())


async def page_lines(
    session: AsyncSession, *, batch_id: UUID, paging: Paging
) -> Sequence[CreditLine]:
    query = (
        select(CreditLine)
        .where(CreditLine.batch_id == batch_id)
        .order_by(CreditLine.id)
        .limit(paging.limit + 1)
    )
    if paging.after is not None:
        query = query.where(CreditLine.id > paging.after)
    return (await session.scalars(query)).all()


async def balance(
    session: AsyncSession, *, account: str, partner_id: UUID | None, member_id: UUID | None
) -> dict[str, int]:
    found: Any = await session.execute(
        text(
            """
            SELECT currency, sum(CASE WHEN credit_account = :account THEN amount_minor
                                      ELSE -amount_minor END)
            FROM transfers
            WHERE :account IN (credit_account, debit_account)
                AND (CAST(:partner_id AS uuid) IS NULL OR partner_id = :partner_id)
                AND (CAST(:member_id AS uuid) IS NULL OR member_id = :member_id)
            GROUP BY currency ORDER BY currency
            """
        ),
        {"account": account, "partner_id": partner_id, "member_id": member_id},
    )
    return {currency: int(total) for currency, total in found}
