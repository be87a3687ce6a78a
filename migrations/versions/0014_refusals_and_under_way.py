"""which refusals were told, apart from the replies that told them; and what is under way, with what
was perhaps sent and is not paid for

Revision: 0014, after 0013
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | Sequence[str] | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

REFUSAL = sa.text("kind = 'refusal'")
SENDING = sa.text("state = 'sending'")
UNDER_WAY = sa.text("state = 'sending' OR outcome_unknown AND cost_microusd IS NULL")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "refusals",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("offer_id", sa.UUID(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("network", "account_id", "offer_id", name=op.f("pk_refusals")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON refusals TO tagback_engine")
    op.execute(
        "INSERT INTO refusals (network, account_id, offer_id, told_at) "
        "SELECT network, recipient_id, offer_id, created_at FROM replies "
        "WHERE kind = 'refusal' AND recipient_id NOT LIKE 'removed:%'"
    )
    op.drop_index("uq_replies_refusal", table_name="replies", postgresql_where=REFUSAL)
    # what ended before is not charged now
    op.execute(
        "UPDATE replies SET cost_microusd = 0 "
        "WHERE state NOT IN ('queued', 'sending') AND outcome_unknown AND cost_microusd IS NULL"
    )
    op.drop_index("ix_replies_sending", table_name="replies", postgresql_where=SENDING)
    op.create_index(
        "ix_replies_under_way",
        "replies",
        ["network", "channel", "priority", "created_at"],
        unique=False,
        postgresql_where=UNDER_WAY,
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_replies_under_way", table_name="replies", postgresql_where=UNDER_WAY)
    op.create_index(
        "ix_replies_sending",
        "replies",
        ["network", "channel"],
        unique=False,
        postgresql_where=SENDING,
    )
    op.create_index(
        "uq_replies_refusal",
        "replies",
        ["network", "recipient_id", "offer_id"],
        unique=True,
        postgresql_where=REFUSAL,
    )
    op.drop_table("refusals")
