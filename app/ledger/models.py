from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base
from app.kit.ids import new_id

ACCOUNTS = "('partner_payable', 'member_due', 'issuer_settlement', 'programme')"


class Transfer(Base):
    """Append-only: nobody may update or delete. A balance is a SUM of these."""

    __tablename__ = "transfers"
    __table_args__ = (
        UniqueConstraint("cause_kind", "cause_id", "code"),
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint("debit_account <> credit_account", name="two_accounts"),
        CheckConstraint(f"debit_account IN {ACCOUNTS}", name="debit"),
        CheckConstraint(f"credit_account IN {ACCOUNTS}", name="credit"),
        CheckConstraint("code IN ('reward', 'credit', 'adjustment')", name="code"),
        CheckConstraint(
            "CASE code WHEN 'reward' THEN adjustment_id IS NULL "
            "WHEN 'adjustment' THEN adjustment_id IS NOT NULL ELSE true END",
            name="adjustment",
        ),
        CheckConstraint(
            "adjustment_id IS NOT NULL OR redemption_id IS NOT NULL",
            name="redemption_unless_adjusted",
        ),
        # an adjustment at the programme's expense may concern no partner; an invoice has to
        CheckConstraint(
            "partner_id IS NOT NULL OR (adjustment_id IS NOT NULL "
            "AND 'partner_payable' NOT IN (debit_account, credit_account))",
            name="partner_unless_adjusted",
        ),
        CheckConstraint(
            "(code = 'adjustment') = (operator IS NOT NULL AND reason IS NOT NULL)",
            name="adjustment_is_signed",
        ),
        Index("ix_transfers_redemption_id", "redemption_id"),
        # in the order of time as they are written: a month is a few ranges of pages
        Index("ix_transfers_at", "at", postgresql_using="brin"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    debit_account: Mapped[str]
    credit_account: Mapped[str]
    amount_minor: Mapped[int]
    currency: Mapped[str]
    code: Mapped[str]
    cause_kind: Mapped[str]  # transaction | credit_line | adjustment
    cause_id: Mapped[str]
    partner_id: Mapped[UUID | None] = mapped_column(ForeignKey("partners.id", ondelete="RESTRICT"))
    member_id: Mapped[UUID] = mapped_column(ForeignKey("members.id", ondelete="RESTRICT"))
    redemption_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("redemptions.id", ondelete="RESTRICT")
    )
    adjustment_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("adjustments.id", ondelete="RESTRICT")
    )
    operator: Mapped[str | None]
    reason: Mapped[str | None]
    at: Mapped[datetime]


class Adjustment(Base):
    """Money that the operator gives, or, negative, takes back, outside the rules. Only what has
    been credited of it may change.
    """

    __tablename__ = "adjustments"
    __table_args__ = (
        CheckConstraint("amount_minor <> 0", name="amount"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("funded_by IN ('programme', 'partner')", name="funded_by"),
        CheckConstraint("funded_by = 'programme' OR partner_id IS NOT NULL", name="partner"),
        # all of it is in a credit batch, or nothing: no two batches can ask for it
        CheckConstraint("credited_minor IN (0, amount_minor)", name="credited"),
        Index("ix_adjustments_member_id", "member_id"),
        # what the next credit batch has to take up
        Index(
            "ix_adjustments_uncredited",
            "id",
            postgresql_where=text("amount_minor <> credited_minor"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    ref: Mapped[str] = mapped_column(unique=True)  # the caller's: a retry pays nothing twice
    member_id: Mapped[UUID] = mapped_column(ForeignKey("members.id", ondelete="RESTRICT"))
    partner_id: Mapped[UUID | None] = mapped_column(ForeignKey("partners.id", ondelete="RESTRICT"))
    redemption_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("redemptions.id", ondelete="RESTRICT")
    )
    amount_minor: Mapped[int]
    currency: Mapped[str]
    funded_by: Mapped[str]
    reason: Mapped[str]
    operator: Mapped[str]
    # sum of the lines in credit batches that have not failed
    credited_minor: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime]


class CreditBatch(Base):
    __tablename__ = "credit_batches"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'acknowledged')", name="state"),
        CheckConstraint(
            "(state = 'acknowledged') = (acknowledged_at IS NOT NULL)", name="acknowledged"
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    state: Mapped[str] = mapped_column(server_default="open")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    acknowledged_at: Mapped[datetime | None]


class CreditLine(Base):
    """One statement credit, or, negative, one taken back: of a redemption or of an adjustment."""

    __tablename__ = "credit_lines"
    __table_args__ = (
        UniqueConstraint("batch_id", "redemption_id"),
        UniqueConstraint("batch_id", "adjustment_id"),
        CheckConstraint("num_nonnulls(redemption_id, adjustment_id) = 1", name="one_cause"),
        CheckConstraint("amount_minor <> 0", name="amount"),
        CheckConstraint("state IN ('pending', 'acknowledged', 'failed')", name="state"),
        CheckConstraint("(state = 'failed') = (failure IS NOT NULL)", name="failure"),
        Index("ix_credit_lines_redemption_id", "redemption_id"),
        Index("ix_credit_lines_card_ref", "card_ref"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    batch_id: Mapped[UUID] = mapped_column(ForeignKey("credit_batches.id", ondelete="RESTRICT"))
    redemption_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("redemptions.id", ondelete="RESTRICT")
    )
    adjustment_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("adjustments.id", ondelete="RESTRICT")
    )
    member_id: Mapped[UUID] = mapped_column(ForeignKey("members.id", ondelete="RESTRICT"))
    card_ref: Mapped[str] = mapped_column(
        ForeignKey("cards.ref", onupdate="CASCADE", ondelete="RESTRICT")
    )
    amount_minor: Mapped[int]
    currency: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="pending")
    failure: Mapped[str | None]
