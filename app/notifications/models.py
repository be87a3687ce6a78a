from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base
from app.kit.ids import new_id


class WebhookEndpoint(Base):
    """Where a partner wants to be told. What is deleted is kept until a job has taken away what
    hangs on it.
    """

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        CheckConstraint("url ~ '^https?://'", name="url"),
        CheckConstraint("events <> '{}'", name="events"),
        CheckConstraint("disabled_because IN ('asked', 'gone', 'deleted')", name="because"),
        CheckConstraint("(disabled_at IS NULL) = (disabled_because IS NULL)", name="disabled"),
        CheckConstraint(
            "(former_secret_sealed IS NULL) = (former_secret_until IS NULL)", name="former_secret"
        ),
        Index("ix_webhook_endpoints_partner_id", "partner_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    partner_id: Mapped[UUID] = mapped_column(ForeignKey("partners.id", ondelete="RESTRICT"))
    url: Mapped[str]
    events: Mapped[list[str] | None]  # null: all of them, those of later releases too
    description: Mapped[str | None]
    secret_sealed: Mapped[bytes]
    # signs along for a while, so that a receiver can change over when it suits him
    former_secret_sealed: Mapped[bytes | None]
    former_secret_until: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    disabled_because: Mapped[str | None]
    failing_since: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WebhookSequence(Base):
    """The number that an endpoint was last given for a subject."""

    __tablename__ = "webhook_sequences"

    endpoint_id: Mapped[UUID] = mapped_column(
        ForeignKey("webhook_endpoints.id", ondelete="RESTRICT"), primary_key=True
    )
    subject: Mapped[str] = mapped_column(primary_key=True)
    last: Mapped[int]


class WebhookDelivery(Base):
    """One event on its way to one endpoint. `not_before`: when it is tried next; while it is being
    sent, when its lease is over.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("endpoint_id", "subject", "sequence"),
        CheckConstraint("state IN ('queued', 'sending', 'delivered', 'parked')", name="state"),
        # what is due next
        Index(
            "ix_webhook_deliveries_waiting",
            "endpoint_id",
            "not_before",
            postgresql_where=text("state IN ('queued', 'sending')"),
        ),
        Index(
            "ix_webhook_deliveries_sending",
            "endpoint_id",
            postgresql_where=text("state = 'sending'"),
        ),
        # a range that is replayed, and what is old
        Index("ix_webhook_deliveries_endpoint", "endpoint_id", "created_at"),
        Index("ix_webhook_deliveries_created_at", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("uuidv7()"))
    endpoint_id: Mapped[UUID] = mapped_column(
        ForeignKey("webhook_endpoints.id", ondelete="RESTRICT")
    )
    event: Mapped[str]
    subject: Mapped[str]
    sequence: Mapped[int]
    data: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(server_default="queued")
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    not_before: Mapped[datetime]
    tried_until: Mapped[datetime]
    last_status: Mapped[int | None] = mapped_column(Integer)
    last_error: Mapped[str | None]
    ended_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
