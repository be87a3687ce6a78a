from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, case, func, insert, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import locks
from app.kit.db import copy_rows
from app.notifications.queries import HAS_WEBHOOKS
from app.offers.models import Coupon, Offer, OfferCounter, OfferVersion
from app.offers.terms import Audience, State, Terms

_TERMS = f"""
    SELECT o.id AS offer_id, v.version, o.partner_id, p.name AS partner, v.title, o.hashtag,
           o.tag_key, o.starts_at, o.ends_at, o.state, o.currency, v.time_zone, v.fixed_minor,
           v.basis_points, v.max_minor, v.min_spend_minor, v.channel, v.acceptor_ids, v.days,
           v.hours_from, v.hours_to, v.coupon_valid_days, v.coupon_last_day,
           v.redemptions_per_coupon, v.audience, v.refund_policy, {HAS_WEBHOOKS}
    FROM offers o JOIN partners p ON p.id = o.partner_id JOIN offer_versions v ON v.offer_id = o.id
"""  # noqa: S608 - a column
_CATALOGUE = text(
    _TERMS
    + "WHERE v.version = o.version AND o.published_at IS NOT NULL "
    + "ORDER BY o.starts_at, o.id"
)
_CURRENT = text(_TERMS + "WHERE v.version = o.version AND o.id = ANY(CAST(:offers AS uuid[]))")
_VERSIONS = text(
    _TERMS
    + "JOIN unnest(CAST(:offers AS uuid[]), CAST(:versions AS int[])) AS wanted(id, version) "
    + "ON wanted.id = o.id AND wanted.version = v.version"
)


class Counter(NamedTuple):
    coupons_max: int | None
    coupons_loaded: int
    budget_minor: int | None
    reserved_minor: int


class Loaded(NamedTuple):
    """What a batch of coupons came to for an offer: how many they were; whether they were its last,
    and whether they took its budget to where that is said, once for each budget.
    """

    offer_id: UUID
    coupons: int
    has_sold_out: bool
    is_budget_low: bool


class NewCoupon(NamedTuple):
    """In the order of the columns that COPY writes; `spent` and `uses` start at zero."""

    id: UUID
    offer_id: UUID
    offer_version: int
    member_id: UUID
    network: str
    post_id: str
    posted_at: datetime
    loaded_at: datetime
    valid_until: datetime
    reserved_minor: int
    uses_max: int


async def catalogue_version(session: AsyncSession) -> int:
    version: int = (
        await session.execute(text("SELECT version FROM catalogue_version"))
    ).scalar_one()
    return version


async def read_catalogue(session: AsyncSession) -> list[Terms]:
    return [_terms(row) for row in await session.execute(_CATALOGUE)]


async def read_current(session: AsyncSession, offer_ids: Collection[UUID]) -> dict[UUID, Terms]:
    """The terms as they stand; they move for nobody who has locked the counters."""
    rows = await session.execute(_CURRENT, {"offers": list(offer_ids)})
    return {row.offer_id: _terms(row) for row in rows}


async def read_versions(
    session: AsyncSession, versions: Collection[tuple[UUID, int]]
) -> dict[tuple[UUID, int], Terms]:
    wanted = {"offers": [v[0] for v in versions], "versions": [v[1] for v in versions]}
    found = (_terms(row) for row in await session.execute(_VERSIONS, wanted))
    return {(terms.offer_id, terms.version): terms for terms in found}


def _terms(row: Row[Any]) -> Terms:
    return Terms(**as_terms(row._asdict()))


