from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base
from app.kit.ids import new_id


class Purchase(Base):
    """What an authorisation, its clearings, reversals and refunds add up to."""

    __tablename__ = "purchases"
    __table_args__ = (
        CheckConstraint(
            "authorised_minor >= 0 AND reversed_minor >= 0 AND cleared_minor >= 0 "
            "AND refunded_minor >= 0 AND net_minor BETWEEN 0 AND cleared_minor",
            name="not_negative",
        ),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        # a refund with no link finds the newest purchase of the card at the partner
        Index("ix_purchases_card_partner", "card_ref", "partner_id", "occurred_at"),
        # what lapses next
        Index(
            "ix_purchases_open",
            "lapses_at",
            postgresql_where=text("cleared_minor = 0 AND NOT lapsed AND lapses_at IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    ref: Mapped[str] = mapped_column(unique=True)
    member_id: Mapped[UUID] = mapped_column(ForeignKey("members.id", ondelete="RESTRICT"))
    card_ref: Mapped[str] = mapped_column(
        ForeignKey("cards.ref", onupdate="CASCADE", ondelete="RESTRICT")
    )
    acceptor_id: Mapped[UUID] = mapped_column(ForeignKey("acceptors.id", ondelete="RESTRICT"))
    partner_id: Mapped[UUID] = mapped_column(ForeignKey("partners.id", ondelete="RESTRICT"))
    channel: Mapped[str]
    currency: Mapped[str]
    occurred_at: Mapped[datetime]  # its own time decides validity, not that of its submission
    authorised_minor: Mapped[int] = mapped_column(server_default="0")
    reversed_minor: Mapped[int] = mapped_column(server_default="0")
    cleared_minor: Mapped[int] = mapped_column(server_default="0")
    refunded_minor: Mapped[int] = mapped_column(server_default="0")
    net_minor: Mapped[int] = mapped_column(server_default="0")  # what was bought and kept
    authorised_at: Mapped[datetime | None]  # the newest authorisation's time
    declined_at: Mapped[datetime | None]  # the newest decline's
    lapses_at: Mapped[datetime | None]
    lapsed: Mapped[bool] = mapped_column(server_default=text("false"))
    customer_kind: Mapped[str]  # new | returning | lapsed, as it was at this purchase
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CardTransaction(Base):
    """One message of the issuer or its processor, kept as it was, with the answer it was given."""

    __tablename__ = "card_transactions"
    __table_args__ = (
        CheckConstraint(
            "type IN ('authorization', 'clearing', 'reversal', 'refund', 'chargeback', 'decline')",
            name="type",
        ),
        CheckConstraint("amount_minor >= 0", name="amount"),
        CheckConstraint("purchase_id IS NOT NULL OR type = 'refund'", name="purchase"),
        Index("ix_card_transactions_purchase_id", "purchase_id"),
        Index(
            "ix_card_transactions_unmatched",
            "card_ref",
            postgresql_where=text("purchase_id IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    purchase_ref: Mapped[str | None]
    purchase_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("purchases.id", ondelete="RESTRICT")
    )
    card_ref: Mapped[str]
    acceptor_id: Mapped[UUID] = mapped_column(ForeignKey("acceptors.id", ondelete="RESTRICT"))
    amount_minor: Mapped[int]
    currency: Mapped[str]
    occurred_at: Mapped[datetime]
    received_at: Mapped[datetime]
    answer: Mapped[dict[str, Any]]  # a repeat is answered as the first time


class Redemption(Base):
    """A purchase's reward: at most one."""

    __tablename__ = "redemptions"
    __table_args__ = (
        CheckConstraint("state IN ('pending', 'earned', 'returned', 'rejected')", name="state"),
        CheckConstraint("(state = 'rejected') = (reason IS NOT NULL)", name="reason"),
        CheckConstraint(
            "reason IN ('late', 'lapsed', 'below_minimum', 'channel', 'acceptor', 'currency', "
            "'reversed', 'used_up')",
            name="reason_known",
        ),
        CheckConstraint("owed_minor >= 0", name="owed"),
        CheckConstraint("(state = 'earned') = (owed_minor > 0)", name="earned"),
        Index("ix_redemptions_coupon_id", "coupon_id"),
        # what the next credit batch has to take up
        Index(
            "ix_redemptions_uncredited", "id", postgresql_where=text("owed_minor <> credited_minor")
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    purchase_id: Mapped[UUID] = mapped_column(
        ForeignKey("purchases.id", ondelete="RESTRICT"), unique=True
    )
    coupon_id: Mapped[UUID] = mapped_column(ForeignKey("coupons.id", ondelete="RESTRICT"))
    state: Mapped[str]
    reason: Mapped[str | None]
    decided: Mapped[bool]  # the first clearing fixes the coupon; before that it is provisional
    holds_use: Mapped[bool]  # one of the coupon's uses is this purchase's
    owed_minor: Mapped[int] = mapped_column(server_default="0")
    # sum of the lines in credit batches that have not failed
    credited_minor: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class RedemptionChange(Base):
    """The feed that attribution follows: one row whenever a redemption's figures change."""

    __tablename__ = "redemption_changes"

    seq: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    redemption_id: Mapped[UUID]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
