"""From posts to coupons and queued replies: the one path for every source, a transaction a batch.

The number of statements does not depend on the number of posts. The order is the lock order: the
offers' counters first, then the authors' members; what is decided on is read by later statements,
which see every coupon that an earlier holder of the locks has committed.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import structlog
from prometheus_client import Counter as Metric
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.errors import Unavailable
from app.kit.db import Sessions
from app.members import service as members
from app.networks import queries as networks
from app.networks.post import Post
from app.offers import queries as offers
from app.offers.catalogue import Catalogue, build
from app.posts import batch, queries
from app.posts.decisions import LOADED, Decision, Facts, decide
from app.posts.events import heed_stop
from app.posts.matching import Naming, first_come_first

DUPLICATE = "duplicate"
NO_OFFER = "no_offer"
REMOVED = "removed"
STOP = "stop"

_outcomes = Metric("tagback_posts", "Posts by what became of them.", ["outcome"])
log = structlog.get_logger(__name__)


class CatalogueMovedError(Exception):
    """An offer changed between the choice of what to lock and the lock: choose again."""


class Enrolled(NamedTuple):
    """What became of one post: an outcome for each offer it names; or `duplicate`, `no_offer`,
    `removed` (it is gone from the network already, so nothing is kept), `stop` (its author asks to
    be left alone); or, in `rejected`, why the database would not take it.
    """

    outcomes: tuple[str, ...]
    rejected: str | None = None


class Enroller:
    """Enrols batches; holds the offers in memory between them. `read_price_microusd` is what the
    network charges for each post of a live source, under the name `read_kind`.
    """

    def __init__(
        self,
        sessions: Sessions,
        settings: Settings,
        *,
        read_price_microusd: int = 0,
        read_kind: str = "post_read",
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._read_price_microusd = read_price_microusd
        self._read_kind = read_kind
        self._catalogue: Catalogue | None = None
        self._limits = batch.limits_of(settings)

    async def enrol(self, posts: Sequence[Post], *, source: str, now: datetime) -> list[Enrolled]:
        """Commits the batch and says what became of each post, in the order given. All posts are
        of one network. Raises Unavailable when others change offers faster than it can choose, and
        what the database raises when it cannot be reached; then the posts may be sent again.
        """
        for attempt in range(batch.ATTEMPTS_MAX):
            try:
                return await self._enrol_batch(posts, source=source, now=now)
            except CatalogueMovedError:
                log.info("offers_moved", attempt=attempt, source=source)
            except batch.FROM_DATABASE as error:
                is_last = attempt == batch.ATTEMPTS_MAX - 1
                if batch.has_crossed(error) and not is_last:
                    await batch.pause_briefly()
                elif batch.is_about_data(error):
                    return await self._enrol_around(posts, error, source=source, now=now)
                else:
                    raise
        raise Unavailable("the offers are changing too fast: send the posts again")

    async def _enrol_around(
        self, posts: Sequence[Post], error: Exception, *, source: str, now: datetime
    ) -> list[Enrolled]:
        """A post that the database refuses stops nothing: halves are tried until it is alone."""
        if len(posts) > 1:
            middle = len(posts) // 2
            first = await self.enrol(posts[:middle], source=source, now=now)
            return first + await self.enrol(posts[middle:], source=source, now=now)
        (post,) = posts
        reason = f"refused by the database: {type(error).__name__}"
        log.warning("post_rejected", network=post.network, post=post.id, reason=reason)
        async with self._sessions.begin() as session:
            await queries.reject(
                session, network=post.network, post_id=post.id, source=source, reason=reason
            )
            await queries.move_cursor(session, source=source, posted_at=post.posted_at, now=now)
        return [Enrolled((), rejected=reason)]

    async def _enrol_batch(
        self, posts: Sequence[Post], *, source: str, now: datetime
    ) -> list[Enrolled]:
        if not posts:
            return []
        decisions: list[Decision] = []
        known = queries.Known(set(), set())
        async with self._sessions.begin() as session:
            namings, counters = await self._choose_and_lock(session, posts)
            stops = _stops(posts, namings)
            if stops:
                await self._stop(session, stops, namings, now=now)
            if namings:
                facts, known = await self._read_facts(session, namings, counters, now=now)
                namings = _first_deliveries(namings, known)
                decisions = decide(namings, facts, limits=self._limits, now=now)
                await self._write(session, namings, decisions, source=source, now=now)
            newest = max(post.posted_at for post in posts)
            await queries.move_cursor(session, source=source, posted_at=newest, now=now)
            # X's pricing: a post is charged for once a day, however often it is delivered
            billed = len({post.id for post in posts} - known.seen)
            if self._read_price_microusd and billed:
                # last, for every lane writes this row and holds it until the commit
                await networks.record_usage(
                    session,
                    network=posts[0].network,
                    kind=self._read_kind,
                    units=billed,
                    price_microusd=self._read_price_microusd,
                    now=now,
                )
        results = _results(posts, namings, decisions, known, stops)
        for outcome, number in Counter(name for one in results for name in one.outcomes).items():
            _outcomes.labels(outcome).inc(number)
        return results

    async def _stop(
        self,
        session: AsyncSession,
        stops: Sequence[Post],
        namings: Sequence[Naming],
        *,
        now: datetime,
    ) -> None:
        """Before the batch's other posts are looked at. All members of the batch are locked by one
        statement, in the order of their ids.
        """
        network = stops[0].network
        authors = {post.author_id for post in stops}
        authors |= {naming.post.author_id for naming in namings}
        await members.lock_members_of(session, network=network, account_ids=sorted(authors))
        said_at = {post.author_id: post.posted_at for post in stops}
        await heed_stop(session, network=network, said_at=said_at, told_by="post", now=now)

    async def _choose_and_lock(
        self, session: AsyncSession, posts: Sequence[Post]
    ) -> tuple[list[Naming], dict[UUID, offers.Counter]]:
        """What the posts name, and the counters of those offers, locked. What was chosen before the
        lock stands only if the offers do: else it is chosen again, now that they cannot move.
        """
        chosen_from = await self._current_catalogue(session)
        namings = first_come_first(posts, chosen_from)
        if not namings:
            return [], {}
        counters = await offers.lock_counters(session, _named(namings))
        standing = await self._current_catalogue(session)
        if standing is not chosen_from:
            namings = first_come_first(posts, standing)
            if not _named(namings) <= counters.keys():
                raise CatalogueMovedError
        return namings, counters

    async def _current_catalogue(self, session: AsyncSession) -> Catalogue:
        version = await offers.catalogue_version(session)
        if self._catalogue is None or self._catalogue.version != version:
            self._catalogue = build(version, await offers.read_catalogue(session))
        return self._catalogue

    async def _read_facts(
        self,
        session: AsyncSession,
        namings: Sequence[Naming],
        counters: dict[UUID, offers.Counter],
        *,
        now: datetime,
    ) -> tuple[Facts, queries.Known]:
        network = namings[0].post.network
        posts = [naming.post for naming in namings]
        authors = await batch.lock_authors(session, posts)
        ids = {post.id for post in posts} | {post.root_id for post in posts}
        known = await queries.known_posts(session, network=network, ids=ids)
        decided = await queries.decided_offers(
            session, network=network, roots={post.root_id for post in posts}
        )
        facts = await batch.read_facts(
            session,
            namings,
            counters,
            authors=authors,
            decided=decided,
            settings=self._settings,
            now=now,
        )
        return facts, known

    async def _write(
        self,
        session: AsyncSession,
        namings: Sequence[Naming],
        decisions: Sequence[Decision],
        *,
        source: str,
        now: datetime,
    ) -> None:
        await queries.write(
            session,
            posts=[_post_row(naming.post, source=source, now=now) for naming in namings],
            decisions=[batch.decision_row(decision, now=now) for decision in decisions],
        )
        await batch.carry_out(session, decisions, settings=self._settings, now=now)


def _named(namings: Sequence[Naming]) -> set[UUID]:
    return {terms.offer_id for naming in namings for terms in naming.offers}


def _stops(posts: Sequence[Post], namings: Sequence[Naming]) -> list[Post]:
    """In the order of their times. One that names an offer is for the offer: some tag may be such
    a word.
    """
    stops = [post for post in posts if post.asks_to_stop]
    if stops and namings:
        named = {naming.post.id for naming in namings}
        stops = [post for post in stops if post.id not in named]
    return sorted(stops, key=lambda post: post.posted_at)


def _first_deliveries(namings: Sequence[Naming], known: queries.Known) -> list[Naming]:
    first: dict[str, Naming] = {}
    for naming in namings:
        if naming.post.id not in known.seen and not _is_removed(naming.post, known):
            first.setdefault(naming.post.id, naming)
    return list(first.values())


def _is_removed(post: Post, known: queries.Known) -> bool:
    """With any version of a post all are gone."""
    return post.id in known.removed or post.root_id in known.removed


def _post_row(post: Post, *, source: str, now: datetime) -> queries.NewPost:
    return queries.NewPost(
        network=post.network,
        post_id=post.id,
        root_id=post.root_id,
        author_id=post.author_id,
        posted_at=post.posted_at,
        received_at=now,
        tags=list(post.tags),
        mentions_programme=post.mentions_programme,
        lang=post.lang,
        reach=post.author_followers,
        source=source,
    )


def _results(
    posts: Sequence[Post],
    namings: Sequence[Naming],
    decisions: Sequence[Decision],
    known: queries.Known,
    stops: Sequence[Post],
) -> list[Enrolled]:
    seen = known.seen
    stopped = {post.id for post in stops}
    outcomes: dict[str, list[str]] = {naming.post.id: [] for naming in namings}
    for decision in decisions:
        outcomes[decision.post.id].append(decision.outcome)
    results = []
    for post in posts:
        mine = outcomes.pop(post.id, None)
        if mine is not None:
            # an edit whose every offer was decided with an earlier version brings nothing new
            results.append(Enrolled(tuple(mine) or (DUPLICATE,)))
            seen.add(post.id)
        elif post.id in stopped:
            results.append(Enrolled((STOP,)))
        elif _is_removed(post, known):
            results.append(Enrolled((REMOVED,)))
        else:
            results.append(Enrolled((DUPLICATE if post.id in seen else NO_OFFER,)))
    return results


__all__ = ["DUPLICATE", "LOADED", "NO_OFFER", "REMOVED", "STOP", "Enrolled", "Enroller"]
