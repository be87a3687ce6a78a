from datetime import date, datetime
from typing import Self
from uuid import UUID

from pydantic import BaseModel

from app.insight.models import Sale
from app.offers.schemas import Objective
from app.offers.terms import State


class ObjectiveOut(Objective):
    """`reached` until the end of the day `by`, `progress` as its share of `value`."""

    reached: int | None
    progress: float | None
    is_over: bool


class PerformanceOut(BaseModel):
    """Posts by outcome; amounts in minor units of `currency`. What a partner is not shown is null,
    as is what is left of a cap that the offer does not have.
    """

    offer_id: UUID
    offer_ref: str
    title: str
    hashtag: str
    state: State
    currency: str
    outcomes: dict[str, int | None]
    coupons_loaded: int
    coupons_max: int | None
    coupons_left: int | None
    budget_minor: int | None
    budget_left_minor: int | None
    redemptions: int | None
    sales_minor: int | None
    reward_minor: int | None
    refunded_minor: int | None
    objective: ObjectiveOut | None


class FiguresOut(BaseModel):
    """docs/attribution.md says what each of them is. Amounts are minor units of `currency`; null is
    what is not known of such a group, or not told.
    """

    currency: str
    posts: int | None
    reach: int | None
    coupons: int | None
    activation_rate: float | None
    redemptions: int | None
    redemption_rate: float | None
    returned: int | None
    refunds: int | None
    sales_minor: int | None
    reward_minor: int | None
    refunded_minor: int | None
    return_on_spend: float | None
    average_basket_minor: int | None
    median_minutes: int | None
    p90_minutes: int | None
    x_cost_microusd: int | None


class GroupOut(FiguresOut):
    """Has the dimensions that were asked for, and an offer's id beside its ref."""

    offer: str | None = None
    offer_id: UUID | None = None
    hashtag: str | None = None
    partner: str | None = None
    network: str | None = None
    channel: str | None = None
    customer_kind: str | None = None
    country: str | None = None
    hour: datetime | None = None
    day: date | None = None
    week: date | None = None


class AttributionOut(BaseModel):
    """`totals` are the sums, by currency, of what `items` show; `withheld` is how many of them show
    less than there is. Every redemption that had changed by `as_of` is in the figures.
    """

    items: list[GroupOut]
    totals: list[FiguresOut]
    withheld: int
    as_of: datetime


class RedemptionOut(BaseModel):
    """Amounts in minor units of `currency`; `spend_minor` is what was bought and kept. A partner
    is not told `minutes_from_post`: with the time of the purchase it would tell whose post it was.
    """

    id: UUID
    state: str
    reason: str | None
    offer: str
    partner: str
    hashtag: str
    network: str
    buyer: str
    channel: str
    customer_kind: str
    country: str
    purchased_at: datetime
    minutes_from_post: int | None
    currency: str
    spend_minor: int
    reward_minor: int
    refunded_minor: int

    @classmethod
    def of(cls, row: tuple[Sale, str, str], *, for_partner: bool) -> Self:
        sale, offer, partner = row
        minutes = int((sale.purchased_at - sale.posted_at).total_seconds() // 60)
        return cls(
            id=sale.redemption_id,
            state=sale.state,
            reason=sale.reason,
            offer=offer,
            partner=partner,
            hashtag=sale.hashtag,
            network=sale.network,
            buyer=sale.buyer,
            channel=sale.channel,
            customer_kind=sale.customer_kind,
            country=sale.country,
            purchased_at=sale.purchased_at,
            minutes_from_post=None if for_partner else minutes,
            currency=sale.currency,
            spend_minor=sale.spend_minor,
            reward_minor=sale.reward_minor,
            refunded_minor=sale.refunded_minor,
        )


class UsageOut(BaseModel):
    kind: str
    units: int
    micro_usd: int


class OfferCostOut(BaseModel):
    """Replies about it that were sent, and posts that named it; a post that names two is counted
    for each.
    """

    offer_id: UUID
    offer_ref: str
    hashtag: str
    replies_microusd: int
    reads_microusd: int
    spent_microusd: int
    coupons: int
    confirmed_coupons: int
    microusd_per_confirmed_coupon: int | None


class CostsOut(BaseModel):
    """In millionths of a US dollar. Without a ceiling, nothing of one is told. A confirmed coupon
    is one whose confirmation was sent.
    """

    month: str
    spent_microusd: int
    forecast_microusd: int
    ceiling_microusd: int | None
    left_microusd: int | None
    strangers_ceiling_microusd: int | None
    strangers_left_microusd: int | None
    by_kind: list[UsageOut]
    coupons: int
    microusd_per_coupon: int | None
    confirmed_coupons: int
    microusd_per_confirmed_coupon: int | None
    by_offer: list[OfferCostOut]
