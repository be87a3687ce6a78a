"""Which hashtags brought which sales: a rollup that follows the redemptions, and its readings."""

import asyncio
from collections.abc import Sequence
from datetime import date
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.errors import Invalid
from app.insight import queries
from app.kit.db import DATABASE_ERRORS, Sessions
from app.kit.stopping import pause

CHANGES_MAX = 5_000  # redemptions a transaction
PAUSE_SECONDS = 1.0
# a partner is shown no figure of fewer: a group of one is a person
GROUP_MIN = 10

log = structlog.get_logger(__name__)


async def flush(sessions: Sessions) -> int:
    """Follows every change there is now; answers how many."""
    followed = 0
    while True:
        async with sessions.begin() as session:
            taken = await queries.follow(session, most=CHANGES_MAX)
        if taken is None:
            await asyncio.sleep(0.05)
            continue
        followed += taken
        if taken < CHANGES_MAX:
            return followed


async def run(sessions: Sessions, settings: Settings, stop: asyncio.Event) -> None:
    """The job: at most one process follows, the others find the lock taken and wait."""
    del settings
    while not stop.is_set():
        try:
            async with sessions.begin() as session:
                taken = await queries.follow(session, most=CHANGES_MAX)
        except DATABASE_ERRORS as error:
            log.warning("attribution_waits", error=type(error).__name__)
            taken = None
        if taken == CHANGES_MAX:
            continue
        await pause(stop, seconds=PAUSE_SECONDS)


async def attribution(
    session: AsyncSession,
    *,
    group_by: Sequence[str],
    since: date | None = None,
    until: date | None = None,
) -> list[dict[str, Any]]:
    """A row for each combination of the dimensions and currency. Days are UTC: of the post for
    posts and coupons, of the purchase for the rest. Posts, reach and coupons are null where a
    dimension exists for purchases only, such as `channel`.
    """
    unknown = [name for name in group_by if name not in queries.DIMENSIONS]
    if unknown:
        raise Invalid(f"group_by: {unknown[0]!r} is none of {', '.join(queries.DIMENSIONS)}")
    dimensions = [name for name in queries.DIMENSIONS if name in group_by]
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    knows_posts = queries.knows_posts(dimensions)
    if knows_posts:
        for row in await queries.posts_by(session, dimensions, since=since, until=until):
            rows[_key(row, dimensions)] = {
                **_empty(row, dimensions, posts=0),
                "posts": int(row.posts),
                "reach": int(row.reach),
                "coupons": int(row.coupons),
            }
    for row in await queries.sales_by(session, dimensions, since=since, until=until):
        found = rows.setdefault(
            _key(row, dimensions), _empty(row, dimensions, posts=0 if knows_posts else None)
        )
        for name in ("redemptions", "sales_minor", "reward_minor", "refunded_minor"):
            found[name] = int(getattr(row, name))
    return [rows[key] for key in sorted(rows, key=str)]


def suppress_small_groups(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a partner may see: of a group under GROUP_MIN posts, or redemptions, nothing of them."""
    shown = []
    for row in rows:
        hidden: tuple[str, ...] = ()
        if (row["posts"] or 0) < GROUP_MIN:
            hidden += ("posts", "reach", "coupons")
        if row["redemptions"] < GROUP_MIN:
            hidden += ("redemptions", "sales_minor", "reward_minor", "refunded_minor")
        shown.append({**row, **dict.fromkeys(hidden)})
    return shown


def _key(row: Any, dimensions: Sequence[str]) -> tuple[Any, ...]:  # noqa: ANN401 - a row of either query
    return (*(getattr(row, name) for name in dimensions), row.currency)


def _empty(row: Any, dimensions: Sequence[str], *, posts: int | None) -> dict[str, Any]:  # noqa: ANN401
    return {
        **{name: getattr(row, name) for name in dimensions},
        "currency": row.currency,
        "posts": posts,
        "reach": posts,
        "coupons": posts,
        "redemptions": 0,
        "sales_minor": 0,
        "reward_minor": 0,
        "refunded_minor": 0,
    }
