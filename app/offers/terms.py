"""What an offer promises, as pure rules over plain values: no clock, no database."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from app.kit import money

State = Literal["draft", "submitted", "scheduled", "live", "paused", "ended"]
Channel = Literal["any", "in_store", "online"]
CustomerKind = Literal["new", "returning", "lapsed"]
RefundPolicy = Literal["restore", "burn"]


class Audience(NamedTuple):
    """Who may load a coupon; every condition that is set must hold."""

    customers: frozenset[CustomerKind] | None = None
    purchases_min: int | None = None  # the partner's best customers: at least so many purchases
    lapsed_days: int = 180  # no purchase for so long makes a customer lapsed
    countries: frozenset[str] | None = None
    languages: frozenset[str] | None = None


EVERYBODY = Audience()


class Terms(NamedTuple):
    """An offer and one version of its terms. Amounts are minor units of `currency`; `hours_to` and
    `ends_at` are exclusive; days are ISO (Monday is 1).
    """

    offer_id: UUID
    version: int
    partner_id: UUID
    partner: str
    title: str
    hashtag: str
    tag_key: str
    starts_at: datetime
    ends_at: datetime
    state: State
    currency: str
    time_zone: str
    fixed_minor: int | None
    basis_points: int | None
    max_minor: int | None
    min_spend_minor: int
    channel: Channel
    acceptor_ids: frozenset[UUID] | None
    days: frozenset[int] | None
    hours_from: time | None
    hours_to: time | None
    coupon_valid_days: int | None
    coupon_last_day: date | None
    redemptions_per_coupon: int
    audience: Audience
    refund_policy: RefundPolicy
    has_webhooks: bool = False  # whether the partner wants to be told of anything


def state_at(state: State, *, starts_at: datetime, ends_at: datetime, at: datetime) -> State:
    """A published offer is scheduled, live or ended by the clock, whenever it was published; posts
    are decided by the window alone.
    """
    if state not in ("scheduled", "live"):
        return state
    if ends_at <= at:
        return "ended"
    return "live" if starts_at <= at else "scheduled"


def reward(terms: Terms, spend_minor: int) -> int:
    """What a purchase of this net spend earns: nothing below the minimum, never more than was
    spent.
    """
    if spend_minor <= 0 or spend_minor < terms.min_spend_minor:
        return 0
    if terms.fixed_minor is not None:
        return min(terms.fixed_minor, spend_minor)
    return min(money.share(spend_minor, terms.basis_points or 0), largest_reward(terms))


def largest_reward(terms: Terms) -> int:
    """What one redemption can cost at most: what a coupon reserves of the budget for each."""
    most = terms.fixed_minor if terms.fixed_minor is not None else terms.max_minor
    if most is None:
        raise ValueError("terms without a fixed reward need a maximum")
    return most


def valid_until(terms: Terms, posted_at: datetime, *, default_days: int) -> datetime:
    """The midnight, in the offer's zone, after the coupon's last day. Whole local days: a coupon
    does not end in the middle of an afternoon, nor an hour early when summer time does.
    """
    zone = _zone(terms.time_zone)
    last_day = terms.coupon_last_day
    if last_day is None:
        days = terms.coupon_valid_days if terms.coupon_valid_days is not None else default_days
        last_day = posted_at.astimezone(zone).date() + timedelta(days=days)
    return _midnight_after(last_day, terms.time_zone)


@lru_cache(maxsize=4_096)
def _midnight_after(day: date, zone: str) -> datetime:
    midnight = datetime.combine(day + timedelta(days=1), time(), tzinfo=_zone(zone))
    return midnight.astimezone(UTC)


@lru_cache(maxsize=1_024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def within_hours(terms: Terms, at: datetime) -> bool:
    """Whether the offer takes posts at this moment of its local week. Hours that pass midnight
    belong to the day on which they began.
    """
    if terms.days is None and terms.hours_from is None:
        return True
    local = at.astimezone(_zone(terms.time_zone))
    day, clock = local.isoweekday(), local.time()
    if terms.hours_from is not None and terms.hours_to is not None:
        if terms.hours_from < terms.hours_to:
            if not terms.hours_from <= clock < terms.hours_to:
                return False
        elif clock < terms.hours_to:
            day = (day - 2) % 7 + 1
        elif clock < terms.hours_from:
            return False
    return terms.days is None or day in terms.days


def customer_kind(
    *, last_purchase_at: datetime | None, at: datetime, lapsed_days: int = EVERYBODY.lapsed_days
) -> CustomerKind:
    if last_purchase_at is None:
        return "new"
    if at - last_purchase_at > timedelta(days=lapsed_days):
        return "lapsed"
    return "returning"
