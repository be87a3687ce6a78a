from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import locks
from app.kit.arrays import as_arrays
from app.kit.db import copy_rows
from app.posts.velocity import Written

WRITTEN_BY = text(
    "SELECT author_id, posted_at, post_id, root_id FROM posts "
    "WHERE network = :network AND author_id = ANY(CAST(:authors AS text[])) "
    "AND posted_at > :after AND posted_at <= :until"
)

# What these accounts have posted, each since a time of its own, while they were nobody's. OFFSET 0
# keeps the subquery whole: each account goes by the indexes, whatever old statistics say.
_NOT_LINKED = """
    FROM unnest(CAST(:account_ids AS text[]), CAST(:since AS timestamptz[]))
        AS linked (account_id, since)
    CROSS JOIN LATERAL (
        SELECT d.offer_id, d.root_id, d.post_id, d.author_id, d.decided_at, d.seen, p.posted_at,
               p.mentions_programme, p.lang, p.reach
        FROM decisions d JOIN posts p ON p.network = d.network AND p.post_id = d.post_id
        WHERE d.network = :network AND d.author_id = linked.account_id
            AND d.outcome = 'not_linked' AND p.posted_at >= linked.since
            AND d.seen -> 'given_up_at' IS NULL
        OFFSET 0
    ) found
"""


_GIVEN = """
    WITH given AS (
        SELECT * FROM unnest(
            CAST(:offers AS uuid[]), CAST(:hours AS timestamptz[]), CAST(:networks AS text[]),
            CAST(:outcomes AS text[]), CAST(:posts AS bigint[]), CAST(:reach AS bigint[])
        ) AS given (offer_id, hour, network, outcome, posts, reach)
    ), hours AS (
        SELECT offer_id, hour, network, sum(posts) AS posts,
               coalesce(sum(posts) FILTER (WHERE outcome = 'loaded'), 0) AS coupons,
               sum(reach) AS reach
        FROM given GROUP BY 1, 2, 3
    ), days AS (
        SELECT offer_id, CAST(hour AT TIME ZONE 'UTC' AS date) AS day, network, outcome,
               sum(posts) AS posts, sum(reach) AS reach
        FROM given GROUP BY 1, 2, 3, 4
    )
"""
_COUNT = text(
    f"""
    {_GIVEN}, by_hour AS (
        INSERT INTO post_hours AS t (offer_id, hour, network, posts, coupons, reach)
        SELECT * FROM hours
        ON CONFLICT (offer_id, hour, network) DO UPDATE SET posts = t.posts + EXCLUDED.posts,
            coupons = t.coupons + EXCLUDED.coupons, reach = t.reach + EXCLUDED.reach
    )
    INSERT INTO post_days AS t (offer_id, day, network, outcome, posts, reach)
    SELECT * FROM days
    ON CONFLICT (offer_id, day, network, outcome) DO UPDATE SET
        posts = t.posts + EXCLUDED.posts, reach = t.reach + EXCLUDED.reach
    """  # noqa: S608 - all of it is here
)
_UNCOUNT = text(
    f"""
    {_GIVEN}, by_hour AS (
        UPDATE post_hours t SET posts = t.posts - n.posts, coupons = t.coupons - n.coupons,
            reach = t.reach - n.reach
        FROM hours n WHERE (t.offer_id, t.hour, t.network) = (n.offer_id, n.hour, n.network)
    )
    UPDATE post_days t SET posts = t.posts - n.posts, reach = t.reach - n.reach
    FROM days n
    WHERE (t.offer_id, t.day, t.network, t.outcome) = (n.offer_id, n.day, n.network, n.outcome)
    """  # noqa: S608 - all of it is here
)


class NewPost(NamedTuple):
    network: str
    post_id: str
    root_id: str
    author_id: str
    posted_at: datetime
    received_at: datetime
    tags: list[str]
    mentions_programme: bool
    lang: str | None
    reach: int | None
    source: str


