from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.insight.dry_run import DAYS_MAX, PostsFrom
from app.insight.models import Sale
from app.offers.schemas import Objective, OfferChange
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


class DryRunIn(BaseModel):
    """`changes` as in `PATCH`: they are tried and not saved."""

    model_config = ConfigDict(extra="forbid")

    changes: OfferChange = Field(default_factory=OfferChange)
    days: Annotated[int, Field(ge=1, le=DAYS_MAX)] = DAYS_MAX


class DryRunOut(BaseModel):
    """What the window's posts and purchases would have done; amounts in minor units of `currency`.
    `not_rewarded`: purchases of who would have held a coupon, by the reason of a redemption, or
    `outside_validity` (before the post, or after the coupon's last day), `already_rewarded` (by
    another offer), `pending` and `returned`. The times are of the first post that would have been
    turned away, to the hour, a partner's to the day. Not `is_exact` is what a partner is told:
    counts to about ten, amounts to two digits, null for groups under ten.
    """

    offer_id: UUID
    offer_ref: str
    title: str
    hashtag: str
    currency: str
    since: datetime
    until: datetime
    posts_from: PostsFrom
    is_cut: bool
    is_exact: bool
    posts: int | None
    outcomes: dict[str, int | None]
    coupons: int | None
    would_be_sold_out_at: datetime | None
    would_be_budget_spent_at: datetime | None
    purchases: int | None
    redemptions: int | None
    sales_minor: int | None
    reward_minor: int | None
    average_basket_minor: int | None
    reward_share: float | None
    not_rewarded: dict[str, int | None]
    assumptions: list[str]


class RedemptionOut(BaseModel):
    """Amounts in minor units of `currency`; `spend_minor` is what was bought and kept. A partner
    is not told `minutes_from_post`: with the time of the purchase it would tell whose post it was.
    """

    id: UUID
    state: str
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
