"""All SQL on the test clock."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def ahead_seconds(session: AsyncSession) -> int:
    found: int | None = await session.scalar(text("SELECT ahead_seconds FROM test_clock"))
    return found or 0


async def lock_ahead_seconds(session: AsyncSession) -> int:
    """Whoever moves it goes one after the other."""
    await session.execute(
        text(
            "INSERT INTO test_clock (id, ahead_seconds, moved_at) "
            "VALUES (1, 0, clock_timestamp()) ON CONFLICT (id) DO NOTHING"
        )
    )
    found: int = (
        await session.execute(text("SELECT ahead_seconds FROM test_clock FOR UPDATE"))
    ).scalar_one()
    return found


async def set_ahead_seconds(session: AsyncSession, seconds: int) -> None:
    await session.execute(
        text("UPDATE test_clock SET ahead_seconds = :seconds, moved_at = clock_timestamp()"),
        {"seconds": seconds},
    )
