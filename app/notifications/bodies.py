"""What a partner's server is sent, as the OpenAPI document tells it to those who build one."""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from app.notifications.domain import TEST
from app.openapi import JSON, Webhooks


class OfferTold(BaseModel):
    """Amounts in minor units of `currency`; what has no cap is null."""

    offer_id: UUID
    offer_ref: str
    hashtag: str
    ends_at: datetime
    currency: str
    coupons_loaded: int
    coupons_max: int | None
    coupons_left: int | None
    budget_minor: int | None
    reserved_minor: int
    budget_left_minor: int | None


class CouponsTold(OfferTold):
    coupons: int = Field(description="how many this is about")


class RedemptionTold(BaseModel):
    """As `GET /v1/redemptions` shows it. `buyer` is a pseudonym that means nothing to another
    partner; `reason` says why it was rejected.
    """

    id: UUID
    state: Literal["pending", "earned", "returned", "rejected"]
    reason: str | None
    offer_id: UUID
    offer: str
    partner: str
    hashtag: str
    network: str
    buyer: str
    channel: str
    customer_kind: str
    country: str
    purchased_at: datetime
    currency: str
    spend_minor: int
    reward_minor: int
    refunded_minor: int


class TestTold(BaseModel):
    endpoint_id: UUID


class _Body(BaseModel):
    timestamp: datetime = Field(description="when it happened")
    subject: str = Field(description="what it is about")
    sequence: Annotated[int, Field(ge=1)] = Field(
        description="of the events of one subject that the endpoint is told, without a gap"
    )


_OFFER: dict[str, Any] = {
    "offer_id": "0198f0c2-7d10-7000-8000-000000000003",
    "offer_ref": "summer-26",
    "hashtag": "CornerCoffee",
    "ends_at": "2026-08-31T22:00:00Z",
    "currency": "USD",
    "coupons_loaded": 412,
    "coupons_max": 1000,
    "coupons_left": 588,
    "budget_minor": 500000,
    "reserved_minor": 206000,
    "budget_left_minor": 294000,
}
_SUBJECT = "offer:0198f0c2-7d10-7000-8000-000000000003"


def _example(told: dict[str, Any]) -> ConfigDict:
    example = {"timestamp": "2026-07-15T12:00:00Z", "sequence": 17, **told}
    return ConfigDict(json_schema_extra={"examples": [example]})


class CouponsEvent(_Body):
    model_config = _example(
        {"type": "coupon.loaded", "subject": _SUBJECT, "data": {**_OFFER, "coupons": 3}}
    )

    type: Literal["coupon.loaded", "coupon.closed"]
    data: CouponsTold


class OfferEvent(_Body):
    model_config = _example({"type": "offer.budget_low", "subject": _SUBJECT, "data": _OFFER})

    type: Literal["offer.budget_low", "offer.sold_out", "offer.ended"]
    data: OfferTold


class RedemptionEvent(_Body):
    model_config = _example(
        {
            "type": "redemption.earned",
            "subject": "redemption:0198f0c2-7d10-7000-8000-00000000000b",
            "data": {
                "id": "0198f0c2-7d10-7000-8000-00000000000b",
                "state": "earned",
                "reason": None,
                "offer_id": "0198f0c2-7d10-7000-8000-000000000003",
                "offer": "summer-26",
                "partner": "corner-coffee",
                "hashtag": "CornerCoffee",
                "network": "x",
                "buyer": "b1f1e0c2d7a95b36",
                "channel": "in_store",
                "customer_kind": "new",
                "country": "US",
                "purchased_at": "2026-07-15T11:15:00Z",
                "currency": "USD",
                "spend_minor": 1250,
                "reward_minor": 500,
                "refunded_minor": 0,
            },
        }
    )

    type: Literal[
        "redemption.pending", "redemption.earned", "redemption.returned", "redemption.rejected"
    ]
    data: RedemptionTold


class TestEvent(_Body):
    model_config = _example(
        {
            "type": "webhook.test",
            "subject": "endpoint:0198f0c2-7d10-7000-8000-00000000000c",
            "data": {"endpoint_id": "0198f0c2-7d10-7000-8000-00000000000c"},
        }
    )

    type: Literal["webhook.test"]
    data: TestTold


class Told(NamedTuple):
    body: type[BaseModel]
    when: str


BODIES: Mapping[str, Told] = {
    "coupon.loaded": Told(
        CouponsEvent, "Posts have loaded coupons: one event for those that came together."
    ),
    "coupon.closed": Told(
        CouponsEvent,
        "Coupons were used up or have expired; what they reserved and did not spend is the "
        "offer's again.",
    ),
    "redemption.pending": Told(RedemptionEvent, "A purchase with a coupon was authorised."),
    "redemption.earned": Told(
        RedemptionEvent, "It has cleared and earns a reward; again whenever its figures change."
    ),
    "redemption.returned": Told(RedemptionEvent, "It was refunded, and earns nothing any more."),
    "redemption.rejected": Told(RedemptionEvent, "It earns nothing, and `reason` says why."),
    "offer.sold_out": Told(OfferEvent, "The last coupon is loaded; once for each `coupons_max`."),
    "offer.budget_low": Told(
        OfferEvent, "80 % of the budget is reserved, or what the operator has set; once for each."
    ),
    "offer.ended": Told(OfferEvent, "Its end has come, or it was ended."),
    TEST: Told(TestEvent, "It was asked for."),
}

_HEADERS: list[dict[str, Any]] = [
    {
        "name": name,
        "in": "header",
        "required": True,
        "description": description,
        "schema": {"type": "string"},
    }
    for name, description in (
        ("webhook-id", "the delivery's `id`, the same whenever it is sent"),
        ("webhook-timestamp", "when this attempt was made, in seconds since 1970"),
        ("webhook-signature", "as Standard Webhooks has it: one, or several with blanks between"),
    )
]


@cache
def webhooks() -> Webhooks:
    bodies = dict.fromkeys(told.body for told in BODIES.values())
    _, schemas = models_json_schema(
        [(body, "serialization") for body in bodies], ref_template="#/components/schemas/{model}"
    )
    return Webhooks({event: {"post": _post(event)} for event in BODIES}, schemas["$defs"])


def _post(event: str) -> dict[str, Any]:
    body, when = BODIES[event]
    schema = {"$ref": f"#/components/schemas/{body.__name__}"}
    return {
        "operationId": f"on_{event.replace('.', '_')}",
        "summary": event,
        "description": when,
        "tags": ["webhooks"],
        "security": [],
        "parameters": _HEADERS,
        "requestBody": {"required": True, "content": {JSON: {"schema": schema}}},
        "responses": {
            "2XX": {"description": "Taken, within 15 seconds: it is not sent again."},
            "410": {"description": "No more of them: the endpoint is disabled."},
            "default": {"description": "Not taken: it is sent again, for a day."},
        },
    }
