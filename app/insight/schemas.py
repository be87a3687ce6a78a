from datetime import date, datetime
from typing import Annotated, Any, Self, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.insight.dry_run import DAYS_MAX, PostsFrom
from app.insight.models import Sale
from app.offers.schemas import Objective, OfferChange
from app.offers.terms import State as OfferState
from app.redemptions.domain import State, TransactionType


class ObjectiveOut(Objective):
    """`reached` until the end of the day `by`, `progress` as its share of `value`."""

    reached: int | None
    progress: float | None
    is_over: bool


class PerformanceOut(BaseModel):
    """Posts by outcome; amounts in minor units of `currency`. What a partner is not shown is null,
    as is what is left of a cap that the offer does not have.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "offer_id": "0198f0c2-7d10-7000-8000-000000000003",
                    "offer_ref": "summer-26",
                    "title": "5 dollars back at Corner Coffee",
                    "hashtag": "CornerCoffee",
                    "state": "live",
                    "currency": "USD",
                    "outcomes": {"loaded": 412, "not_linked": 963},
                    "coupons_loaded": 412,
                    "coupons_max": 1000,
                    "coupons_left": 588,
                    "budget_minor": 500000,
                    "budget_left_minor": 294000,
                    "redemptions": 131,
                    "sales_minor": 228940,
                    "reward_minor": 65500,
                    "refunded_minor": 0,
                    "objective": {
                        "metric": "redemptions",
                        "value": 300,
                        "by": "2026-08-31",
                        "reached": 131,
                        "progress": 0.4367,
                        "is_over": False,
                    },
                }
            ]
        }
    )

    offer_id: UUID
    offer_ref: str
    title: str
    hashtag: str
    state: OfferState
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

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"changes": {"min_spend_minor": 2000}, "days": 30}]},
    )

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

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "offer_id": "0198f0c2-7d10-7000-8000-000000000003",
                    "offer_ref": "summer-26",
                    "title": "5 dollars back at Corner Coffee",
                    "hashtag": "CornerCoffee",
                    "currency": "USD",
                    "since": "2026-06-15T00:00:00Z",
                    "until": "2026-07-15T00:00:00Z",
                    "posts_from": "this_hashtag",
                    "is_cut": False,
                    "is_exact": False,
                    "posts": 1380,
                    "outcomes": {"loaded": 410, "not_linked": 970, "repost": None},
                    "coupons": 410,
                    "would_be_sold_out_at": None,
                    "would_be_budget_spent_at": None,
                    "purchases": 270,
                    "redemptions": 130,
                    "sales_minor": 230000,
                    "reward_minor": 66000,
                    "average_basket_minor": 1800,
                    "reward_share": 0.29,
                    "not_rewarded": {"below_minimum": 41, "outside_validity": 99},
                    "assumptions": ["A post is judged by what was seen of it then."],
                }
            ]
        }
    )

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


_FIGURES: dict[str, Any] = {
    "currency": "USD",
    "posts": 1375,
    "reach": 240000,
    "coupons": 412,
    "activation_rate": 0.2996,
    "redemptions": 131,
    "redemption_rate": 0.318,
    "returned": 0,
    "refunds": 0,
    "sales_minor": 228940,
    "reward_minor": 65500,
    "refunded_minor": 0,
    "return_on_spend": 3.4953,
    "average_basket_minor": 1748,
    "median_minutes": 1440,
    "p90_minutes": 7200,
    "x_cost_microusd": None,
}


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

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "offer": "summer-26",
                            "offer_id": "0198f0c2-7d10-7000-8000-000000000003",
                            **_FIGURES,
                        }
                    ],
                    "totals": [_FIGURES],
                    "withheld": 0,
                    "as_of": "2026-07-15T12:00:00Z",
                }
            ]
        }
    )

    items: list[GroupOut]
    totals: list[FiguresOut]
    withheld: int
    as_of: datetime


class RedemptionOut(BaseModel):
    """Amounts in minor units of `currency`; `spend_minor` is what was bought and kept. A partner
    is not told `minutes_from_post`: with the time of the purchase it would tell whose post it was.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0198f0c2-7d10-7000-8000-00000000000b",
                    "state": "earned",
                    "offer": "summer-26",
                    "partner": "corner-coffee",
                    "hashtag": "CornerCoffee",
                    "network": "x",
                    "buyer": "b1f1e0c2d7a95b36",
                    "channel": "in_store",
                    "customer_kind": "new",
                    "country": "US",
                    "purchased_at": "2026-07-15T11:15:00Z",
                    "minutes_from_post": 105,
                    "currency": "USD",
                    "spend_minor": 1250,
                    "reward_minor": 500,
                    "refunded_minor": 0,
                }
            ]
        }
    )

    id: UUID
    state: State
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
        minutes = None
        if not for_partner:
            minutes = int((sale.purchased_at - sale.posted_at).total_seconds() // 60)
        return cls(
            id=sale.redemption_id,
            state=cast("State", sale.state),
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
            minutes_from_post=minutes,
            currency=sale.currency,
            spend_minor=sale.spend_minor,
            reward_minor=sale.reward_minor,
            refunded_minor=sale.refunded_minor,
        )


class ExportedRedemption(RedemptionOut):
    """A line of the export. `posted_at` and `minutes_from_post` are the programme's alone."""

    posted_at: datetime | None = None
    minutes_from_post: int | None = None


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

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "month": "2026-07",
                    "spent_microusd": 4120000,
                    "forecast_microusd": 8500000,
                    "ceiling_microusd": 50000000,
                    "left_microusd": 45880000,
                    "strangers_ceiling_microusd": 10000000,
                    "strangers_left_microusd": 9100000,
                    "by_kind": [{"kind": "summoned_reply", "units": 412, "micro_usd": 4120000}],
                    "coupons": 412,
                    "microusd_per_coupon": 10000,
                    "confirmed_coupons": 412,
                    "microusd_per_confirmed_coupon": 10000,
                    "by_offer": [
                        {
                            "offer_id": "0198f0c2-7d10-7000-8000-000000000003",
                            "offer_ref": "summer-26",
                            "hashtag": "CornerCoffee",
                            "replies_microusd": 4120000,
                            "reads_microusd": 0,
                            "spent_microusd": 4120000,
                            "coupons": 412,
                            "confirmed_coupons": 412,
                            "microusd_per_confirmed_coupon": 10000,
                        }
                    ],
                }
            ]
        }
    )

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


