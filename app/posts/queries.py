from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.arrays import as_arrays
from app.kit.db import copy_rows
from app.posts.velocity import Written

WRITTEN_BY = text(
    "SELECT author_id, posted_at, post_id, root_id FROM posts "
    "WHERE network = :network AND author_id = ANY(CAST(:authors AS text[])) "
    "AND posted_at > :after AND posted_at <= :until"
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


class DayKey(NamedTuple):
    offer_id: UUID
    day: date
    network: str
    outcome: str


class Day(NamedTuple):
    posts: int
    reach: int


async def seen_posts(session: AsyncSession, *, network: str, ids: Collection[str]) -> set[str]:
    rows = await session.scalars(
        text("SELECT post_id FROM posts WHERE network = :network AND post_id = ANY(:ids)"),
        {"network": network, "ids": list(ids)},
    )
    return set(rows)


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


async def count_days(session: AsyncSession, days: Mapping[DayKey, Day]) -> None:
    """Adds a batch to the rollup. Its rows are reached under the offers' locks alone, so two
    batches never wait for each other here.
    """
    if not days:
        return
    await session.execute(
        text(
            "INSERT INTO post_days (offer_id, day, network, outcome, posts, reach) "
            "SELECT * FROM unnest(CAST(:offers AS uuid[]), CAST(:days AS date[]), "
            "CAST(:networks AS text[]), CAST(:outcomes AS text[]), CAST(:posts AS bigint[]), "
            "CAST(:reach AS bigint[])) "
            "ON CONFLICT (offer_id, day, network, outcome) DO UPDATE "
            "SET posts = post_days.posts + EXCLUDED.posts, reach = post_days.reach + EXCLUDED.reach"
        ),
        _as_arrays(days),
    )


def _as_arrays(days: Mapping[DayKey, Day]) -> dict[str, list[Any]]:
    names = ("offers", "days", "networks", "outcomes", "posts", "reach")
    return as_arrays(names, [(*key, *days[key]) for key in sorted(days)])


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
