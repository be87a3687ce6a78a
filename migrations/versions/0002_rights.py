"""rights: what the engine and the partner role may do, whose rows a partner sees, and the
catalogue's version

Revision: 0002, after 0001
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0002"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# nothing that was written down about money, consent or who did what is ever changed
APPEND_ONLY = ("transfers", "consents", "audit_entries")

# A partner's request sees these and nothing else; each under row-level security. The hot tables
# have no policy at all, since PostgreSQL refuses COPY into a table that has one.
OWN_BY_COLUMN = (
    "acceptors",
    "api_keys",
    "offers",
    "sales",
    "sales_days",
    "webhook_endpoints",
)
OWN_BY_OFFER = ("offer_versions", "offer_counters", "post_days")
PARTNER_WRITES = ("acceptors", "offers", "offer_versions", "offer_counters", "webhook_endpoints")

THIS_PARTNER = "nullif(current_setting('tagback.partner_id', true), '')::uuid"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("GRANT USAGE ON SCHEMA public TO tagback_engine, tagback_partner")
    op.execute(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO tagback_engine"
    )
    op.execute("REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM tagback_engine")
    for table in APPEND_ONLY:
        op.execute(f"REVOKE UPDATE, DELETE ON {table} FROM tagback_engine")

    for table in (*OWN_BY_COLUMN, *OWN_BY_OFFER, "webhook_deliveries", "partners"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY engine ON {table} TO tagback_engine USING (true)")
        op.execute(f"GRANT SELECT ON {table} TO tagback_partner")
    for table in OWN_BY_COLUMN:
        op.execute(
            f"CREATE POLICY own ON {table} TO tagback_partner USING (partner_id = {THIS_PARTNER})"
        )
    for table in OWN_BY_OFFER:
        # the subquery runs as the partner: it finds the partner's offers alone
        op.execute(
            f"CREATE POLICY own ON {table} TO tagback_partner "
            "USING (offer_id IN (SELECT id FROM offers))"
        )
    op.execute(
        "CREATE POLICY own ON webhook_deliveries TO tagback_partner "
        "USING (endpoint_id IN (SELECT id FROM webhook_endpoints))"
    )
    op.execute(f"CREATE POLICY own ON partners TO tagback_partner USING (id = {THIS_PARTNER})")
    for table in PARTNER_WRITES:
        op.execute(f"GRANT INSERT, UPDATE ON {table} TO tagback_partner")
    # a partner proposes a shop; only the operator says that it is his
    op.execute("REVOKE INSERT, UPDATE ON acceptors FROM tagback_partner")
    op.execute(
        "GRANT INSERT (id, partner_id, acquirer_id, acceptor_id, name, channel, mcc, country) "
        "ON acceptors TO tagback_partner"
    )
    op.execute("GRANT INSERT ON audit_entries TO tagback_partner")

    # Runs as the owner, so that a partner who edits an offer raises the number without a right
    # to write it.
    op.execute(
        """
        CREATE FUNCTION raise_catalogue_version() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
        BEGIN
            UPDATE catalogue_version SET version = version + 1;
            RETURN NULL;
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION raise_catalogue_version() FROM PUBLIC")
    for table in ("offers", "offer_versions"):
        op.execute(
            f"CREATE TRIGGER raise_catalogue_version AFTER INSERT OR UPDATE OR DELETE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION raise_catalogue_version()"
        )
    op.execute("INSERT INTO catalogue_version (id, version) VALUES (1, 1)")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in ("offers", "offer_versions"):
        op.execute(f"DROP TRIGGER raise_catalogue_version ON {table}")
    op.execute("DROP FUNCTION raise_catalogue_version()")
    op.execute("DELETE FROM catalogue_version")
    for table in (*OWN_BY_COLUMN, *OWN_BY_OFFER, "webhook_deliveries", "partners"):
        op.execute(f"DROP POLICY engine ON {table}")
        op.execute(f"DROP POLICY own ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    op.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM tagback_engine, tagback_partner")
