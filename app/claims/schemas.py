from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from app.claims.models import Claim
from app.claims.service import Explanation
from app.kit.fields import Currency, Instant, Ref, ShortText, is_no_card_number
from app.ledger.adjustments import FundedBy
from app.offers.schemas import Amount
from app.partners.schemas import PartnerRefOrId
from app.redemptions.transactions import FIELD_CHARACTERS_MAX

State = Literal["open", "accepted", "refused"]
TransactionId = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=FIELD_CHARACTERS_MAX, pattern=r"^[^\x00-\x1f\x7f]*$"
    ),
    AfterValidator(is_no_card_number),
]


class ClaimIn(BaseModel):
    """A purchase of which the member says that it is missing: the amount is its own."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "ref": "claim-31",
                    "transaction_id": "tx-2001",
                    "amount_minor": 1250,
                    "currency": "USD",
                    "occurred_at": "2026-07-15T15:00:00Z",
                    "partner": "corner-coffee",
                    "note": "paid at the terrace, no money back",
                },
                {
                    "ref": "claim-32",
                    "amount_minor": 400,
                    "currency": "USD",
                    "occurred_at": "2026-07-14T15:00:00Z",
                    "note": "a coffee to go",
                },
            ]
        },
    )

    ref: Ref = Field(description="your own name for it: the same again changes nothing")
    transaction_id: TransactionId | None = Field(
        default=None, description="of any of the purchase's card transactions"
    )
    amount_minor: Amount
    currency: Currency
    occurred_at: Instant
    partner: PartnerRefOrId | None = Field(default=None, description="ref or id")
    note: ShortText


class AcceptanceIn(BaseModel):
    """What the member is given, in the claim's currency."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "amount_minor": 500,
                    "funded_by": "programme",
                    "reason": "the terminal at the terrace was new",
                }
            ]
        },
    )

    amount_minor: Amount
    funded_by: FundedBy
    partner: PartnerRefOrId | None = Field(
        default=None, description="ref or id of who pays; the claim's own if not given"
    )
    reason: ShortText


class RefusalIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"reason": "below the minimum of 10.00 USD"}]},
    )

    reason: ShortText


class ClaimOut(BaseModel):
    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "0198f0c2-7d10-7000-8000-000000000007",
                    "ref": "claim-31",
                    "member_id": "0198f0c2-7d10-7000-8000-000000000004",
                    "transaction_id": "tx-2001",
                    "partner_id": "0198f0c2-7d10-7000-8000-000000000001",
                    "amount_minor": 1250,
                    "currency": "USD",
                    "occurred_at": "2026-07-15T15:00:00Z",
                    "note": "paid at the terrace, no money back",
                    "state": "open",
                    "reason": None,
                    "decided_at": None,
                    "adjustment_id": None,
                    "created_at": "2026-07-16T09:00:00Z",
                }
            ]
        },
    )

    id: UUID
    ref: str
    member_id: UUID
    transaction_id: str | None
    partner_id: UUID | None
    amount_minor: int
    currency: str
    occurred_at: datetime
    note: str
    state: State
    reason: str | None
    decided_at: datetime | None
    adjustment_id: UUID | None
    created_at: datetime

    @classmethod
    def of(cls, claim: Claim) -> Self:
        return cls.model_validate(claim)


class ExplanationOut(BaseModel):
    """`state` is that of the purchase's redemption, where it has one; of a transaction that is not
    known, or is another member's, there is the sentence alone.
    """

    model_config = ConfigDict(from_attributes=True)

    known: bool
    sentence: str
    state: str | None


class ExplainedClaim(ClaimOut):
    """With what is known of the transaction that it names: most claims are answered by it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0198f0c2-7d10-7000-8000-000000000007",
                    "ref": "claim-31",
                    "member_id": "0198f0c2-7d10-7000-8000-000000000004",
                    "transaction_id": "tx-2001",
                    "partner_id": "0198f0c2-7d10-7000-8000-000000000001",
                    "amount_minor": 1250,
                    "currency": "USD",
                    "occurred_at": "2026-07-15T15:00:00Z",
                    "note": "paid at the terrace, no money back",
                    "state": "open",
                    "reason": None,
                    "decided_at": None,
                    "adjustment_id": None,
                    "created_at": "2026-07-16T09:00:00Z",
                    "explanation": {
                        "known": False,
                        "sentence": "This transaction is not known.",
                        "state": None,
                    },
                }
            ]
        }
    )

    explanation: ExplanationOut | None = None

    @classmethod
    def with_explanation(cls, claim: Claim, explanation: Explanation | None) -> Self:
        told = None if explanation is None else ExplanationOut.model_validate(explanation)
        return cls.of(claim).model_copy(update={"explanation": told})
