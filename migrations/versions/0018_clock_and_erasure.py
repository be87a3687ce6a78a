"""the test clock; erased members, of whom only digests are known

Revision: 0018, after 0017
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0018"
down_revision: str | Sequence[str] | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

CARD_REFS = (("purchases", "card_ref"), ("credit_lines", "card_ref"), ("cards", "replaced_by"))


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "test_clock",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("ahead_seconds", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_test_clock_one_row")),
        sa.CheckConstraint(
            "ahead_seconds BETWEEN 0 AND 316224000", name=op.f("ck_test_clock_ahead")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_clock")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON test_clock TO tagback_engine")

    op.add_column("members", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "erased_names",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_erased_names")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON erased_names TO tagback_engine")
    # Consents are append-only; those of somebody who is erased prove nothing any more. It runs as
    # the owner, since the engine has no right to delete them; a temporary table of the engine's,
    # which names would mean first, does not tell it who is erased.
    op.execute(
        """
        CREATE FUNCTION erase_consents(erased uuid) RETURNS void
        LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
            DELETE FROM consents WHERE member_id = erased
                AND EXISTS (SELECT FROM members WHERE id = erased AND erased_at IS NOT NULL)
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION erase_consents(uuid) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION erase_consents(uuid) TO tagback_engine")
    # a card's name is forgotten everywhere at once
    for table, column in CARD_REFS:
        op.drop_constraint(f"fk_{table}_{column}", table, type_="foreignkey")
        op.create_foreign_key(
            f"fk_{table}_{column}",
            table,
            "cards",
            [column],
            ["ref"],
            onupdate="CASCADE",
            ondelete="RESTRICT",
        )
    op.create_index("ix_credit_lines_card_ref", "credit_lines", ["card_ref"])
    op.create_index(
        "ix_cards_replaced_by",
        "cards",
        ["replaced_by"],
        postgresql_where=sa.text("replaced_by IS NOT NULL"),
    )
    op.create_index(
        "ix_card_transactions_unmatched",
        "card_transactions",
        ["card_ref"],
        postgresql_where=sa.text("purchase_id IS NULL"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_card_transactions_unmatched", table_name="card_transactions")
    op.drop_index("ix_cards_replaced_by", table_name="cards")
    op.drop_index("ix_credit_lines_card_ref", table_name="credit_lines")
    for table, column in CARD_REFS:
        op.drop_constraint(f"fk_{table}_{column}", table, type_="foreignkey")
        op.create_foreign_key(
            f"fk_{table}_{column}", table, "cards", [column], ["ref"], ondelete="RESTRICT"
        )
    op.execute("DROP FUNCTION erase_consents(uuid)")
    op.drop_table("erased_names")
    op.drop_column("members", "erased_at")
    op.drop_table("test_clock")
