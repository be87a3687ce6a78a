"""The SQL that attribution is read with. Offers and partners are ids here, a hashtag is its key."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.insight.figures import PostFigures, SaleFigures
from app.insight.rollup import BUCKET, BUCKETS, MEASURES, PARTS
from app.offers.models import Offer
from app.partners.models import Partner

_OF_OFFER = ("offer_id", "network")
_TIMES = ("hour", "day", "week")
_NEWEST = date(2101, 1, 1)

Key = tuple[Any, ...]


class Scope(NamedTuple):
    """Days are UTC, both included. `one_of`: for a column, the values to keep. `to_partner`: whose
    role reads no time of a post.
    """

    since: date | None
    until: date | None
    one_of: Mapping[str, Sequence[Any]]
    to_partner: bool = False

    def bounds(self) -> dict[str, Any]:
        """For `:since` and `:until` as days, `:from` and `:before` as instants."""
        since, until = self.since or date.min, min(self.until or _NEWEST, _NEWEST)
        return {
            "since": since,
            "until": until,
            "from": datetime.combine(since, time(), UTC),
            "before": datetime.combine(until + timedelta(days=1), time(), UTC),
        }


class Named(NamedTuple):
    ref: str
    tag_key: str
    currency: str
    partner_id: UUID


class _Source(NamedTuple):
    """A table, what a day and an hour are in it, and other columns that are called otherwise."""

    table: str
    day: str
    hour: str
    where: str
    columns: Mapping[str, str] = {}

    def key(self, column: str) -> str:
        if column == "week":
            return f"CAST(date_trunc('week', {self.day}) AS date)"
        if column in ("day", "hour"):
            return self.day if column == "day" else self.hour
        return self.columns.get(column, column)


_BY_DAY = "day BETWEEN :since AND :until"
_HOUR_AS_DAY = "CAST(hour AT TIME ZONE 'UTC' AS date)"
_BY_HOUR = "hour >= :from AND hour < :before"
_SALES = _Source(
    "sales",
    "CAST(purchased_at AT TIME ZONE 'UTC' AS date)",
    "date_trunc('hour', purchased_at, 'UTC')",
    "purchased_at >= :from AND purchased_at < :before AND state IN ('earned', 'returned')",
)
_ADDED = ", ".join(f"CAST(sum({name}) AS bigint)" for name in MEASURES)
_ADDED_DELAYS = f"ARRAY[{', '.join(f'sum(delays[{n + 1}])' for n in range(BUCKETS))}]"
_OF_ONE = """
    CAST(state = 'earned' AS int) AS redemptions, CAST(state = 'returned' AS int) AS returned,
    CAST(refunded_minor > 0 AS int) AS refunds,
    CASE WHEN state = 'earned' THEN spend_minor ELSE 0 END AS sales_minor, reward_minor,
    refunded_minor
