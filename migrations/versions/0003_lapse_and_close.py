"""lapse and close: when a purchase was authorised and declined, when it lapses, chargebacks, when an
offer was paused, and indexes of what lapses and closes next

Revision: 0003, after 0002
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | Sequence[str] | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TYPES = "'authorization', 'clearing', 'reversal', 'refund'"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name in ("authorised_at", "declined_at", "lapses_at"):
        op.add_column("purchases", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "purchases",
        sa.Column("lapsed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.execute(
        "UPDATE purchases SET authorised_at = t.authorised_at, declined_at = t.declined_at, "
        "lapses_at = t.authorised_at + interval '30 days' "
        "FROM (SELECT purchase_id, "
        "max(occurred_at) FILTER (WHERE type = 'authorization') AS authorised_at, "
        "max(occurred_at) FILTER (WHERE type = 'decline') AS declined_at "
        "FROM card_transactions GROUP BY purchase_id) t WHERE t.purchase_id = purchases.id"
    )
    op.drop_column("purchases", "declined")
    op.create_index(
        "ix_purchases_open",
        "purchases",
        ["lapses_at"],
        postgresql_where=sa.text("cleared_minor = 0 AND NOT lapsed AND lapses_at IS NOT NULL"),
    )
    op.create_index(
        "ix_coupons_open",
        "coupons",
        ["valid_until"],
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_index(
        "ix_coupons_used_up",
        "coupons",
        ["id"],
        postgresql_where=sa.text("closed_at IS NULL AND uses >= uses_max"),
    )
    op.add_column("offers", sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE offers SET paused_at = updated_at WHERE state = 'paused'")
    op.drop_constraint("ck_offers_paused", "offers")
    op.create_check_constraint(
        op.f("ck_offers_paused"),
        "offers",
        "(state = 'paused') = (paused_by IS NOT NULL AND paused_at IS NOT NULL)",
    )
    op.drop_constraint("ck_card_transactions_type", "card_transactions")
    op.create_check_constraint(
        op.f("ck_card_transactions_type"),
        "card_transactions",
        f"type IN ({TYPES}, 'chargeback', 'decline')",
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_constraint("ck_card_transactions_type", "card_transactions")
    op.create_check_constraint(
        op.f("ck_card_transactions_type"), "card_transactions", f"type IN ({TYPES}, 'decline')"
    )
    op.drop_column("offers", "paused_at")  # and the check with it
    op.create_check_constraint(
        op.f("ck_offers_paused"), "offers", "(state = 'paused') = (paused_by IS NOT NULL)"
    )
    op.drop_index("ix_coupons_used_up", "coupons")
    op.drop_index("ix_coupons_open", "coupons")
    op.drop_index("ix_purchases_open", "purchases")
    op.add_column(
        "purchases",
        sa.Column("declined", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.execute("UPDATE purchases SET declined = true WHERE declined_at IS NOT NULL")
    for name in ("lapsed", "lapses_at", "declined_at", "authorised_at"):
        op.drop_column("purchases", name)
