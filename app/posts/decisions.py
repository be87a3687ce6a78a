"""What becomes of a post for each offer that it names: one outcome, the first rule that applies.

Pure: plain values in, decisions out. The batch's own effects (a place taken, a coupon loaded) are
seen by the posts after it.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from app.kit.ids import new_id
from app.members.service import Author, Summary
from app.networks.post import Post
from app.offers.queries import Counter, NewCoupon
from app.offers.terms import (
    EVERYBODY,
    CustomerKind,
    Terms,
    customer_kind,
    largest_reward,
    valid_until,
    within_hours,
)
from app.posts.matching import Naming
from app.posts.velocity import Written, posts_lately


class Limits(NamedTuple):
    """The programme's own rules, from settings; zero, None and False switch one off."""

    author_age_days_min: int
    author_followers_min: int
    default_picture_refused: bool
    author_posts_max: int | None
    author_posts_window: timedelta
    accounts_per_member_max: int | None
    offers_per_post_max: int
    coupons_per_member_max: int | None
    default_coupon_valid_days: int


class Facts(NamedTuple):
    """What the database knew about a batch, read after its offers were locked."""

    authors: dict[str, Author]
    stopped: set[str]  # authors who have said "stop", linked or not
    counters: dict[UUID, Counter]
    held: set[tuple[UUID, UUID]]  # (member, offer) pairs that have a coupon
    summaries: dict[tuple[UUID, UUID], Summary]
    recent_coupons: dict[UUID, int]
    written: dict[str, list[Written]]  # by author, with the batch's own; read if velocity counts
    accounts: dict[UUID, int]  # of a member on this network; read if their number counts
    decided: set[tuple[str, UUID]]  # (root of the edit history, offer)
    offers_decided: dict[str, int]  # how many offers a root has been decided for


class Case(NamedTuple):
    """One (post, offer) pair and all that its rules look at."""

    post: Post
    terms: Terms
    rank: int  # of the offer among those that the post, over all its edits, has named
    author: Author | None
    has_stopped: bool
    counter: Counter
    holds_coupon: bool
    summary: Summary | None
    recent_coupons: int
    posts_lately: int | None
    accounts: int | None
    limits: Limits

    @property
    def author_age_days(self) -> int | None:
        created = self.post.author_created_at
        return None if created is None else (self.post.posted_at - created).days

    @property
    def customer(self) -> CustomerKind:
        return customer_kind(
            last_purchase_at=None if self.summary is None else self.summary.last_at,
            at=self.post.posted_at,
            lapsed_days=self.terms.audience.lapsed_days,
        )


class Decision(NamedTuple):
    post: Post
    terms: Terms
    outcome: str
    author: Author | None
    coupon: NewCoupon | None
    seen: dict[str, Any]


def _above(one: int | None, other: int | None) -> bool:
    """Of two that are known."""
    return one is not None and other is not None and one > other


# What makes a post suspect; what the network does not tell is held against nobody.
SIGNALS: tuple[tuple[str, Callable[[Case], bool]], ...] = (
    ("account_age", lambda case: _above(case.limits.author_age_days_min, case.author_age_days)),
    (
        "followers",
        lambda case: _above(case.limits.author_followers_min, case.post.author_followers),
    ),
    (
        "default_picture",
        lambda case: (
            case.limits.default_picture_refused and case.post.author_default_picture is True
        ),
    ),
    ("velocity", lambda case: _above(case.posts_lately, case.limits.author_posts_max)),
    ("several_accounts", lambda case: _above(case.accounts, case.limits.accounts_per_member_max)),
)


def signals_of(case: Case) -> list[str]:
    return [signal for signal, shows in SIGNALS if shows(case)]


def _not_eligible(case: Case) -> bool:
    audience, author = case.terms.audience, case.author
    if audience == EVERYBODY or author is None:
        return False
    bought = 0 if case.summary is None else case.summary.purchases
    language = (author.locale or "").partition("-")[0].lower()
    return (
        (audience.customers is not None and case.customer not in audience.customers)
        or (audience.purchases_min is not None and bought < audience.purchases_min)
        or (audience.countries is not None and author.country not in audience.countries)
        or (audience.languages is not None and language not in audience.languages)
    )


def _too_frequent(case: Case) -> bool:
    most = case.limits.coupons_per_member_max
    return most is not None and case.recent_coupons >= most


def _sold_out(case: Case) -> bool:
    counter = case.counter
    return counter.coupons_max is not None and counter.coupons_loaded >= counter.coupons_max


def _budget_spent(case: Case) -> bool:
    counter = case.counter
    return (
        counter.budget_minor is not None
        and counter.reserved_minor + reserve(case.terms) > counter.budget_minor
    )


def _opted_out(case: Case) -> bool:
    return case.has_stopped or (case.author is not None and case.author.opted_out)


