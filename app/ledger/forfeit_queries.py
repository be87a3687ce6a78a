"""All SQL on what a member gives up. His purchases are found by his cards, which have an index."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_REDEMPTIONS = """
    SELECT r.id FROM cards c JOIN purchases p ON p.card_ref = c.ref
    JOIN redemptions r ON r.purchase_id = p.id WHERE c.member_id = :member_id
"""
_DUE = f"""
    due AS (
        SELECT r.id AS redemption_id, CAST(NULL AS uuid) AS adjustment_id, p.currency,
               r.owed_minor - r.credited_minor AS amount_minor
        FROM redemptions r JOIN purchases p ON p.id = r.purchase_id
        WHERE r.id IN ({_REDEMPTIONS}) AND r.owed_minor <> r.credited_minor
        UNION ALL
        SELECT NULL, id, currency, amount_minor - credited_minor FROM adjustments
        WHERE member_id = :member_id AND amount_minor <> credited_minor
    )
"""  # noqa: S608 - the query above


async def lock(session: AsyncSession, member_id: UUID) -> bool:
    """His redemptions and adjustments, unless somebody has one. A credit batch takes them before
    it refers to their member, who is locked: to wait for it would be to wait in a ring. Attribution
    may go on referring to them.
    """
    for table, which in (
        ("redemptions", f"id IN ({_REDEMPTIONS})"),
        ("adjustments", "member_id = :member_id"),
    ):
        is_all = await session.scalar(
            text(
                f"""
                WITH mine AS MATERIALIZED (
                    SELECT id FROM {table} WHERE {which}
                    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
                )
                SELECT (SELECT count(*) FROM mine) = (SELECT count(*) FROM {table} WHERE {which})
                """  # noqa: S608 - the two above
            ),
            {"member_id": member_id},
        )
        if not is_all:
            return False
    return True


async def open_batch(session: AsyncSession, member_id: UUID) -> UUID | None:
    found: UUID | None = await session.scalar(
        text(
            "SELECT l.batch_id FROM cards c JOIN credit_lines l ON l.card_ref = c.ref "
            "WHERE c.member_id = :member_id AND l.state = 'pending' ORDER BY 1 LIMIT 1"
        ),
        {"member_id": member_id},
    )
    return found


async def owed(session: AsyncSession, member_id: UUID) -> dict[str, tuple[int, int]]:
    """By currency, how many redemptions and adjustments are not credited, and what they come to."""
    found = await session.execute(
        text(
            f"WITH {_DUE} SELECT currency, count(*), sum(amount_minor)::bigint FROM due "  # noqa: S608
            "GROUP BY currency ORDER BY currency"
        ),
        {"member_id": member_id},
    )
    return {currency: (items, total) for currency, items, total in found}


async def add_settled_batch(
    session: AsyncSession, *, batch_id: UUID, member_id: UUID, now: datetime
) -> None:
    """Acknowledged as it is made: its lines come to nothing in every currency."""
    await session.execute(
        text(
            f"""
            WITH {_DUE}, batch AS (
                INSERT INTO credit_batches (id, state, created_at, acknowledged_at)
                VALUES (:batch_id, 'acknowledged', :now, :now)
            ), taken AS (
                UPDATE redemptions r SET credited_minor = r.owed_minor
                FROM due WHERE r.id = due.redemption_id
            ), taken_up AS (
                UPDATE adjustments a SET credited_minor = a.amount_minor
                FROM due WHERE a.id = due.adjustment_id
            )
            INSERT INTO credit_lines (id, batch_id, redemption_id, adjustment_id, member_id,
                                      card_ref, amount_minor, currency, state)
            SELECT uuidv7(), :batch_id, redemption_id, adjustment_id, :member_id,
                   (SELECT ref FROM cards WHERE member_id = :member_id ORDER BY ref LIMIT 1),
                   amount_minor, currency, 'acknowledged'
            FROM due
            """  # noqa: S608 - as above
        ),
        {"batch_id": batch_id, "member_id": member_id, "now": now},
    )
