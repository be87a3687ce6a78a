"""looking back: when an account that was linked is due to have its earlier posts decided again

Revision: 0008, after 0007
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | Sequence[str] | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("accounts", sa.Column("look_back_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_accounts_look_back_at",
        "accounts",
        ["look_back_at"],
        unique=False,
        postgresql_where=sa.text("look_back_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index(
        "ix_accounts_look_back_at",
        table_name="accounts",
        postgresql_where=sa.text("look_back_at IS NOT NULL"),
    )
    op.drop_column("accounts", "look_back_at")
