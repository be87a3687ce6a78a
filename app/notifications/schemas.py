"""Webhooks' JSON."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from app.kit.fields import Instant, ShortText, is_no_card_number
from app.notifications.domain import DeliveryState, EventName
from app.notifications.guard import URL_CHARACTERS_MAX
from app.notifications.models import WebhookDelivery
from app.notifications.queries import EndpointRow
from app.partners.schemas import PartnerRefOrId

Url = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=URL_CHARACTERS_MAX, pattern=r"^[^\s\x00-\x1f\x7f]+$"
    ),
    AfterValidator(is_no_card_number),
]
Events = Annotated[
    list[EventName] | None,
    Field(min_length=1, max_length=50, description="null: all, those of later releases too"),
]


_ENDPOINT: dict[str, Any] = {
    "id": "0198f0c2-7d10-7000-8000-00000000000c",
    "partner": "corner-coffee",
    "url": "https://shop.example/tagback",
    "events": ["coupon.loaded", "redemption.earned"],
    "description": "the till",
    "enabled": True,
    "disabled_because": None,
    "failing_since": None,
    "former_secret_until": None,
    "created_at": "2026-07-02T09:00:00Z",
}


class EndpointIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "url": "https://shop.example/tagback",
                    "events": ["coupon.loaded", "redemption.earned"],
                    "description": "the till",
                }
            ]
        },
    )

    url: Url = Field(description="https, at a public address")
    events: Events = None
    description: ShortText | None = None
    partner: PartnerRefOrId | None = Field(
        default=None, description="ref or id: the operator names it, a partner's key means its own"
    )


class EndpointChange(BaseModel):
    """What is not given stays as it is."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"events": None, "enabled": True}]}
    )

    url: Url | None = None
    events: Events = None
    description: ShortText | None = None
    enabled: bool | None = None

    @model_validator(mode="after")
    def _stands_without_null(self) -> Self:
        for name in ("url", "enabled"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self


class EndpointOut(BaseModel):
    """`disabled_because`: `asked`, or `gone` when it answered 410. `failing_since`: the first of
    the failures since it last answered well.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_ENDPOINT]})

    id: UUID
    partner: str
    url: str
    events: list[EventName] | None
    description: str | None
    enabled: bool
    disabled_because: Literal["asked", "gone"] | None
    failing_since: datetime | None
    former_secret_until: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, row: EndpointRow) -> Self:
        return cls.model_validate(_shown(row))


class NewSecretOut(EndpointOut):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {**_ENDPOINT, "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDPQvDk1a9Tcs="}
            ]
        }
    )

    secret: str = Field(description="shown this once")

    @classmethod
    def with_secret(cls, row: EndpointRow, secret: str) -> Self:
        return cls.model_validate({**_shown(row), "secret": secret})


def _shown(row: EndpointRow) -> dict[str, Any]:
    endpoint, partner_ref = row
    names = EndpointOut.model_fields.keys() - {"partner", "enabled"}
    shown = {name: getattr(endpoint, name) for name in names}
    return {**shown, "partner": partner_ref, "enabled": endpoint.disabled_at is None}


class DeliveryOut(BaseModel):
    """`id` is the `webhook-id` of every attempt. `attempts`, since it was announced or last
    replayed; `next_attempt_at` is null once it is delivered or parked.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0198f0c2-7d10-7000-8000-00000000000d",
                    "endpoint_id": "0198f0c2-7d10-7000-8000-00000000000c",
                    "event": "webhook.test",
                    "subject": "endpoint:0198f0c2-7d10-7000-8000-00000000000c",
                    "sequence": 1,
                    "data": {"endpoint_id": "0198f0c2-7d10-7000-8000-00000000000c"},
                    "state": "queued",
                    "attempts": 0,
                    "last_status": None,
                    "last_error": None,
                    "next_attempt_at": "2026-07-15T12:00:00Z",
                    "created_at": "2026-07-15T12:00:00Z",
                    "ended_at": None,
                }
            ]
        }
    )

    id: UUID
    endpoint_id: UUID
    event: str
    subject: str
    sequence: int
    data: dict[str, Any]
    state: DeliveryState
    attempts: int
    last_status: int | None
    last_error: str | None
    next_attempt_at: datetime | None
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, row: WebhookDelivery) -> Self:
        names = cls.model_fields.keys() - {"next_attempt_at"}
        shown = {name: getattr(row, name) for name in names}
        is_over = row.state in ("delivered", "parked")
        return cls.model_validate({**shown, "next_attempt_at": None if is_over else row.not_before})


class ReplayIn(BaseModel):
    """What was announced from `since` on and before `until`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"since": "2026-07-15T00:00:00Z", "until": "2026-07-16T00:00:00Z"}]
        },
    )

    since: Instant
    until: Instant

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.since >= self.until:
            raise ValueError("since is before until")
        return self


class ReplayedOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"replayed": 412}]})

    replayed: int
