"""removed posts: when what identified them was taken away here

Revision: 0010, after 0009
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | Sequence[str] | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

DUE = sa.text("forgotten_at IS NULL")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column(
        "removed_posts", sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.create_index(
        "ix_removed_posts_due", "removed_posts", ["removed_at"], unique=False, postgresql_where=DUE
    )
    op.create_index(
        "ix_removed_posts_forgotten_at", "removed_posts", ["forgotten_at"], unique=False
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_removed_posts_forgotten_at", table_name="removed_posts")
    op.drop_index("ix_removed_posts_due", table_name="removed_posts", postgresql_where=DUE)
    op.drop_column("removed_posts", "forgotten_at")
