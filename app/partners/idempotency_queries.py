from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


class Kept(NamedTuple):
    fingerprint: bytes
    answer: bytes


async def claim(
    session: AsyncSession,
    *,
    key_id: UUID,
    name: bytes,
    fingerprint: bytes,
    now: datetime,
    forgotten: datetime,
) -> Kept | None:
    """None once it is claimed, as one is whose time is over; else what the first request left. A
    twin in another process waits here until the first has ended.
    """
    this = {"key_id": key_id, "name": name}
    claimed = await session.scalar(
        text(
            """
            INSERT INTO idempotency_keys (api_key_id, name, fingerprint, claimed_at)
            VALUES (:key_id, :name, :fingerprint, :now)
            ON CONFLICT (api_key_id, name) DO UPDATE
            SET fingerprint = excluded.fingerprint, claimed_at = excluded.claimed_at, answer = NULL
            WHERE idempotency_keys.claimed_at <= :forgotten
            RETURNING true
            """
        ),
        {**this, "fingerprint": fingerprint, "now": now, "forgotten": forgotten},
    )
    if claimed:
        return None
    # the conflict has locked the row: it does not go before it is read
    found = await session.execute(
        text(
            "SELECT fingerprint, answer FROM idempotency_keys "
            "WHERE api_key_id = :key_id AND name = :name"
        ),
        this,
    )
    return Kept(*found.one())


async def keep_answer(session: AsyncSession, *, key_id: UUID, name: bytes, answer: bytes) -> None:
    await session.execute(
        text(
            "UPDATE idempotency_keys SET answer = :answer "
            "WHERE api_key_id = :key_id AND name = :name"
        ),
        {"key_id": key_id, "name": name, "answer": answer},
    )


async def forget_old(session: AsyncSession, *, forgotten: datetime, most: int) -> int:
    """One that somebody holds can wait."""
    rows = await session.scalars(
        text(
            """
            DELETE FROM idempotency_keys WHERE (api_key_id, name) IN (
                SELECT api_key_id, name FROM idempotency_keys WHERE claimed_at <= :forgotten
                ORDER BY claimed_at LIMIT :most FOR UPDATE SKIP LOCKED
            ) RETURNING 1
            """
        ),
        {"forgotten": forgotten, "most": most},
    )
    return len(rows.all())
