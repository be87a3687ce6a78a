"""How an offer does: what its posts became, what is left of its caps, what it sold, and how near it
is to its objective.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from app.insight import performance_queries as queries
from app.insight.suppression import GROUP_MIN
from app.offers import service as offers
from app.offers.schemas import Objective


async def performance(
    session: AsyncSession, *, offer_id: UUID, now: datetime, to_partner: bool
) -> dict[str, Any]:
    """Days are UTC, as in attribution. A partner is shown no figure of fewer than GROUP_MIN posts
    or redemptions; its offer's own counters it sees as they are. Of what became of posts it is told
    whole tens: an exact number, asked for again and again, would tell of each public post whether
    its author is somebody with a card. Raises NotFound.
    """
    offer, version, counter = await offers.get(session, offer_id=offer_id)
    objective = None if offer.objective is None else Objective(**offer.objective)
    by = None if objective is None else objective.by
    posts = await queries.posts_by_outcome(session, offer_id, by)
    sales = await queries.sales(session, offer_id, by)
    group_min = GROUP_MIN if to_partner else 0
    progress = None
    if objective is not None:
        reached = _reached(objective, posts, sales, group_min)
        progress = _progress(objective, reached, today=now.astimezone(UTC).date())
    shows_sales = sales.redemptions >= group_min
    return {
        "offer_id": offer.id,
        "offer_ref": offer.ref,
        "title": version.title,
        "hashtag": offer.hashtag,
        "state": offers.shown_state(offer, now),
        "currency": offer.currency,
        "outcomes": {row.outcome: _shown(row.posts, group_min) for row in posts},
        "coupons_loaded": counter.coupons_loaded,
        "coupons_max": counter.coupons_max,
        "coupons_left": _left(counter.coupons_max, counter.coupons_loaded),
        "budget_minor": counter.budget_minor,
        "budget_left_minor": _left(counter.budget_minor, counter.reserved_minor),
        **{name: getattr(sales, name) if shows_sales else None for name in queries.SALES},
        "objective": progress,
    }


def _shown(posts: int, group_min: int) -> int | None:
    return posts // group_min * group_min or None if group_min else posts


def _left(most: int | None, taken: int) -> int | None:
    return None if most is None else most - taken


def _reached(
    objective: Objective, posts: Sequence[Row[Any]], sales: Row[Any], group_min: int
) -> int | None:
    """Coupons a partner may count however few they are: the offer's own counter tells them. Sales
    it may not: an objective of one purchase would be a look into one person's basket.
    """
    if objective.metric == "coupons":
        return next((int(row.in_time) for row in posts if row.outcome == "loaded"), 0)
    if sales.redemptions_in_time < group_min:
        return None
    return int(getattr(sales, f"{objective.metric}_in_time"))


def _progress(objective: Objective, reached: int | None, *, today: date) -> dict[str, Any]:
    return {
        **objective.model_dump(),
        "reached": reached,
        # ten-thousandths, rounded down: nothing is reached before it is
        "progress": None if reached is None else reached * 10_000 // objective.value / 10_000,
        "is_over": today > objective.by,
    }
