from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base
from app.kit.ids import new_id


class Claim(Base):
    """A member says that a purchase is missing."""

    __tablename__ = "claims"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'accepted', 'refused')", name="state"),
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint(
            "num_nonnulls(decided_at, decided_by, reason) = CASE state WHEN 'open' THEN 0 ELSE 3 "
            "END",
            name="decided",
        ),
        CheckConstraint("(state = 'accepted') = (adjustment_id IS NOT NULL)", name="accepted"),
        Index("ix_claims_member_id", "member_id"),
        # a missing purchase is missing once
        Index(
            "uq_claims_transaction",
            "member_id",
            "transaction_id",
            unique=True,
            postgresql_where=text("state <> 'refused'"),
        ),
        Index("ix_claims_open", "id", postgresql_where=text("state = 'open'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    ref: Mapped[str] = mapped_column(unique=True)  # the caller's: a retry makes no second claim
    member_id: Mapped[UUID] = mapped_column(ForeignKey("members.id", ondelete="RESTRICT"))
    partner_id: Mapped[UUID | None] = mapped_column(ForeignKey("partners.id", ondelete="RESTRICT"))
    transaction_id: Mapped[str | None]  # as the member gives it: it may be unknown
    amount_minor: Mapped[int]  # of the purchase
    currency: Mapped[str]
    occurred_at: Mapped[datetime]
    note: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="open")
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]
    reason: Mapped[str | None]
    adjustment_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("adjustments.id", ondelete="RESTRICT"), unique=True
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
