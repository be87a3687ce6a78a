from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base
from app.kit.ids import new_id


class Partner(Base):
    __tablename__ = "partners"
    __table_args__ = (
        CheckConstraint("ref ~ '^[a-z0-9][a-z0-9._-]{0,62}$'", name="ref"),
        CheckConstraint("(credit_limit_minor IS NULL) = (credit_currency IS NULL)", name="credit"),
        CheckConstraint("credit_limit_minor >= 0", name="credit_limit"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    ref: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    # offers whose budget fits into the limit are published without the operator's approval
    credit_limit_minor: Mapped[int | None]
    credit_currency: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Acceptor(Base):
    """A place that takes cards: what the acquirer and it are called in a card transaction."""

    __tablename__ = "acceptors"
    __table_args__ = (
        UniqueConstraint("partner_id", "acquirer_id", "acceptor_id"),
        # nobody reads a rival's sales by claiming its shop: many may propose, one is confirmed
        Index(
            "uq_acceptors_confirmed",
            "acquirer_id",
            "acceptor_id",
            unique=True,
            postgresql_where=text("state = 'confirmed'"),
        ),
        CheckConstraint("channel IN ('in_store', 'online')", name="channel"),
        CheckConstraint("state IN ('proposed', 'confirmed', 'refused')", name="state"),
        CheckConstraint("(state = 'confirmed') = (confirmed_at IS NOT NULL)", name="confirmed"),
        CheckConstraint("(state = 'refused') = (refusal IS NOT NULL)", name="refusal"),
        CheckConstraint(r"mcc ~ '^\d{4}$'", name="mcc"),
        CheckConstraint("country ~ '^[A-Z]{2}$'", name="country"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    partner_id: Mapped[UUID] = mapped_column(ForeignKey("partners.id", ondelete="RESTRICT"))
    acquirer_id: Mapped[str]
    acceptor_id: Mapped[str]
    name: Mapped[str]
    channel: Mapped[str]
    mcc: Mapped[str]
    country: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="proposed")
    confirmed_at: Mapped[datetime | None]
    refusal: Mapped[str | None]  # the operator's reason, until the partner corrects it
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKey(Base):
    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(
            "role IN ('operator', 'issuer', 'processor', 'partner', 'analyst')", name="role"
        ),
        CheckConstraint("role <> 'partner' OR partner_id IS NOT NULL", name="partner_bound"),
        CheckConstraint(
            "partner_id IS NULL OR role IN ('partner', 'analyst')", name="partner_role"
        ),
        CheckConstraint("rate_limit_per_minute > 0", name="rate_limit"),
        Index("ix_api_keys_partner_id", "partner_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    # SHA-256 of a key with 238 bits of chance in it: nothing to gain from a slow hash
    hash: Mapped[bytes] = mapped_column(unique=True, deferred=True, deferred_raiseload=True)
    hint: Mapped[str]  # the first characters, to tell keys apart
    role: Mapped[str]
    partner_id: Mapped[UUID | None] = mapped_column(ForeignKey("partners.id", ondelete="RESTRICT"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    # the first of those that were made from each other by rotation; their limit is one
    family_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id", ondelete="RESTRICT"))
    rotated_from: Mapped[UUID | None] = mapped_column(
        ForeignKey("api_keys.id", ondelete="RESTRICT"), unique=True
    )
    rate_limit_per_minute: Mapped[int | None] = mapped_column(Integer)  # unset: the role's


class IdempotencyKey(Base):
    """A request that was answered, for a day. What is here is derived from the caller's token, or
    sealed by it, and means nothing without it. No foreign key: to claim one would lock the API key.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_claimed_at", "claimed_at"),)

    api_key_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[bytes] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    claimed_at: Mapped[datetime]
    answer: Mapped[bytes | None]  # null only within the transaction that claims it


class AuditEntry(Base):
    """Append-only: the engine role may insert and read, nothing else."""

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index("ix_audit_entries_subject", "subject_kind", "subject_id"),
        Index("ix_audit_entries_actor", "actor", "id"),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str]
    action: Mapped[str]
    subject_kind: Mapped[str]
    subject_id: Mapped[str]
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
