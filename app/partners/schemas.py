"""Partners' JSON, of requests and of files."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from app.kit.fields import Country, Currency, ExternalId, Instant, ShortText, is_no_card_number
from app.partners.models import Acceptor, ApiKey, Partner
from app.partners.roles import Role

PartnerRef = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$"),
    AfterValidator(is_no_card_number),
]
PartnerRefOrId = Annotated[
    str, StringConstraints(min_length=1, max_length=63), AfterValidator(is_no_card_number)
]


class PartnerIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"ref": "corner-coffee", "name": "Corner Coffee"}]},
    )

    ref: PartnerRef
    name: ShortText
    credit_limit_minor: int | None = Field(default=None, ge=0, lt=2**63)
    credit_currency: Currency | None = None

    @model_validator(mode="after")
    def _limit_has_currency(self) -> Self:
        if (self.credit_limit_minor is None) != (self.credit_currency is None):
            raise ValueError("credit_limit_minor and credit_currency come together")
        return self


class PartnerOut(BaseModel):
    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "0198f0c2-7d10-7000-8000-000000000001",
                    "ref": "corner-coffee",
                    "name": "Corner Coffee",
                    "credit_limit_minor": None,
                    "credit_currency": None,
                    "created_at": "2026-07-01T09:00:00Z",
                }
            ]
        },
    )

    id: UUID
    ref: str
    name: str
    credit_limit_minor: int | None
    credit_currency: str | None
    created_at: datetime

    @classmethod
    def of(cls, partner: Partner) -> Self:
        return cls.model_validate(partner)


class KeyIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"role": "partner", "partner": "corner-coffee"},
                {"role": "analyst", "expires_at": "2027-07-01T00:00:00Z"},
            ]
        },
    )

    role: Role
    partner: PartnerRefOrId | None = Field(
        default=None, description="ref or id: a partner's key has one, an analyst's may"
    )
    expires_at: Instant | None = None


class KeyOut(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0198f0c2-7d10-7000-8000-000000000006",
                    "hint": "tb_Zk3vQ",
                    "role": "partner",
                    "partner": "corner-coffee",
                    "created_at": "2026-07-01T09:01:00Z",
                    "expires_at": None,
                    "revoked_at": None,
                    "last_used_at": None,
                }
            ]
        }
    )

    id: UUID
    hint: str
    role: Role
    partner: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey, partner_ref: str | None) -> Self:
        return cls.model_validate({**_columns(key), "partner": partner_ref})


class NewKeyOut(KeyOut):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0198f0c2-7d10-7000-8000-000000000006",
                    "hint": "tb_Zk3vQ",
                    "role": "partner",
                    "partner": "corner-coffee",
                    "created_at": "2026-07-01T09:01:00Z",
                    "expires_at": None,
                    "revoked_at": None,
                    "last_used_at": None,
                    "key": "tb_Zk3vQ8d1xTgY5mWb7rJn2cLf9hKp4sVu6aEoR0iX",
                }
            ]
        }
    )

    key: str = Field(description="shown this once: only its hash is kept")

    @classmethod
    def with_key(cls, record: ApiKey, partner_ref: str | None, *, key: str) -> Self:
        return cls.model_validate({**_columns(record), "partner": partner_ref, "key": key})


class AcceptorDetails(BaseModel):
    """What a card transaction calls a place, and what it is."""

    acquirer_id: ExternalId
    acceptor_id: ExternalId
    name: ShortText
    channel: Literal["in_store", "online"]
    mcc: Annotated[str, StringConstraints(pattern=r"^\d{4}$")]  # ISO 18245
    country: Country


class MerchantLine(AcceptorDetails):
    """One line of the operator's own file."""

    partner: PartnerRef


class MerchantIn(AcceptorDetails):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "acquirer_id": "ACQ-1",
                    "acceptor_id": "88230017",
                    "name": "Corner Coffee, Main Street",
                    "channel": "in_store",
                    "mcc": "5814",
                    "country": "US",
                }
            ]
        },
    )

    partner: PartnerRefOrId | None = Field(
        default=None, description="ref or id: the operator names it, a partner's key means its own"
    )
    state: Literal["proposed", "confirmed"] = "proposed"


class MerchantOut(AcceptorDetails):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "acquirer_id": "ACQ-1",
                    "acceptor_id": "88230017",
                    "name": "Corner Coffee, Main Street",
                    "channel": "in_store",
                    "mcc": "5814",
                    "country": "US",
                    "id": "0198f0c2-7d10-7000-8000-000000000002",
                    "partner": "corner-coffee",
                    "state": "confirmed",
                    "confirmed_at": "2026-07-01T10:00:00Z",
                    "created_at": "2026-07-01T09:05:00Z",
                }
            ]
        }
    )

    id: UUID
    partner: str
    state: Literal["proposed", "confirmed"]
    confirmed_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, acceptor: Acceptor, partner_ref: str) -> Self:
        return cls.model_validate({**_columns(acceptor), "partner": partner_ref})


def _columns(row: ApiKey | Acceptor) -> dict[str, object]:
    return {column.key: getattr(row, column.key) for column in row.__table__.columns}
