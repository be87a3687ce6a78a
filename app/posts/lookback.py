"""Linking looks back: when an author links, what he posted in the seven days before, and was told
`not_linked` for, is decided again. A job of the worker; accounts say when they are due.

The rules are those of a live post, tried on what is kept of this one, in the state of things now:

- It passed `repost` when it came, or it would not be `not_linked`: a repost stays one.
- `suspected_abuse` sees the author as he was when he posted: his followers are kept with the post,
  his age with the decision. His picture is not kept, and nothing is held against anybody that is
  not known.
- `too_many_offers` sees the place in the text that was kept with the decision.
- `not_started`, `ended` and `outside_hours` look at the time of the post. An offer that has ended
  since still takes what was posted in its window, as it takes a post that is delivered late. But a
  coupon whose last day has passed would take a place for nothing: then it stays `not_linked`.
- `paused` looks at the offer now: a pause that was answered holds for every coupon after it.
- `opted_out`, `card_inactive`, `already_loaded`, `not_eligible`, `too_frequent`, `sold_out` and
  `budget_spent` look at the member and the counters now. Nothing is kept free for who has not
  linked: first come, first served, by the order of commits.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from prometheus_client import Counter as Metric
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.kit import clock
from app.kit.db import DATABASE_ERRORS, TRANSACTION_SECONDS_MAX, Sessions
from app.kit.stopping import pause
from app.members import service as members
from app.members.service import LinkedAccount
from app.networks.post import Post
from app.offers import queries as offers
from app.offers.terms import Terms, valid_until
from app.posts import batch, queries
from app.posts.decisions import Decision, decide
from app.posts.matching import Naming
from app.posts.queries import NotLinked
from app.replies import service as replies

ACCOUNTS_MAX = 5_000  # a transaction
PAUSE_SECONDS = 1.0
LOOKS_BACK = timedelta(days=7)
# A batch that read its authors before the link was committed may commit its `not_linked` after we
# have looked. So each account is looked at twice: the second time when no transaction is left that
# was there the first time.
LOOKS_AGAIN_AFTER = timedelta(seconds=TRANSACTION_SECONDS_MAX) + timedelta(minutes=2)

_outcomes = Metric("tagback_posts_decided_again", "Posts of who linked since.", ["outcome"])
log = structlog.get_logger(__name__)


async def run(sessions: Sessions, settings: Settings, stop: asyncio.Event) -> None:
    """The job: at most one process looks back, the others find the lock taken and wait."""
    while not stop.is_set():
        try:
            looked = await look_back(sessions, settings, now=clock.now())
        except DATABASE_ERRORS as error:
            log.warning("look_back_waits", error=type(error).__name__)
            looked = 0
        except Exception:  # it must not end the other work of this process
            log.exception("look_back_failed")
            looked = 0
        if looked:
            continue
        await pause(stop, seconds=PAUSE_SECONDS)


async def look_back(sessions: Sessions, settings: Settings, *, now: datetime) -> int:
    """One transaction; answers how many accounts it has looked at. When that is 0, none is due, or
    those that are have somebody else at them.
    """
    for _ in range(batch.ATTEMPTS_MAX - 1):
        try:
            return await _look_back(sessions, settings, now)
        except DATABASE_ERRORS as error:
            if not batch.has_crossed(error):
                raise
        await batch.pause_briefly()
    return await _look_back(sessions, settings, now)


async def _look_back(sessions: Sessions, settings: Settings, now: datetime) -> int:
    """The order is the lock order: the offers' counters, what is decided, the accounts last."""
    async with sessions.begin() as session:
        if not await queries.begin_look_back(session):
            return 0
        accounts = await members.to_look_back(session, now=now, most=ACCOUNTS_MAX)
        if not accounts:
            return 0
        decisions, is_all = await _decide_again(session, accounts, settings=settings, now=now)
        looked = len(accounts)
        if is_all:
            looked = await members.set_look_backs(
                session,
                network=accounts[0].network,
                at=[(account.account_id, _next_look(account, now)) for account in accounts],
            )
    for decision in decisions:
        _outcomes.labels(decision.outcome).inc()
    return looked


