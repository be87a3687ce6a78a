from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Integer, SmallInteger, UniqueConstraint, func
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base
from app.kit.ids import new_id

WAITING = "state IN ('queued', 'sending')"
# claimed and not recorded, or perhaps sent and not yet paid for
UNDER_WAY = "state = 'sending' OR outcome_unknown AND cost_microusd IS NULL"


class Reply(Base):
    """The outbox: one row is one reply that is to be sent, was sent, or will never be."""

    __tablename__ = "replies"
    __table_args__ = (
        UniqueConstraint(
            "network", "root_id", "offer_id", "kind", postgresql_nulls_not_distinct=True
        ),
        CheckConstraint(
            "kind IN ('confirmation', 'invitation', 'refusal', 'announcement', 'farewell')",
            name="kind",
        ),
        CheckConstraint(
            "channel = CASE kind WHEN 'farewell' THEN 'dm' ELSE 'post' END", name="channel"
        ),
        CheckConstraint("(kind = 'announcement') = (post_id IS NULL)", name="answers"),
        CheckConstraint("(kind = 'farewell') = (offer_id IS NULL)", name="offer"),
        CheckConstraint(
            "state IN ('queued', 'sending', 'sent', 'not_allowed', 'failed', 'expired')",
            name="state",
        ),
        CheckConstraint("(state = 'sending') = (leased_until IS NOT NULL)", name="lease"),
        Index(
            "ix_replies_waiting",
            "network",
            "channel",
            "priority",
            "created_at",
            postgresql_where=sql(WAITING),
        ),
        Index(
            "ix_replies_under_way",
            "network",
            "channel",
            "priority",
            "created_at",
            postgresql_where=sql(UNDER_WAY),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    network: Mapped[str]
    root_id: Mapped[str]
    post_id: Mapped[str | None]  # the post, or the direct message, that is answered
    posted_at: Mapped[datetime]
    offer_id: Mapped[UUID | None]
    recipient_id: Mapped[str]
    kind: Mapped[str]
    channel: Mapped[str] = mapped_column(server_default="post")  # its limits are its own
    priority: Mapped[int] = mapped_column(SmallInteger)
    # confirmations 0, invitations 2, the rest 1; 10 more while a pause has parked it
    # the network's own word for a reply to somebody who has called us: it costs less
    is_summoned: Mapped[bool] = mapped_column(server_default=sql("true"))
    locale: Mapped[str]
    text: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="queued")
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    # a send was begun whose end is unknown: look for it before sending again
    outcome_unknown: Mapped[bool] = mapped_column(server_default=sql("false"))
    not_before: Mapped[datetime]
    leased_until: Mapped[datetime | None]
    sent_post_id: Mapped[str | None]
    cost_microusd: Mapped[int | None]
    problem: Mapped[str | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Invitation(Base):
    """When an account that is not linked was last invited: at most once in 30 days."""

    __tablename__ = "invitations"

    network: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(primary_key=True)
    invited_at: Mapped[datetime]


class Refusal(Base):
    """That an account was told why it has no coupon of an offer: once. Replies do not say it, for
    they forget whom they went to when the post is deleted.
    """

    __tablename__ = "refusals"

    network: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(primary_key=True)
    offer_id: Mapped[UUID] = mapped_column(primary_key=True)
    told_at: Mapped[datetime]


class Pause(Base):
    """The red button: a row stops the replies of its scope, `all` or an offer's id."""

    __tablename__ = "reply_pauses"

    scope: Mapped[str] = mapped_column(primary_key=True)
    actor: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class SendWindow(Base):
    """What the network still allows, shared by every worker: by its last word, or as counted here.
    What is under way is not taken off yet.
    """

    __tablename__ = "send_windows"
    __table_args__ = (
        CheckConstraint("remaining >= 0 AND day_remaining >= 0", name="remaining"),
        CheckConstraint("channel IN ('post', 'dm')", name="channel"),
    )

    network: Mapped[str] = mapped_column(primary_key=True)
    channel: Mapped[str] = mapped_column(primary_key=True, server_default="post")
    remaining: Mapped[int] = mapped_column(Integer)
    resets_at: Mapped[datetime]
    day_remaining: Mapped[int] = mapped_column(Integer)
    day_resets_at: Mapped[datetime]
    stopped_reason: Mapped[str | None]  # out of credits: an operator resumes
    held_reason: Mapped[str | None]  # a ceiling is reached: it ends by itself
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
