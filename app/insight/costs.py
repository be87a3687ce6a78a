"""What a month on X has cost: by kind, a coupon, an offer; what it will come to, and what is left.
Amounts are millionths of a US dollar; months are of UTC.
"""

from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.errors import Invalid
from app.insight import cost_queries as queries
from app.kit.months import Month
from app.networks import X
from app.networks import queries as networks
from app.replies import sending


def month_named(value: str | None, now: datetime) -> Month:
    """The present one, if unset. Raises Invalid."""
    try:
        return Month.of(now) if value is None else Month.parse(value)
    except ValueError as error:
        raise Invalid(str(error)) from error


async def costs(
    session: AsyncSession, *, month: Month, settings: Settings, now: datetime
) -> dict[str, Any]:
    """The dearest offer first. A post that names two is read once, and counted for each. Of an
    offer nothing is counted that was not sent or read for it; the rest is in the sum alone.
    """
    usage = await networks.usage_by_kind(session, network=X, month=month)
    offers = await queries.by_offer(session, network=X, since=month.starts_at, until=month.ends_at)
    spent = sum(one.micro_usd for one in usage)
    coupons = sum(one.coupons for one in offers)
    confirmed = sum(one.confirmed for one in offers)
    return {
        "month": str(month),
        "spent_microusd": spent,
        "forecast_microusd": _forecast(spent, month, now),
        **await _ceilings(session, month=month, settings=settings),
        "by_kind": [one._asdict() for one in usage],
        "coupons": coupons,
        "microusd_per_coupon": _share(spent, coupons),
        "confirmed_coupons": confirmed,
        "microusd_per_confirmed_coupon": _share(spent, confirmed),
        "by_offer": sorted(
            (_show(one, settings) for one in offers), key=lambda one: -one["spent_microusd"]
        ),
    }


def _forecast(spent: int, month: Month, now: datetime) -> int:
    """As if the rest of the month were like what has passed of it."""
    elapsed = (now - month.starts_at) / (month.ends_at - month.starts_at)
    return round(spent / elapsed) if 0 < elapsed < 1 else spent


async def _ceilings(
    session: AsyncSession, *, month: Month, settings: Settings
) -> dict[str, int | None]:
    ceilings = sending.ceilings_of(settings)
    if ceilings is None:
        return dict.fromkeys(
            ("ceiling_microusd", "left_microusd", "strangers_ceiling_microusd",
             "strangers_left_microusd")
        )  # fmt: skip
    spent = await sending.spent_in(session, network=X, month=month)
    return {
        "ceiling_microusd": ceilings.all,
        "left_microusd": max(0, ceilings.all - spent.all),
        "strangers_ceiling_microusd": ceilings.strangers,
        "strangers_left_microusd": max(0, ceilings.strangers - spent.strangers),
    }


def _share(spent: int, number: int) -> int | None:
    return round(spent / number) if number else None


def _show(offer: queries.OfferCost, settings: Settings) -> dict[str, Any]:
    reads = offer.posts_read * settings.x_price_post_read_microusd
    spent = offer.replies_microusd + reads
    return {
        "offer_id": offer.offer_id,
        "offer_ref": offer.offer_ref,
        "hashtag": offer.hashtag,
        "replies_microusd": offer.replies_microusd,
        "reads_microusd": reads,
        "spent_microusd": spent,
        "coupons": offer.coupons,
        "confirmed_coupons": offer.confirmed,
        "microusd_per_confirmed_coupon": _share(spent, offer.confirmed),
    }
