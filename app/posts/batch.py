"""What all batches of decisions have in common, wherever their posts come from: the facts they read
once their offers are locked, what they write, and when they are tried again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.kit.db import DATABASE_ERRORS, sqlstate
from app.members import service as members
from app.members.service import Author
from app.networks.post import Post
from app.offers import queries as offers
from app.offers.announcing import announce_loaded
from app.offers.terms import EVERYBODY
from app.posts import queries
from app.posts.decisions import Decision, Facts, Limits
from app.posts.matching import Naming
from app.posts.replying import queue_replies
from app.posts.velocity import Written, by_author

ATTEMPTS_MAX = 5
PAUSE_SECONDS_MAX = 0.05
# The driver refuses some values itself, before the server sees them.
_REFUSED_BY_DRIVER = (OverflowError, UnicodeError)
FROM_DATABASE = (*DATABASE_ERRORS, *_REFUSED_BY_DRIVER)
# the same post from two sides, a ring of locks, a serialisation failure
_TRY_AGAIN = ("23505", "40P01", "40001")


def has_crossed(error: BaseException) -> bool:
    """Whether another process brought the same post, or took a lock, in this moment."""
    return sqlstate(error) in _TRY_AGAIN


def is_about_data(error: BaseException) -> bool:
    """SQLSTATE classes 22 (data) and 23 (integrity) are about the rows, the rest about the way."""
    state = sqlstate(error) or ""
    return isinstance(error, (*_REFUSED_BY_DRIVER, asyncpg.DataError)) or state[:2] in ("22", "23")


async def pause_briefly() -> None:
    await asyncio.sleep(random.random() * PAUSE_SECONDS_MAX)  # noqa: S311 - jitter


def limits_of(settings: Settings) -> Limits:
    return Limits(
        author_age_days_min=settings.author_age_days_min,
        author_followers_min=settings.author_followers_min,
        default_picture_refused=settings.author_default_picture_refused,
        author_posts_max=settings.author_posts_max,
        author_posts_window=settings.author_posts_window,
        accounts_per_member_max=settings.accounts_per_member_max,
        offers_per_post_max=settings.offers_per_post_max,
        coupons_per_member_max=settings.coupons_per_member_max,
        default_coupon_valid_days=settings.default_coupon_valid_days,
    )


async def lock_authors(session: AsyncSession, posts: Sequence[Post]) -> dict[str, Author]:
    """The authors who are linked, read once their members are locked: batches of other offers hold
    no lock in common with this one, and may bring another post of the same member, or another
    version of the same post; and who has said stop has said it. All posts are of one network.
    """
    network = posts[0].network
    account_ids = list({post.author_id for post in posts})
    await members.lock_members_of(session, network=network, account_ids=account_ids)
    return await members.find_authors(session, network=network, account_ids=account_ids)


async def read_facts(
    session: AsyncSession,
    namings: Sequence[Naming],
    counters: dict[UUID, offers.Counter],
    *,
    authors: dict[str, Author],
    decided: set[tuple[str, UUID]],
    settings: Settings,
    now: datetime,
) -> Facts:
    """`counters` are those of the offers named, locked; `authors` are locked too. `decided`:
    (root, offer) pairs that are not decided again.
    """
    posts = [naming.post for naming in namings]
    network = posts[0].network
    member_ids = {author.member_id for author in authors.values()}
    stopped = await members.find_stopped(
        session, network=network, account_ids={post.author_id for post in posts}
    )
    held = await offers.coupons_of(session, member_ids=member_ids, offer_ids=counters)
    choosy = {
        (authors[post.author_id].member_id, terms.partner_id)
        for post, named_offers in namings
        for terms in named_offers
        if terms.audience != EVERYBODY and post.author_id in authors
    }
    summaries = await members.purchase_summaries(session, pairs=list(choosy)) if choosy else {}
    recent = {}
    if settings.coupons_per_member_max is not None:
        since = now - settings.coupons_per_member_window
        recent = await offers.recent_coupons(session, member_ids=member_ids, since=since)
    accounts = {}
    if settings.accounts_per_member_max is not None:
        accounts = await members.count_accounts(session, network=network, member_ids=member_ids)
    written = {}
    if settings.author_posts_max is not None:
        written = await _read_written(session, posts, window=settings.author_posts_window)
    return Facts(
        authors=authors,
        stopped=stopped,
        counters=counters,
        held=held,
        summaries=summaries,
        recent_coupons=recent,
        written=written,
        accounts=accounts,
        decided=decided,
        offers_decided=Counter(root for root, _ in decided),
    )


async def _read_written(
    session: AsyncSession, posts: Sequence[Post], *, window: timedelta
) -> dict[str, list[Written]]:
    """What the batch's authors wrote in the windows that end with its posts."""
    known = await queries.written_by(
        session,
        network=posts[0].network,
        author_ids={post.author_id for post in posts},
        after=min(post.posted_at for post in posts) - window,
        until=max(post.posted_at for post in posts),
    )
    own = [(post.author_id, Written(post.posted_at, post.id, post.root_id)) for post in posts]
    return by_author(known + own)


def decision_row(decision: Decision, *, now: datetime) -> queries.NewDecision:
    post, terms, outcome, author, coupon, seen = decision
    return queries.NewDecision(
        network=post.network,
        root_id=post.root_id,
        offer_id=terms.offer_id,
        offer_version=terms.version,
        post_id=post.id,
        author_id=post.author_id,
        member_id=None if author is None else author.member_id,
        coupon_id=None if coupon is None else coupon.id,
        outcome=outcome,
        decided_at=now,
        seen=msgspec.json.encode(seen).decode(),
    )


async def carry_out(
    session: AsyncSession, decisions: Sequence[Decision], *, settings: Settings, now: datetime
) -> None:
    """What follows from decisions whose rows are written: coupons, replies, the rollup."""
    loading = [decision for decision in decisions if decision.coupon is not None]
    loaded = await offers.load_coupons(
        session,
        [decision.coupon for decision in loading if decision.coupon is not None],
        budget_low_percent=settings.budget_low_percent,
    )
    if any(decision.terms.has_webhooks for decision in loading):
        await announce_loaded(session, loaded, now=now)
    await queue_replies(session, decisions, settings=settings, now=now)
    await queries.count(session, by_hour(decisions))


def by_hour(decisions: Sequence[Decision]) -> dict[queries.HourKey, queries.Counted]:
    hours: dict[queries.HourKey, queries.Counted] = {}
    for post, terms, outcome, *_ in decisions:
        hour = post.posted_at.replace(minute=0, second=0, microsecond=0)
        key = queries.HourKey(terms.offer_id, hour, post.network, outcome)
        known = hours.get(key, queries.Counted(0, 0))
        hours[key] = queries.Counted(known.posts + 1, known.reach + (post.author_followers or 0))
    return hours
