from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base
from app.kit.ids import new_id


class Member(Base):
    __tablename__ = "members"
    __table_args__ = (CheckConstraint("country ~ '^[A-Z]{2}$'", name="country"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    ref: Mapped[str] = mapped_column(unique=True)
    locale: Mapped[str | None]
    time_zone: Mapped[str | None]
    country: Mapped[str | None]
    opted_out_at: Mapped[datetime | None]
    # nothing here tells any more who he was; what money hangs on goes on referring to the row
    erased_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Account(Base):
    """A member's account on a network, known by its immutable id; the handle may change."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("proved_by IN ('oauth', 'issuer')", name="proved_by"),
        Index("ix_accounts_member_id", "member_id"),
        Index(
            "ix_accounts_look_back_at",
            "look_back_at",
            postgresql_where=text("look_back_at IS NOT NULL"),
        ),
    )

    network: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(primary_key=True)
    member_id: Mapped[UUID] = mapped_column(ForeignKey("members.id", ondelete="RESTRICT"))
    handle: Mapped[str | None]
    proved_by: Mapped[str]
    linked_at: Mapped[datetime]
    # when to decide again on what he posted before he was linked; None: that is done
    look_back_at: Mapped[datetime | None]


class StoppedAccount(Base):
    """Whose holder has said "stop", linked or not: no reply, no coupon, no invitation. A consent
    that is newer takes it away.
    """

    __tablename__ = "stopped_accounts"
    __table_args__ = (CheckConstraint("told_by IN ('post', 'message', 'page')", name="told_by"),)

    network: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(primary_key=True)
    told_by: Mapped[str]
    stopped_at: Mapped[datetime]


class UnlinkedAccount(Base):
    """Which account a member had and has no more: an older line of the issuer's does not bring it
    back, a consent that is newer does.
    """

    __tablename__ = "unlinked_accounts"
    __table_args__ = (Index("ix_unlinked_accounts_member_id", "member_id"),)

    network: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(primary_key=True)
    member_id: Mapped[UUID] = mapped_column(
        ForeignKey("members.id", ondelete="RESTRICT"), primary_key=True
    )
    unlinked_at: Mapped[datetime]


class ErasedName(Base):
    """The digest of what an erased member was called, or of an account of his: by it an older line
    or link does not bring him back, and the account is left alone. The name itself is nowhere.
    """

    __tablename__ = "erased_names"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    erased_at: Mapped[datetime]


class Card(Base):
    """A card as its issuer names it. There is no card number here, nor anywhere."""

    __tablename__ = "cards"
    __table_args__ = (
        CheckConstraint("state IN ('active', 'replaced', 'removed')", name="state"),
        CheckConstraint(r"last4 ~ '^\d{4}$'", name="last4"),
        CheckConstraint("replaced_by <> ref", name="replaced_by"),
        Index("ix_cards_member_id", "member_id"),
        Index(
            "ix_cards_replaced_by",
            "replaced_by",
            postgresql_where=text("replaced_by IS NOT NULL"),
        ),
    )

    ref: Mapped[str] = mapped_column(primary_key=True)
    member_id: Mapped[UUID] = mapped_column(ForeignKey("members.id", ondelete="RESTRICT"))
    network: Mapped[str | None]
    last4: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default="active")
    replaced_by: Mapped[str | None] = mapped_column(
        ForeignKey("cards.ref", onupdate="CASCADE", ondelete="RESTRICT")
    )
    added_at: Mapped[datetime]
    # the last time: what the issuer has signed before it does not bring the card back
    removed_at: Mapped[datetime | None]


class Consent(Base):
    """Append-only: given and withdrawn are two rows."""

    __tablename__ = "consents"
    __table_args__ = (
        CheckConstraint("act IN ('given', 'withdrawn')", name="act"),
        Index("ix_consents_member_id", "member_id"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    member_id: Mapped[UUID] = mapped_column(ForeignKey("members.id", ondelete="RESTRICT"))
    act: Mapped[str]
    text_version: Mapped[str]
    at: Mapped[datetime]


class PurchaseSummary(Base):
    """What a member has bought at a partner: tells new, returning and lapsed customers apart."""

    __tablename__ = "purchase_summaries"
    __table_args__ = (
        CheckConstraint("purchases > 0", name="purchases"),
        CheckConstraint("first_at <= last_at", name="order"),
    )

    member_id: Mapped[UUID] = mapped_column(
        ForeignKey("members.id", ondelete="RESTRICT"), primary_key=True
    )
    partner_id: Mapped[UUID] = mapped_column(
        ForeignKey("partners.id", ondelete="RESTRICT"), primary_key=True
    )
    purchases: Mapped[int]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