"""
_COUNTED_DELAYS = "ARRAY[{}]".format(
    ", ".join(
        f"coalesce(CAST(sum(redemptions) FILTER (WHERE bucket = {bucket}) AS bigint), 0)"
        for bucket in range(BUCKETS)
    )
)


async def followed_until(session: AsyncSession) -> datetime:
    """Every redemption that had changed by then is in the figures that are read from now on."""
    found: datetime = (await session.execute(text("SELECT sales_followed_until()"))).scalar_one()
    return found


async def sales_by(
    session: AsyncSession, columns: Sequence[str], scope: Scope, *, most: int
) -> dict[Key, SaleFigures]:
    """By the values of the columns and the currency. `most` groups are read, in no order."""
    source = _source(columns, scope)
    keys = [f"{source.key(column)} AS {column}" for column in columns]
    chosen, wanted = _conditions(scope, source)
    knows_minutes = not ("hour" in columns or scope.to_partner)
    delays = _ADDED_DELAYS if knows_minutes else "NULL"
    rows = f"{source.table} WHERE {chosen}"
    if source is _SALES:
        # first by bucket, so that a group is looked at once for each bucket and not each sale
        bucket = BUCKET if knows_minutes else "0"
        one = f"SELECT {_listed(keys)} currency, {bucket} AS bucket, {_OF_ONE} FROM {rows} OFFSET 0"  # noqa: S608
        summed = ", ".join(f"sum({name}) AS {name}" for name in MEASURES)
        rows = (
            f"(SELECT {_listed(columns)} currency, bucket, {summed} FROM ({one}) one "  # noqa: S608
            f"GROUP BY {_listed(columns)} currency, bucket) of_bucket"
        )
        delays = _COUNTED_DELAYS if knows_minutes else "NULL"
        keys = list(columns)
    found = await session.execute(
        text(
            f"SELECT {_listed(keys)} currency, {_ADDED}, {delays} FROM {rows} "  # noqa: S608
            f"GROUP BY {_numbered(len(columns) + 1)} LIMIT :most"
        ),
        {**scope.bounds(), **wanted, "most": most},
    )
    width = len(columns) + 1
    return {tuple(row[:width]): SaleFigures(*row[width:]) for row in found}


async def posts_by(
    session: AsyncSession, columns: Sequence[str], scope: Scope, *, most: int
) -> dict[Key, PostFigures]:
    """Of columns that a post has; its currency is its offer's."""
    if "hour" in columns:
        source = _Source("post_hours", _HOUR_AS_DAY, "hour", _BY_HOUR)
        coupons = "sum(coupons)"
    else:
        source = _Source("post_days", "day", "", _BY_DAY)
        coupons = "sum(posts) FILTER (WHERE outcome = 'loaded')"
    keys = [source.key(column) for column in columns]
    chosen, wanted = _conditions(scope, source)
    found = await session.execute(
        text(
            f"SELECT {_listed(keys)} currency, CAST(sum(posts) AS bigint), "  # noqa: S608 - names
            f"CAST(sum(reach) AS bigint), CAST(coalesce({coupons}, 0) AS bigint) "
            f"FROM {source.table} JOIN (SELECT id AS offer_id, partner_id, currency FROM offers) o "
            f"USING (offer_id) WHERE {chosen} "
            f"GROUP BY {_numbered(len(columns) + 1)} LIMIT :most"
        ),
        {**scope.bounds(), **wanted, "most": most},
    )
    width = len(columns) + 1
    return {tuple(row[:width]): PostFigures(*row[width:]) for row in found}


def _source(columns: Iterable[str], scope: Scope) -> _Source:
    """The smallest table that knows the columns and what is asked of them."""
    asked = {*columns, *scope.one_of}
    parts = asked.intersection(PARTS)
    if not parts:
        if "hour" in asked:
            return _Source("sales_hours", _HOUR_AS_DAY, "hour", _BY_HOUR)
        return _Source("sales_days", "day", "", _BY_DAY)
    if len(parts) == 1 and asked.isdisjoint((*_OF_OFFER, "hour")):
        (part,) = parts
        where = f"part = '{part}' AND {_BY_DAY}"
        return _Source("sales_part_days", "day", "", where, {part: "value"})
    return _SALES


def _conditions(scope: Scope, source: _Source) -> tuple[str, dict[str, Any]]:
    """Each list of values is a parameter named for its column."""
    one_of = [f"{source.key(column)} = ANY(:{column})" for column in scope.one_of]
    wanted = {column: list(values) for column, values in scope.one_of.items()}
    return " AND ".join([source.where, *one_of]), wanted


def _listed(keys: Iterable[str]) -> str:
    return "".join(f"{key}, " for key in keys)


def _numbered(number: int) -> str:
    return ", ".join(str(place + 1) for place in range(number))


async def name_offers(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, Named]:
    columns = (Offer.id, Offer.ref, Offer.tag_key, Offer.currency, Offer.partner_id)
    rows = await session.execute(select(*columns).where(Offer.id.in_(ids))) if ids else ()
    return {row[0]: Named(*row[1:]) for row in rows}


async def name_partners(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, str]:
    query = select(Partner.id, Partner.ref).where(Partner.id.in_(ids))
    return {row.id: row.ref for row in await session.execute(query)} if ids else {}


async def tag_keys(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, str]:
    query = select(Offer.id, Offer.tag_key).where(Offer.id.in_(ids))
    return {row.id: row.tag_key for row in await session.execute(query)} if ids else {}


async def spellings(session: AsyncSession, keys: Collection[str]) -> dict[str, str]:
    """Of hashtags, as their newest offers write them."""
    query = select(Offer.tag_key, Offer.hashtag).where(Offer.tag_key.in_(keys)).order_by(Offer.id)
    return {row.tag_key: row.hashtag for row in await session.execute(query)} if keys else {}
