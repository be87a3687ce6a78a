"""Offers, coupons, purchases and transfers as plain Python: what the service must come to.

Nothing here is fast, concurrent or stored. A figure that the service keeps is a sum here: what a
coupon has spent is what its purchases are owed, what an offer has reserved is what its coupons
have. A purchase is the list of its events. Read from `post` and `pay` downwards.
"""

from collections import defaultdict
from datetime import datetime, timedelta

from tests.money.things import (
    DAY,
    Adjustment,
    Answer,
    Coupon,
    Event,
    Line,
    Offer,
    Post,
    Purchase,
    Shop,
    Terms,
)

COUPONS_PER_MEMBER_MAX = 4  # in 30 days
OFFERS_PER_POST_MAX = 2


class Model:
    def __init__(self, members: dict[str, list[str]], shops: list[Shop]) -> None:
        self.cards = {card: member for member, cards in members.items() for card in cards}
        self.removed_cards: set[str] = set()
        self.members = set(members)
        self.silent: set[str] = set()  # said stop
        self.shops = {shop.name: shop for shop in shops}
        self.offers: dict[str, Offer] = {}
        self.coupons: dict[tuple[str, str], Coupon] = {}  # one for a member and an offer
        self.posts: dict[str, Post] = {}
        self.decided: dict[str, dict[str, str]] = defaultdict(dict)  # root, offer, outcome
        self.not_linked: dict[tuple[str, str], tuple[Post, int]] = {}  # with the rank
        self.linked: dict[str, datetime] = {}  # whose earlier posts are to be decided again
        self.purchases: dict[str, Purchase] = {}
        self.counted: dict[tuple[str, str], list[datetime]] = defaultdict(list)
        self.answered: dict[str, tuple[tuple[object, ...], Answer]] = {}
        self.unmatched = 0
        self.adjustments: dict[str, Adjustment] = {}
        self.batches: list[list[Line]] = []

    # what the operator does; a refusal changes nothing

    def publish(self, offer: Offer) -> None:
        self.offers[offer.name] = offer

    def revise(self, offer: Offer, terms: Terms, now: datetime) -> bool:
        """Coupons keep the terms that they were loaded under."""
        too_dear = offer.budget is not None and terms.largest * terms.uses > offer.budget
        if offer.is_over(now) or too_dear:
            return False
        offer.terms = terms
        return True

    def grow(self, offer: Offer, now: datetime) -> bool:
        """By one coupon."""
        if offer.is_over(now):
            return False
        if offer.coupons_max is not None:
            offer.coupons_max += 1
        if offer.budget is not None:
            offer.budget += offer.terms.largest * offer.terms.uses
        return True

    def pause(self, offer: Offer, now: datetime) -> bool:
        if offer.is_over(now):
            return False
        offer.paused = offer.paused or now
        return True

    def resume(self, offer: Offer, now: datetime) -> bool:
        if offer.is_over(now):
            return False
        offer.paused = None
        return True

    def end(self, offer: Offer, now: datetime) -> None:
        """Now, or when it was paused; one that has not begun is called off."""
        if offer.is_over(now):
            return
        since = offer.paused or now
        offer.called_off = offer.starts >= since
        offer.ends = max(min(since, offer.ends), offer.starts + timedelta(microseconds=1))
        offer.paused, offer.was_ended = None, True

    # from a post to a coupon

    def post(self, posts: list[Post], now: datetime) -> dict[str, tuple[str, ...]]:
        """First come, first served, by the time of the post."""
        return {
            post.id: self._post(post, now)
            for post in sorted(posts, key=lambda post: (post.at, post.id))
        }

    def _post(self, post: Post, now: datetime) -> tuple[str, ...]:
        if post.id in self.posts:
            return ("duplicate",)
        named = [offer for name in post.offers if (offer := self._named(name, post.at))]
        if not named:
            return ("no_offer",)
        self.posts[post.id] = post
        decided = self.decided[post.root]
        outcomes = []
        for offer in named:
            if offer.name not in decided:
                outcome = self._decide(post, offer, rank=len(decided), now=now)
                if outcome == "not_linked":
                    self.not_linked[post.root, offer.name] = post, len(decided)
                decided[offer.name] = outcome
                outcomes.append(outcome)
        return tuple(outcomes) or ("duplicate",)

    def link(self, member: str, card: str, now: datetime) -> None:
        self.members.add(member)
        self.cards[card] = member
        self.linked[member] = now

    def look_back(self, now: datetime) -> None:
        """What those who have linked posted in the seven days before is decided again, but for what
        could no longer be used.
        """
        again = [
            (post, rank, name)
            for (_, name), (post, rank) in self.not_linked.items()
            if post.author in self.linked and post.at >= self.linked[post.author] - 7 * DAY
        ]
        for post, rank, name in sorted(again, key=lambda one: (one[0].at, one[1])):
            offer = self.offers[name]
            if now < offer.terms.valid_until(post.at):
                outcome = self._decide(post, offer, rank=rank, now=now)
                self.decided[post.root][name] = outcome
            del self.not_linked[post.root, name]
        self.linked.clear()

    def _named(self, name: str, at: datetime) -> Offer | None:
        offer = self.offers[name]
        if offer.called_off or at > offer.ends + 30 * DAY:
            return None
        return offer

    def _decide(self, post: Post, offer: Offer, *, rank: int, now: datetime) -> str:
        member, terms = post.author, offer.terms
        mine = [coupon for coupon in self.coupons.values() if coupon.member == member]
        recent = [coupon for coupon in mine if coupon.loaded > now - 30 * DAY]
        reserve = terms.largest * terms.uses
        cards = [c for c, owner in self.cards.items() if owner == member]
        of_offer = [coupon for coupon in self.coupons.values() if coupon.offer is offer]
        rules = {
            "repost": post.is_repost,
            "opted_out": member in self.silent,
            "too_many_offers": rank >= OFFERS_PER_POST_MAX,
            "not_started": post.at < offer.starts,
            "ended": post.at >= offer.ends,
            "paused": offer.paused is not None,
            "not_linked": member not in self.members,
            "card_inactive": self.removed_cards.issuperset(cards),
            "already_loaded": (member, offer.name) in self.coupons,
            "not_eligible": terms.customers not in (None, self._customer(member, offer, post.at)),
            "too_frequent": len(recent) >= COUPONS_PER_MEMBER_MAX,
            "sold_out": offer.coupons_max is not None and len(of_offer) >= offer.coupons_max,
            "budget_spent": offer.budget is not None
            and sum(coupon.reserved for coupon in of_offer) + reserve > offer.budget,
        }
        outcome = next((name for name, applies in rules.items() if applies), "loaded")
        if outcome == "loaded":
            self.coupons[member, offer.name] = Coupon(offer, terms, member, post.at, now, reserve)
        return outcome

    def _customer(self, member: str, offer: Offer, at: datetime) -> str:
        bought = self.counted[member, offer.partner]
        if not bought:
            return "new"
        return "lapsed" if at - max(bought) > 180 * DAY else "returning"

    # from a payment to what is owed

    def pay(self, id_: str, ref: str | None, event: Event, currency: str, now: datetime) -> Answer:
        asked = (ref, event, currency)
        if id_ in self.answered:
            known, answer = self.answered[id_]
            return answer if known == asked else Answer("rejected", reason="id_reused")
        purchase = self._purchase(ref, event, currency)
        if isinstance(purchase, Answer):
            answer = purchase
        elif (purchase.member, purchase.partner, purchase.currency) != (
            self.cards[event.card],
            event.shop.partner,
            currency,
        ):
            return Answer("rejected", reason="purchase_mismatch")
        else:
            self.purchases.setdefault(purchase.ref, purchase)
            self._happen(purchase, event, now)
            answer = Answer("applied", purchase.state, purchase.reason, purchase.owed)
        if answer.status != "ignored":
            self.answered[id_] = (asked, answer)
        return answer

    def _purchase(self, ref: str | None, event: Event, currency: str) -> Purchase | Answer:
        if event.card not in self.cards:
            return Answer("ignored", reason="not_linked")
        found = self.purchases.get(ref) if ref else self._refunded(event, currency)
        if found is None and event.card in self.removed_cards:
            return Answer("ignored", reason="not_linked")
        if found is None and ref is None:
            self.unmatched += 1
            return Answer("unmatched")
        return found or Purchase(ref or "", self.cards[event.card], event.shop.partner, currency)

    def _refunded(self, event: Event, currency: str) -> Purchase | None:
        """The newest purchase of the card at the partner of which enough is left."""
        possible = [
            purchase
            for purchase in self.purchases.values()
            if (purchase.made.card, purchase.partner) == (event.card, event.shop.partner)
            and purchase.currency == currency
            and event.at - 180 * DAY <= purchase.made.at <= event.at
            and purchase.net >= max(1, event.amount)
        ]
        return max(possible, key=lambda purchase: purchase.made.at, default=None)

    def _happen(self, purchase: Purchase, event: Event, now: datetime) -> None:
        was_cleared = purchase.cleared > 0
        made = purchase.made if purchase.events else event
        lapses = purchase.lapses
        purchase.events.append(event)
        if event.kind == "clearing" or purchase.lapses != lapses:
            purchase.lapsed = False
        place = (purchase.made.at, purchase.made.shop)
        refuted = place != (made.at, made.shop) and (
            purchase.coupon is None or self._misfit(purchase, purchase.coupon) not in _MENDABLE
        )
        if refuted or not (was_cleared or purchase.lapsed):
            purchase.coupon = self._best(purchase) or purchase.coupon
        if not was_cleared and purchase.cleared:
            self.counted[purchase.member, purchase.partner].append(purchase.made.at)
        self._settle(purchase, now)

    def _best(self, purchase: Purchase) -> Coupon | None:
        """Of those that are valid and not used up: the nearest to fitting, then the highest reward,
        then the first to expire, then the oldest.
        """
        spend = purchase.net if purchase.cleared else purchase.total("authorization")
        possible = [
            coupon
            for coupon in self.coupons.values()
            if coupon.member == purchase.member
            and coupon.offer.partner == purchase.partner
            and self._is_valid(purchase, coupon)
            and self._has_free_use(purchase, coupon)
        ]
        return max(
            possible,
            key=lambda coupon: (
                _ORDER.index(self._misfit(purchase, coupon)),
                coupon.terms.expected(spend),
                -coupon.valid_until.timestamp(),
                -coupon.posted.timestamp(),
            ),
            default=None,
        )

    def _is_valid(self, purchase: Purchase, coupon: Coupon) -> bool:
        return coupon.posted <= purchase.made.at < coupon.valid_until

    def _has_free_use(self, purchase: Purchase, coupon: Coupon) -> bool:
        others = [p for p in self._of(coupon) if p is not purchase and p.holds_use]
        return len(others) < coupon.terms.uses

    def _of(self, coupon: Coupon) -> list[Purchase]:
        return [purchase for purchase in self.purchases.values() if purchase.coupon is coupon]

    def _misfit(self, purchase: Purchase, coupon: Coupon) -> str | None:
        terms, made = coupon.terms, purchase.made
        has_earned = purchase.coupon is coupon and purchase.state in ("earned", "returned")
        if not self._is_valid(purchase, coupon) or (coupon.closed and not has_earned):
            return "late"
        if terms.currency != purchase.currency:
            return "currency"
        if terms.shops is not None and made.shop.name not in terms.shops:
            return "acceptor"
        if terms.channel not in ("any", made.shop.channel):
            return "channel"
        if purchase.cleared and purchase.net < terms.min_spend:
            return "below_minimum"
        return None

    def _settle(self, purchase: Purchase, now: datetime) -> None:
        coupon = purchase.coupon
        if coupon is None:
            return
        state, reason, owed, holds = self._outcome(purchase, coupon)
        purchase.state, purchase.reason, purchase.owed, purchase.holds_use = (
            state,
            reason,
            owed,
            holds,
        )
        purchase.touched = now

    def _outcome(self, purchase: Purchase, coupon: Coupon) -> tuple[str, str | None, int, bool]:
        misfit, free = self._misfit(purchase, coupon), self._has_free_use(purchase, coupon)
        if misfit not in _MENDABLE:
            return "rejected", misfit, 0, False
        if not purchase.cleared:
            reason = _why_dead(purchase) or (None if free else "used_up")
            return ("rejected", reason, 0, False) if reason else ("pending", None, 0, True)
        terms = coupon.terms
        earned = terms.reward(purchase.net)
        if earned and not free:
            return "rejected", "used_up", 0, False
        spent = sum(p.owed for p in self._of(coupon) if p is not purchase)
        owed = min(earned, purchase.owed if coupon.closed else coupon.reserved - spent)
        if owed:
            return "earned", None, owed, True
        if purchase.net < purchase.cleared and terms.reward(purchase.cleared):
            return "returned", None, 0, terms.burns and free
        late = "late" if coupon.closed else "used_up"
        return "rejected", late if earned else "below_minimum", 0, False

    # what time does

    def lapse(self, now: datetime) -> int:
        due = [
            purchase
            for purchase in self.purchases.values()
            if not purchase.cleared
            and not purchase.lapsed
            and purchase.lapses is not None
            and purchase.lapses <= now
        ]
        for purchase in due:
            purchase.lapsed = True
            self._settle(purchase, now)
        return len(due)

    def close(self, now: datetime) -> int:
        """Used up or expired for 30 days, and no purchase open."""
        settled = now - 30 * DAY
        closing = [coupon for coupon in self.coupons.values() if self._is_closable(coupon, settled)]
        for coupon in closing:
            coupon.closed, coupon.reserved = True, self.spent(coupon)
        return len(closing)

    def _is_closable(self, coupon: Coupon, settled: datetime) -> bool:
        mine = self._of(coupon)
        if coupon.closed or any(purchase.state == "pending" for purchase in mine):
            return False
        if coupon.valid_until <= settled:
            return True
        newest = max((p.touched for p in mine if p.touched is not None), default=settled)
        is_used_up = coupon.terms.burns and self.used(coupon) >= coupon.terms.uses
        return is_used_up and newest <= settled

    # what is paid out

    def adjust(self, adjustment: Adjustment) -> None:
        """Money outside the rules; asked for again it is the first one."""
        self.adjustments.setdefault(adjustment.ref, adjustment)

    def make_batch(self) -> int:
        """How many lines: none makes no batch."""
        lines = [
            Line(cause, cause.owed - cause.credited)
            for cause in (*self.purchases.values(), *self.adjustments.values())
            if cause.owed != cause.credited
        ]
        for line in lines:
            line.cause.credited += line.amount
        if lines:
            self.batches.append(lines)
        return len(lines)

    def acknowledge(self, number: int, failed: set[str]) -> None:
        """`failed` are refs of purchases and adjustments."""
        for line in self.batches[number]:
            line.state = "failed" if line.cause.ref in failed else "acknowledged"
            if line.state == "failed":
                line.cause.credited -= line.amount

    # what it adds up to

    def spent(self, coupon: Coupon) -> int:
        return sum(purchase.owed for purchase in self._of(coupon))

    def used(self, coupon: Coupon) -> int:
        return sum(purchase.holds_use for purchase in self._of(coupon))

    def rewarded(self, currency: str) -> int:
        return sum(p.owed for p in self.purchases.values() if p.currency == currency)

    def adjusted(self, currency: str, funded_by: str) -> int:
        return sum(
            one.owed
            for one in self.adjustments.values()
            if (one.currency, one.funded_by) == (currency, funded_by)
        )

    def paid(self, currency: str) -> int:
        return sum(
            line.amount
            for batch in self.batches
            for line in batch
            if line.state == "acknowledged" and line.cause.currency == currency
        )


def _why_dead(purchase: Purchase) -> str | None:
    """Of one that has not cleared."""
    authorised, declined = purchase.newest("authorization"), purchase.newest("decline")
    is_declined = declined is not None and (authorised is None or declined >= authorised)
    if is_declined or purchase.total("reversal") >= purchase.total("authorization"):
        return "reversed"
    return "lapsed" if purchase.lapsed else None


# Of coupons that do not fit, the one that fails the latest is the nearest miss; only an amount can
# still change.
_ORDER = ["late", "currency", "acceptor", "channel", "below_minimum", None]
_MENDABLE = ("below_minimum", None)
