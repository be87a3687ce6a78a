"""less for partners: their role reads nothing of the post that a sale came from, and writes of an
offer's counters, and of what it is told, what it decides on and no more

Revision: 0021, after 0019b
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0021"
down_revision: str | Sequence[str] | None = "0019b"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# All of a sale but when its post was made and whom it reached: a post is public, so either would
# tell whose the purchase was.
SALE_COLUMNS = (
    "redemption_id, offer_id, partner_id, buyer, network, hashtag, purchased_at, channel, "
    "customer_kind, country, state, reason, currency, spend_minor, reward_minor, refunded_minor"
)
CAPS = "coupons_max, budget_minor"
TOLD = "endpoint_id, event, subject, sequence, data, not_before, tried_until, created_at"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("REVOKE SELECT ON sales FROM tagback_partner")
    op.execute(f"GRANT SELECT ({SALE_COLUMNS}) ON sales TO tagback_partner")
    # what is loaded and reserved is counted by the service alone
    op.execute("REVOKE INSERT, UPDATE ON offer_counters FROM tagback_partner")
    op.execute(
        f"GRANT INSERT (offer_id, {CAPS}, told_low_at_minor), UPDATE ({CAPS}) "
        "ON offer_counters TO tagback_partner"
    )
    op.execute("REVOKE INSERT ON webhook_deliveries FROM tagback_partner")
    op.execute(f"GRANT INSERT ({TOLD}) ON webhook_deliveries TO tagback_partner")
    op.execute("REVOKE UPDATE ON webhook_sequences FROM tagback_partner")
    op.execute("GRANT UPDATE (last) ON webhook_sequences TO tagback_partner")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("REVOKE UPDATE (last) ON webhook_sequences FROM tagback_partner")
    op.execute("GRANT UPDATE ON webhook_sequences TO tagback_partner")
    op.execute(f"REVOKE INSERT ({TOLD}) ON webhook_deliveries FROM tagback_partner")
    op.execute("GRANT INSERT ON webhook_deliveries TO tagback_partner")
    op.execute(
        f"REVOKE INSERT (offer_id, {CAPS}, told_low_at_minor), UPDATE ({CAPS}) "
        "ON offer_counters FROM tagback_partner"
    )
    op.execute("GRANT INSERT, UPDATE ON offer_counters TO tagback_partner")
    op.execute(f"REVOKE SELECT ({SALE_COLUMNS}) ON sales FROM tagback_partner")
    op.execute("GRANT SELECT ON sales TO tagback_partner")
