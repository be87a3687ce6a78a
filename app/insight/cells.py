"""Groups of posts and sales: read, told apart by dimensions, put together again."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Invalid
from app.insight import attribution_queries as queries
from app.insight.attribution_queries import Key, Scope
from app.insight.figures import (
    PostFigures,
    SaleFigures,
    sum_posts,
    sum_sales,
    two_digits,
)
from app.insight.rollup import PARTS
from app.insight.suppression import withheld

GROUPS_MAX = 10_000
# A dimension is a column; a hashtag is the offers that have it in common.
DIMENSIONS = {
    "offer": "offer_id",
    "hashtag": "offer_id",
    "partner": "partner_id",
    "network": "network",
    "channel": "channel",
    "customer_kind": "customer_kind",
    "country": "country",
    "hour": "hour",
    "day": "day",
    "week": "week",
}

Some = TypeVar("Some", PostFigures, SaleFigures)


class Cell(NamedTuple):
    """What a group comes to; None is not known, or not told."""

    posts: PostFigures | None
    sales: SaleFigures | None


# by the dimensions in their order, and the currency
Cells = dict[Key, Cell]


async def read(
    session: AsyncSession, dimensions: Sequence[str], scope: Scope, *, most: int = GROUPS_MAX
) -> Cells:
    """Raises Invalid when there are too many groups."""
    columns = list(dict.fromkeys(DIMENSIONS[name] for name in dimensions))
    sales = await queries.sales_by(session, columns, scope, most=most + 1)
    posts: Mapping[Key, PostFigures] | None = None
    if not {*columns, *scope.one_of}.intersection(PARTS):
        posts = await queries.posts_by(session, columns, scope, most=most + 1)
    keys = {*sales, *(posts or ())}
    if len(keys) > most:
        raise Invalid(f"over {most:,} groups: ask for fewer dimensions, or for fewer days")
    no_sales = SaleFigures(delays=None) if "hour" in columns else SaleFigures()
    found = {
        key: Cell(
            posts=None if posts is None else posts.get(key, PostFigures()),
            sales=sales.get(key, no_sales),
        )
        for key in keys
    }
    tags = {}
    if "hashtag" in dimensions:
        place = columns.index("offer_id")
        tags = await queries.tag_keys(session, {key[place] for key in keys})

    def told_apart(key: Key) -> Key:
        values = dict(zip(columns, key, strict=False))
        return (
            *(
                tags[values["offer_id"]] if name == "hashtag" else values[DIMENSIONS[name]]
                for name in dimensions
            ),
            key[-1],
        )

    return regroup(found, told_apart)


def regroup(cells: Cells, place: Callable[[Key], Key]) -> Cells:
    """Of what is not told in one cell, nothing is told in the cell it goes into."""
    return {
        key: Cell(
            posts=_whole(sum_posts, [cell.posts for cell in one]),
            sales=_whole(sum_sales, [cell.sales for cell in one]),
        )
        for key, one in _placed(cells, place).items()
    }


def total(cells: Cells) -> Cells:
    """By currency, of what is told."""
    return {
        key: Cell(
            posts=_whole(sum_posts, [cell.posts for cell in one if cell.posts is not None]),
            sales=_whole(sum_sales, [cell.sales for cell in one if cell.sales is not None]),
        )
        for key, one in _placed(cells, lambda key: key[-1:]).items()
    }


def suppress(cells: Cells) -> Cells:
    """As a partner may see them. With its reach a single post could be found among all that are
    public: of that only two digits are told, so that no difference of two sums tells it. Minutes
    are not told at all: of two ranges of days that differ by one sale, which a partner sees with
    its time, they would tell when the post of that one was made.
    """
    posts = {key: cell.posts for key, cell in cells.items() if cell.posts and cell.posts.posts}
    # a purchase that was returned is somebody's too
    sales = {
        key: cell.sales
        for key, cell in cells.items()
        if cell.sales and (cell.sales.redemptions or cell.sales.returned)
    }
    for key in withheld({key: figures.posts for key, figures in posts.items()}):
        del posts[key]
    for key in withheld({key: figures.redemptions for key, figures in sales.items()}):
        del sales[key]
    return {
        key: Cell(
            posts=posts[key]._replace(reach=two_digits(posts[key].reach)) if key in posts else None,
            sales=sales[key]._replace(delays=None) if key in sales else None,
        )
        for key in cells
    }


def _placed(cells: Cells, place: Callable[[Key], Key]) -> dict[Key, list[Cell]]:
    placed: dict[Key, list[Cell]] = {}
    for key, cell in cells.items():
        placed.setdefault(place(key), []).append(cell)
    return placed


def _whole(add: Callable[[Sequence[Some]], Some], figures: Iterable[Some | None]) -> Some | None:
    known = list(figures)
    told = [one for one in known if one is not None]
    return add(told) if told and len(told) == len(known) else None