class NewDecision(NamedTuple):
    network: str
    root_id: str
    offer_id: UUID
    offer_version: int
    post_id: str
    author_id: str
    member_id: UUID | None
    coupon_id: UUID | None
    outcome: str
    decided_at: datetime
    seen: str


class NotLinked(NamedTuple):
    """A decision, with what is kept of its post."""

    offer_id: UUID
    root_id: str
    post_id: str
    author_id: str
    decided_at: datetime
    seen: dict[str, Any]
    posted_at: datetime
    mentions_programme: bool
    lang: str | None
    reach: int | None


class HourKey(NamedTuple):
    offer_id: UUID
    hour: datetime
    network: str
    outcome: str


class Counted(NamedTuple):
    posts: int
    reach: int


class Known(NamedTuple):
    seen: set[str]
    removed: set[str]


async def known_posts(session: AsyncSession, *, network: str, ids: Collection[str]) -> Known:
    """Which of these are kept already, and which have been removed from the network."""
    rows = await session.execute(
        text(
            "SELECT post_id, false AS is_removed FROM posts "
            "WHERE network = :network AND post_id = ANY(:ids) UNION ALL "
            "SELECT post_id, true FROM removed_posts "
            "WHERE network = :network AND post_id = ANY(:ids)"
        ),
        {"network": network, "ids": list(ids)},
    )
    known = Known(set(), set())
    for post_id, is_removed in rows:
        (known.removed if is_removed else known.seen).add(post_id)
    return known


async def decided_offers(
    session: AsyncSession, *, network: str, roots: Collection[str]
) -> set[tuple[str, UUID]]:
    rows = await session.execute(
        text(
            "SELECT root_id, offer_id FROM decisions "
            "WHERE network = :network AND root_id = ANY(:roots)"
        ),
        {"network": network, "roots": list(roots)},
    )
    return {(row.root_id, row.offer_id) for row in rows}


async def written_by(
    session: AsyncSession,
    *,
    network: str,
    author_ids: Collection[str],
    after: datetime,
    until: datetime,
) -> list[tuple[str, Written]]:
    """Each with its author."""
    wanted = {"network": network, "authors": list(author_ids), "after": after, "until": until}
    rows = await session.execute(WRITTEN_BY, wanted)
    return [(row.author_id, Written(*row[1:])) for row in rows]


async def write(
    session: AsyncSession, *, posts: Sequence[NewPost], decisions: Sequence[NewDecision]
) -> None:
    await copy_rows(session, "posts", NewPost._fields, posts)
    await copy_rows(session, "decisions", NewDecision._fields, decisions)


async def count(session: AsyncSession, hours: Mapping[HourKey, Counted]) -> None:
    """Adds a batch to the rollups, by day and outcome and by hour. Their rows are reached under the
    offers' locks alone, so two batches never wait for each other here.
    """
    if hours:
        await session.execute(_COUNT, _as_arrays(hours))


async def uncount(session: AsyncSession, hours: Mapping[HourKey, Counted]) -> None:
    """Takes from the rollups what `count` has added to them."""
    await session.execute(_UNCOUNT, _as_arrays(hours))


def _as_arrays(hours: Mapping[HourKey, Counted]) -> dict[str, list[Any]]:
    names = ("offers", "hours", "networks", "outcomes", "posts", "reach")
    return as_arrays(names, [(*key, *counted) for key, counted in hours.items()])


async def move_cursor(
    session: AsyncSession, *, source: str, posted_at: datetime, now: datetime
) -> None:
    await session.execute(
        text(
            "INSERT INTO cursors (source, posted_at, updated_at) VALUES (:source, :at, :now) "
            "ON CONFLICT (source) DO UPDATE SET updated_at = EXCLUDED.updated_at, "
            "posted_at = greatest(cursors.posted_at, EXCLUDED.posted_at)"
        ),
        {"source": source, "at": posted_at, "now": now},
    )


