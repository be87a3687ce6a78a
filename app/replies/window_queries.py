"""All SQL on what a network allows. Its rows are locked before any reply is, by channel."""

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.replies.budget import Channel
from app.replies.models import SendWindow
from app.replies.windows import Allowance, Window

_COLUMNS = (
    SendWindow.channel,
    SendWindow.remaining,
    SendWindow.resets_at,
    SendWindow.day_remaining,
    SendWindow.day_resets_at,
    SendWindow.stopped_reason,
    SendWindow.held_reason,
)


async def lock_allowances(
    session: AsyncSession, *, network: str, channels: Sequence[Channel], if_none: Allowance
) -> dict[Channel, Allowance]:
    """Held until the transaction ends: claims and records go one after another."""
    wanted = (
        select(*_COLUMNS)
        .where(SendWindow.network == network, SendWindow.channel.in_(channels))
        .order_by(SendWindow.channel)
        .with_for_update()
    )
    rows = (await session.execute(wanted)).all()
    if len(rows) < len(channels):
        await session.execute(
            text(
                "INSERT INTO send_windows (network, channel, remaining, resets_at, day_remaining, "
                "day_resets_at) SELECT :network, channel, :remaining, :resets_at, :day_remaining, "
                ":day_resets_at FROM unnest(CAST(:channels AS text[])) AS wanted (channel) "
                "ORDER BY channel ON CONFLICT DO NOTHING"
            ),
            {
                "network": network,
                "channels": list(channels),
                "remaining": if_none.short.remaining,
                "resets_at": if_none.short.resets_at,
                "day_remaining": if_none.day.remaining,
                "day_resets_at": if_none.day.resets_at,
            },
        )
        rows = (await session.execute(wanted)).all()
    return {
        cast("Channel", channel): Allowance(
            Window(remaining, resets_at), Window(day_remaining, day_resets_at), stopped, held
        )
        for channel, remaining, resets_at, day_remaining, day_resets_at, stopped, held in rows
    }


async def write_allowance(
    session: AsyncSession, *, network: str, channel: Channel, allowance: Allowance, now: datetime
) -> None:
    await session.execute(
        text(
            "UPDATE send_windows SET remaining = :remaining, resets_at = :resets_at, "
            "day_remaining = :day_remaining, day_resets_at = :day_resets_at, "
            "stopped_reason = :stopped_reason, held_reason = :held_reason, updated_at = :now "
            "WHERE network = :network AND channel = :channel"
        ),
        {
            "network": network,
            "channel": channel,
            "remaining": allowance.short.remaining,
            "resets_at": allowance.short.resets_at,
            "day_remaining": allowance.day.remaining,
            "day_resets_at": allowance.day.resets_at,
            "stopped_reason": allowance.stopped_reason,
            "held_reason": allowance.held_reason,
            "now": now,
        },
    )


async def hold(session: AsyncSession, *, network: str, reason: str | None, now: datetime) -> None:
    """Of all the network's channels, which are locked."""
    await session.execute(
        text(
            "UPDATE send_windows SET held_reason = :reason, updated_at = :now "
            "WHERE network = :network"
        ),
        {"network": network, "reason": reason, "now": now},
    )


async def lock_windows(session: AsyncSession) -> list[str]:
    """No claim that saw a pause goes on after this. Returns why networks are stopped."""
    reasons = await session.scalars(
        select(SendWindow.stopped_reason)
        .order_by(SendWindow.network, SendWindow.channel)
        .with_for_update()
    )
    return [reason for reason in reasons if reason is not None]


async def restart(session: AsyncSession, *, now: datetime) -> None:
    """What the network has stopped."""
    await session.execute(
        text(
            "UPDATE send_windows SET stopped_reason = NULL, updated_at = :now "
            "WHERE stopped_reason IS NOT NULL"
        ),
        {"now": now},
    )


async def read_windows(session: AsyncSession) -> Sequence[SendWindow]:
    query = select(SendWindow).order_by(SendWindow.network, SendWindow.channel.desc())
    return (await session.scalars(query)).all()
