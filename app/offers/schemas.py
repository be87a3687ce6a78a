"""An offer as partners write it and read it: the contract's fields."""

from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Literal, Self
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from app.kit.fields import (
    Country,
    Currency,
    ExternalId,
    InMinorUnits,
    Instant,
    ShortText,
    TimeZone,
    is_no_card_number,
)
from app.kit.hashtags import extract_hashtags
from app.offers.terms import Channel, RefundPolicy, State
from app.partners.schemas import PartnerRef

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
AMOUNT_MAX = 10**12  # minor units; a bound on mistakes, far below what a column can hold
HASHTAG_MAX = 280  # what a post can hold


Amount = Annotated[int, Field(ge=1, le=AMOUNT_MAX), InMinorUnits]
MinSpend = Annotated[int, Field(ge=0, le=AMOUNT_MAX), InMinorUnits]
Redemptions = Annotated[int, Field(ge=1, le=1_000)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FixedReward(_Strict):
    fixed_minor: Amount


class ShareReward(_Strict):
    basis_points: Annotated[int, Field(ge=1, le=10_000)]
    max_minor: Amount


def _kind_of_reward(given: Any) -> str | None:  # noqa: ANN401 - whatever was sent
    """By the fields, since the contract has no name for it."""
    if isinstance(given, BaseModel):
        return type(given).__name__
    if isinstance(given, dict) and "fixed_minor" in given:
        return FixedReward.__name__
    is_share = isinstance(given, dict) and ("basis_points" in given or "max_minor" in given)
    return ShareReward.__name__ if is_share else None


Reward = Annotated[
    Annotated[FixedReward, Tag(FixedReward.__name__)]
    | Annotated[ShareReward, Tag(ShareReward.__name__)],
    Discriminator(
        _kind_of_reward,
        custom_error_type="reward",
        custom_error_message="either fixed_minor, or basis_points with max_minor",
    ),
]
Title = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(is_no_card_number)]
Hashtag = Annotated[
    str,
    Field(min_length=1, max_length=HASHTAG_MAX, json_schema_extra={"format": "hashtag"}),
]


class AcceptorRef(_Strict):
    acquirer_id: ExternalId
    acceptor_id: ExternalId


class Hours(_Strict):
    """Local wall-clock time; `to` is exclusive and may be earlier than `from`: over midnight."""

    from_: time = Field(alias="from")
    to: time

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.from_.tzinfo or self.to.tzinfo:
            raise ValueError("hours are of the offer's time_zone and have none of their own")
        if self.from_ == self.to:
            raise ValueError("`from` and `to` must differ")
        return self


class AudienceIn(_Strict):
    customers: (
        Annotated[list[Literal["new", "returning", "lapsed"]], Field(max_length=3)] | None
    ) = None
    purchases_min: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    lapsed_days: Annotated[int, Field(ge=1, le=3_650)] = 180
    countries: Annotated[list[Country], Field(max_length=250)] | None = None
    languages: (
        Annotated[list[Annotated[str, Field(pattern="^[a-z]{2}$")]], Field(max_length=200)] | None
    ) = None


class Objective(_Strict):
    metric: Literal["coupons", "redemptions", "sales_minor"]
    value: Amount
    by: date


class _MayBeLeftOut(_Strict):
    acceptors: Annotated[list[AcceptorRef], Field(min_length=1, max_length=1_000)] | None = None
    days: Annotated[list[Day], Field(min_length=1, max_length=7)] | None = None
    hours: Hours | None = None
    coupons_max: Annotated[int, Field(ge=1, le=10**9)] | None = None
    budget_minor: Amount | None = None
    coupon_valid_days: Annotated[int, Field(ge=0, le=3_650)] | None = None
    coupon_last_day: Annotated[date, Field(ge=date(2000, 1, 1), le=date(2100, 1, 1))] | None = None
    audience: AudienceIn | None = None
    objective: Objective | None = None


class OfferIn(_MayBeLeftOut):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "offer_ref": "summer-26",
                    "title": "5 dollars back at Corner Coffee",
                    "hashtag": "CornerCoffee",
                    "starts_at": "2026-07-01T00:00:00Z",
                    "ends_at": "2026-08-31T22:00:00Z",
                    "time_zone": "America/New_York",
                    "currency": "USD",
                    "reward": {"fixed_minor": 500},
                    "min_spend_minor": 1000,
                    "coupons_max": 1000,
                    "budget_minor": 500000,
                }
            ]
        }
    )

    offer_ref: ShortText
    partner: PartnerRef | None = None
    title: Title
    hashtag: Hashtag
    starts_at: Instant
    ends_at: Instant
    time_zone: TimeZone
    currency: Currency
    reward: Reward
    min_spend_minor: MinSpend = 0
    channel: Channel = "any"
    redemptions_per_coupon: Redemptions = 1
    refund_policy: RefundPolicy = "restore"

    @field_validator("hashtag")
    @classmethod
    def _is_a_hashtag(cls, value: str) -> str:
        tag = value.removeprefix("#")
        if [found.tag for found in extract_hashtags(f"#{tag}")] != [tag]:
            raise ValueError("not a hashtag that networks recognise")
        return tag

    @field_validator("title")
    @classmethod
    def _is_printable(cls, value: str) -> str:
        if not value.isprintable() or not value.strip():
            raise ValueError("must be one line of printable text")
        return value.strip()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.starts_at >= self.ends_at:
            raise ValueError("ends_at must be after starts_at")
        if self.coupon_valid_days is not None and self.coupon_last_day is not None:
            raise ValueError("either coupon_valid_days or coupon_last_day, not both")
        last_moment = self.ends_at - timedelta(microseconds=1)
        last_post = last_moment.astimezone(ZoneInfo(self.time_zone)).date()
        if self.coupon_last_day is not None and self.coupon_last_day < last_post:
            raise ValueError("coupon_last_day must not be before the last day that takes posts")
        if self.budget_minor is not None and self.budget_minor < self.reserve_minor:
            raise ValueError(
                f"budget_minor must cover one coupon, which can cost {self.reserve_minor}"
            )
        return self

    @property
    def reserve_minor(self) -> int:
        reward = self.reward
        largest = reward.fixed_minor if isinstance(reward, FixedReward) else reward.max_minor
        return largest * self.redemptions_per_coupon


