"""claims: with a ref, a decision and the adjustment that pays it

Revision: 0005, after 0004
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | Sequence[str] | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

STATE_OPEN = sa.text("state = 'open'")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # no release before this one has written a claim
    op.add_column("claims", sa.Column("ref", sa.Text(), nullable=False))
    op.add_column("claims", sa.Column("partner_id", sa.UUID(), nullable=True))
    op.add_column("claims", sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("claims", sa.Column("decided_by", sa.Text(), nullable=True))
    op.add_column("claims", sa.Column("reason", sa.Text(), nullable=True))
    op.add_column("claims", sa.Column("adjustment_id", sa.UUID(), nullable=True))
    for column, table in (("partner_id", "partners"), ("adjustment_id", "adjustments")):
        op.create_foreign_key(
            op.f(f"fk_claims_{column}"), "claims", table, [column], ["id"], ondelete="RESTRICT"
        )
    for column in ("ref", "adjustment_id"):
        op.create_unique_constraint(op.f(f"uq_claims_{column}"), "claims", [column])
    for name, check in (
        ("amount", "amount_minor > 0"),
        ("currency", "currency ~ '^[A-Z]{3}$'"),
        (
            "decided",
            "num_nonnulls(decided_at, decided_by, reason) = CASE state WHEN 'open' THEN 0 ELSE 3 END",
        ),
        ("accepted", "(state = 'accepted') = (adjustment_id IS NOT NULL)"),
    ):
        op.create_check_constraint(op.f(f"ck_claims_{name}"), "claims", check)
    op.create_index("ix_claims_open", "claims", ["id"], unique=False, postgresql_where=STATE_OPEN)
    op.create_index(
        "uq_claims_transaction",
        "claims",
        ["member_id", "transaction_id"],
        unique=True,
        postgresql_where=sa.text("state <> 'refused'"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        "DO $$ BEGIN IF EXISTS (SELECT FROM claims) THEN "
        "RAISE EXCEPTION 'there are claims, and no place for them'; END IF; END $$"
    )
    op.drop_index("uq_claims_transaction", table_name="claims")
    op.drop_index("ix_claims_open", table_name="claims", postgresql_where=STATE_OPEN)
    for name in ("amount", "currency", "decided", "accepted"):
        op.drop_constraint(op.f(f"ck_claims_{name}"), "claims", type_="check")
    for column in ("ref", "partner_id", "decided_at", "decided_by", "reason", "adjustment_id"):
        op.drop_column("claims", column)
