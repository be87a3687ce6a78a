from datetime import date, datetime, time
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, ExcludeConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base
from app.kit.ids import new_id

PUBLISHED = "state IN ('scheduled', 'live', 'paused')"


class Offer(Base):
    __tablename__ = "offers"
    __table_args__ = (
        UniqueConstraint("partner_id", "ref"),
        CheckConstraint(
            "state IN ('draft', 'submitted', 'scheduled', 'live', 'paused', 'ended')", name="state"
        ),
        CheckConstraint("starts_at < ends_at", name="window"),
        CheckConstraint("tag_key <> ''", name="tag_key"),
        CheckConstraint("paused_by IN ('operator', 'partner')", name="paused_by"),
        CheckConstraint(
            "(state = 'paused') = (paused_by IS NOT NULL AND paused_at IS NOT NULL)", name="paused"
        ),
        CheckConstraint(
            "published_at IS NOT NULL OR state NOT IN ('scheduled', 'live', 'paused')",
            name="published",
        ),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("refusal IS NULL OR state IN ('draft', 'ended')", name="refusal"),
        # drafts and what has ended too, which no window's constraint holds
        Index("ix_offers_tag_key", "tag_key"),
        # one meaning for a tag at any moment, whoever publishes at the same time
        ExcludeConstraint(
            ("tag_key", "="),
            (text("tstzrange(starts_at, ends_at)"), "&&"),
            name="ex_offers_tag_window",
            where=text(PUBLISHED),
            using="gist",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    partner_id: Mapped[UUID] = mapped_column(ForeignKey("partners.id", ondelete="RESTRICT"))
    ref: Mapped[str]
    hashtag: Mapped[str]
    tag_key: Mapped[str]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(server_default="draft")
    currency: Mapped[str]
    version: Mapped[int] = mapped_column(Integer, server_default="1")
    objective: Mapped[dict[str, Any] | None]
    # a tag means only what was published, and not what was called off before it began
    published_at: Mapped[datetime | None]
    paused_by: Mapped[str | None]  # what the operator has paused, a partner does not resume
    paused_at: Mapped[datetime | None]
    refusal: Mapped[str | None]  # the operator's reason, until it is submitted again
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OfferVersion(Base):
    """The terms. A coupon keeps the version it was loaded under, and with it the title, which says
    what was promised.
    """

    __tablename__ = "offer_versions"
    __table_args__ = (
        CheckConstraint(
            "(fixed_minor IS NOT NULL) = (basis_points IS NULL)", name="one_kind_of_reward"
        ),
        CheckConstraint("(basis_points IS NULL) = (max_minor IS NULL)", name="share_needs_maximum"),
        CheckConstraint("fixed_minor > 0", name="fixed"),
        CheckConstraint("basis_points BETWEEN 1 AND 10000", name="basis_points"),
        CheckConstraint("max_minor > 0", name="max"),
        CheckConstraint("min_spend_minor >= 0", name="min_spend"),
        CheckConstraint("channel IN ('any', 'in_store', 'online')", name="channel"),
        CheckConstraint("redemptions_per_coupon BETWEEN 1 AND 1000", name="redemptions"),
        CheckConstraint("coupon_valid_days BETWEEN 0 AND 3650", name="valid_days"),
        CheckConstraint(
            "coupon_valid_days IS NULL OR coupon_last_day IS NULL", name="one_kind_of_validity"
        ),
        CheckConstraint("(hours_from IS NULL) = (hours_to IS NULL)", name="hours"),
        CheckConstraint("days <@ ARRAY[1,2,3,4,5,6,7]::smallint[]", name="days"),
        CheckConstraint("refund_policy IN ('restore', 'burn')", name="refund_policy"),
    )

    offer_id: Mapped[UUID] = mapped_column(
        ForeignKey("offers.id", ondelete="RESTRICT"), primary_key=True
    )
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    title: Mapped[str]
    time_zone: Mapped[str]
    fixed_minor: Mapped[int | None]
    basis_points: Mapped[int | None] = mapped_column(Integer)
    max_minor: Mapped[int | None]
    min_spend_minor: Mapped[int] = mapped_column(server_default="0")
    channel: Mapped[str] = mapped_column(server_default="any")
    acceptor_ids: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid))
    days: Mapped[list[int] | None] = mapped_column(ARRAY(SmallInteger))  # ISO: Monday is 1
    hours_from: Mapped[time | None]
    hours_to: Mapped[time | None]
    coupon_valid_days: Mapped[int | None] = mapped_column(Integer)
    coupon_last_day: Mapped[date | None]
    redemptions_per_coupon: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    audience: Mapped[dict[str, Any] | None]
    refund_policy: Mapped[str] = mapped_column(server_default="restore")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OfferCounter(Base):
    """What an offer has given away, beside what it may: an overrun is impossible here. Whoever
    loads, closes, pauses, ends or edits locks this row first.
    """

    __tablename__ = "offer_counters"
    __table_args__ = (
        CheckConstraint("coupons_loaded BETWEEN 0 AND coupons_max", name="coupons"),
        CheckConstraint("reserved_minor BETWEEN 0 AND budget_minor", name="budget"),
        CheckConstraint("coupons_loaded >= 0 AND reserved_minor >= 0", name="not_negative"),
        # every batch of posts updates it: room on the page keeps the updates heap-only
        {"postgresql_with": {"fillfactor": 50}},
    )

    offer_id: Mapped[UUID] = mapped_column(
        ForeignKey("offers.id", ondelete="RESTRICT"), primary_key=True
    )
    coupons_max: Mapped[int | None]
    coupons_loaded: Mapped[int] = mapped_column(server_default="0")
    budget_minor: Mapped[int | None]
    reserved_minor: Mapped[int] = mapped_column(server_default="0")
    told_low_at_minor: Mapped[int | None]  # the budget that was last said to be nearly reserved


