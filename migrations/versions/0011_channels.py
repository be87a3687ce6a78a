"""limits of a day, ceilings, and what a reply may cost

Revision: 0011, after 0010
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | Sequence[str] | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

WAITING = "state IN ('queued', 'sending')"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column(
        "replies",
        sa.Column("is_summoned", sa.Boolean(), server_default=sa.text("true"), nullable=False),
    )
    op.create_index(
        "ix_replies_sending",
        "replies",
        ["network", "channel"],
        unique=False,
        postgresql_where=sa.text("state = 'sending'"),
    )
    op.execute(
        f"UPDATE replies SET priority = priority + 1 WHERE kind = 'invitation' AND {WAITING}"
    )
    # a window of the past is full when it is next looked at
    op.add_column(
        "send_windows",
        sa.Column("day_remaining", sa.Integer(), server_default="0", nullable=False),
    )
    op.add_column(
        "send_windows",
        sa.Column(
            "day_resets_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("'1970-01-01 00:00:00+00'"),
            nullable=False,
        ),
    )
    op.alter_column("send_windows", "day_remaining", server_default=None)
    op.alter_column("send_windows", "day_resets_at", server_default=None)
    op.add_column("send_windows", sa.Column("held_reason", sa.Text(), nullable=True))
    op.drop_constraint(op.f("ck_send_windows_remaining"), "send_windows", type_="check")
    op.create_check_constraint(
        op.f("ck_send_windows_remaining"), "send_windows", "remaining >= 0 AND day_remaining >= 0"
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_constraint(op.f("ck_send_windows_remaining"), "send_windows", type_="check")
    op.create_check_constraint(op.f("ck_send_windows_remaining"), "send_windows", "remaining >= 0")
    for column in ("held_reason", "day_resets_at", "day_remaining"):
        op.drop_column("send_windows", column)
    op.execute(
        f"UPDATE replies SET priority = priority - 1 WHERE kind = 'invitation' AND {WAITING}"
    )
    op.drop_index("ix_replies_sending", table_name="replies")
    op.drop_column("replies", "is_summoned")
