"""A dry run: what a month's posts and purchases would have done under an offer's terms. It changes
nothing, and for a partner it tells of nobody (ADR 20).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, time, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.errors import NotFound, TooManyRequests
from app.insight import dry_run_queries as queries
from app.insight import replay
from app.insight.dry_run_figures import blurred, exact
from app.insight.dry_run_queries import KeptPost, KeptTransaction
from app.insight.replay import Bought, Decided, History
from app.kit.db import Sessions
from app.offers import changing
from app.offers import service as offers
from app.offers.queries import Counter
from app.offers.schemas import OfferChange
from app.offers.terms import EVERYBODY, Terms
from app.posts.batch import limits_of
from app.posts.decisions import Limits

DAYS_MAX = 30
ROWS_MAX = 50_000  # decisions, and purchases: the newest are taken
RETRY_SECONDS = 5
AT_A_TIME_MAX = 2  # a process; each may take 200 MB and some seconds of a core

PostsFrom = Literal["this_hashtag", "partner_offers", "none"]

ASSUMED = (
    "The offer takes posts in the whole of the window, with its counters at nothing.",
    "It stands in for the offers whose posts these are: what those rewarded is open to it.",
    "A post is judged by what was seen of it and of its author then.",
    "Stops, cards, country and language are today's where the outcome of then does not tell.",
    "A member is who he was when he posted, or who he has been linked as since.",
    "A purchase is judged by all that is known of it by now, a later refund too.",
)
OF_OTHER_OFFERS = (
    "No offer of this partner with this hashtag was named in the window, so the posts for all its "
    "other offers are taken."
)
OF_ALL_POSTS = (
    "What a coupon brings is measured on everybody who posted in the last 30 days, whatever the "
    "days, hours, audience and caps, and set down for as many coupons as these terms would load. "
    "The window ends with the day before, and figures are rounded."
)
CUT = "There was more than can be taken at once: the newest posts and purchases are counted."

NO_CAPS = Counter(None, 0, None, 0)

places = asyncio.Semaphore(AT_A_TIME_MAX)
_asking: set[UUID] = set()  # partners: one at a time for each, so that none has all the places


class Wanted(NamedTuple):
    offer_id: UUID
    changes: OfferChange
    days: int
    partner_id: UUID | None  # who asks; None is the operator


class Material(NamedTuple):
    """All that is read, of one moment."""

    terms: Terms
    counter: Counter
    offer_ref: str
    since: datetime
    until: datetime
    posts_from: PostsFrom
    posts: Sequence[KeptPost]
    transactions: Sequence[KeptTransaction]
    history: History
    is_cut: bool


async def dry_run(
    sessions: Sessions, *, wanted: Wanted, settings: Settings, now: datetime
) -> dict[str, Any]:
    """Reads in a transaction of its own, which is over before anything is reckoned. Raises NotFound
    for an offer that is not the asking partner's, Invalid for terms that it may not have, and
    TooManyRequests for a partner whose dry run before is not over.
    """
    async with _place(wanted.partner_id), places:
        async with sessions() as session:
            await queries.begin_snapshot(session)
            material = await _read(session, wanted, now)
        return await asyncio.to_thread(_reckon, material, wanted, settings, now)


@asynccontextmanager
async def _place(partner_id: UUID | None) -> AsyncIterator[None]:
    if partner_id is None:
        yield
        return
    if partner_id in _asking:
        raise TooManyRequests(
            "a dry run of yours is under way: one at a time", retry_seconds=RETRY_SECONDS
        )
    _asking.add(partner_id)
    try:
        yield
    finally:
        _asking.remove(partner_id)


async def _read(session: AsyncSession, wanted: Wanted, now: datetime) -> Material:
    shown = offer, _, _ = await offers.get(session, offer_id=wanted.offer_id)
    if wanted.partner_id not in (None, offer.partner_id):
        raise NotFound("no such offer", code="offer_not_found")
    terms, counter = await changing.tried(session, shown=shown, changes=wanted.changes)
    days = wanted.days
    until = now
    if wanted.partner_id is not None:
        # a window that moved by the minute would show who has just come into it
        until = datetime.combine(now.date(), time(), tzinfo=now.tzinfo)
        days = DAYS_MAX
    since = until - timedelta(days=days)
    found = await queries.sources(
        session, partner_id=offer.partner_id, tag_key=terms.tag_key, since=since, until=until
    )
    with_tag = [source.offer_id for source in found if source.has_the_tag]
    offer_ids = with_tag or [source.offer_id for source in found]
    posts = await queries.posts(
        session, offer_ids=offer_ids, since=since, until=until, most=ROWS_MAX
    )
    member_ids = list({one.member_id for one in posts if one.member_id is not None})
    transactions = await queries.transactions(
        session,
        member_ids=member_ids,
        partner_id=offer.partner_id,
        offer_ids=[*offer_ids, offer.id],
        since=since,
        until=until,
        most=ROWS_MAX,
    )
    before = await queries.bought_before(
        session, member_ids=member_ids, partner_id=offer.partner_id, since=since
    )
    purchases = {one.purchase_ref for one in transactions}
    return Material(
        terms=_over_the_window(terms, since=since, until=until),
        counter=counter,
        offer_ref=offer.ref,
        since=until - timedelta(days=wanted.days),
        until=until,
        posts_from=("this_hashtag" if with_tag else "partner_offers") if posts else "none",
        posts=posts,
        transactions=transactions,
        history=History(before, transactions),
        is_cut=ROWS_MAX in (len(posts), len(purchases)),
    )


def _over_the_window(terms: Terms, *, since: datetime, until: datetime) -> Terms:
    """As if it ran for the whole of it. A last day for its coupons is no earlier than the window's,
    as it is no earlier than an offer's.
    """
    last_day = terms.coupon_last_day
    if last_day is not None:
        last_day = max(last_day, until.astimezone(ZoneInfo(terms.time_zone)).date())
    return terms._replace(starts_at=since, ends_at=until, state="live", coupon_last_day=last_day)


def _reckon(
    material: Material, wanted: Wanted, settings: Settings, now: datetime
) -> dict[str, Any]:
    terms = material.terms
    assumptions = [*ASSUMED]
    if material.posts_from == "partner_offers":
        assumptions.append(OF_OTHER_OFFERS)
    if wanted.partner_id is not None:
        assumptions.append(OF_ALL_POSTS)
    if material.is_cut:
        assumptions.append(CUT)
    return {
        "offer_id": terms.offer_id,
        "offer_ref": material.offer_ref,
        "title": terms.title,
        "hashtag": terms.hashtag,
        "currency": terms.currency,
        "since": material.since,
        "until": material.until,
        "posts_from": material.posts_from,
        "is_cut": material.is_cut,
        "is_exact": wanted.partner_id is None,
        **_figures(material, limits_of(settings), now, to_partner=wanted.partner_id is not None),
        "assumptions": assumptions,
    }


def _figures(
    material: Material, limits: Limits, now: datetime, *, to_partner: bool
) -> dict[str, Any]:
    def decide(posts: Sequence[KeptPost], terms: Terms, counter: Counter) -> Decided:
        return replay.decide_posts(
            posts, terms=terms, counter=counter, history=material.history, limits=limits, now=now
        )

    def buy(terms: Terms, decided: Decided) -> Bought:
        return replay.buy(material.transactions, terms=terms, coupons=decided.coupons, now=now)

    terms = material.terms
    posts = [one for one in material.posts if one.posted_at >= material.since]
    decided = decide(posts, terms, material.counter)
    if not to_partner:
        return exact(decided, buy(terms, decided))
    for_all = terms._replace(days=None, hours_from=None, hours_to=None, audience=EVERYBODY)
    everybody = decide(material.posts, for_all, NO_CAPS)
    return blurred(decided, everybody, buy(for_all, everybody))
