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

    model_config = ConfigDict(extra="forbid")

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

    model_config = ConfigDict(extra="forbid")

    amount_minor: Amount
    funded_by: FundedBy
    partner: PartnerRefOrId | None = Field(
        default=None, description="ref or id of who pays; the claim's own if not given"
    )
    reason: ShortText


class RefusalIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: ShortText


class ClaimOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

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

    explanation: ExplanationOut | None = None

    @classmethod
    def with_explanation(cls, claim: Claim, explanation: Explanation | None) -> Self:
        told = None if explanation is None else ExplanationOut.model_validate(explanation)
        return cls.of(claim).model_copy(update={"explanation": told})
