"""The SQL of an offer's performance: the rollups of one offer, whole and up to a day."""

from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Row, cast, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.insight.models import SalesDay
from app.posts.models import PostDay

SALES = ("redemptions", "sales_minor", "reward_minor", "refunded_minor")


async def posts_by_outcome(
    session: AsyncSession, offer_id: UUID, by: date | None
) -> Sequence[Row[Any]]:
    """`in_time` is what counts towards an objective, up to its day."""
    in_time = true() if by is None else PostDay.day <= by
    columns: list[Any] = [
        PostDay.outcome,
        _sum(PostDay.posts).label("posts"),
        _sum(PostDay.posts, in_time).label("in_time"),
    ]
    query = select(*columns).where(PostDay.offer_id == offer_id).group_by(PostDay.outcome)
    rows: Sequence[Row[Any]] = (await session.execute(query.order_by(PostDay.outcome))).all()
    return rows


async def sales(session: AsyncSession, offer_id: UUID, by: date | None) -> Row[Any]:
    in_time = true() if by is None else SalesDay.day <= by
    columns: list[Any] = [
        *(_sum(getattr(SalesDay, name)).label(name) for name in SALES),
        _sum(SalesDay.redemptions, in_time).label("redemptions_in_time"),
        _sum(SalesDay.sales_minor, in_time).label("sales_minor_in_time"),
    ]
    query = select(*columns).where(SalesDay.offer_id == offer_id)
    row: Row[Any] = (await session.execute(query)).one()
    return row


def _sum(
    column: InstrumentedAttribute[int], condition: ColumnElement[bool] | None = None
) -> ColumnElement[int]:
    """Of bigints PostgreSQL makes a numeric."""
    total = func.sum(column) if condition is None else func.sum(column).filter(condition)
    return cast(func.coalesce(total, 0), BigInteger)
