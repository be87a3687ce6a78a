"""What posts and purchases would have come to under an offer's terms: the rules of the live path,
`posts/decisions.py` and `redemptions/books.py`, tried once more on what is kept. No I/O.
"""

from bisect import bisect_left
from collections import Counter as Count
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from app.insight.dry_run_queries import KeptPost, KeptTransaction
from app.members.service import Author, Summary
from app.networks.post import Post
from app.offers.queries import Counter, NewCoupon
from app.offers.terms import Terms
from app.partners.service import ConfirmedPlace
from app.posts.decisions import OUTCOMES, Case, Facts, Limits, conclude
from app.redemptions.books import Books, Holder, new_purchase
from app.redemptions.domain import Coupon, Purchase, examine, net
from app.redemptions.transactions import Transaction

ALREADY_REWARDED = "already_rewarded"
OUTSIDE_VALIDITY = "outside_validity"  # before the post, or after the coupon's last day
USED_UP = "used_up"
EARNED = "earned"


@dataclass(slots=True)
class Decided:
    """`outcomes`: of each, the author of every post that came to it. The times are of the first
    post that would have been turned away.
    """

    outcomes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    coupons: list[NewCoupon] = field(default_factory=list)
    sold_out_at: datetime | None = None
    budget_spent_at: datetime | None = None


@dataclass(slots=True)
class Bought:
    """What the holders of the coupons bought. Lists have the member of every purchase."""

    purchases: list[UUID] = field(default_factory=list)
    redemptions: list[UUID] = field(default_factory=list)
    not_rewarded: dict[str, list[UUID]] = field(default_factory=lambda: defaultdict(list))
    sales_minor: Count[UUID] = field(default_factory=Count)
    reward_minor: int = 0


class History:
    """What was known, at any time in the window, of what a member had bought at the partner: a
    purchase is known from its first clearing on. `before` is of those made before the window.
    """

    def __init__(
        self, before: Mapping[UUID, Summary], transactions: Iterable[KeptTransaction]
    ) -> None:
        cleared: dict[str, KeptTransaction] = {}
        for one in transactions:
            if one.type == "clearing":
                cleared.setdefault(one.purchase_ref, one)
        self._known: dict[UUID, list[tuple[datetime, Summary]]] = defaultdict(list)
        for member_id, summary in before.items():
            self._known[member_id].append((summary.last_at, summary))
        for one in cleared.values():
            self._add(one)

    def _add(self, one: KeptTransaction) -> None:
        known, at = self._known[one.member_id], one.purchased_at
        summary = Summary(1, at, at)
        if known:
            last = known[-1][1]
            summary = Summary(last.purchases + 1, min(last.first_at, at), max(last.last_at, at))
        known.append((one.received_at, summary))

    def at(self, member_id: UUID, at: datetime) -> Summary | None:
        known = self._known.get(member_id, [])
        number = bisect_left(known, at, key=lambda one: one[0])
        return known[number - 1][1] if number else None


def decide_posts(
    kept: Sequence[KeptPost],
    *,
    terms: Terms,
    counter: Counter,
    history: History,
    limits: Limits,
    now: datetime,
) -> Decided:
    """In the order in which they were decided, each post once, whatever it named."""
    facts = Facts(
        authors={},
        stopped=set(),
        counters={terms.offer_id: counter},
        held=set(),
        summaries={},
        recent_coupons={},
        written={},
        accounts={},
        decided=set(),
        offers_decided={},
    )
    found = Decided()
    seen: set[tuple[str, str]] = set()
    for one in sorted(kept, key=_in_order):
        if (one.network, one.root_id) in seen:
            continue
        seen.add((one.network, one.root_id))
        decision = conclude(_case(one, terms, facts, history, limits), facts, now=now)
        found.outcomes[decision.outcome].append(one.author_id)
        if decision.coupon is not None:
            found.coupons.append(decision.coupon)
        if decision.outcome == "sold_out":
            found.sold_out_at = found.sold_out_at or one.posted_at
        if decision.outcome == "budget_spent":
            found.budget_spent_at = found.budget_spent_at or one.posted_at
    return found


def _in_order(one: KeptPost) -> tuple[datetime, datetime, str, int]:
    return one.decided_at, one.posted_at, one.post_id, one.seen_rank or 0


def _case(one: KeptPost, terms: Terms, facts: Facts, history: History, limits: Limits) -> Case:
    """What was seen then, where it was kept; the member as he is now, but for what the outcome
    tells of him: it is the first rule that applied, so those before it did not.
    """
    has_stopped = _as_told(one, "opted_out", now=one.has_stopped)
    author = None
    if one.member_id is not None:
        author = Author(
            member_id=one.member_id,
            locale=one.locale,
            country=one.country,
            opted_out=has_stopped,
            has_active_card=not _as_told(one, "card_inactive", now=not one.has_active_card),
        )
    member_id = one.member_id
    return Case(
        post=_post(one),
        terms=terms,
        rank=one.seen_rank or 0,
        author=author,
        has_stopped=has_stopped,
        counter=facts.counters[terms.offer_id],
        holds_coupon=(member_id, terms.offer_id) in facts.held,
        summary=None if member_id is None else history.at(member_id, one.decided_at),
        recent_coupons=one.seen_recent_coupons or 0,
        posts_lately=one.seen_posts,
        accounts=one.seen_accounts,
        limits=limits,
    )


