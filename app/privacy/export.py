"""All that is kept of a member, as he may ask for it (GDPR, articles 15 and 20)."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.members import service as members
from app.privacy import queries


class Export(NamedTuple):
    """`data`: the rows of each table that are his; times are of UTC, amounts minor units."""

    exported_at: datetime
    data: dict[str, list[dict[str, Any]]]


async def export(session: AsyncSession, *, member_id: UUID, now: datetime) -> Export:
    """In a transaction that has not begun: all of it as it was at one moment. Raises NotFound."""
    await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    await members.get_member(session, member_id=member_id)
    tables = queries.OF_A_MEMBER
    data = {table: await queries.rows_of(session, table, member_id) for table in tables}
    return Export(now, data)
