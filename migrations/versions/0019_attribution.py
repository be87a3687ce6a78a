"""attribution: pseudonyms that only this deployment can make, and sales that are found by whatever
they are filtered by

Revision: 0019, after 0018
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0019"
down_revision: str | Sequence[str] | None = "0018"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# with the id last, since pages go by it
INDEXES = ("offer_id", "partner_id", "state", "country")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _make_pseudonyms()
    op.add_column("sales", sa.Column("reason", sa.Text(), nullable=True))
    op.execute(
        "UPDATE sales s SET reason = r.reason, buyer = buyer_pseudonym(s.partner_id, p.member_id) "
        "FROM redemptions r JOIN purchases p ON p.id = r.purchase_id WHERE r.id = s.redemption_id"
    )
    op.drop_index("ix_sales_partner_id", table_name="sales")
    for column in INDEXES:
        op.create_index(f"ix_sales_{column}", "sales", [column, "redemption_id"], unique=False)
    op.create_index("ix_sales_purchased_at", "sales", ["purchased_at"], unique=False)


def _make_pseudonyms() -> None:
    """The secret is the owner's: neither role reads it, and only the engine may ask the function,
    since whoever may ask it can tell whether a member is behind a pseudonym.
    """
    op.create_table(
        "pseudonym_secrets",
        sa.Column("id", sa.SmallInteger(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_pseudonym_secrets_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pseudonym_secrets")),
    )
    op.execute(
        "INSERT INTO pseudonym_secrets (id, secret) "
        "VALUES (1, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))"
    )
    # What follows the secret is always 32 bytes, and 80 bits of the hash are shown: nobody can go
    # on from one hash to another, which is what an HMAC is for.
    op.execute(
        """
        CREATE FUNCTION buyer_pseudonym(partner_id uuid, member_id uuid) RETURNS text
        LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER SET search_path = public AS $$
        BEGIN
            RETURN left(encode(sha256((SELECT secret FROM pseudonym_secrets)
                || uuid_send(partner_id) || uuid_send(member_id)), 'hex'), 20);
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION buyer_pseudonym(uuid, uuid) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION buyer_pseudonym(uuid, uuid) TO tagback_engine")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_sales_purchased_at", table_name="sales")
    for column in INDEXES:
        op.drop_index(f"ix_sales_{column}", table_name="sales")
    op.create_index("ix_sales_partner_id", "sales", ["partner_id", "purchased_at"], unique=False)
    op.drop_column("sales", "reason")
    op.execute("DROP FUNCTION buyer_pseudonym(uuid, uuid)")
    op.drop_table("pseudonym_secrets")
    op.execute(
        "UPDATE sales s SET buyer = left(encode(sha256(convert_to("
        "s.partner_id::text || p.member_id::text, 'UTF8')), 'hex'), 20) "
        "FROM redemptions r JOIN purchases p ON p.id = r.purchase_id WHERE r.id = s.redemption_id"
    )
