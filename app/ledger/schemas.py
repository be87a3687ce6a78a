from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.kit.fields import Currency, InMinorUnits, Ref, ShortText
from app.ledger.adjustments import FundedBy
from app.ledger.models import Adjustment, CreditLine
from app.ledger.queries import BatchRow, InvoiceRow
from app.offers.schemas import AMOUNT_MAX

FAILURES_MAX = 100_000


def _not_zero(value: int) -> int:
    if value == 0:
        raise ValueError("an amount other than 0")
    return value


class FailureIn(BaseModel):
    line_id: UUID
    reason: ShortText


class AcknowledgementIn(BaseModel):
    """Every line that is not named was booked."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "failures": [
                        {
                            "line_id": "0198f0c2-7d10-7000-8000-00000000000a",
                            "reason": "account closed",
                        }
                    ]
                }
            ]
        }
    )

    failures: list[FailureIn] = Field(default=[], max_length=FAILURES_MAX)


class Total(BaseModel):
    amount_minor: int
    currency: str


class BatchOut(BaseModel):
    """`totals` are of the lines that have not failed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0198f0c2-7d10-7000-8000-000000000009",
                    "state": "sent",
                    "created_at": "2026-07-16T02:00:00Z",
                    "acknowledged_at": None,
                    "lines": 1,
                    "failed": 0,
                    "totals": [{"amount_minor": 500, "currency": "USD"}],
                }
            ]
        }
    )

    id: UUID
    state: str
    created_at: datetime
    acknowledged_at: datetime | None
    lines: int
    failed: int
    totals: list[Total]

    @classmethod
    def of(cls, row: BatchRow) -> Self:
        return cls(
            id=row.batch.id,
            state=row.batch.state,
            created_at=row.batch.created_at,
            acknowledged_at=row.batch.acknowledged_at,
            lines=row.lines,
            failed=row.failed,
            totals=[
                Total(amount_minor=amount, currency=name) for name, amount in row.totals.items()
            ],
        )


class LineOut(BaseModel):
    """Of a redemption or of an adjustment. A negative amount is taken back from the card."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0198f0c2-7d10-7000-8000-00000000000a",
                    "redemption_id": "0198f0c2-7d10-7000-8000-00000000000b",
                    "adjustment_id": None,
                    "member_id": "0198f0c2-7d10-7000-8000-000000000004",
                    "card_ref": "card-7f3a",
                    "amount_minor": 500,
                    "currency": "USD",
                    "state": "sent",
                    "failure": None,
                }
            ]
        }
    )

    id: UUID
    redemption_id: UUID | None
    adjustment_id: UUID | None
    member_id: UUID
    card_ref: str
    amount_minor: int
    currency: str
    state: str
    failure: str | None

    @classmethod
    def of(cls, line: CreditLine) -> Self:
        return cls.model_validate(line, from_attributes=True)


class BatchWithLines(BatchOut):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0198f0c2-7d10-7000-8000-000000000009",
                    "state": "sent",
                    "created_at": "2026-07-16T02:00:00Z",
                    "acknowledged_at": None,
                    "lines": 1,
                    "failed": 0,
                    "totals": [{"amount_minor": 500, "currency": "USD"}],
                    "items": [
                        {
                            "id": "0198f0c2-7d10-7000-8000-00000000000a",
                            "redemption_id": "0198f0c2-7d10-7000-8000-00000000000b",
                            "adjustment_id": None,
                            "member_id": "0198f0c2-7d10-7000-8000-000000000004",
                            "card_ref": "card-7f3a",
                            "amount_minor": 500,
                            "currency": "USD",
                            "state": "sent",
                            "failure": None,
                        }
                    ],
                    "next_cursor": None,
                }
            ]
        }
    )

    items: list[LineOut]
    next_cursor: str | None


class AdjustmentIn(BaseModel):
    """A negative amount is taken back from the member."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "ref": "goodwill-17",
                    "member_id": "0198f0c2-7d10-7000-8000-000000000004",
                    "amount_minor": 200,
                    "currency": "USD",
                    "funded_by": "programme",
                    "reason": "the till was slow",
                }
            ]
        },
    )

    ref: Ref = Field(description="your own name for it: the same again changes nothing")
    member_id: UUID
    partner_id: UUID | None = Field(
        default=None, description="who pays, or whom it concerns; a redemption's is known"
    )
    redemption_id: UUID | None = None
    amount_minor: Annotated[
        int, Field(ge=-AMOUNT_MAX, le=AMOUNT_MAX), InMinorUnits, AfterValidator(_not_zero)
    ]
    currency: Currency
    funded_by: FundedBy
    reason: ShortText


class AdjustmentOut(BaseModel):
    """`credited_minor` is what credit batches have taken up of it: all, or 0."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "0198f0c2-7d10-7000-8000-000000000008",
                    "ref": "goodwill-17",
                    "member_id": "0198f0c2-7d10-7000-8000-000000000004",
                    "partner_id": None,
                    "redemption_id": None,
                    "amount_minor": 200,
                    "currency": "USD",
                    "funded_by": "programme",
                    "reason": "the till was slow",
                    "operator": "key:0198f0c2-7d10-7000-8000-00000000000f",
                    "credited_minor": 0,
                    "created_at": "2026-07-16T08:00:00Z",
                }
            ]
        },
    )

    id: UUID
    ref: str
    member_id: UUID
    partner_id: UUID | None
    redemption_id: UUID | None
    amount_minor: int
    currency: str
    funded_by: FundedBy
    reason: str
    operator: str
    credited_minor: int
    created_at: datetime

    @classmethod
    def of(cls, adjustment: Adjustment) -> Self:
        return cls.model_validate(adjustment)


class InvoiceOut(BaseModel):
    """What a partner owes for a month, in minor units of `currency`: `payable_minor` is rewards,
    less those taken back, and adjustments. `redemptions` counts those that any of it is about.
    Once it `is_final`, it does not change.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "month": "2026-07",
                    "is_final": False,
                    "partner_id": "0198f0c2-7d10-7000-8000-000000000001",
                    "partner": "corner-coffee",
                    "currency": "USD",
                    "rewards_minor": 500,
                    "taken_back_minor": 0,
                    "adjustments_minor": 0,
                    "payable_minor": 500,
                    "redemptions": 1,
                }
            ]
        }
    )

    month: str
    is_final: bool
    partner_id: UUID
    partner: str
    currency: str
    rewards_minor: int
    taken_back_minor: int
    adjustments_minor: int
    payable_minor: int
    redemptions: int

    @classmethod
    def of(cls, row: InvoiceRow, *, month: str, is_final: bool) -> Self:
        return cls(
            month=month,
            is_final=is_final,
            partner_id=row.partner_id,
            partner=row.partner_ref,
            currency=row.currency,
            rewards_minor=row.rewards_minor,
            taken_back_minor=row.taken_back_minor,
            adjustments_minor=row.adjustments_minor,
            payable_minor=row.payable_minor,
            redemptions=row.redemptions,
        )
