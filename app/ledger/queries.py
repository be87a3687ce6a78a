"""All SQL on transfers, adjustments and statement credits. `redemptions.credited_minor` is the
ledger's column in a table of redemptions: nobody else writes it, and the table's other columns are
not written here.

Locks follow the order that all keep to, redemptions by id and then adjustments by id; a new batch
takes what is free and waits for nobody.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import func, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.db import copy_rows
from app.kit.pagination import Paging
from app.ledger.models import Adjustment, CreditBatch, CreditLine, Transfer

# Of `owed`'s member: the purchase's own while it is active, else the newest that is active, else
# the purchase's own after all, else the newest. The issuer says whether it can still be booked.
_CARD = """
    JOIN LATERAL (
        SELECT ref FROM cards WHERE cards.member_id = owed.member_id
        ORDER BY state = 'active' DESC, ref = owed.card_ref DESC, added_at DESC, ref LIMIT 1
    ) card ON true
"""

CLAIM = f"""
    WITH adjusted AS MATERIALIZED (
        SELECT a.id, a.amount_minor, a.member_id, a.currency, card.ref AS card
        FROM adjustments a
        LEFT JOIN redemptions r ON r.id = a.redemption_id
        LEFT JOIN purchases p ON p.id = r.purchase_id
        CROSS JOIN LATERAL (SELECT a.member_id, p.card_ref) owed
        {_CARD}
        WHERE a.amount_minor <> a.credited_minor
        ORDER BY a.id LIMIT :lines_max
        FOR UPDATE OF a SKIP LOCKED
    ), rewarded AS MATERIALIZED (
        SELECT r.id, r.owed_minor, r.owed_minor - r.credited_minor AS amount_minor,
               owed.member_id, owed.currency, card.ref AS card
        FROM redemptions r
        JOIN purchases owed ON owed.id = r.purchase_id
        {_CARD}
        WHERE r.owed_minor <> r.credited_minor
        ORDER BY r.id LIMIT :lines_max - (SELECT count(*) FROM adjusted)
        FOR UPDATE OF r SKIP LOCKED
    ), due AS (
        SELECT id AS redemption_id, NULL AS adjustment_id, member_id, card, amount_minor, currency
        FROM rewarded
        UNION ALL
        SELECT NULL, id, member_id, card, amount_minor, currency FROM adjusted
    ), batch AS (
        INSERT INTO credit_batches (id, state, created_at)
        SELECT CAST(:batch_id AS uuid), 'open', CAST(:now AS timestamptz)
        WHERE EXISTS (SELECT FROM due)
    ), taken AS (
        UPDATE redemptions r SET credited_minor = rewarded.owed_minor
        FROM rewarded WHERE r.id = rewarded.id
    ), taken_up AS (
        UPDATE adjustments a SET credited_minor = a.amount_minor
        FROM adjusted WHERE a.id = adjusted.id
    ), lines AS (
        INSERT INTO credit_lines (id, batch_id, redemption_id, adjustment_id, member_id, card_ref,
                                  amount_minor, currency)
        SELECT uuidv7(), CAST(:batch_id AS uuid), redemption_id, adjustment_id, member_id,
               card, amount_minor, currency
        FROM due
    )
    SELECT count(*) FROM due
"""  # noqa: S608 - no value is put into it


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


class Concern(NamedTuple):
    """Whose a redemption is."""

    member_id: UUID
    partner_id: UUID
    currency: str


class InvoiceRow(NamedTuple):
    """Minor units of `currency`. Rewards and those taken back are both positive, adjustments are
    negative where the partner gets more back by them than he pays.
    """

    partner_id: UUID
    partner_ref: str
    currency: str
    rewards_minor: int
    taken_back_minor: int
    adjustments_minor: int
    redemptions: int

    @property
    def payable_minor(self) -> int:
        return self.rewards_minor - self.taken_back_minor + self.adjustments_minor


class BatchRow(NamedTuple):
    batch: CreditBatch
    lines: int
    failed: int
    totals: dict[str, int]  # minor units by currency, without what has failed


async def add_transfers(session: AsyncSession, transfers: Sequence[NewTransfer]) -> None:
    await copy_rows(session, "transfers", NewTransfer._fields, transfers)


async def add_batch(session: AsyncSession, *, batch_id: UUID, lines_max: int, now: datetime) -> int:
    """One line for each adjustment that was not credited and each redemption that owes another sum
    than was; the batch itself only when there is one. Rows that another transaction is at are left
    to the next batch. Says how many lines there are.
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
    """What did not reach the card is owed again."""
    for table, cause in (("redemptions", "redemption_id"), ("adjustments", "adjustment_id")):
        await session.execute(
            text(
                f"""
                WITH failed AS MATERIALIZED (
                    SELECT owed.id, l.amount_minor
                    FROM credit_lines l JOIN {table} owed ON owed.id = l.{cause}
                    WHERE l.batch_id = :batch_id AND l.state = 'failed'
                    ORDER BY owed.id FOR UPDATE OF owed
                )
                UPDATE {table} owed SET credited_minor = owed.credited_minor - failed.amount_minor
                FROM failed WHERE owed.id = failed.id
                """  # noqa: S608 - names of tables and columns
            ),
            {"batch_id": batch_id},
        )


