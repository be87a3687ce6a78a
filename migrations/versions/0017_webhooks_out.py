"""webhooks to partners: what they are told, in which order, and until when it is tried; what was
told about a budget

Revision: 0017, after 0016
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0017"
down_revision: str | Sequence[str] | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

WAITING = sa.text("state IN ('queued', 'sending')")
SENDING = sa.text("state = 'sending'")
OWN = "endpoint_id IN (SELECT id FROM webhook_endpoints)"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _endpoints()
    _sequences()
    _deliveries()
    op.add_column("offer_counters", sa.Column("told_low_at_minor", sa.BigInteger(), nullable=True))
    # whoever holds the offers in memory knows with them whether their partner wants to be told
    op.execute(
        "CREATE TRIGGER raise_catalogue_version "
        "AFTER INSERT OR DELETE OR UPDATE OF disabled_at ON webhook_endpoints "
        "FOR EACH STATEMENT EXECUTE FUNCTION raise_catalogue_version()"
    )


def _endpoints() -> None:
    op.alter_column("webhook_endpoints", "events", nullable=True)
    op.alter_column("webhook_endpoints", "secret_encrypted", new_column_name="secret_sealed")
    op.add_column("webhook_endpoints", sa.Column("description", sa.Text()))
    op.add_column("webhook_endpoints", sa.Column("former_secret_sealed", sa.LargeBinary()))
    for name in ("former_secret_until", "failing_since"):
        op.add_column("webhook_endpoints", sa.Column(name, sa.DateTime(timezone=True)))
    op.add_column("webhook_endpoints", sa.Column("disabled_because", sa.Text()))
    for name, rule in {
        "events": "events <> '{}'",
        "because": "disabled_because IN ('asked', 'gone', 'deleted')",
        "disabled": "(disabled_at IS NULL) = (disabled_because IS NULL)",
        "former_secret": "(former_secret_sealed IS NULL) = (former_secret_until IS NULL)",
    }.items():
        op.create_check_constraint(op.f(f"ck_webhook_endpoints_{name}"), "webhook_endpoints", rule)
    op.create_index("ix_webhook_endpoints_partner_id", "webhook_endpoints", ["partner_id"])


def _sequences() -> None:
    op.create_table(
        "webhook_sequences",
        sa.Column("endpoint_id", sa.UUID(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_webhook_sequences_endpoint_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "subject", name=op.f("pk_webhook_sequences")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_sequences TO tagback_engine")
    op.execute("GRANT SELECT, INSERT, UPDATE ON webhook_sequences TO tagback_partner")
    op.execute("ALTER TABLE webhook_sequences ENABLE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY engine ON webhook_sequences TO tagback_engine USING (true)")
    op.execute(f"CREATE POLICY own ON webhook_sequences TO tagback_partner USING ({OWN})")


def _deliveries() -> None:
    # nothing was ever announced before
    op.execute("DELETE FROM webhook_deliveries")
    op.alter_column("webhook_deliveries", "id", server_default=sa.text("uuidv7()"))
    op.alter_column("webhook_deliveries", "body", new_column_name="data")
    op.alter_column("webhook_deliveries", "created_at", server_default=None)
    op.drop_column("webhook_deliveries", "leased_until")
    op.add_column(
        "webhook_deliveries",
        sa.Column("tried_until", sa.DateTime(timezone=True), nullable=False),
    )
    op.add_column("webhook_deliveries", sa.Column("last_status", sa.Integer()))
    op.add_column("webhook_deliveries", sa.Column("last_error", sa.Text()))
    op.add_column("webhook_deliveries", sa.Column("ended_at", sa.DateTime(timezone=True)))
    op.drop_index("ix_webhook_deliveries_waiting", "webhook_deliveries", postgresql_where=WAITING)
    op.create_index(
        "ix_webhook_deliveries_waiting",
        "webhook_deliveries",
        ["endpoint_id", "not_before"],
        postgresql_where=WAITING,
    )
    op.create_index(
        "ix_webhook_deliveries_sending",
        "webhook_deliveries",
        ["endpoint_id"],
        postgresql_where=SENDING,
    )
    op.create_index(
        "ix_webhook_deliveries_endpoint", "webhook_deliveries", ["endpoint_id", "created_at"]
    )
    op.create_index("ix_webhook_deliveries_created_at", "webhook_deliveries", ["created_at"])
    # a partner announces by what it does to its offers, and replays
    op.execute("GRANT INSERT ON webhook_deliveries TO tagback_partner")
    op.execute(
        "GRANT UPDATE (state, attempts, not_before, tried_until, ended_at) ON webhook_deliveries "
        "TO tagback_partner"
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TRIGGER raise_catalogue_version ON webhook_endpoints")
    op.drop_column("offer_counters", "told_low_at_minor")
    op.execute("REVOKE INSERT, UPDATE ON webhook_deliveries FROM tagback_partner")
    for name in ("created_at", "endpoint", "sending", "waiting"):
        op.drop_index(f"ix_webhook_deliveries_{name}", "webhook_deliveries")
    for name in ("ended_at", "last_error", "last_status", "tried_until"):
        op.drop_column("webhook_deliveries", name)
    op.add_column("webhook_deliveries", sa.Column("leased_until", sa.DateTime(timezone=True)))
    op.alter_column("webhook_deliveries", "created_at", server_default=sa.text("now()"))
    op.alter_column("webhook_deliveries", "data", new_column_name="body")
    op.alter_column("webhook_deliveries", "id", server_default=None)
    op.create_index(
        "ix_webhook_deliveries_waiting",
        "webhook_deliveries",
        ["not_before"],
        postgresql_where=WAITING,
    )
    op.drop_table("webhook_sequences")
    op.drop_index("ix_webhook_endpoints_partner_id", "webhook_endpoints")
    for name in ("former_secret", "disabled", "because", "events"):
        op.drop_constraint(op.f(f"ck_webhook_endpoints_{name}"), "webhook_endpoints")
    for name in (
        "disabled_because",
        "failing_since",
        "former_secret_until",
        "former_secret_sealed",
        "description",
    ):
        op.drop_column("webhook_endpoints", name)
    op.alter_column("webhook_endpoints", "secret_sealed", new_column_name="secret_encrypted")
    op.execute("UPDATE webhook_endpoints SET events = '{}' WHERE events IS NULL")
    op.alter_column("webhook_endpoints", "events", nullable=False)
