"""Partners' JSON, of requests and of files."""

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

from app.kit.fields import Country, Currency, ExternalId, Instant, ShortText, is_no_card_number
from app.partners.models import Acceptor, ApiKey, AuditEntry, Partner
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


class PartnerChange(BaseModel):
    """What is to change, and nothing else. Null takes the credit limit away, both halves of it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "Corner Coffee and Cakes"}]}
    )

    name: ShortText | None = None
    credit_limit_minor: int | None = Field(default=None, ge=0, lt=2**63)
    credit_currency: Currency | None = None

    @model_validator(mode="after")
    def _keeps_a_name(self) -> Self:
        if self.name is None and "name" in self.model_fields_set:
            raise ValueError("a partner has a name")
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


RateLimit = Annotated[int, Field(ge=1, le=1_000_000)]


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
    rate_limit_per_minute: RateLimit | None = Field(
        default=None, description="requests; the role's own limit if unset"
    )


class RotationIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"overlap_hours": 48}]}
    )

    overlap_hours: int = Field(
        default=24, ge=0, le=168, description="how long the old key still works"
    )
    expires_at: Instant | None = Field(
        default=None,
        description="of the new key; if unset, it lives as long as the old one was made for",
    )


class KeyChange(BaseModel):
    """Null brings the role's own limit back. It holds for all keys that were made from this one by
    rotation, and for those it was made from.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"rate_limit_per_minute": 600}, {"rate_limit_per_minute": None}]
        },
    )

    rate_limit_per_minute: RateLimit | None


_KEY: dict[str, Any] = {
    "id": "0198f0c2-7d10-7000-8000-000000000006",
    "hint": "tb_Zk3vQ",
    "role": "partner",
    "partner": "corner-coffee",
    "created_at": "2026-07-01T09:01:00Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
    "family_id": "0198f0c2-7d10-7000-8000-00000000000e",
    "rotated_from": None,
    "rate_limit_per_minute": None,
}


class KeyOut(BaseModel):
    """Keys of one `family_id` were made from each other by rotation and share one limit, which is
    null where it is the role's own.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_KEY]})

    id: UUID
    hint: str
    role: Role
    partner: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    family_id: UUID
    rotated_from: UUID | None
    rate_limit_per_minute: int | None

    @classmethod
    def of(cls, key: ApiKey, partner_ref: str | None) -> Self:
        return cls.model_validate(_shown(key, partner_ref))


class CurrentKeyOut(KeyOut):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_KEY, "requests_per_minute": 1200}]}
    )

    requests_per_minute: int | None = Field(
        description="what this key may make, with the others of its family; null: any number"
    )

    @classmethod
    def with_limit(
        cls, key: ApiKey, partner_ref: str | None, *, requests_per_minute: int | None
    ) -> Self:
        shown = _shown(key, partner_ref)
        return cls.model_validate({**shown, "requests_per_minute": requests_per_minute})


class NewKeyOut(KeyOut):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{**_KEY, "key": "tb_Zk3vQ8d1xTgY5mWb7rJn2cLf9hKp4sVu6aEoR0iX"}]
        }
    )

    key: str = Field(description="shown this once: only its hash is kept")

    @classmethod
    def with_key(cls, record: ApiKey, partner_ref: str | None, *, key: str) -> Self:
        return cls.model_validate({**_shown(record, partner_ref), "key": key})


def _shown(key: ApiKey, partner_ref: str | None) -> dict[str, object]:
    own = KeyOut.model_fields.keys() - {"partner"}
    return {**{name: getattr(key, name) for name in own}, "partner": partner_ref}


Channel = Literal["in_store", "online"]
CategoryCode = Annotated[str, StringConstraints(pattern=r"^\d{4}$")]  # ISO 18245
MerchantState = Literal["proposed", "confirmed", "refused"]


class AcceptorDetails(BaseModel):
    """What a card transaction calls a place, and what it is."""

    acquirer_id: ExternalId
    acceptor_id: ExternalId
    name: ShortText
    channel: Channel
    mcc: CategoryCode
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


class MerchantChange(BaseModel):
    """What is to change, and nothing else."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "Corner Coffee, Main Street 7"}]}
    )

    acquirer_id: ExternalId | None = None
    acceptor_id: ExternalId | None = None
    name: ShortText | None = None
    channel: Channel | None = None
    mcc: CategoryCode | None = None
    country: Country | None = None


class RefusalIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"reason": "The name is not the one over the door."}]},
    )

    reason: ShortText = Field(description="which the partner reads")


class MerchantOut(AcceptorDetails):
    """`refusal` is the operator's reason."""

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
                    "refusal": None,
                    "confirmed_at": "2026-07-01T10:00:00Z",
                    "created_at": "2026-07-01T09:05:00Z",
                }
            ]
        }
    )

    id: UUID
    partner: str
    state: MerchantState
    confirmed_at: datetime | None
    refusal: str | None
    created_at: datetime

    @classmethod
    def of(cls, acceptor: Acceptor, partner_ref: str) -> Self:
        own = cls.model_fields.keys() - {"partner"}
        return cls.model_validate(
            {**{name: getattr(acceptor, name) for name in own}, "partner": partner_ref}
        )


class AuditEntryOut(BaseModel):
    """`actor` is `key:` and the key's id, or what did it without one. `before` and `after` are what
    changed of the subject.
    """

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": 42,
                    "at": "2026-07-01T10:00:00Z",
                    "actor": "key:0198f0c2-7d10-7000-8000-00000000000f",
                    "action": "partner.change",
                    "subject_kind": "partner",
                    "subject_id": "0198f0c2-7d10-7000-8000-0000000000a1",
                    "before": {"name": "Corner Coffee"},
                    "after": {"name": "Corner Coffee and Cakes"},
                }
            ]
        },
    )

    id: int
    at: datetime
    actor: str
    action: str
    subject_kind: str
    subject_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        return cls.model_validate(entry)
