from datetime import datetime
from typing import Self
from uuid import UUID

from pydantic import BaseModel, Field

from app.kit.fields import ShortText
from app.ledger.models import CreditLine
from app.ledger.queries import BatchRow

FAILURES_MAX = 100_000


class FailureIn(BaseModel):
    line_id: UUID
    reason: ShortText


class AcknowledgementIn(BaseModel):
    """Every line that is not named was booked."""

    failures: list[FailureIn] = Field(default=[], max_length=FAILURES_MAX)


class Total(BaseModel):
    amount_minor: int
    currency: str


class BatchOut(BaseModel):
    """`totals` are of the lines that have not failed."""

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
    """A negative amount is taken back from the card."""

    id: UUID
    redemption_id: UUID
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
    items: list[LineOut]
    next_cursor: str | None
