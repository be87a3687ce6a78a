"""when a card was removed, and that a browser's link is for another member than the one before;
how many browsers have come of late is counted

Revision: 0013, after 0012
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | Sequence[str] | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("cards", sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))
    # when is not known: no later than now
    op.execute("UPDATE cards SET removed_at = now() WHERE state = 'removed'")
    op.add_column(
        "link_sessions",
        sa.Column("handoff_changed", sa.Boolean(), server_default="false", nullable=False),
    )
    op.create_index(
        "ix_link_sessions_unproved",
        "link_sessions",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("account_id IS NULL"),
    )
    # one that names no last four digits is not taken any more
    op.execute("UPDATE link_sessions SET handoff = NULL WHERE handoff ->> 'last4' IS NULL")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index(
        "ix_link_sessions_unproved",
        table_name="link_sessions",
        postgresql_where=sa.text("account_id IS NULL"),
    )
    op.drop_column("link_sessions", "handoff_changed")
    op.drop_column("cards", "removed_at")
