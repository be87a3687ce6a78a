"""keys that are rotated and have a limit; places and offers that the operator refuses, and what a
partner may do about it; nobody reads a key's hash as a partner

Revision: 0016, after 0015
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0016"
down_revision: str | Sequence[str] | None = "0015"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

KEY_COLUMNS = (
    "id, hint, role, partner_id, created_at, expires_at, revoked_at, last_used_at, family_id, "
    "rotated_from, rate_limit_per_minute"
)
OWN = "partner_id = nullif(current_setting('tagback.partner_id', true), '')::uuid"
CORRECTED = "acquirer_id, acceptor_id, name, channel, mcc, country, state, refusal"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _keys()
    _acceptors()
    op.add_column("offers", sa.Column("refusal", sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f("ck_offers_refusal"), "offers", "refusal IS NULL OR state IN ('draft', 'ended')"
    )
    op.create_index("ix_audit_entries_actor", "audit_entries", ["actor", "id"], unique=False)


def _keys() -> None:
    op.add_column("api_keys", sa.Column("family_id", sa.UUID(), nullable=True))
    op.execute("UPDATE api_keys SET family_id = id")
    op.alter_column("api_keys", "family_id", nullable=False)
    op.add_column("api_keys", sa.Column("rotated_from", sa.UUID(), nullable=True))
    op.add_column("api_keys", sa.Column("rate_limit_per_minute", sa.Integer(), nullable=True))
    for column in ("family_id", "rotated_from"):
        op.create_foreign_key(
            op.f(f"fk_api_keys_{column}"),
            "api_keys",
            "api_keys",
            [column],
            ["id"],
            ondelete="RESTRICT",
        )
    op.create_unique_constraint(op.f("uq_api_keys_rotated_from"), "api_keys", ["rotated_from"])
    op.create_check_constraint(
        op.f("ck_api_keys_rate_limit"), "api_keys", "rate_limit_per_minute > 0"
    )
    op.execute("REVOKE SELECT ON api_keys FROM tagback_partner")
    op.execute(f"GRANT SELECT ({KEY_COLUMNS}) ON api_keys TO tagback_partner")


def _acceptors() -> None:
    op.add_column("acceptors", sa.Column("refusal", sa.Text(), nullable=True))
    op.drop_constraint(op.f("ck_acceptors_state"), "acceptors", type_="check")
    op.create_check_constraint(
        op.f("ck_acceptors_state"), "acceptors", "state IN ('proposed', 'confirmed', 'refused')"
    )
    op.create_check_constraint(
        op.f("ck_acceptors_refusal"), "acceptors", "(state = 'refused') = (refusal IS NOT NULL)"
    )
    # What is confirmed is out of the partner's hands, and what he corrects is a proposal again. No
    # policy here is restrictive: the engine is a member of the partner's role, and would heed it.
    op.execute(f"GRANT UPDATE ({CORRECTED}), DELETE ON acceptors TO tagback_partner")
    op.execute("DROP POLICY own ON acceptors")
    for name, command in (
        ("own", f"FOR SELECT TO tagback_partner USING ({OWN})"),
        ("proposed", f"FOR INSERT TO tagback_partner WITH CHECK ({OWN} AND state = 'proposed')"),
        (
            "corrected",
            (
                f"FOR UPDATE TO tagback_partner USING ({OWN} AND state <> 'confirmed') "
                f"WITH CHECK ({OWN} AND state = 'proposed')"
            ),
        ),
        ("withdrawn", f"FOR DELETE TO tagback_partner USING ({OWN} AND state <> 'confirmed')"),
    ):
        op.execute(f"CREATE POLICY {name} ON acceptors {command}")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_audit_entries_actor", table_name="audit_entries")
    op.drop_constraint(op.f("ck_offers_refusal"), "offers", type_="check")
    op.drop_column("offers", "refusal")
    for policy in ("withdrawn", "corrected", "proposed", "own"):
        op.execute(f"DROP POLICY {policy} ON acceptors")
    op.execute(f"CREATE POLICY own ON acceptors TO tagback_partner USING ({OWN})")
    op.execute(f"REVOKE UPDATE ({CORRECTED}), DELETE ON acceptors FROM tagback_partner")
    op.drop_constraint(op.f("ck_acceptors_refusal"), "acceptors", type_="check")
    op.drop_constraint(op.f("ck_acceptors_state"), "acceptors", type_="check")
    op.execute("UPDATE acceptors SET state = 'proposed' WHERE state = 'refused'")
    op.create_check_constraint(
        op.f("ck_acceptors_state"), "acceptors", "state IN ('proposed', 'confirmed')"
    )
    op.drop_column("acceptors", "refusal")
    op.execute(f"REVOKE SELECT ({KEY_COLUMNS}) ON api_keys FROM tagback_partner")
    op.execute("GRANT SELECT ON api_keys TO tagback_partner")
    op.drop_constraint(op.f("ck_api_keys_rate_limit"), "api_keys", type_="check")
    op.drop_constraint(op.f("uq_api_keys_rotated_from"), "api_keys", type_="unique")
    for column in ("rotated_from", "family_id"):
        op.drop_constraint(op.f(f"fk_api_keys_{column}"), "api_keys", type_="foreignkey")
    for column in ("rate_limit_per_minute", "rotated_from", "family_id"):
        op.drop_column("api_keys", column)