async def post_credits(session: AsyncSession, *, batch_id: UUID, now: datetime) -> None:
    """A transfer for each line that the issuer has booked."""
    await session.execute(
        text(
            """
            INSERT INTO transfers (debit_account, credit_account, amount_minor, currency, code,
                                   cause_kind, cause_id, partner_id, member_id, redemption_id,
                                   adjustment_id, at)
            SELECT CASE WHEN l.amount_minor > 0 THEN 'member_due' ELSE 'issuer_settlement' END,
                   CASE WHEN l.amount_minor > 0 THEN 'issuer_settlement' ELSE 'member_due' END,
                   abs(l.amount_minor), l.currency, 'credit', 'credit_line', l.id::text,
                   coalesce(p.partner_id, a.partner_id), l.member_id,
                   coalesce(l.redemption_id, a.redemption_id), l.adjustment_id,
                   CAST(:now AS timestamptz)
            FROM credit_lines l
            LEFT JOIN redemptions r ON r.id = l.redemption_id
            LEFT JOIN purchases p ON p.id = r.purchase_id
            LEFT JOIN adjustments a ON a.id = l.adjustment_id
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


async def invoices(
    session: AsyncSession, *, since: datetime, until: datetime, partner_id: UUID | None
) -> list[InvoiceRow]:
    """What partners owe for the transfers of a time, `until` exclusive."""
    found = await session.execute(
        text(
            """
            WITH payable AS (
                SELECT *, CASE WHEN debit_account = 'partner_payable' THEN amount_minor
                               ELSE -amount_minor END AS minor
                FROM transfers
                WHERE 'partner_payable' IN (debit_account, credit_account)
                    AND at >= :since AND at < :until
                    AND (CAST(:partner_id AS uuid) IS NULL OR partner_id = :partner_id)
            )
            SELECT p.id, p.ref, t.currency,
                   coalesce(sum(t.minor) FILTER (WHERE code = 'reward' AND minor > 0), 0)::bigint,
                   coalesce(sum(-t.minor) FILTER (WHERE code = 'reward' AND minor < 0), 0)::bigint,
                   coalesce(sum(t.minor) FILTER (WHERE code = 'adjustment'), 0)::bigint,
                   count(DISTINCT t.redemption_id)
            FROM payable t JOIN partners p ON p.id = t.partner_id
            GROUP BY p.id, t.currency ORDER BY p.ref, t.currency
            """
        ),
        {"since": since, "until": until, "partner_id": partner_id},
    )
    return [InvoiceRow(*row) for row in found]


# adjustments


async def concern_of(session: AsyncSession, redemption_id: UUID) -> Concern | None:
    found = await session.execute(
        text(
            "SELECT p.member_id, p.partner_id, p.currency FROM redemptions r "
            "JOIN purchases p ON p.id = r.purchase_id WHERE r.id = :id"
        ),
        {"id": redemption_id},
    )
    row = found.one_or_none()
    return None if row is None else Concern(*row)


async def insert_adjustment(session: AsyncSession, values: dict[str, Any]) -> Adjustment | None:
    """None when the ref is taken."""
    return await session.scalar(
        postgresql.insert(Adjustment)
        .values(values)
        .on_conflict_do_nothing(index_elements=["ref"])
        .returning(Adjustment)
    )


async def adjustment_by_ref(session: AsyncSession, ref: str) -> Adjustment:
    return (await session.scalars(select(Adjustment).where(Adjustment.ref == ref))).one()


async def page_adjustments(
    session: AsyncSession, *, paging: Paging, member_id: UUID | None
) -> Sequence[Adjustment]:
    query = select(Adjustment).order_by(Adjustment.id).limit(paging.limit + 1)
    if member_id is not None:
        query = query.where(Adjustment.member_id == member_id)
    if paging.after is not None:
        query = query.where(Adjustment.id > paging.after)
    return (await session.scalars(query)).all()


async def post_adjustment(session: AsyncSession, adjustment: Adjustment) -> None:
    """Its one transfer: what is taken back goes the other way."""
    debit = "programme" if adjustment.funded_by == "programme" else "partner_payable"
    credit = "member_due"
    if adjustment.amount_minor < 0:
        debit, credit = credit, debit
    await session.execute(
        insert(Transfer).values(
            debit_account=debit,
            credit_account=credit,
            amount_minor=abs(adjustment.amount_minor),
            currency=adjustment.currency,
            code="adjustment",
            cause_kind="adjustment",
            cause_id=str(adjustment.id),
            partner_id=adjustment.partner_id,
            member_id=adjustment.member_id,
            redemption_id=adjustment.redemption_id,
            adjustment_id=adjustment.id,
            operator=adjustment.operator,
            reason=adjustment.reason,
            at=adjustment.created_at,
        )
    )
