from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class NetworkUsage(Base):
    """What a network charges for, in millionths of a US dollar."""

    __tablename__ = "network_usage"
    __table_args__ = (CheckConstraint("units >= 0 AND micro_usd >= 0", name="not_negative"),)

    network: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    units: Mapped[int]
    micro_usd: Mapped[int]


class NetworkAccount(Base):
    """The programme's own account on a network. Its tokens are sealed (`kit/sealing.py`)."""

    __tablename__ = "network_accounts"

    network: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str]
    handle: Mapped[str]
    scopes: Mapped[list[str]]
    access_token: Mapped[bytes] = mapped_column(LargeBinary)
    refresh_token: Mapped[bytes | None] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]
    # whoever refreshes: a refresh token is good for one use, and dead for everybody else after it
    refreshing_until: Mapped[datetime | None]
    problem: Mapped[str | None]  # why it works no more: the operator connects it again
    connected_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Lease(Base):
    """What one process does at a time, for as long as it says so again before `held_until`."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[UUID]
    held_until: Mapped[datetime]