class Coupon(Base):
    __tablename__ = "coupons"
    __table_args__ = (
        # one per member and offer; in this order it also finds a member's wallet
        UniqueConstraint("member_id", "offer_id"),
        ForeignKeyConstraint(
            ["offer_id", "offer_version"],
            ["offer_versions.offer_id", "offer_versions.version"],
            ondelete="RESTRICT",
            name="fk_coupons_offer_version",
        ),
        # closing gives back what was not spent: reserved becomes what was spent
        CheckConstraint("reserved_minor > 0 OR closed_at IS NOT NULL", name="reserved"),
        CheckConstraint("spent_minor BETWEEN 0 AND reserved_minor", name="spent"),
        CheckConstraint("uses BETWEEN 0 AND uses_max", name="uses"),
        CheckConstraint("posted_at <= valid_until", name="validity"),
        # what closes next
        Index("ix_coupons_open", "valid_until", postgresql_where=text("closed_at IS NULL")),
        Index(
            "ix_coupons_used_up",
            "id",
            postgresql_where=text("closed_at IS NULL AND uses >= uses_max"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id)
    offer_id: Mapped[UUID]
    offer_version: Mapped[int] = mapped_column(Integer)
    member_id: Mapped[UUID] = mapped_column(ForeignKey("members.id", ondelete="RESTRICT"))
    network: Mapped[str]
    post_id: Mapped[str]
    posted_at: Mapped[datetime]
    loaded_at: Mapped[datetime]
    valid_until: Mapped[datetime]
    reserved_minor: Mapped[int]
    spent_minor: Mapped[int] = mapped_column(server_default="0")
    uses: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    uses_max: Mapped[int] = mapped_column(SmallInteger)
    closed_at: Mapped[datetime | None]


class CatalogueVersion(Base):
    """One row, raised by a trigger at every change of an offer or its terms: a process that holds
    the offers in memory asks this one number whether they still stand.
    """

    __tablename__ = "catalogue_version"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    version: Mapped[int]
