"""All SQL on what networks charge for, by day and kind."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.months import Month


async def record_usage(
    session: AsyncSession,
    *,
    network: str,
    kind: str,
    units: int,
    price_microusd: int,
    now: datetime,
) -> None:
    await session.execute(
        text(
            "INSERT INTO network_usage (network, day, kind, units, micro_usd) "
            "VALUES (:network, :day, :kind, :units, :micro_usd) "
            "ON CONFLICT (network, day, kind) DO UPDATE "
            "SET units = network_usage.units + EXCLUDED.units, "
            "micro_usd = network_usage.micro_usd + EXCLUDED.micro_usd"
        ),
        {
            "network": network,
            "day": now.date(),
            "kind": kind,
            "units": units,
            "micro_usd": units * price_microusd,
        },
    )


async def usage_microusd(session: AsyncSession) -> int:
    total: int = (
        await session.execute(text("SELECT coalesce(sum(micro_usd), 0) FROM network_usage"))
    ).scalar_one()
    return int(total)


class Usage(NamedTuple):
    kind: str
    units: int
    micro_usd: int


async def usage_by_kind(session: AsyncSession, *, network: str, month: Month) -> list[Usage]:
    rows = await session.execute(
        text(
            "SELECT kind, CAST(sum(units) AS bigint), CAST(sum(micro_usd) AS bigint) "
            "FROM network_usage WHERE network = :network AND day >= :since AND day < :until "
            "GROUP BY kind ORDER BY kind"
        ),
        {"network": network, "since": month.first_day, "until": month.next.first_day},
    )
    return [Usage(*row) for row in rows]
