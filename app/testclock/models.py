from datetime import datetime

from sqlalchemy import CheckConstraint, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class MovedClock(Base):
    """How far the test clock is ahead of the real time: one row, once it was moved."""

    __tablename__ = "test_clock"
    __table_args__ = (
        CheckConstraint("id = 1", name="one_row"),
        CheckConstraint("ahead_seconds BETWEEN 0 AND 316224000", name="ahead"),  # ten years
    )

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    ahead_seconds: Mapped[int]
    moved_at: Mapped[datetime]  # the real time
