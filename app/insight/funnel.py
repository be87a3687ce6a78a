"""The whole way in figures, from posts to credits: what `tagback demo` prints."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.insight import queries
from app.networks import queries as networks


async def funnel(session: AsyncSession) -> dict[str, Any]:
    """Counts of rows, and amounts in minor units by currency."""
    coupons = await queries.count_coupons(session)
    return {
        "posts": await queries.count_posts(session),
        "outcomes": await queries.count_by(session, "outcomes"),
        "coupons": coupons.coupons,
        "coupons_with_mention": coupons.with_mention,
        "replies": await queries.count_by(session, "replies"),
        "transactions": await queries.count_transactions(session),
        "redemptions": await queries.count_by(session, "redemptions"),
        "rewards_minor": await queries.count_by(session, "rewards_minor"),
        "credits_minor": await queries.count_by(session, "credits_minor"),
        "x_cost_usd": round(await networks.usage_microusd(session) / 1_000_000, 6),
    }