async def read_cursor(session: AsyncSession, *, source: str) -> datetime | None:
    found: datetime | None = await session.scalar(
        text("SELECT posted_at FROM cursors WHERE source = :source"), {"source": source}
    )
    return found


async def reject(
    session: AsyncSession, *, network: str, post_id: str, source: str, reason: str
) -> None:
    await session.execute(
        text(
            "INSERT INTO rejected_posts (network, post_id, source, reason) "
            "VALUES (:network, :post_id, :source, :reason)"
        ),
        {"network": network, "post_id": post_id, "source": source, "reason": reason},
    )


# looking back


async def begin_look_back(session: AsyncSession) -> bool:
    """False when another process is at it. Held until the transaction ends."""
    mine: bool = (
        await session.execute(
            text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": locks.LOOK_BACK}
        )
    ).scalar_one()
    return mine


async def offers_not_linked(
    session: AsyncSession, *, network: str, since: Mapping[str, datetime]
) -> set[UUID]:
    """The offers that a look back at these accounts has to lock."""
    rows = await session.scalars(
        text(f"SELECT DISTINCT found.offer_id {_NOT_LINKED}"),
        {"network": network, "account_ids": list(since), "since": list(since.values())},
    )
    return set(rows)


async def not_linked(
    session: AsyncSession,
    *,
    network: str,
    since: Mapping[str, datetime],
    offer_ids: Collection[UUID],
    most: int,
) -> list[NotLinked]:
    """Decisions about locked offers, the earliest post first."""
    rows = await session.execute(
        text(
            f"SELECT found.* {_NOT_LINKED} "
            "WHERE found.offer_id = ANY(CAST(:offer_ids AS uuid[])) "
            "ORDER BY posted_at, post_id, (seen ->> 'rank')::int LIMIT :most"
        ),
        {
            "network": network,
            "account_ids": list(since),
            "since": list(since.values()),
            "offer_ids": list(offer_ids),
            "most": most,
        },
    )
    return [NotLinked(*row) for row in rows]


async def give_up(
    session: AsyncSession, *, network: str, rows: Sequence[NotLinked], now: datetime
) -> None:
    """They stay `not_linked` for good."""
    await session.execute(
        text(
            """
            UPDATE decisions d
            SET seen = d.seen || jsonb_build_object('given_up_at', CAST(:now AS timestamptz))
            FROM unnest(CAST(:root_id AS text[]), CAST(:offer_id AS uuid[]))
                AS over (root_id, offer_id)
            WHERE d.network = :network AND d.root_id = over.root_id
                AND d.offer_id = over.offer_id AND d.outcome = 'not_linked'
            """
        ),
        {
            "network": network,
            "now": now,
            "root_id": [row.root_id for row in rows],
            "offer_id": [row.offer_id for row in rows],
        },
    )


async def decide_again(session: AsyncSession, decisions: Sequence[NewDecision]) -> None:
    """Those of them that are `not_linked` still; the offers' locks keep them so."""
    await session.execute(
        text(
            """
            UPDATE decisions d SET offer_version = n.offer_version, member_id = n.member_id,
                coupon_id = n.coupon_id, outcome = n.outcome, decided_at = n.decided_at,
                seen = n.seen
            FROM unnest(
                CAST(:network AS text[]), CAST(:root_id AS text[]), CAST(:offer_id AS uuid[]),
                CAST(:offer_version AS int[]), CAST(:post_id AS text[]),
                CAST(:author_id AS text[]), CAST(:member_id AS uuid[]),
                CAST(:coupon_id AS uuid[]), CAST(:outcome AS text[]),
                CAST(:decided_at AS timestamptz[]), CAST(:seen AS jsonb[])
            ) AS n (network, root_id, offer_id, offer_version, post_id, author_id, member_id,
                    coupon_id, outcome, decided_at, seen)
            WHERE (d.network, d.root_id, d.offer_id) = (n.network, n.root_id, n.offer_id)
                AND d.outcome = 'not_linked'
            """
        ),
        as_arrays(NewDecision._fields, decisions),
    )
