"""All SQL on posts that were removed from their network, but for what an enrolment asks."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.arrays import as_arrays

DUE = text(
    "SELECT network, post_id FROM removed_posts "
    "WHERE forgotten_at IS NULL AND removed_at <= :before "
    "ORDER BY removed_at LIMIT :most FOR UPDATE SKIP LOCKED"
)


class Removal(NamedTuple):
    network: str
    post_id: str


class KeptPost(NamedTuple):
    post_id: str
    root_id: str


class Renamed(NamedTuple):
    """What a post's own ids and its author's become."""

    post_id: str
    root_id: str
    author_id: str


async def mark_removed(session: AsyncSession, *, network: str, post_id: str, now: datetime) -> None:
    await session.execute(
        text(
            "INSERT INTO removed_posts (network, post_id, removed_at) "
            "VALUES (:network, :post_id, :now) ON CONFLICT DO NOTHING"
        ),
        {"network": network, "post_id": post_id, "now": now},
    )


async def removals_due(session: AsyncSession, *, before: datetime, most: int) -> list[Removal]:
    """Locked; those that another process is at are left to it."""
    rows = await session.execute(DUE, {"before": before, "most": most})
    return [Removal(*row) for row in rows]


async def set_forgotten(
    session: AsyncSession, removals: Sequence[Removal], *, now: datetime
) -> None:
    if not removals:
        return
    await session.execute(
        text(
            "UPDATE removed_posts r SET forgotten_at = :now "
            "FROM unnest(CAST(:network AS text[]), CAST(:post_id AS text[])) "
            "AS done (network, post_id) "
            "WHERE (r.network, r.post_id) = (done.network, done.post_id)"
        ),
        {"now": now, **as_arrays(Removal._fields, removals)},
    )


async def drop_removals(session: AsyncSession, *, before: datetime, most: int) -> int:
    dropped = await session.scalars(
        text(
            "DELETE FROM removed_posts WHERE (network, post_id) IN ("
            "SELECT network, post_id FROM removed_posts WHERE forgotten_at <= :before "
            "ORDER BY forgotten_at LIMIT :most FOR UPDATE SKIP LOCKED) RETURNING 1"
        ),
        {"before": before, "most": most},
    )
    return len(dropped.all())


# The posts of these ids and all their versions, by the index of their author.
_ROOTS = """
    WITH roots AS (
        SELECT root_id, author_id FROM posts
        WHERE network = :network AND post_id = ANY(CAST(:ids AS text[]))
        UNION
        SELECT root_id, author_id FROM decisions
        WHERE network = :network AND root_id = ANY(CAST(:ids AS text[]))
    )
"""


_OFFERS = text(
    f"{_ROOTS} SELECT DISTINCT d.offer_id FROM roots JOIN decisions d "  # noqa: S608 - as above
    "ON d.network = :network AND d.root_id = roots.root_id"
)
_KEPT = text(
    f"{_ROOTS} SELECT p.post_id, p.root_id FROM roots JOIN posts p "  # noqa: S608 - as above
    "ON p.author_id = roots.author_id AND p.root_id = roots.root_id AND p.network = :network"
)
_RENAMED = """
    unnest(CAST(:old_ids AS text[]), CAST(:post_ids AS text[]), CAST(:root_ids AS text[]),
           CAST(:author_ids AS text[])) AS post (old_id, post_id, root_id, author_id)
"""


async def offers_of_posts(
    session: AsyncSession, *, network: str, ids: Collection[str]
) -> set[UUID]:
    rows = await session.scalars(_OFFERS, {"network": network, "ids": list(ids)})
    return set(rows)


async def kept_posts(
    session: AsyncSession, *, network: str, ids: Collection[str]
) -> list[KeptPost]:
    rows = await session.execute(_KEPT, {"network": network, "ids": list(ids)})
    return [KeptPost(*row) for row in rows]


async def coupons_of_posts(
    session: AsyncSession, *, network: str, ids: Collection[str]
) -> dict[UUID, str]:
    """Each with the version that loaded it; all versions of a post are among `ids`."""
    rows = await session.execute(
        text(
            "SELECT coupon_id, post_id FROM decisions WHERE network = :network "
            "AND root_id = ANY(CAST(:ids AS text[])) AND coupon_id IS NOT NULL"
        ),
        {"network": network, "ids": list(ids)},
    )
    return {row.coupon_id: row.post_id for row in rows}


async def rename_posts(
    session: AsyncSession, *, network: str, renamed: Mapping[str, Renamed]
) -> None:
    """Takes away what the network told of the post and of its author as well."""
    names = ("old_ids", "post_ids", "root_ids", "author_ids")
    rows = [(old, *new) for old, new in renamed.items()]
    given = {"network": network, **as_arrays(names, rows)}
    await session.execute(
        text(
            f"""
            UPDATE decisions d SET root_id = post.root_id, post_id = post.post_id,
                author_id = post.author_id,
                seen = d.seen - 'author_age_days' - 'author_followers'
                    - 'author_default_picture' - 'author_posts'
            FROM {_RENAMED} WHERE d.network = :network AND d.post_id = post.old_id
                AND d.root_id = ANY(CAST(:old_ids AS text[]))
            """  # noqa: S608 - names
        ),
        given,
    )
    await session.execute(
        text(
            f"""
            UPDATE posts p SET root_id = post.root_id, post_id = post.post_id,
                author_id = post.author_id, tags = '{{}}', lang = NULL, reach = NULL
            FROM {_RENAMED} WHERE p.network = :network AND p.post_id = post.old_id
            """  # noqa: S608 - names
        ),
        given,
    )


async def rename_rejected(
    session: AsyncSession, *, network: str, new_ids: Mapping[str, str]
) -> None:
    await session.execute(
        text(
            "UPDATE rejected_posts r SET post_id = new.id "
            "FROM unnest(CAST(:old AS text[]), CAST(:new AS text[])) AS new (old_id, id) "
            "WHERE r.network = :network AND r.post_id = new.old_id"
        ),
        {"network": network, "old": list(new_ids), "new": list(new_ids.values())},
    )
