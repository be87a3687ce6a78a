from datetime import date

from sqlalchemy import CheckConstraint
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
