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

from app.kit import money
from app.kit.fields import ExternalId, InMinorUnits, Instant, ShortText, is_no_card_number
from app.kit.hashtags import extract_hashtags
from app.offers.terms import Channel, RefundPolicy, State
from app.partners.schemas import PartnerRef

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
AMOUNT_MAX = 10**12  # minor units; a bound on mistakes, far below what a column can hold


Amount = Annotated[int, InMinorUnits, Field(ge=1, le=AMOUNT_MAX)]
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
    customers: list[Literal["new", "returning", "lapsed"]] | None = None
    purchases_min: Annotated[int, Field(ge=1)] | None = None
    lapsed_days: Annotated[int, Field(ge=1, le=3_650)] = 180
    countries: list[Annotated[str, Field(pattern="^[A-Z]{2}$")]] | None = None
    languages: list[Annotated[str, Field(pattern="^[a-z]{2}$")]] | None = None


class Objective(_Strict):
    metric: Literal["coupons", "redemptions", "sales_minor"]
    value: Amount
    by: date


class _MayBeLeftOut(_Strict):
    acceptors: Annotated[list[AcceptorRef], Field(min_length=1, max_length=1_000)] | None = None
    days: Annotated[list[Day], Field(min_length=1)] | None = None
    hours: Hours | None = None
    coupons_max: Annotated[int, Field(ge=1, le=10**9)] | None = None
    budget_minor: Amount | None = None
    coupon_valid_days: Annotated[int, Field(ge=0, le=3_650)] | None = None
    coupon_last_day: Annotated[date, Field(ge=date(2000, 1, 1), le=date(2100, 1, 1))] | None = None
    audience: AudienceIn | None = None
    objective: Objective | None = None


class OfferIn(_MayBeLeftOut):
    offer_ref: ShortText
    partner: PartnerRef | None = None
    title: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(is_no_card_number)]
    hashtag: str
    starts_at: Instant
    ends_at: Instant
    time_zone: str
    currency: str
    reward: Reward
    min_spend_minor: Annotated[int, InMinorUnits, Field(ge=0, le=AMOUNT_MAX)] = 0
    channel: Channel = "any"
    redemptions_per_coupon: Annotated[int, Field(ge=1, le=1_000)] = 1
    refund_policy: RefundPolicy = "restore"

    @field_validator("hashtag")
    @classmethod
    def _is_a_hashtag(cls, value: str) -> str:
        tag = value.removeprefix("#")
        if [found.tag for found in extract_hashtags(f"#{tag}")] != [tag]:
            raise ValueError("not a hashtag that networks recognise")
        return tag

    @field_validator("time_zone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, LookupError):
            raise ValueError("not an IANA time zone, such as Europe/Paris") from None
        return value

    @field_validator("currency")
    @classmethod
    def _is_a_currency(cls, value: str) -> str:
        if not money.is_currency(value):
            raise ValueError("not an ISO 4217 currency, such as EUR")
        return value

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

    title: str | None = None
    hashtag: str | None = None
    starts_at: Instant | None = None
    ends_at: Instant | None = None
    time_zone: str | None = None
    currency: str | None = None
    reward: Reward | None = None
    min_spend_minor: Annotated[int, InMinorUnits] | None = None
    channel: Channel | None = None
    redemptions_per_coupon: int | None = None
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
    version: int
    created_at: datetime


class OfferOut(_TermsOut):
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
