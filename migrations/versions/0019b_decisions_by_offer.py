"""decisions by offer: a dry run looks at a month of an offer's posts; and offers by tag

Revision: 0019b, after 0019
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0019b"
down_revision: str | Sequence[str] | None = "0019"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_index("ix_decisions_offer_id", "decisions", ["offer_id", "decided_at"])
    op.create_index("ix_offers_tag_key", "offers", ["tag_key"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_offers_tag_key", table_name="offers")
    op.drop_index("ix_decisions_offer_id", table_name="decisions")
