"""the programme's account on X, who listens, what was deleted, who said stop, signing in, what a
reply cost

Revision: 0009, after 0008
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | Sequence[str] | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TIME = sa.DateTime(timezone=True)
WAITING = sa.text("state IN ('queued', 'sending')")
NEW_TABLES = (
    "network_accounts",
    "leases",
    "removed_posts",
    "stopped_accounts",
    "link_sessions",
    "handoffs_used",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "network_accounts",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("access_token", sa.LargeBinary(), nullable=False),
        sa.Column("refresh_token", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("refreshing_until", TIME, nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("connected_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("network", name=op.f("pk_network_accounts")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.UUID(), nullable=False),
        sa.Column("held_until", TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "removed_posts",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("post_id", sa.Text(), nullable=False),
        sa.Column("removed_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("network", "post_id", name=op.f("pk_removed_posts")),
    )
    op.create_table(
        "stopped_accounts",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("told_by", sa.Text(), nullable=False),
        sa.Column("stopped_at", TIME, nullable=False),
        sa.CheckConstraint(
            "told_by IN ('post', 'message', 'page')", name=op.f("ck_stopped_accounts_told_by")
        ),
        sa.PrimaryKeyConstraint("network", "account_id", name=op.f("pk_stopped_accounts")),
    )
    op.create_table(
        "link_sessions",
        sa.Column("id_hash", sa.LargeBinary(), nullable=False),
        sa.Column("state_hash", sa.LargeBinary(), nullable=True),
        sa.Column("code_verifier", sa.LargeBinary(), nullable=True),
        sa.Column("network", sa.Text(), nullable=True),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("handle", sa.Text(), nullable=True),
        sa.Column("proved_at", TIME, nullable=True),
        sa.Column("handoff", sa.dialects.postgresql.JSONB(), nullable=True),
        sa.Column("member_id", sa.UUID(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.CheckConstraint(
            "(state_hash IS NULL) = (code_verifier IS NULL)", name=op.f("ck_link_sessions_state")
        ),
        sa.CheckConstraint(
            "num_nonnulls(network, account_id, proved_at) IN (0, 3)",
            name=op.f("ck_link_sessions_proved"),
        ),
        sa.ForeignKeyConstraint(
            ["member_id"],
            ["members.id"],
            name=op.f("fk_link_sessions_member_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id_hash", name=op.f("pk_link_sessions")),
    )
    op.create_index("ix_link_sessions_expires_at", "link_sessions", ["expires_at"], unique=False)
    op.create_index("ix_link_sessions_member_id", "link_sessions", ["member_id"], unique=False)
    op.create_table(
        "handoffs_used",
        sa.Column("jti", sa.Text(), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("jti", name=op.f("pk_handoffs_used")),
    )
    for table in NEW_TABLES:
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO tagback_engine")

    op.add_column("replies", sa.Column("channel", sa.Text(), server_default="post", nullable=False))
    op.add_column("replies", sa.Column("cost_microusd", sa.BigInteger(), nullable=True))
    op.alter_column("replies", "post_id", nullable=True)
    op.alter_column("replies", "offer_id", nullable=True)
    op.drop_constraint(op.f("uq_replies_network_root_id_offer_id_kind"), "replies", type_="unique")
    op.create_unique_constraint(
        op.f("uq_replies_network_root_id_offer_id_kind"),
        "replies",
        ["network", "root_id", "offer_id", "kind"],
        postgresql_nulls_not_distinct=True,
    )
    op.drop_constraint(op.f("ck_replies_kind"), "replies", type_="check")
    for name, check in (
        (
            "kind",
            "kind IN ('confirmation', 'invitation', 'refusal', 'announcement', 'farewell')",
        ),
        ("channel", "channel = CASE kind WHEN 'farewell' THEN 'dm' ELSE 'post' END"),
        ("answers", "(kind = 'announcement') = (post_id IS NULL)"),
        ("offer", "(kind = 'farewell') = (offer_id IS NULL)"),
    ):
        op.create_check_constraint(op.f(f"ck_replies_{name}"), "replies", check)
    op.drop_index("ix_replies_waiting", table_name="replies", postgresql_where=WAITING)
    op.create_index(
        "ix_replies_waiting",
        "replies",
        ["network", "channel", "priority", "created_at"],
        unique=False,
        postgresql_where=WAITING,
    )
    op.add_column(
        "send_windows", sa.Column("channel", sa.Text(), server_default="post", nullable=False)
    )
    op.create_check_constraint(
        op.f("ck_send_windows_channel"), "send_windows", "channel IN ('post', 'dm')"
    )
    op.drop_constraint(op.f("pk_send_windows"), "send_windows", type_="primary")
    op.create_primary_key(op.f("pk_send_windows"), "send_windows", ["network", "channel"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        "DO $$ BEGIN IF EXISTS (SELECT FROM replies WHERE kind IN ('announcement', 'farewell')) "
        "THEN RAISE EXCEPTION 'there are announcements or farewells, and no place for them'; "
        "END IF; END $$"
    )
    op.execute("DELETE FROM send_windows WHERE channel = 'dm'")
    op.drop_constraint(op.f("pk_send_windows"), "send_windows", type_="primary")
    op.create_primary_key(op.f("pk_send_windows"), "send_windows", ["network"])
    op.drop_column("send_windows", "channel")
    op.drop_index("ix_replies_waiting", table_name="replies", postgresql_where=WAITING)
    for name in ("kind", "channel", "answers", "offer"):
        op.drop_constraint(op.f(f"ck_replies_{name}"), "replies", type_="check")
    op.create_check_constraint(
        op.f("ck_replies_kind"), "replies", "kind IN ('confirmation', 'invitation', 'refusal')"
    )
    op.drop_constraint(op.f("uq_replies_network_root_id_offer_id_kind"), "replies", type_="unique")
    op.create_unique_constraint(
        op.f("uq_replies_network_root_id_offer_id_kind"),
        "replies",
        ["network", "root_id", "offer_id", "kind"],
    )
    op.alter_column("replies", "offer_id", nullable=False)
    op.alter_column("replies", "post_id", nullable=False)
    op.drop_column("replies", "cost_microusd")
    op.drop_column("replies", "channel")
    op.create_index(
        "ix_replies_waiting",
        "replies",
        ["network", "priority", "created_at"],
        unique=False,
        postgresql_where=WAITING,
    )
    for table in reversed(NEW_TABLES):
        op.drop_table(table)
