from datetime import date, datetime
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, Integer, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class Sale(Base):
    """One redemption as an analyst sees it, from the time of the post to the reward."""

    __tablename__ = "sales"
    # pages go by the id
    __table_args__ = (
        Index("ix_sales_offer_id", "offer_id", "redemption_id"),
        Index("ix_sales_partner_id", "partner_id", "redemption_id"),
        Index("ix_sales_state", "state", "redemption_id"),
        Index("ix_sales_country", "country", "redemption_id"),
        Index("ix_sales_purchased_at", "purchased_at"),
    )

    redemption_id: Mapped[UUID] = mapped_column(
        ForeignKey("redemptions.id", ondelete="RESTRICT"), primary_key=True
    )
    offer_id: Mapped[UUID] = mapped_column(ForeignKey("offers.id", ondelete="RESTRICT"))
    partner_id: Mapped[UUID] = mapped_column(ForeignKey("partners.id", ondelete="RESTRICT"))
    buyer: Mapped[str]  # a pseudonym that means nothing to another partner
    network: Mapped[str]
    hashtag: Mapped[str]
    posted_at: Mapped[datetime]
    purchased_at: Mapped[datetime]
    channel: Mapped[str]
    customer_kind: Mapped[str]
    country: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str | None]  # why it was rejected
    currency: Mapped[str]
    spend_minor: Mapped[int]
    reward_minor: Mapped[int]
    refunded_minor: Mapped[int]


class PseudonymSecret(Base):
    """What the function `buyer_pseudonym` keys its hashes with: without it, whoever learns the id
    of a member could tell which purchases are his. Neither the engine nor a partner may read it.
    """

    __tablename__ = "pseudonym_secrets"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    secret: Mapped[bytes]


class Sums:
    """What sales come to: those that earned, and those that were returned."""

    partner_id: Mapped[UUID]
    redemptions: Mapped[int]  # that earned
    returned: Mapped[int]
    refunds: Mapped[int]  # of which anything went back
    sales_minor: Mapped[int]  # bought and kept, of what earned
    reward_minor: Mapped[int]
    refunded_minor: Mapped[int]


class SalesDay(Sums, Base):
    """By UTC day of the purchase. `delays` counts those that earned by the time from the post to
    the purchase, in the buckets of `rollup.py`.
    """

    __tablename__ = "sales_days"
    __table_args__ = (
        Index("ix_sales_days_partner_id", "partner_id", "day"),
        Index("ix_sales_days_day", "day"),
    )

    offer_id: Mapped[UUID] = mapped_column(primary_key=True)
    network: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    delays: Mapped[list[int]] = mapped_column(ARRAY(Integer))


class SalesHour(Sums, Base):
    __tablename__ = "sales_hours"
    __table_args__ = (Index("ix_sales_hours_hour", "hour"),)

    offer_id: Mapped[UUID] = mapped_column(primary_key=True)
    network: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)


class SalesPartDay(Sums, Base):
    """By what only a purchase has, one thing at a time: `part` is the channel, the customer kind or
    the country, and every sale is in all three.
    """

    __tablename__ = "sales_part_days"

    part: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(primary_key=True)
    partner_id: Mapped[UUID] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    delays: Mapped[list[int]] = mapped_column(ARRAY(Integer))
