"""Which hashtags brought which sales: following the redemptions, and reading what they come to."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.errors import Invalid
from app.insight import attribution_queries as queries
from app.insight import cells, cost_queries, filters, rollup
from app.insight.attribution_queries import Key, Scope
from app.insight.cells import DIMENSIONS, Cell, Cells
from app.insight.figures import PostFigures, SaleFigures, show
from app.insight.filters import Dimensions
from app.insight.rollup import PARTS
from app.kit.db import DATABASE_ERRORS, Sessions
from app.kit.stopping import pause
from app.networks import X

CHANGES_MAX = 5_000  # redemptions a transaction
PAUSE_SECONDS = 1.0
DIMENSIONS_MAX = 4
HOURS_DAYS_MAX = 31
PARTNER_GROUPS_MAX = 2_000  # each is held against all sums that it is in

_ALWAYS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2101, 1, 1, tzinfo=UTC))

log = structlog.get_logger(__name__)


# following


async def flush(
    sessions: Sessions, *, progress: Callable[[int], None] = lambda _followed: None
) -> int:
    """Follows every change there is now; answers how many."""
    followed = 0
    while True:
        taken = await _step(sessions)
        if taken is None:
            await asyncio.sleep(0.05)
            continue
        followed += taken
        progress(taken)
        if taken < CHANGES_MAX:
            return followed


async def run(sessions: Sessions, settings: Settings, stop: asyncio.Event) -> None:
    """The job: at most one process follows, the others find the lock taken and wait."""
    del settings
    while not stop.is_set():
        try:
            taken = await _step(sessions)
        except DATABASE_ERRORS as error:
            log.warning("attribution_waits", error=type(error).__name__)
            taken = None
        if taken == CHANGES_MAX:
            continue
        await pause(stop, seconds=PAUSE_SECONDS)


async def _step(sessions: Sessions) -> int | None:
    """None when another process is at it."""
    async with sessions.begin() as session:
        if not await rollup.begin(session):
            return None
        return await rollup.follow(session, most=CHANGES_MAX)


async def forget(sessions: Sessions) -> int:
    """Everything that was followed is forgotten, to be followed again; answers how many redemptions
    that are. Until they are, `as_of` is in the past, and what is read is of the older ones.
    """
    while True:
        async with sessions.begin() as session:
            if await rollup.begin(session):
                return await rollup.forget(session)
        await asyncio.sleep(0.05)


# reading


class Asked(NamedTuple):
    """Days are UTC, both included: of the post for posts and coupons, of the purchase for the rest.
    `read_price_microusd`: what it costs to read a post, for those who ask what X has cost.
    """

    group_by: Sequence[str] = ()
    wanted: Dimensions = Dimensions()
    since: date | None = None
    until: date | None = None
    to_partner: bool = False
    read_price_microusd: int | None = None


class Attribution(NamedTuple):
    """A row for each combination of the dimensions and currency, and the sums of those rows by
    currency; `withheld` is how many rows show less than all.
    """

    items: list[dict[str, Any]]
    totals: list[dict[str, Any]]
    withheld: int
    as_of: datetime


async def attribution(session: AsyncSession, asked: Asked) -> Attribution:
    """Posts, reach and coupons are null where something is asked that exists for purchases only,
    such as the channel. Raises Invalid.
    """
    _check(asked)
    as_of = await queries.followed_until(session)
    dimensions = [name for name in DIMENSIONS if name in asked.group_by]
    one_of = await filters.named(session, asked.wanted)
    costs: Mapping[Key, int] | None = None
    if asked.to_partner:
        found = await _for_partner(session, asked, dimensions, one_of)
    else:
        scope = Scope(asked.since, asked.until, one_of)
        found = await cells.read(session, dimensions, scope)
        costs = await _costs(session, asked, dimensions, one_of)
        # what was read or sent on a day of no posts has cost something all the same
        found = {key: Cell(PostFigures(), SaleFigures()) for key in costs or ()} | found
    label = await _labels(session, dimensions, found)
    knows_posts = {*dimensions, *one_of}.isdisjoint(PARTS)
    return Attribution(
        items=[
            label[key] | show(*found[key], None if costs is None else costs.get(key, 0))
            for key in sorted(found, key=lambda key: [str(value) for value in label[key].values()])
        ],
        totals=[
            {"currency": currency} | show(*cell, None)
            for (currency,), cell in sorted(cells.total(found).items())
        ],
        withheld=sum(
            cell.sales is None or (knows_posts and cell.posts is None) for cell in found.values()
        ),
        as_of=as_of,
    )


def _check(asked: Asked) -> None:
    unknown = [name for name in asked.group_by if name not in DIMENSIONS]
    if unknown:
        raise Invalid(f"group_by: {unknown[0]!r} is none of {', '.join(DIMENSIONS)}")
    if len(set(asked.group_by)) > DIMENSIONS_MAX:
        raise Invalid(f"group_by: {DIMENSIONS_MAX} dimensions at most")
    since, until = asked.since, asked.until
    if since and until and since > until:
        raise Invalid("since: is after until")
    if "hour" in asked.group_by and (
        since is None or until is None or (until - since).days >= HOURS_DAYS_MAX
    ):
        raise Invalid(f"group_by hour: since and until, {HOURS_DAYS_MAX} days at most")


async def _for_partner(
    session: AsyncSession, asked: Asked, dimensions: Sequence[str], one_of: filters.OneOf
) -> Cells:
    """A filter is read as a dimension, of which the partner sees some of the groups: what it is not
    shown it shall not find as the difference of two filters either.
    """
    given = [name for name in filters.DIMENSIONS if getattr(asked.wanted, name)]
    always: filters.OneOf = {
        name: one_of[name] for name in ("currency", "partner_id") if name in one_of
    }
    more = [name for name in given if name not in (*dimensions, "currency", "partner")]
    read = [*dimensions, *more]
    if len(read) > DIMENSIONS_MAX:
        raise Invalid(f"group_by and filters: {DIMENSIONS_MAX} dimensions at most together")
    found = cells.suppress(
        await cells.read(
            session,
            read,
            Scope(asked.since, asked.until, always, to_partner=True),
            most=PARTNER_GROUPS_MAX,
        )
    )
    for name in given:
        if name in read:
            values = asked.wanted.hashtag if name == "hashtag" else one_of[DIMENSIONS[name]]
            place = read.index(name)
            found = {key: cell for key, cell in found.items() if key[place] in values}
    return cells.regroup(found, lambda key: (*key[: len(dimensions)], key[-1]))


async def _costs(
    session: AsyncSession, asked: Asked, dimensions: Sequence[str], one_of: filters.OneOf
) -> dict[Key, int] | None:
    """What was sent and read for each group's offers, where that can be told."""
    if asked.read_price_microusd is None or not {"hour", "day", "week", *PARTS}.isdisjoint(
        (*dimensions, *one_of)
    ):
        return None
    bounds = Scope(asked.since, asked.until, {}).bounds()
    since, until = max(bounds["from"], _ALWAYS[0]), min(bounds["before"], _ALWAYS[1])
    rows = await cost_queries.by_offer(session, network=X, since=since, until=until)
    offers = await queries.name_offers(session, [row.offer_id for row in rows])
    costs: dict[Key, int] = {}
    for row in rows:
        offer = offers[row.offer_id]
        values = {
            "offer": row.offer_id, "hashtag": offer.tag_key, "partner": offer.partner_id,
            "network": X, "offer_id": row.offer_id, "partner_id": offer.partner_id,
            "currency": offer.currency,
        }  # fmt: skip
        if all(values[column] in wanted for column, wanted in one_of.items()):
            key = (*(values[name] for name in dimensions), offer.currency)
            spent = row.replies_microusd + row.posts_read * asked.read_price_microusd
            if spent:
                costs[key] = costs.get(key, 0) + spent
    return costs


async def _labels(
    session: AsyncSession, dimensions: Sequence[str], found: Cells
) -> dict[Key, dict[str, Any]]:
    """An offer by its ref and its id, since partners may have the same refs."""
    of = {name: {key[place] for key in found} for place, name in enumerate(dimensions)}
    offers = await queries.name_offers(session, of.get("offer", ()))
    partners = await queries.name_partners(session, of.get("partner", ()))
    spelled = await queries.spellings(session, of.get("hashtag", ()))

    def label(name: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - of any dimension
        match name:
            case "offer":
                return {"offer": offers[value].ref, "offer_id": value}
            case "partner":
                return {"partner": partners[value]}
            case "hashtag":
                return {"hashtag": spelled[value]}
            case _:
                return {name: value}

    labels: dict[Key, dict[str, Any]] = {}
    for key in found:
        labels[key] = {}
        for name, value in zip(dimensions, key, strict=False):
            labels[key] |= label(name, value)
        labels[key]["currency"] = key[-1]
    return labels
