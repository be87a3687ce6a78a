"""A post that was deleted on its network is forgotten here: its ids and its author's, its tags and
all that the author was like are taken away, everywhere at once. A job of the worker.

Coupons, money and counts stay as they are: what was promised for the post was earned with it. Its
rows go on belonging together by ids that were drawn for them and mean nothing outside.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.db import TRANSACTION_SECONDS_MAX
from app.offers import queries as offers
from app.posts import removal_queries as queries
from app.posts.removal_queries import KeptPost, Renamed
from app.replies import removal_queries as replies

# A batch that looked before the removal was there may store the post yet. When it is done nothing
# comes after it: later ones find the removal, and keep nothing.
WAITS = timedelta(seconds=TRANSACTION_SECONDS_MAX) + timedelta(minutes=2)
# A post may be brought again for seven days, by closing gaps.
REMEMBERED = timedelta(days=8)


async def forget_removed(session: AsyncSession, *, now: datetime, most: int) -> int:
    """One step: up to `most` removals, and as many old ones that need not be remembered any more;
    answers how many. The order is the lock order: offers, then coupons, then the posts' own rows.
    """
    due = await queries.removals_due(session, before=now - WAITS, most=most)
    for network in sorted({removal.network for removal in due}):
        ids = [removal.post_id for removal in due if removal.network == network]
        await _forget(session, network=network, ids=ids)
    await queries.set_forgotten(session, due, now=now)
    old = await queries.drop_removals(session, before=now - REMEMBERED, most=most)
    return len(due) + old


async def _forget(session: AsyncSession, *, network: str, ids: Sequence[str]) -> None:
    offer_ids = await queries.offers_of_posts(session, network=network, ids=ids)
    # batches and looking back hold these while they decide about a post by its ids
    await offers.lock_counters(session, offer_ids)
    kept = await queries.kept_posts(session, network=network, ids=ids)
    renamed = rename(kept)
    await carry_out(session, network=network, renamed=renamed)
    await queries.rename_rejected(
        session,
        network=network,
        new_ids={one: renamed[one].post_id if one in renamed else _drawn() for one in ids},
    )


async def carry_out(session: AsyncSession, *, network: str, renamed: Mapping[str, Renamed]) -> None:
    """The counters of the offers that the posts have named are locked."""
    coupons = await queries.coupons_of_posts(session, network=network, ids=renamed)
    await offers.rename_posts(
        session, new_ids={coupon: renamed[post_id].post_id for coupon, post_id in coupons.items()}
    )
    await queries.rename_posts(session, network=network, renamed=renamed)
    await replies.rename_posts(session, network=network, renamed=renamed)


def rename(kept: Sequence[KeptPost]) -> dict[str, Renamed]:
    """What every id of a post, or of its versions, becomes. Each post's author has a name of its
    own, so that nobody can tell which removed posts were the same person's.
    """
    roots = {post.root_id: _drawn() for post in kept}
    authors = {post.root_id: _drawn() for post in kept}
    renamed: dict[str, Renamed] = {}
    for post in kept:
        root, author = roots[post.root_id], authors[post.root_id]
        renamed[post.root_id] = Renamed(root, root, author)
        if post.post_id != post.root_id:
            renamed[post.post_id] = Renamed(_drawn(), root, author)
    return renamed


def _drawn() -> str:
    return f"removed:{uuid4()}"
