from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Identity, Index, Integer, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class ReceivedPost(Base):
    """A post that named an offer. Its text is not kept."""

    __tablename__ = "posts"
    __table_args__ = (Index("ix_posts_author_id", "author_id", "posted_at"),)

    network: Mapped[str] = mapped_column(primary_key=True)
    post_id: Mapped[str] = mapped_column(primary_key=True)
    root_id: Mapped[str]  # the first post of its edit history: the identity that earns
    author_id: Mapped[str]
    posted_at: Mapped[datetime]
    received_at: Mapped[datetime]
    tags: Mapped[list[str]]
    mentions_programme: Mapped[bool]
    lang: Mapped[str | None]
    reach: Mapped[int | None] = mapped_column(Integer)  # followers of the author at that time
    source: Mapped[str]


class Decision(Base):
    """The one outcome of a (post, offer) pair. No foreign keys: the rows it belongs to are written
    by the same transaction, and the ledger's verification looks for orphans (ADR 4).
    """

    __tablename__ = "decisions"
    __table_args__ = (
        CheckConstraint("(outcome = 'loaded') = (coupon_id IS NOT NULL)", name="loaded"),
        Index(
            "ix_decisions_not_linked",
            "network",
            "author_id",
            postgresql_where=text("outcome = 'not_linked'"),
        ),
        # what an offer's posts of a month became
        Index("ix_decisions_offer_id", "offer_id", "decided_at"),
    )

    network: Mapped[str] = mapped_column(primary_key=True)
    root_id: Mapped[str] = mapped_column(primary_key=True)
    offer_id: Mapped[UUID] = mapped_column(primary_key=True)
    offer_version: Mapped[int] = mapped_column(Integer)
    post_id: Mapped[str]
    author_id: Mapped[str]
    member_id: Mapped[UUID | None]
    coupon_id: Mapped[UUID | None]
    outcome: Mapped[str]
    decided_at: Mapped[datetime]
    seen: Mapped[dict[str, Any]]  # the values that the rules saw and that may have changed since


class PostDay(Base):
    """Posts by day, offer and outcome: what attribution sets beside the sales."""

    __tablename__ = "post_days"
    __table_args__ = (CheckConstraint("posts >= 0", name="posts"),)

    offer_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    network: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    posts: Mapped[int]
    reach: Mapped[int]


class PostHour(Base):
    """The same by hour, of which the day alone would be too coarse; coupons are those `loaded`."""

    __tablename__ = "post_hours"
    __table_args__ = (
        CheckConstraint("posts >= coupons AND coupons >= 0", name="posts"),
        Index("ix_post_hours_hour", "hour"),
    )

    offer_id: Mapped[UUID] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    network: Mapped[str] = mapped_column(primary_key=True)
    posts: Mapped[int]
    coupons: Mapped[int]
    reach: Mapped[int]


class Cursor(Base):
    """How far a source has been taken: the newest post of what came by itself; and, for what is
    read again to close gaps (`catching_up.py`), the time up to which surely everything was read.
    """

    __tablename__ = "cursors"

    source: Mapped[str] = mapped_column(primary_key=True)
    posted_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class RejectedPost(Base):
    __tablename__ = "rejected_posts"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    network: Mapped[str]
    post_id: Mapped[str]
    source: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class RemovedPost(Base):
    """Deleted on the network. What identifies it here is taken away soon after (`removal.py`); the
    row stays for as long as the post itself may still be on its way.
    """

    __tablename__ = "removed_posts"
    __table_args__ = (
        Index("ix_removed_posts_due", "removed_at", postgresql_where=text("forgotten_at IS NULL")),
        Index("ix_removed_posts_forgotten_at", "forgotten_at"),
    )

    network: Mapped[str] = mapped_column(primary_key=True)
    post_id: Mapped[str] = mapped_column(primary_key=True)
    removed_at: Mapped[datetime]
    forgotten_at: Mapped[datetime | None]