SUSPECTED_ABUSE = "suspected_abuse"
# The order is the rule: the first that applies is the outcome, and none is `loaded`.
RULES: tuple[tuple[str, Callable[[Case], bool]], ...] = (
    ("repost", lambda case: case.post.is_repost),
    (SUSPECTED_ABUSE, lambda case: bool(signals_of(case))),
    ("opted_out", _opted_out),
    ("too_many_offers", lambda case: case.rank >= case.limits.offers_per_post_max),
    ("not_started", lambda case: case.post.posted_at < case.terms.starts_at),
    ("ended", lambda case: case.post.posted_at >= case.terms.ends_at),
    ("paused", lambda case: case.terms.state == "paused"),
    ("outside_hours", lambda case: not within_hours(case.terms, case.post.posted_at)),
    ("not_linked", lambda case: case.author is None),
    ("card_inactive", lambda case: case.author is not None and not case.author.has_active_card),
    ("already_loaded", lambda case: case.holds_coupon),
    ("not_eligible", _not_eligible),
    ("too_frequent", _too_frequent),
    ("sold_out", _sold_out),
    ("budget_spent", _budget_spent),
)
LOADED = "loaded"
OUTCOMES = (*(outcome for outcome, _ in RULES), LOADED)


def outcome_of(case: Case) -> str:
    return next((outcome for outcome, applies in RULES if applies(case)), LOADED)


def reserve(terms: Terms) -> int:
    """What a coupon takes off the budget: the most that all its redemptions can cost."""
    return largest_reward(terms) * terms.redemptions_per_coupon


def decide(
    namings: Sequence[Naming], facts: Facts, *, limits: Limits, now: datetime
) -> list[Decision]:
    """Every (post, offer) pair of the batch that has no decision yet, in the order given. `facts`
    is kept up to date on the way.
    """
    decisions = []
    for post, offers in namings:
        for terms in offers:
            pair = (post.root_id, terms.offer_id)
            if pair in facts.decided:
                continue
            decisions.append(conclude(_case(post, terms, facts, limits), facts, now=now))
    return decisions


def conclude(case: Case, facts: Facts, *, now: datetime) -> Decision:
    """What becomes of one pair. `facts` know it from then on."""
    post, terms = case.post, case.terms
    outcome = outcome_of(case)
    coupon = _load(case, facts, now) if outcome == LOADED else None
    facts.decided.add((post.root_id, terms.offer_id))
    facts.offers_decided[post.root_id] = case.rank + 1
    return Decision(post, terms, outcome, case.author, coupon, _seen(case, outcome))


def _case(post: Post, terms: Terms, facts: Facts, limits: Limits) -> Case:
    author = facts.authors.get(post.author_id)
    member_id = None if author is None else author.member_id
    return Case(
        post=post,
        terms=terms,
        rank=facts.offers_decided.get(post.root_id, 0),
        author=author,
        has_stopped=post.author_id in facts.stopped,
        counter=facts.counters[terms.offer_id],
        holds_coupon=member_id is not None and (member_id, terms.offer_id) in facts.held,
        summary=None if member_id is None else facts.summaries.get((member_id, terms.partner_id)),
        recent_coupons=0 if member_id is None else facts.recent_coupons.get(member_id, 0),
        posts_lately=None
        if limits.author_posts_max is None
        else posts_lately(post, facts.written, window=limits.author_posts_window),
        accounts=None if member_id is None else facts.accounts.get(member_id),
        limits=limits,
    )


def _load(case: Case, facts: Facts, now: datetime) -> NewCoupon:
    author, terms, post, counter = case.author, case.terms, case.post, case.counter
    if author is None:
        raise ValueError("a coupon belongs to a member")
    reserved = reserve(terms)
    facts.counters[terms.offer_id] = counter._replace(
        coupons_loaded=counter.coupons_loaded + 1,
        reserved_minor=counter.reserved_minor + reserved,
    )
    facts.held.add((author.member_id, terms.offer_id))
    facts.recent_coupons[author.member_id] = case.recent_coupons + 1
    return NewCoupon(
        id=new_id(),
        offer_id=terms.offer_id,
        offer_version=terms.version,
        member_id=author.member_id,
        network=post.network,
        post_id=post.id,
        posted_at=post.posted_at,
        loaded_at=now,
        valid_until=valid_until(
            terms, post.posted_at, default_days=case.limits.default_coupon_valid_days
        ),
        reserved_minor=reserved,
        uses_max=terms.redemptions_per_coupon,
    )


def _seen(case: Case, outcome: str) -> dict[str, Any]:
    """The values that may have changed by the time somebody asks why."""
    counter = case.counter
    seen: dict[str, Any] = {
        "rank": case.rank,
        "state": case.terms.state,
        "starts_at": case.terms.starts_at,
        "ends_at": case.terms.ends_at,
        "coupons_loaded": counter.coupons_loaded,
        "coupons_max": counter.coupons_max,
        "reserved_minor": counter.reserved_minor,
        "budget_minor": counter.budget_minor,
        "author_age_days": case.author_age_days,
        "author_followers": case.post.author_followers,
        "author_default_picture": case.post.author_default_picture,
    }
    if case.posts_lately is not None:
        seen["author_posts"] = case.posts_lately
    if case.accounts is not None:
        seen["member_accounts"] = case.accounts
    if outcome == SUSPECTED_ABUSE:
        seen["signals"] = signals_of(case)
    if case.author is not None:
        seen["recent_coupons"] = case.recent_coupons
        if case.terms.audience != EVERYBODY:
            seen["customer"] = case.customer
            seen["country"] = case.author.country
            seen["locale"] = case.author.locale
    return seen
