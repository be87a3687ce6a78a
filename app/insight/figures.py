"""What posts and sales come to, as an analyst reads it: pure arithmetic, without a database."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from app.insight.rollup import BUCKETS, EDGES_MINUTES, MEASURES


class PostFigures(NamedTuple):
    posts: int = 0
    reach: int = 0
    coupons: int = 0


class SaleFigures(NamedTuple):
    """`delays`: of those that earned, how many in each bucket of the time from post to purchase;
    None where they are not counted.
    """

    redemptions: int = 0
    returned: int = 0
    refunds: int = 0
    sales_minor: int = 0
    reward_minor: int = 0
    refunded_minor: int = 0
    delays: Sequence[int] | None = (0,) * BUCKETS


def sum_posts(figures: Iterable[PostFigures]) -> PostFigures:
    return PostFigures(*map(sum, zip(*figures, strict=True)))


def sum_sales(figures: Sequence[SaleFigures]) -> SaleFigures:
    if len(figures) == 1:
        return figures[0]
    sums = {name: sum(getattr(one, name) for one in figures) for name in MEASURES}
    delays = [one.delays for one in figures if one.delays is not None]
    if len(delays) < len(figures):
        return SaleFigures(**sums, delays=None)
    return SaleFigures(**sums, delays=[sum(bucket) for bucket in zip(*delays, strict=True)])


def show(
    posts: PostFigures | None, sales: SaleFigures | None, x_cost_microusd: int | None
) -> dict[str, Any]:
    """Every metric; None where it is not known, or not told."""
    return {
        "posts": posts and posts.posts,
        "reach": posts and posts.reach,
        "coupons": posts and posts.coupons,
        "activation_rate": posts and ratio(posts.coupons, posts.posts),
        "redemptions": sales and sales.redemptions,
        "redemption_rate": sales and posts and ratio(sales.redemptions, posts.coupons),
        "returned": sales and sales.returned,
        "refunds": sales and sales.refunds,
        "sales_minor": sales and sales.sales_minor,
        "reward_minor": sales and sales.reward_minor,
        "refunded_minor": sales and sales.refunded_minor,
        "return_on_spend": sales and ratio(sales.sales_minor, sales.reward_minor),
        "average_basket_minor": sales and divide(sales.sales_minor, sales.redemptions),
        "median_minutes": sales and percentile(sales.delays, 50),
        "p90_minutes": sales and percentile(sales.delays, 90),
        "x_cost_microusd": x_cost_microusd,
    }


def ratio(part: int, whole: int) -> float | None:
    """To four decimals, half up; None of nothing."""
    parts = divide(part * 10_000, whole)
    return None if parts is None else parts / 10_000


def divide(amount: int, number: int) -> int | None:
    """Half up, of what is not negative."""
    return (2 * amount + number) // (2 * number) if number else None


def percentile(delays: Sequence[int] | None, percent: int) -> int | None:
    """Whole minutes. Within a bucket the times are taken to lie evenly on a logarithmic scale: what
    people do is within some per cent of it, and nothing further off than a bucket is wide, 26 %.
    """
    if delays is None or not (number := sum(delays)):
        return None
    wanted = number * percent / 100
    for bucket, found in enumerate(delays):
        if found and wanted <= found:
            return int(_within(bucket, wanted / found) + 0.5)
        wanted -= found
    raise AssertionError("the buckets hold less than their sum")


def _within(bucket: int, share: float) -> float:
    if bucket == 0:
        return share * EDGES_MINUTES[0]
    low = EDGES_MINUTES[bucket - 1]
    if bucket == len(EDGES_MINUTES):  # it has no end
        return low
    growth: float = (EDGES_MINUTES[bucket] / low) ** share
    return low * growth


def two_digits(number: int) -> int:
    """All but the first two digits are rounded away, half up."""
    unit = int("1" + "0" * (len(str(number)) - 2))
    return (number + unit // 2) // unit * unit
