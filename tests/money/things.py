"""What the model is about: shops, offers, coupons, purchases, posts and money outside the rules."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Literal, NamedTuple

DAY = timedelta(days=1)

Kind = Literal["authorization", "clearing", "reversal", "refund", "chargeback", "decline"]


class Shop(NamedTuple):
    name: str
    partner: str
    channel: str
    hold_days: int  # how long it may take to clear


class Terms(NamedTuple):
    """A fixed reward, or basis points up to a maximum."""

    currency: str
    fixed: int | None
    basis_points: int
    most: int
    min_spend: int
    channel: str
    shops: frozenset[str] | None
    valid_days: int
    uses: int
    burns: bool
    customers: str | None  # new, returning or lapsed

    def reward(self, spend: int) -> int:
        if spend <= 0 or spend < self.min_spend:
            return 0
        return self.expected(spend)

    def expected(self, spend: int) -> int:
        """Whatever the minimum is."""
        if self.fixed is not None:
            return min(self.fixed, spend)
        return min(self.most, (spend * self.basis_points * 2 + 10_000) // 20_000)

    @property
    def largest(self) -> int:
        return self.most if self.fixed is None else self.fixed

    def valid_until(self, posted: datetime) -> datetime:
        last_day = posted.date() + self.valid_days * DAY
        return datetime.combine(last_day + DAY, time(), tzinfo=UTC)


@dataclass(eq=False)
class Offer:
    name: str
    partner: str
    starts: datetime
    ends: datetime
    terms: Terms
    coupons_max: int | None
    budget: int | None
    paused: datetime | None = None
    was_ended: bool = False
    called_off: bool = False  # before it began: its tag means nothing

    def is_over(self, now: datetime) -> bool:
        return self.was_ended or (self.paused is None and now >= self.ends)


@dataclass(eq=False)
class Coupon:
    offer: Offer
    terms: Terms
    member: str
    posted: datetime
    loaded: datetime
    reserved: int
    closed: bool = False

    @property
    def valid_until(self) -> datetime:
        return self.terms.valid_until(self.posted)


class Event(NamedTuple):
    kind: Kind
    amount: int
    at: datetime
    shop: Shop
    card: str


@dataclass(eq=False)
class Purchase:
    ref: str
    member: str
    partner: str
    currency: str
    events: list[Event] = field(default_factory=list)
    lapsed: bool = False
    coupon: Coupon | None = None
    state: str | None = None
    reason: str | None = None
    owed: int = 0
    holds_use: bool = False
    credited: int = 0
    touched: datetime | None = None

    def total(self, *kinds: Kind) -> int:
        return sum(event.amount for event in self.events if event.kind in kinds)

    def newest(self, kind: Kind) -> datetime | None:
        return max((event.at for event in self.events if event.kind == kind), default=None)

    @property
    def made(self) -> Event:
        return min(self.events, key=lambda event: event.at)

    @property
    def cleared(self) -> int:
        return self.total("clearing")

    @property
    def net(self) -> int:
        """Bought and kept: a reversal first cancels what was authorised and has not cleared."""
        open_amount = max(0, self.total("authorization") - self.cleared)
        undone = max(0, self.total("reversal") - open_amount)
        return max(0, self.cleared - self.total("refund", "chargeback") - undone)

    @property
    def lapses(self) -> datetime | None:
        return max(
            (e.at + e.shop.hold_days * DAY for e in self.events if e.kind == "authorization"),
            default=None,
        )


class Answer(NamedTuple):
    status: str
    state: str | None = None
    reason: str | None = None
    reward: int = 0


class Post(NamedTuple):
    id: str
    root: str  # of its edits
    author: str  # a member's name, or a stranger's
    at: datetime
    offers: tuple[str, ...]
    is_repost: bool = False


@dataclass(eq=False)
class Adjustment:
    ref: str
    member: str
    owed: int
    currency: str
    funded_by: str
    credited: int = 0


@dataclass
class Line:
    cause: Purchase | Adjustment
    amount: int
    state: str = "pending"
