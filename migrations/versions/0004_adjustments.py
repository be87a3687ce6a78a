"""adjustments: money given or taken back outside the rules, in the ledger and in credit batches

Revision: 0004, after 0003
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | Sequence[str] | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

UNCREDITED = sa.text("amount_minor <> credited_minor")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _add_adjustments()
    _widen_transfers()
    _widen_credit_lines()


def _add_adjustments() -> None:
    op.create_table(
        "adjustments",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("member_id", sa.UUID(), nullable=False),
        sa.Column("partner_id", sa.UUID(), nullable=True),
        sa.Column("redemption_id", sa.UUID(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("funded_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("credited_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("amount_minor <> 0", name=op.f("ck_adjustments_amount")),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_adjustments_currency")),
        sa.CheckConstraint(
            "funded_by IN ('programme', 'partner')", name=op.f("ck_adjustments_funded_by")
        ),
        sa.CheckConstraint(
            "funded_by = 'programme' OR partner_id IS NOT NULL",
            name=op.f("ck_adjustments_partner"),
        ),
        sa.CheckConstraint(
            "credited_minor IN (0, amount_minor)", name=op.f("ck_adjustments_credited")
        ),
        sa.ForeignKeyConstraint(
            ["member_id"],
            ["members.id"],
            name=op.f("fk_adjustments_member_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["partner_id"],
            ["partners.id"],
            name=op.f("fk_adjustments_partner_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["redemption_id"],
            ["redemptions.id"],
            name=op.f("fk_adjustments_redemption_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjustments")),
        sa.UniqueConstraint("ref", name=op.f("uq_adjustments_ref")),
    )
    op.create_index("ix_adjustments_member_id", "adjustments", ["member_id"], unique=False)
    op.create_index(
        "ix_adjustments_uncredited",
        "adjustments",
        ["id"],
        unique=False,
        postgresql_where=UNCREDITED,
    )
    # what was given is never changed; what was credited of it is the ledger's to keep
    op.execute("GRANT SELECT, INSERT, UPDATE (credited_minor) ON adjustments TO tagback_engine")


def _widen_transfers() -> None:
    op.add_column("transfers", sa.Column("adjustment_id", sa.UUID(), nullable=True))
    op.create_foreign_key(
        op.f("fk_transfers_adjustment_id"),
        "transfers",
        "adjustments",
        ["adjustment_id"],
        ["id"],
        ondelete="RESTRICT",
    )
    op.alter_column("transfers", "partner_id", nullable=True)
    op.drop_constraint(op.f("ck_transfers_redemption_unless_adjusted"), "transfers", type_="check")
    for name, check in (
        (
            "ck_transfers_adjustment",
            "CASE code WHEN 'reward' THEN adjustment_id IS NULL WHEN 'adjustment' THEN adjustment_id IS NOT NULL ELSE true END",
        ),
        (
            "ck_transfers_redemption_unless_adjusted",
            "adjustment_id IS NOT NULL OR redemption_id IS NOT NULL",
        ),
        (
            "ck_transfers_partner_unless_adjusted",
            "partner_id IS NOT NULL OR (adjustment_id IS NOT NULL AND 'partner_payable' NOT IN (debit_account, credit_account))",
        ),
    ):
        op.create_check_constraint(op.f(name), "transfers", check)
    op.create_index("ix_transfers_at", "transfers", ["at"], unique=False, postgresql_using="brin")


def _widen_credit_lines() -> None:
    op.add_column("credit_lines", sa.Column("adjustment_id", sa.UUID(), nullable=True))
    op.create_foreign_key(
        op.f("fk_credit_lines_adjustment_id"),
        "credit_lines",
        "adjustments",
        ["adjustment_id"],
        ["id"],
        ondelete="RESTRICT",
    )
    op.alter_column("credit_lines", "redemption_id", nullable=True)
    op.create_check_constraint(
        op.f("ck_credit_lines_one_cause"),
        "credit_lines",
        "num_nonnulls(redemption_id, adjustment_id) = 1",
    )
    op.create_unique_constraint(
        op.f("uq_credit_lines_batch_id_adjustment_id"),
        "credit_lines",
        ["batch_id", "adjustment_id"],
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(
        "DO $$ BEGIN IF EXISTS (SELECT FROM adjustments) THEN "
        "RAISE EXCEPTION 'there are adjustments, and no place for them'; END IF; END $$"
    )
    op.drop_constraint(op.f("ck_credit_lines_one_cause"), "credit_lines", type_="check")
    op.drop_column("credit_lines", "adjustment_id")
    op.alter_column("credit_lines", "redemption_id", nullable=False)

    op.drop_index("ix_transfers_at", table_name="transfers", postgresql_using="brin")
    for name in ("adjustment", "redemption_unless_adjusted", "partner_unless_adjusted"):
        op.drop_constraint(op.f(f"ck_transfers_{name}"), "transfers", type_="check")
    op.drop_column("transfers", "adjustment_id")
    op.alter_column("transfers", "partner_id", nullable=False)
    op.create_check_constraint(
        op.f("ck_transfers_redemption_unless_adjusted"),
        "transfers",
        "code = 'adjustment' OR redemption_id IS NOT NULL",
    )

    op.drop_index(
        "ix_adjustments_uncredited", table_name="adjustments", postgresql_where=UNCREDITED
    )
    op.drop_index("ix_adjustments_member_id", table_name="adjustments")
    op.drop_table("adjustments")