def as_terms(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of an offer and its version as the rules read them."""
    found: dict[str, Any] = {
        name: frozenset(value) if name in ("acceptor_ids", "days") and value is not None else value
        for name, value in columns.items()
    }
    found["audience"] = _audience(found["audience"] or {})
    return found


def _audience(stored: Mapping[str, Any]) -> Audience:
    conditions: dict[str, Any] = {
        name: frozenset(value) if isinstance(value, list) else value
        for name, value in stored.items()
        if value is not None
    }
    return Audience(**conditions)


async def lock_counters(session: AsyncSession, offer_ids: Collection[UUID]) -> dict[UUID, Counter]:
    """The first lock of every step that touches offers, in the order of their ids."""
    rows = await session.execute(
        text(
            "SELECT offer_id, coupons_max, coupons_loaded, budget_minor, reserved_minor "
            "FROM offer_counters WHERE offer_id = ANY(:ids) ORDER BY offer_id FOR UPDATE"
        ),
        {"ids": list(offer_ids)},
    )
    return {row.offer_id: Counter(*row[1:]) for row in rows}


async def coupons_of(
    session: AsyncSession, *, member_ids: Collection[UUID], offer_ids: Collection[UUID]
) -> set[tuple[UUID, UUID]]:
    """Which of the members already hold a coupon of which of the offers."""
    rows = await session.execute(
        text(
            "SELECT member_id, offer_id FROM coupons "
            "WHERE member_id = ANY(:members) AND offer_id = ANY(:offers)"
        ),
        {"members": list(member_ids), "offers": list(offer_ids)},
    )
    return {(row.member_id, row.offer_id) for row in rows}


async def recent_coupons(
    session: AsyncSession, *, member_ids: Collection[UUID], since: datetime
) -> dict[UUID, int]:
    rows = await session.execute(
        text(
            "SELECT member_id, count(*) AS coupons FROM coupons "
            "WHERE member_id = ANY(:members) AND loaded_at > :since GROUP BY member_id"
        ),
        {"members": list(member_ids), "since": since},
    )
    return {row.member_id: row.coupons for row in rows}


async def load_coupons(
    session: AsyncSession, coupons: Sequence[NewCoupon], *, budget_low_percent: int
) -> list[Loaded]:
    """Writes the coupons and takes them off the offers' counters, which the caller has locked."""
    if not coupons:
        return []
    await copy_rows(session, "coupons", NewCoupon._fields, coupons)
    taken: dict[UUID, tuple[int, int]] = {}
    for coupon in coupons:
        number, minor = taken.get(coupon.offer_id, (0, 0))
        taken[coupon.offer_id] = (number + 1, minor + coupon.reserved_minor)
    loaded = await session.execute(
        text(
            """
            UPDATE offer_counters c SET coupons_loaded = c.coupons_loaded + taken.coupons,
                reserved_minor = c.reserved_minor + taken.minor,
                told_low_at_minor = CASE
                    WHEN (c.reserved_minor + taken.minor)::numeric * 100
                        >= c.budget_minor::numeric * :low_percent THEN c.budget_minor
                    ELSE c.told_low_at_minor END
            FROM unnest(CAST(:offers AS uuid[]), CAST(:coupons AS bigint[]),
                        CAST(:minor AS bigint[])) AS taken(offer_id, coupons, minor)
            WHERE c.offer_id = taken.offer_id
            RETURNING c.offer_id, taken.coupons,
                coalesce(new.coupons_loaded >= new.coupons_max, false),
                new.told_low_at_minor IS DISTINCT FROM old.told_low_at_minor
            """
        ),
        {
            "offers": list(taken),
            "coupons": [number for number, _ in taken.values()],
            "minor": [minor for _, minor in taken.values()],
            "low_percent": budget_low_percent,
        },
    )
    return [Loaded(*row) for row in loaded]


class Told(NamedTuple):
    """What every event of an offer says of it."""

    partner_id: UUID
    data: dict[str, Any]


async def read_told(session: AsyncSession, offer_ids: Collection[UUID]) -> dict[UUID, Told]:
    """Of those whose partners want to be told."""
    rows = await session.execute(
        text(
            f"""
            SELECT found.* FROM (
                SELECT o.partner_id, {HAS_WEBHOOKS}, o.id AS offer_id, o.ref AS offer_ref,
                       o.hashtag, o.ends_at, o.currency, c.coupons_loaded, c.coupons_max,
                       c.coupons_max - c.coupons_loaded AS coupons_left, c.budget_minor,
                       c.reserved_minor, c.budget_minor - c.reserved_minor AS budget_left_minor
                FROM offers o JOIN offer_counters c ON c.offer_id = o.id
                WHERE o.id = ANY(CAST(:offers AS uuid[]))
            ) found WHERE has_webhooks
            """  # noqa: S608 - a column
        ),
        {"offers": list(offer_ids)},
    )
    return {
        row["offer_id"]: Told(
            row["partner_id"],
            {name: row[name] for name in row if name not in ("partner_id", "has_webhooks")},
        )
        for row in rows.mappings()
    }


async def give_back(session: AsyncSession, unspent_minor: Mapping[UUID, int]) -> None:
    """To the counters of these offers, which the caller has locked."""
    await session.execute(
        text(
            "UPDATE offer_counters c SET reserved_minor = c.reserved_minor - given.minor "
            "FROM unnest(CAST(:offers AS uuid[]), CAST(:minor AS bigint[])) "
            "AS given(offer_id, minor) WHERE c.offer_id = given.offer_id"
        ),
        {"offers": list(unspent_minor), "minor": list(unspent_minor.values())},
    )


async def rename_posts(session: AsyncSession, new_ids: Mapping[UUID, str]) -> None:
    """What the posts are called from now on that these coupons came from."""
    await session.execute(
        text("SELECT FROM coupons WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE"),
        {"ids": list(new_ids)},
    )
    await session.execute(
        text(
            "UPDATE coupons c SET post_id = new.post_id "
            "FROM unnest(CAST(:ids AS uuid[]), CAST(:post_ids AS text[])) AS new (id, post_id) "
            "WHERE c.id = new.id"
        ),
        {"ids": list(new_ids), "post_ids": list(new_ids.values())},
    )


_OUT_OF_STEP = """
    (o.state = 'scheduled' AND o.starts_at <= :now)
    OR (o.state IN ('scheduled', 'live') AND o.ends_at <= :now)
"""


async def out_of_step(session: AsyncSession, *, now: datetime, most: int) -> Sequence[UUID]:
    """Published offers whose state is not what the clock says."""
    found = await session.scalars(
        text(f"SELECT o.id FROM offers o WHERE {_OUT_OF_STEP} ORDER BY o.id LIMIT :most"),  # noqa: S608 - the rule above
        {"now": now, "most": most},
    )
    return found.all()


async def follow_clock(
    session: AsyncSession, offer_ids: Collection[UUID], *, now: datetime
) -> list[tuple[UUID, str, str]]:
    """Id, former and new state of those that were still out of step."""
    found = await session.execute(
        text(
            f"""
            UPDATE offers o SET updated_at = clock_timestamp(),
                state = CASE WHEN o.ends_at <= :now THEN 'ended' ELSE 'live' END
            WHERE o.id = ANY(:ids) AND ({_OUT_OF_STEP})
            RETURNING o.id, old.state, new.state
            """  # noqa: S608 - the rule above
        ),
        {"ids": list(offer_ids), "now": now},
    )
    return [(offer_id, before, after) for offer_id, before, after in found]


async def insert_offer(session: AsyncSession, **values: Any) -> UUID | None:  # noqa: ANN401 - columns of many types
    """A draft's id; None when the partner has one of this ref."""
    return await session.scalar(
        postgresql.insert(Offer).values(values).on_conflict_do_nothing().returning(Offer.id)
    )


async def find_by_ref(session: AsyncSession, *, partner_id: UUID, ref: str) -> Offer:
    return (
        await session.scalars(select(Offer).where(Offer.partner_id == partner_id, Offer.ref == ref))
    ).one()


async def ids_by_ref(session: AsyncSession, ref: str) -> Sequence[UUID]:
    """Of whichever partners."""
    return (
        await session.scalars(select(Offer.id).where(Offer.ref == ref).order_by(Offer.id))
    ).all()


async def find_by_tag(session: AsyncSession, *, tag_key: str, now: datetime) -> UUID | None:
    query = (
        select(Offer.id)
        .where(
            Offer.tag_key == tag_key,
            Offer.state.in_(("scheduled", "live", "paused")),
            Offer.ends_at > now,
        )
        .order_by(Offer.starts_at)
        .limit(1)
    )
    found: UUID | None = await session.scalar(query)
    return found


async def get(session: AsyncSession, offer_id: UUID) -> Offer | None:
    return await session.get(Offer, offer_id, populate_existing=True)


async def get_version(session: AsyncSession, offer_id: UUID, version: int) -> OfferVersion:
    return await session.get_one(OfferVersion, (offer_id, version), populate_existing=True)


async def versions(session: AsyncSession, offer_id: UUID) -> Sequence[OfferVersion]:
    query = select(OfferVersion).where(OfferVersion.offer_id == offer_id)
    return (await session.scalars(query.order_by(OfferVersion.version))).all()


async def insert_version(
    session: AsyncSession,
    offer_id: UUID,
    version: int,
    **values: Any,  # noqa: ANN401 - columns of many types
) -> None:
    await session.execute(insert(OfferVersion).values(offer_id=offer_id, version=version, **values))


async def update_version(
    session: AsyncSession,
    offer_id: UUID,
    version: int,
    **values: Any,  # noqa: ANN401 - columns of many types
) -> None:
    """Of a draft alone: coupons hold on to the rest."""
    await session.execute(
        update(OfferVersion)
        .where(OfferVersion.offer_id == offer_id, OfferVersion.version == version)
        .values(**values)
    )


async def get_counter(session: AsyncSession, offer_id: UUID) -> OfferCounter:
    return await session.get_one(OfferCounter, offer_id, populate_existing=True)


class Filters(NamedTuple):
    """What offers are looked for by; `runs_from` and `runs_until` have those that run at any time
    in between.
    """

    state: State | None = None
    tag_key: str | None = None
    ref: str | None = None
    partner_id: UUID | None = None
    runs_from: datetime | None = None
    runs_until: datetime | None = None


async def page(
    session: AsyncSession, *, after: UUID | None, limit: int, filters: Filters, now: datetime
) -> Sequence[tuple[Offer, OfferVersion, OfferCounter]]:
    """By id; a state is what the offer is at `now`, by the rule of `terms.state_at`."""
    query = (
        select(Offer, OfferVersion, OfferCounter)
        .join(
            OfferVersion,
            (OfferVersion.offer_id == Offer.id) & (OfferVersion.version == Offer.version),
        )
        .join(OfferCounter, OfferCounter.offer_id == Offer.id)
        .order_by(Offer.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(Offer.id > after)
    for column, wanted in (
        (Offer.tag_key, filters.tag_key),
        (Offer.ref, filters.ref),
        (Offer.partner_id, filters.partner_id),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if filters.runs_from is not None:
        query = query.where(Offer.ends_at > filters.runs_from)
    if filters.runs_until is not None:
        query = query.where(Offer.starts_at < filters.runs_until)
    if filters.state is not None:
        by_the_clock = case(
            (Offer.ends_at <= now, "ended"), (Offer.starts_at <= now, "live"), else_="scheduled"
        )
        published = Offer.state.in_(("scheduled", "live"))
        query = query.where(case((published, by_the_clock), else_=Offer.state) == filters.state)
    rows = await session.execute(query)
    return [(offer, version, counter) for offer, version, counter in rows]


async def update_offer(session: AsyncSession, offer_id: UUID, **values: Any) -> None:  # noqa: ANN401 - columns of many types
    await session.execute(
        update(Offer)
        .where(Offer.id == offer_id)
        .values(**values, updated_at=func.clock_timestamp())
    )


async def committed_budget(session: AsyncSession, *, offer: Offer) -> int:
    """What the partner's other offers may yet cost in the offer's currency: the budgets of those
    that are published, and of those that have ended what their coupons reserve beyond what they
    have earned. Locks until the transaction ends, so that two offers are not covered by the same
    credit.
    """
    await session.execute(
        text("SELECT pg_advisory_xact_lock(:key, hashtext(:partner))"),
        {"key": locks.CREDIT_LIMIT, "partner": str(offer.partner_id)},
    )
    # the rollup of sales, since a partner's own role may read it and no coupon; what it does not
    # know yet is still counted as reserved
    committed = await session.scalar(
        text(
            """
            SELECT coalesce(sum(CASE
                WHEN o.state = 'ended' THEN greatest(c.reserved_minor - coalesce(s.earned, 0), 0)
                ELSE c.budget_minor
            END), 0)
            FROM offers o
            JOIN offer_counters c ON c.offer_id = o.id
            LEFT JOIN (
                SELECT offer_id, sum(reward_minor) AS earned FROM sales_days
                WHERE partner_id = :partner_id GROUP BY offer_id
            ) s ON s.offer_id = o.id
            WHERE o.partner_id = :partner_id AND o.currency = :currency AND o.id <> :offer_id
                AND o.state IN ('scheduled', 'live', 'paused', 'ended')
            """
        ),
        {"partner_id": offer.partner_id, "currency": offer.currency, "offer_id": offer.id},
    )
    return int(committed or 0)


async def update_counter(session: AsyncSession, offer_id: UUID, **values: int | None) -> None:
    await session.execute(
        update(OfferCounter).where(OfferCounter.offer_id == offer_id).values(**values)
    )


async def member_coupons(
    session: AsyncSession, member_id: UUID
) -> Sequence[tuple[Coupon, Offer, OfferVersion]]:
    query = (
        select(Coupon, Offer, OfferVersion)
        .join(Offer, Offer.id == Coupon.offer_id)
        .join(
            OfferVersion,
            (OfferVersion.offer_id == Coupon.offer_id)
            & (OfferVersion.version == Coupon.offer_version),
        )
        .where(Coupon.member_id == member_id)
        .order_by(Coupon.loaded_at.desc(), Coupon.id)
    )
    rows = await session.execute(query)
    return [(coupon, offer, version) for coupon, offer, version in rows]