def _as_told(one: KeptPost, rule: str, *, now: bool) -> bool:
    """Whether a rule applied: as the outcome tells; else, where it was not reached, as things are
    now.
    """
    place, of_rule = OUTCOMES.index(one.outcome), OUTCOMES.index(rule)
    return now if place < of_rule else place == of_rule


def _post(one: KeptPost) -> Post:
    age_days = one.seen_age_days
    return Post(
        network=one.network,
        id=one.post_id,
        root_id=one.root_id,
        author_id=one.author_id,
        posted_at=one.posted_at,
        tags=(),
        mentions_programme=False,
        is_repost=one.outcome == "repost",
        author_created_at=None if age_days is None else one.posted_at - timedelta(days=age_days),
        author_followers=one.seen_followers,
        author_default_picture=one.seen_default_picture,
    )


def buy(
    kept: Sequence[KeptTransaction], *, terms: Terms, coupons: Iterable[NewCoupon], now: datetime
) -> Bought:
    """The purchases of who would have held a coupon, from their first message to the last."""
    books = Books(now, seen={}, holders={}, places={})
    for coupon in coupons:
        pair = (coupon.member_id, terms.partner_id)
        books.coupons[pair] = {coupon.id: _unused(coupon, terms)}
    found = Bought()
    taken: dict[str, UUID] = {}
    own: list[KeptTransaction] = []
    for one in kept:
        if (one.member_id, terms.partner_id) not in books.coupons:
            continue
        if one.is_taken:
            taken[one.purchase_ref] = one.member_id
        else:
            own.append(one)
    found.purchases.extend(taken.values())
    found.not_rewarded[ALREADY_REWARDED].extend(taken.values())
    _replay(books, own, terms.partner_id)
    _sum_up(books, found)
    return found


def _unused(coupon: NewCoupon, terms: Terms) -> Coupon:
    return Coupon(
        id=coupon.id,
        terms=terms,
        posted_at=coupon.posted_at,
        valid_until=coupon.valid_until,
        reserved_minor=coupon.reserved_minor,
        spent_minor=0,
        uses=0,
        uses_max=coupon.uses_max,
        is_closed=False,
    )


def _replay(books: Books, kept: Sequence[KeptTransaction], partner_id: UUID) -> None:
    """Each message as it was received, and between them what lapsed as nobody had cleared it."""
    new: dict[str, Purchase] = {}
    lapses: dict[str, datetime] = {}
    for one in kept:
        books.holders[one.card_ref] = holder = Holder(one.member_id, is_former=False)
        place = ConfirmedPlace(one.acceptor_id, partner_id, one.channel, one.mcc, one.country)
        books.places[one.acquirer_id, one.acceptor_ref] = place
        if one.purchase_ref not in new:
            new[one.purchase_ref] = new_purchase(_transaction(one), holder, place)
        if one.type == "authorization" and one.lapses_at is not None:
            lapses[one.purchase_ref] = max(one.lapses_at, one.received_at)
    books.add_purchases(new.values())
    due = deque(sorted((at, ref) for ref, at in lapses.items() if at <= books.now))
    for one in kept:
        while due and due[0][0] < one.received_at:
            books.lapse(books.purchases[due.popleft()[1]])
        books.take(_transaction(one))
    for _, ref in due:
        books.lapse(books.purchases[ref])


def _transaction(one: KeptTransaction) -> Transaction:
    return Transaction(
        id=one.id,
        type=one.type,
        purchase_id=one.purchase_ref,
        card_ref=one.card_ref,
        acquirer_id=one.acquirer_id,
        acceptor_id=one.acceptor_ref,
        amount_minor=one.amount_minor,
        currency=one.currency,
        occurred_at=one.occurred_at,
    )


def _sum_up(books: Books, found: Bought) -> None:
    for purchase in books.purchases.values():
        member_id = purchase.member_id
        found.purchases.append(member_id)
        known = books.redemptions.get(purchase.id)
        if known is None:
            (coupon,) = books.coupons[member_id, purchase.partner_id].values()
            was_valid = dict(examine(coupon, purchase, None))["valid_then"]
            found.not_rewarded[USED_UP if was_valid else OUTSIDE_VALIDITY].append(member_id)
            continue
        redemption = known.redemption
        if redemption.state == EARNED:
            found.redemptions.append(member_id)
            found.sales_minor[member_id] += net(purchase.sums)
            found.reward_minor += redemption.owed_minor
        else:
            found.not_rewarded[redemption.reason or redemption.state].append(member_id)
