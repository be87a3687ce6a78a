"""What a purchase earns: pure rules over plain values, no clock, no database.

A purchase is its sums, and what it earns is a rule over them, so the order in which its events
arrive does not matter. Only the choice between several coupons is taken once and kept.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, assert_never
from uuid import UUID

from app.offers.terms import CustomerKind, Terms, reward

TransactionType = Literal[
    "authorization", "clearing", "reversal", "refund", "chargeback", "decline"
]
State = Literal["pending", "earned", "returned", "rejected"]
Misfit = Literal["late", "currency", "acceptor", "channel", "below_minimum"]
Reason = Literal[Misfit, "used_up", "reversed", "lapsed"]

UNLINKED_REFUND_DAYS = 180
SETTLEMENT_DAYS = 30  # between the end of a coupon and its closing

AUTHORISATION_DAYS = 7
# A hotel or a car rental settles when the guest has left. ISO 18245: 3351 to 3441 are rental
# companies, 3501 to 3999 hotels by name; 7011 is lodging, 7512 and 7513 are cars and trucks.
LONG_AUTHORISATION_DAYS = 30
_LONG_AUTHORISATION_MCCS = frozenset({*range(3351, 3442), *range(3501, 4000), 7011, 7512, 7513})


class Sums(NamedTuple):
    """Everything that has happened to a purchase, in minor units of its currency. `authorised_at`
    and `declined_at` are of the newest of their kind; `lapsed`: `lapses_at` has passed without a
    clearing.
    """

    authorised_minor: int = 0
    reversed_minor: int = 0
    cleared_minor: int = 0
    refunded_minor: int = 0  # by the shop, or by the issuer in a chargeback
    authorised_at: datetime | None = None
    declined_at: datetime | None = None
    lapses_at: datetime | None = None
    lapsed: bool = False


class Event(NamedTuple):
    type: TransactionType
    amount_minor: int
    occurred_at: datetime
    card_ref: str
    acceptor_id: UUID
    channel: str
    mcc: str


class Purchase(NamedTuple):
    """Its time, card and place are those of its earliest event: the authorisation, in practice."""

    id: UUID
    ref: str
    member_id: UUID
    partner_id: UUID
    currency: str
    occurred_at: datetime
    card_ref: str
    acceptor_id: UUID
    channel: str
    customer_kind: CustomerKind
    sums: Sums = Sums()


class Coupon(NamedTuple):
    id: UUID
    terms: Terms
    posted_at: datetime
    valid_until: datetime
    reserved_minor: int
    spent_minor: int
    uses: int
    uses_max: int
    is_closed: bool


class Redemption(NamedTuple):
    """`decided`: the coupon stays, whatever comes. `holds_use`: one of its uses is taken."""

    coupon_id: UUID
    state: State
    reason: Reason | None
    decided: bool
    holds_use: bool
    owed_minor: int


class _Candidate(NamedTuple):
    """A coupon as this purchase finds it: as if it had taken nothing of it yet."""

    coupon: Coupon
    is_valid: bool  # at the purchase's time
    is_late: bool  # closed, and this purchase had earned nothing by then
    has_free_use: bool
    limit_minor: int

    @property
    def terms(self) -> Terms:
        return self.coupon.terms


class _Outcome(NamedTuple):
    state: State
    reason: Reason | None = None
    owed_minor: int = 0
    holds_use: bool = False


# Tested in this order; of the coupons that do not fit, the one that fails the latest is the nearest
# miss. No amount can mend a failure of any but the last.
CHECKS: Mapping[Misfit, Callable[[_Candidate, Purchase], bool]] = {
    "late": lambda coupon, _: coupon.is_valid and not coupon.is_late,
    "currency": lambda coupon, purchase: coupon.terms.currency == purchase.currency,
    "acceptor": lambda coupon, purchase: (
        coupon.terms.acceptor_ids is None or purchase.acceptor_id in coupon.terms.acceptor_ids
    ),
    "channel": lambda coupon, purchase: coupon.terms.channel in ("any", purchase.channel),
    # a fuel pump authorises one unit: the minimum is for what has cleared
    "below_minimum": lambda coupon, purchase: (
        purchase.sums.cleared_minor == 0 or net(purchase.sums) >= coupon.terms.min_spend_minor
    ),
}
_ORDER = tuple(CHECKS)


def add(sums: Sums, event: Event) -> Sums:
    amount_minor = event.amount_minor
    match event.type:
        case "authorization":
            return _authorise(sums, event)
        case "reversal":
            return sums._replace(reversed_minor=sums.reversed_minor + amount_minor)
        case "clearing":
            cleared_minor = sums.cleared_minor + amount_minor
            # in the end it was cleared after all
            return sums._replace(cleared_minor=cleared_minor, lapsed=False)
        case "refund" | "chargeback":
            return sums._replace(refunded_minor=sums.refunded_minor + amount_minor)
        case "decline":
            return sums._replace(declined_at=_later(sums.declined_at, event.occurred_at))
        case _:
            assert_never(event.type)


def _authorise(sums: Sums, event: Event) -> Sums:
    lapses_at = _later(
        sums.lapses_at, event.occurred_at + timedelta(days=authorisation_days(event.mcc))
    )
    return sums._replace(
        authorised_minor=sums.authorised_minor + event.amount_minor,
        authorised_at=_later(sums.authorised_at, event.occurred_at),
        lapses_at=lapses_at,
        # asked for again, it is open again
        lapsed=sums.lapsed and lapses_at == sums.lapses_at,
    )


def _later(known: datetime | None, other: datetime) -> datetime:
    return other if known is None else max(known, other)


def authorisation_days(mcc: str) -> int:
    """How long an acceptor of this merchant category may take to clear what was authorised."""
    is_long = int(mcc) in _LONG_AUTHORISATION_MCCS
    return LONG_AUTHORISATION_DAYS if is_long else AUTHORISATION_DAYS


def lapse(purchase: Purchase, *, now: datetime) -> Purchase:
    """As it is when nobody has cleared it in time. A clearing that comes nevertheless counts."""
    sums = purchase.sums
    if sums.cleared_minor or sums.lapses_at is None or now < sums.lapses_at:
        return purchase
    return purchase._replace(sums=sums._replace(lapsed=True))


def net(sums: Sums) -> int:
    """What was bought and kept. A reversal first cancels what was authorised and has not cleared;
    only the excess comes off what has.
    """
    not_cleared = max(0, sums.authorised_minor - sums.cleared_minor)
    taken_back = max(0, sums.reversed_minor - not_cleared)
    return max(0, sums.cleared_minor - sums.refunded_minor - taken_back)


def happen(purchase: Purchase, event: Event) -> Purchase:
    """The purchase after the event."""
    earliest = min(
        (purchase.occurred_at, purchase.acceptor_id, purchase.card_ref, purchase.channel),
        (event.occurred_at, event.acceptor_id, event.card_ref, event.channel),
    )
    return purchase._replace(
        sums=add(purchase.sums, event),
        occurred_at=earliest[0],
        acceptor_id=earliest[1],
        card_ref=earliest[2],
        channel=earliest[3],
    )


def decide(
    *,
    before: Purchase,
    after: Purchase,
    redemption: Redemption | None,
    coupons: Collection[Coupon],
) -> Redemption | None:
    """The purchase's redemption once an event has turned `before` into `after`. `coupons` are all
    that the member has of the partner's offers, with what this purchase has taken of them so far.

    The first clearing decides between coupons, and what has lapsed asks for none. It is decided
    again only when an event that came late shows that the purchase was made earlier, or elsewhere,
    than was known.
    """
    candidates = [_candidate(coupon, after, redemption) for coupon in coupons]
    held = next(
        (one for one in candidates if redemption and one.coupon.id == redemption.coupon_id), None
    )
    has_moved = (before.occurred_at, before.acceptor_id) != (after.occurred_at, after.acceptor_id)
    is_refuted = has_moved and (held is None or _misplaced(held, after) is not None)
    chosen = held
    is_open = before.sums.cleared_minor == 0 and not after.sums.lapsed
    if is_open or is_refuted:
        chosen = _choose(candidates, after) or held
    return None if chosen is None else _settle(chosen, after)


def _candidate(coupon: Coupon, purchase: Purchase, redemption: Redemption | None) -> _Candidate:
    own = redemption if redemption is not None and redemption.coupon_id == coupon.id else None
    own_uses = 1 if own is not None and own.holds_use else 0
    own_minor = 0 if own is None else own.owed_minor
    left_minor = coupon.reserved_minor - coupon.spent_minor + own_minor
    return _Candidate(
        coupon,
        is_valid=coupon.posted_at <= purchase.occurred_at < coupon.valid_until,
        is_late=coupon.is_closed and (own is None or own.state not in ("earned", "returned")),
        has_free_use=coupon.uses - own_uses < coupon.uses_max,
        # what closing gave back to the offer is gone: from then on a reward can only fall
        limit_minor=own_minor if coupon.is_closed else left_minor,
    )


def _choose(candidates: Iterable[_Candidate], purchase: Purchase) -> _Candidate | None:
    """The best that fits, else the nearest miss: the highest reward, then the first to expire, then
    the oldest, of one post the first it names. Nothing when no coupon was valid with a use to give.
    """
    sums = purchase.sums
    spend_minor = net(sums) if sums.cleared_minor else sums.authorised_minor

    def preference(candidate: _Candidate) -> tuple[int, int, datetime, datetime, UUID]:
        coupon = candidate.coupon
        misfit = _misfit(candidate, purchase)
        passed = len(_ORDER) if misfit is None else _ORDER.index(misfit)
        # a purchase below the minimum has failed its check already, and else the minimum is met
        # or, before any clearing, not to be asked for: a fuel pump authorises one unit
        expected_minor = reward(coupon.terms._replace(min_spend_minor=0), spend_minor)
        return (-passed, -expected_minor, coupon.valid_until, coupon.posted_at, coupon.id)

    open_to_it = (one for one in candidates if one.is_valid and one.has_free_use)
    return min(open_to_it, key=preference, default=None)


def _misplaced(candidate: _Candidate, purchase: Purchase) -> Misfit | None:
    """What no amount can mend."""
    misfit = _misfit(candidate, purchase)
    return None if misfit == "below_minimum" else misfit


def _misfit(candidate: _Candidate, purchase: Purchase) -> Misfit | None:
    return next((name for name, holds in CHECKS.items() if not holds(candidate, purchase)), None)


def examine(
    coupon: Coupon, purchase: Purchase, redemption: Redemption | None
) -> list[tuple[str, bool]]:
    """Each rule for this coupon and purchase, in the order they are tried, and whether it holds:
    what somebody is told who asks why.
    """
    candidate = _candidate(coupon, purchase, redemption)
    return [
        ("valid_then", candidate.is_valid),
        ("free_use", candidate.has_free_use),
        *((name, holds(candidate, purchase)) for name, holds in CHECKS.items()),
    ]


def _settle(chosen: _Candidate, purchase: Purchase) -> Redemption:
    sums = purchase.sums
    misplaced = _misplaced(chosen, purchase)
    if misplaced is not None:
        outcome = _Outcome("rejected", misplaced)
    elif sums.cleared_minor == 0:
        outcome = _before_clearing(chosen, sums)
    else:
        outcome = _after_clearing(chosen, sums)
    return Redemption(
        coupon_id=chosen.coupon.id,
        state=outcome.state,
        reason=outcome.reason,
        decided=sums.cleared_minor > 0,
        holds_use=outcome.holds_use,
        owed_minor=outcome.owed_minor,
    )


def _before_clearing(chosen: _Candidate, sums: Sums) -> _Outcome:
    # A decline that came first was only a try that failed. In the same second it came after: feeds
    # tell whole seconds, and nobody tries again so fast.
    was_declined = sums.declined_at is not None and (
        sums.authorised_at is None or sums.declined_at >= sums.authorised_at
    )
    # nothing authorised, as when a card is checked or a refund comes first, takes no use either
    if was_declined or sums.reversed_minor >= sums.authorised_minor:
        return _Outcome("rejected", "reversed")
    if sums.lapsed:
        return _Outcome("rejected", "lapsed")
    if not chosen.has_free_use:
        return _Outcome("rejected", "used_up")
    return _Outcome("pending", holds_use=True)


def _after_clearing(chosen: _Candidate, sums: Sums) -> _Outcome:
    terms = chosen.coupon.terms
    earned_minor = reward(terms, net(sums))
    if earned_minor > 0 and not chosen.has_free_use:
        return _Outcome("rejected", "used_up")
    owed_minor = min(earned_minor, chosen.limit_minor)
    if owed_minor > 0:
        return _Outcome("earned", owed_minor=owed_minor, holds_use=True)
    if net(sums) < sums.cleared_minor and reward(terms, sums.cleared_minor) > 0:
        burns = terms.refund_policy == "burn"
        return _Outcome("returned", holds_use=burns and chosen.has_free_use)
    if earned_minor == 0:
        return _Outcome("rejected", "below_minimum")
    return _Outcome("rejected", "late" if chosen.coupon.is_closed else "used_up")


def account(
    coupons: Mapping[UUID, Coupon], *, before: Redemption | None, after: Redemption | None
) -> dict[UUID, Coupon]:
    """The coupons that change when one redemption of a purchase takes another's place."""
    changed: dict[UUID, Coupon] = {}
    for redemption, sign in ((before, -1), (after, 1)):
        if redemption is None:
            continue
        coupon = changed.get(redemption.coupon_id) or coupons[redemption.coupon_id]
        changed[coupon.id] = coupon._replace(
            spent_minor=coupon.spent_minor + sign * redemption.owed_minor,
            uses=coupon.uses + sign * redemption.holds_use,
        )
    return {key: coupon for key, coupon in changed.items() if coupon != coupons[key]}


def find_refunded(
    purchases: Iterable[Purchase], *, amount_minor: int, currency: str, refunded_at: datetime
) -> Purchase | None:
    """Which of a card's purchases at a partner a refund without a link is for: the newest of the
    180 days before it of which enough is left.
    """
    since = refunded_at - timedelta(days=UNLINKED_REFUND_DAYS)
    possible = (
        purchase
        for purchase in purchases
        if purchase.currency == currency
        and since <= purchase.occurred_at <= refunded_at
        and net(purchase.sums) > 0
        and net(purchase.sums) >= amount_minor
    )
    return max(possible, key=lambda purchase: (purchase.occurred_at, purchase.ref), default=None)