class OfferChange(_MayBeLeftOut):
    """What is to change, and nothing else: the offer as it would be is read as an `OfferIn`. Null
    takes a term away, or brings its default back; what is nested is given whole.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"coupons_max": 2000, "budget_minor": 1000000}]}
    )

    title: Title | None = None
    hashtag: Hashtag | None = None
    starts_at: Instant | None = None
    ends_at: Instant | None = None
    time_zone: TimeZone | None = None
    currency: Currency | None = None
    reward: Reward | None = None
    min_spend_minor: MinSpend | None = None
    channel: Channel | None = None
    redemptions_per_coupon: Redemptions | None = None
    refund_policy: RefundPolicy | None = None


class _TermsOut(BaseModel):
    title: str
    time_zone: str
    reward: Reward
    min_spend_minor: int
    channel: Channel
    acceptor_ids: list[UUID] | None
    days: list[Day] | None
    hours: Hours | None
    coupon_valid_days: int | None
    coupon_last_day: date | None
    redemptions_per_coupon: int
    audience: AudienceIn | None
    refund_policy: RefundPolicy


class VersionOut(_TermsOut):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "title": "5 dollars back at Corner Coffee",
                    "time_zone": "America/New_York",
                    "reward": {"fixed_minor": 500},
                    "min_spend_minor": 1000,
                    "channel": "any",
                    "acceptor_ids": None,
                    "days": None,
                    "hours": None,
                    "coupon_valid_days": None,
                    "coupon_last_day": None,
                    "redemptions_per_coupon": 1,
                    "audience": None,
                    "refund_policy": "restore",
                    "version": 1,
                    "created_at": "2026-07-01T09:10:00Z",
                }
            ]
        }
    )

    version: int
    created_at: datetime


class OfferOut(_TermsOut):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "title": "5 dollars back at Corner Coffee",
                    "time_zone": "America/New_York",
                    "reward": {"fixed_minor": 500},
                    "min_spend_minor": 1000,
                    "channel": "any",
                    "acceptor_ids": None,
                    "days": None,
                    "hours": None,
                    "coupon_valid_days": None,
                    "coupon_last_day": None,
                    "redemptions_per_coupon": 1,
                    "audience": None,
                    "refund_policy": "restore",
                    "id": "0198f0c2-7d10-7000-8000-000000000003",
                    "offer_ref": "summer-26",
                    "partner_id": "0198f0c2-7d10-7000-8000-000000000001",
                    "hashtag": "CornerCoffee",
                    "state": "live",
                    "version": 1,
                    "starts_at": "2026-07-01T00:00:00Z",
                    "ends_at": "2026-08-31T22:00:00Z",
                    "currency": "USD",
                    "coupons_max": 1000,
                    "coupons_loaded": 0,
                    "budget_minor": 500000,
                    "reserved_minor": 0,
                    "objective": None,
                }
            ]
        }
    )

    id: UUID
    offer_ref: str
    partner_id: UUID
    hashtag: str
    state: State
    version: int
    starts_at: datetime
    ends_at: datetime
    currency: str
    coupons_max: int | None
    coupons_loaded: int
    budget_minor: int | None
    reserved_minor: int
    objective: Objective | None
    refusal: str | None = Field(description="why the operator has not approved it")


CouponState = Literal["loaded", "used", "expired", "closed"]


class CouponOut(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0198f0c2-7d10-7000-8000-000000000005",
                    "offer_id": "0198f0c2-7d10-7000-8000-000000000003",
                    "title": "5 dollars back at Corner Coffee",
                    "currency": "USD",
                    "state": "used",
                    "loaded_at": "2026-07-15T09:30:01Z",
                    "valid_until": "2026-08-15T04:00:00Z",
                    "uses": 1,
                    "uses_max": 1,
                    "reward_minor": 500,
                }
            ]
        }
    )

    id: UUID
    offer_id: UUID
    title: str
    currency: str
    state: CouponState
    loaded_at: datetime
    valid_until: datetime
    uses: int
    uses_max: int
    reward_minor: int
