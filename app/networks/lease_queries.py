"""All SQL on leases."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def take(session: AsyncSession, *, name: str, holder: UUID, seconds: float) -> bool:
    """Takes it, or prolongs one's own, from now on by the database's clock; False when it is
    another's.
    """
    taken = await session.scalar(
        text(
            """
            INSERT INTO leases (name, holder, held_until)
            VALUES (:name, :holder, clock_timestamp() + make_interval(secs => :seconds))
            ON CONFLICT (name) DO UPDATE
            SET holder = EXCLUDED.holder, held_until = EXCLUDED.held_until
            WHERE leases.holder = EXCLUDED.holder OR leases.held_until <= clock_timestamp()
            RETURNING 1
            """
        ),
        {"name": name, "holder": holder, "seconds": seconds},
    )
    return taken is not None


async def is_held(session: AsyncSession, *, name: str) -> bool:
    """By anybody, by the database's clock."""
    held: bool | None = await session.scalar(
        text("SELECT held_until > clock_timestamp() FROM leases WHERE name = :name"),
        {"name": name},
    )
    return bool(held)


async def give_up(session: AsyncSession, *, name: str, holder: UUID) -> None:
    await session.execute(
        text("DELETE FROM leases WHERE name = :name AND holder = :holder"),
        {"name": name, "holder": holder},
    )