def _next_look(account: LinkedAccount, now: datetime) -> datetime | None:
    is_first = account.look_back_at < account.linked_at + LOOKS_AGAIN_AFTER
    return now + LOOKS_AGAIN_AFTER if is_first else None


async def _decide_again(
    session: AsyncSession, accounts: Sequence[LinkedAccount], *, settings: Settings, now: datetime
) -> tuple[list[Decision], bool]:
    """A batch at most, and whether that was all of these accounts."""
    network = accounts[0].network
    since = {account.account_id: account.linked_at - LOOKS_BACK for account in accounts}
    offer_ids = await queries.offers_not_linked(session, network=network, since=since)
    if not offer_ids:
        return [], True
    counters = await offers.lock_counters(session, offer_ids)
    # read again under the locks: what another process has decided since is no longer among it
    found = await queries.not_linked(
        session,
        network=network,
        since=since,
        offer_ids=offer_ids,
        most=settings.batch_posts_max,
    )
    terms = await offers.read_current(session, counters)
    useful: list[NotLinked] = []
    over: list[NotLinked] = []
    for row in found:
        last = valid_until(
            terms[row.offer_id], row.posted_at, default_days=settings.default_coupon_valid_days
        )
        (useful if now < last else over).append(row)
    if over:
        await queries.give_up(session, network=network, rows=over, now=now)
    decisions: list[Decision] = []
    if useful:
        decisions = await _decide(
            session, network, useful, terms, counters, settings=settings, now=now
        )
        await _write(session, network, decisions, settings=settings, now=now)
    return decisions, len(found) < settings.batch_posts_max


async def _decide(
    session: AsyncSession,
    network: str,
    found: Sequence[NotLinked],
    terms: Mapping[UUID, Terms],
    counters: dict[UUID, offers.Counter],
    *,
    settings: Settings,
    now: datetime,
) -> list[Decision]:
    namings = [Naming(_post(network, row), (terms[row.offer_id],)) for row in found]
    authors = await batch.lock_authors(session, [naming.post for naming in namings])
    facts = await batch.read_facts(
        session,
        namings,
        counters,
        authors=authors,
        decided=set(),
        settings=settings,
        now=now,
    )
    limits = batch.limits_of(settings)
    decisions = []
    for row, naming in zip(found, namings, strict=True):
        facts.offers_decided[row.root_id] = row.seen["rank"]
        (decision,) = decide([naming], facts, limits=limits, now=now)
        seen = {**decision.seen, "not_linked_at": row.decided_at}
        decisions.append(decision._replace(seen=seen))
    return decisions


def _post(network: str, row: NotLinked) -> Post:
    """What is kept of it. It names the one offer, whatever its tags were."""
    age_days = row.seen["author_age_days"]
    return Post(
        network=network,
        id=row.post_id,
        root_id=row.root_id,
        author_id=row.author_id,
        posted_at=row.posted_at,
        tags=(),
        mentions_programme=row.mentions_programme,
        is_repost=False,
        lang=row.lang,
        author_created_at=None if age_days is None else row.posted_at - timedelta(days=age_days),
        author_followers=row.reach,
    )


async def _write(
    session: AsyncSession,
    network: str,
    decisions: Sequence[Decision],
    *,
    settings: Settings,
    now: datetime,
) -> None:
    await queries.decide_again(
        session, [batch.decision_row(decision, now=now) for decision in decisions]
    )
    before = [decision._replace(outcome="not_linked") for decision in decisions]
    await queries.uncount(session, batch.by_hour(before))
    await replies.withdraw_invitations(
        session,
        network=network,
        root_ids={decision.post.root_id for decision in decisions},
        now=now,
    )
    await batch.carry_out(session, decisions, settings=settings, now=now)
