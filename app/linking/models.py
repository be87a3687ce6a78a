from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class LinkSession(Base):
    """One browser on its way through signing in, consent and card. The cookie's value is not here,
    only its hash; no token of the network ever is.
    """

    __tablename__ = "link_sessions"
    __table_args__ = (
        CheckConstraint("(state_hash IS NULL) = (code_verifier IS NULL)", name="state"),
        CheckConstraint("num_nonnulls(network, account_id, proved_at) IN (0, 3)", name="proved"),
        Index("ix_link_sessions_expires_at", "expires_at"),
        Index(
            "ix_link_sessions_unproved",
            "created_at",
            postgresql_where=text("account_id IS NULL"),
        ),
        Index("ix_link_sessions_member_id", "member_id"),
    )

    id_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    # of the sign-in that is under way, good for one return from the network; the verifier is sealed
    state_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    code_verifier: Mapped[bytes | None] = mapped_column(LargeBinary)
    network: Mapped[str | None]
    account_id: Mapped[str | None]
    handle: Mapped[str | None]
    proved_at: Mapped[datetime | None]
    sign_ins: Mapped[int] = mapped_column(server_default="0")  # begun
    handoff: Mapped[dict[str, Any] | None]  # the claims of the issuer's link
    # that it is for another member than the one before it
    handoff_changed: Mapped[bool] = mapped_column(server_default="false")
    member_id: Mapped[UUID | None] = mapped_column(ForeignKey("members.id", ondelete="CASCADE"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class HandoffUsed(Base):
    """An issuer's link is good once. Kept until no browser that has opened it could use it."""

    __tablename__ = "handoffs_used"
    __table_args__ = (Index("ix_handoffs_used_expires_at", "expires_at"),)

    jti: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime]
