"""changes: an offer's title says what is promised, so a coupon keeps it with its version

Revision: 0006, after 0005
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | Sequence[str] | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("offer_versions", sa.Column("title", sa.Text(), nullable=True))
    op.execute("UPDATE offer_versions v SET title = o.title FROM offers o WHERE o.id = v.offer_id")
    op.alter_column("offer_versions", "title", nullable=False)
    op.drop_column("offers", "title")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("offers", sa.Column("title", sa.Text(), nullable=True))
    op.execute(
        "UPDATE offers o SET title = v.title FROM offer_versions v "
        "WHERE v.offer_id = o.id AND v.version = o.version"
    )
    op.alter_column("offers", "title", nullable=False)
    op.drop_column("offer_versions", "title")