class Rule(BaseModel):
    """`applies`: it is this one that decided. `saw`: the values that it looked at, by name."""

    rule: str
    applies: bool
    saw: dict[str, Any]


class ExplainedOffer(BaseModel):
    """`decided_with`: the version of the post that was decided on. `not_linked_at`: when it was
    told that its author is not linked, if it was looked at again since.
    """

    offer: str
    offer_id: UUID
    hashtag: str
    outcome: str
    decided_at: datetime
    decided_with: str
    coupon_id: UUID | None
    not_linked_at: datetime | None
    sentence: str
    reply: str | None
    rules: list[Rule]


class ExplainedPost(BaseModel):
    """Of a post that is not known there is the sentence alone, which says why."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "post_id": "1945000000000000001",
                    "network": "x",
                    "known": True,
                    "sentence": "Your coupon is loaded.",
                    "offers": [
                        {
                            "offer": "5 dollars back at Corner Coffee",
                            "offer_id": "0198f0c2-7d10-7000-8000-000000000003",
                            "hashtag": "CornerCoffee",
                            "outcome": "loaded",
                            "decided_at": "2026-07-15T09:30:01Z",
                            "decided_with": "1945000000000000001",
                            "coupon_id": "0198f0c2-7d10-7000-8000-000000000005",
                            "not_linked_at": None,
                            "sentence": "Your coupon is loaded.",
                            "reply": None,
                            "rules": [
                                {"rule": "not_linked", "applies": False, "saw": {"linked": True}},
                                {"rule": "loaded", "applies": True, "saw": {}},
                            ],
                        }
                    ],
                    "posted_at": "2026-07-15T09:30:00Z",
                    "received_at": "2026-07-15T09:30:01Z",
                    "source": "api",
                    "tags": ["CornerCoffee"],
                    "mentions_programme": False,
                }
            ]
        }
    )

    post_id: str
    network: str
    known: bool
    sentence: str
    offers: list[ExplainedOffer]
    posted_at: datetime | None = None
    received_at: datetime | None = None
    source: str | None = None
    tags: list[str] = []
    mentions_programme: bool | None = None


class ExplainedCoupon(BaseModel):
    """One that the purchase might have used, with each rule that was tried."""

    coupon_id: UUID
    offer: str
    hashtag: str
    is_used: bool
    rules: list[Rule]


class ExplainedTransaction(BaseModel):
    """The purchase as it stands now. Of a transaction that is not known there is the sentence
    alone. `answered_with` is what was answered when it came.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "transaction_id": "tx-1002",
                    "known": True,
                    "sentence": "You spent $12.50 at Corner Coffee, Main Street: $5.00 is yours.",
                    "coupons": [
                        {
                            "coupon_id": "0198f0c2-7d10-7000-8000-000000000005",
                            "offer": "5 dollars back at Corner Coffee",
                            "hashtag": "CornerCoffee",
                            "is_used": True,
                            "rules": [
                                {
                                    "rule": "free_use",
                                    "applies": False,
                                    "saw": {"uses": 1, "uses_max": 1},
                                }
                            ],
                        }
                    ],
                    "type": "clearing",
                    "amount_minor": 1250,
                    "currency": "USD",
                    "occurred_at": "2026-07-15T11:15:00Z",
                    "received_at": "2026-07-15T11:15:02Z",
                    "place": "Corner Coffee, Main Street",
                    "answered_with": {"id": "tx-1002", "status": "applied", "decision": "earned"},
                    "purchase_id": "p-501",
                    "state": "earned",
                    "reason": None,
                    "reward_minor": 500,
                    "credited_minor": 500,
                }
            ]
        }
    )

    transaction_id: str
    known: bool
    sentence: str
    coupons: list[ExplainedCoupon]
    type: TransactionType | None = None
    amount_minor: int | None = None
    currency: str | None = None
    occurred_at: datetime | None = None
    received_at: datetime | None = None
    place: str | None = None
    answered_with: dict[str, Any] | None = None
    purchase_id: str | None = None
    state: State | None = None
    reason: str | None = None
    reward_minor: int | None = None
    credited_minor: int | None = None
