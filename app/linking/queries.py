"""All SQL on browsers that link, and on the issuer's links that were used."""

from datetime import datetime

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.linking.models import HandoffUsed, LinkSession


async def find_session(
    session: AsyncSession, id_hash: bytes, *, now: datetime, lock: bool = False
) -> LinkSession | None:
    query = select(LinkSession).where(LinkSession.id_hash == id_hash, LinkSession.expires_at > now)
    return await session.scalar(query.with_for_update() if lock else query)


def add_session(session: AsyncSession, row: LinkSession) -> None:
    session.add(row)


async def count_unproved(session: AsyncSession, *, since: datetime, most: int) -> int:
    """Sessions made after that, by whoever has not signed in; it counts no further than `most`."""
    found = await session.scalar(
        text(
            "SELECT count(*) FROM (SELECT FROM link_sessions "
            "WHERE account_id IS NULL AND created_at > :since LIMIT :most) AS unproved"
        ),
        {"since": since, "most": most},
    )
    return int(found or 0)


async def is_used(session: AsyncSession, jti: str) -> bool:
    return await session.get(HandoffUsed, jti) is not None


async def use_handoff(session: AsyncSession, jti: str, *, until: datetime) -> bool:
    """False when somebody has used it; waits for who is about to."""
    used = await session.scalar(
        text(
            "INSERT INTO handoffs_used (jti, expires_at) VALUES (:jti, :until) "
            "ON CONFLICT (jti) DO NOTHING RETURNING 1"
        ),
        {"jti": jti, "until": until},
    )
    return used is not None


async def forget_old(session: AsyncSession, *, now: datetime, most: int) -> int:
    """Of each kind `most` rows; answers how many went. One that somebody holds can wait."""
    gone = 0
    for table, key in (("link_sessions", "id_hash"), ("handoffs_used", "jti")):
        rows = await session.scalars(
            text(
                f"""
                DELETE FROM {table} WHERE {key} IN (
                    SELECT {key} FROM {table} WHERE expires_at <= :now
                    ORDER BY expires_at LIMIT :most FOR UPDATE SKIP LOCKED
                ) RETURNING 1
                """  # noqa: S608 - the two names above
            ),
            {"now": now, "most": most},
        )
        gone += len(rows.all())
    return gone
