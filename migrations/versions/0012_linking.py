"""which accounts were unlinked, and how often a browser has tried to sign in

Revision: 0012, after 0011
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | Sequence[str] | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "unlinked_accounts",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.UUID(), nullable=False),
        sa.Column("unlinked_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["member_id"],
            ["members.id"],
            name=op.f("fk_unlinked_accounts_member_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint(
            "network", "account_id", "member_id", name=op.f("pk_unlinked_accounts")
        ),
    )
    op.create_index(
        "ix_unlinked_accounts_member_id", "unlinked_accounts", ["member_id"], unique=False
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON unlinked_accounts TO tagback_engine")
    op.add_column(
        "link_sessions", sa.Column("sign_ins", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.create_index("ix_handoffs_used_expires_at", "handoffs_used", ["expires_at"], unique=False)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_handoffs_used_expires_at", table_name="handoffs_used")
    op.drop_column("link_sessions", "sign_ins")
    op.drop_table("unlinked_accounts")
