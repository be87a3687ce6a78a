"""attribution: pseudonyms that only this deployment can make, sales that are found by whatever they
are filtered by, rollups by offer, by hour and by part, posts by hour, and how fresh it all is

Revision: 0019, after 0018
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0019"
down_revision: str | Sequence[str] | None = "0018"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# with the id last, since pages go by it
INDEXES = ("offer_id", "partner_id", "state", "country")
THIS_PARTNER = "nullif(current_setting('tagback.partner_id', true), '')::uuid"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _make_pseudonyms()
    op.execute("TRUNCATE sales, redemption_changes")
    op.add_column("sales", sa.Column("reason", sa.Text(), nullable=True))
    # of one post it tells who its author is; nobody reads it, and a removed post's stayed
    op.drop_column("sales", "reach")
    op.drop_index("ix_sales_partner_id", table_name="sales")
    for column in INDEXES:
        op.create_index(f"ix_sales_{column}", "sales", [column, "redemption_id"], unique=False)
    op.create_index("ix_sales_purchased_at", "sales", ["purchased_at"], unique=False)
    _make_rollups()
    _count_posts_by_hour()
    op.add_column(
        "redemption_changes",
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
    )
    # the job follows every redemption again, and fills what is empty now
    op.execute(
        "INSERT INTO redemption_changes (redemption_id, at) "
        "SELECT id, created_at FROM redemptions ORDER BY id"
    )
    # A partner may know how fresh the figures are, and nothing of the changes that wait.
    op.execute(
        """
        CREATE FUNCTION sales_followed_until() RETURNS timestamptz
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
            SELECT coalesce((SELECT at FROM redemption_changes ORDER BY seq LIMIT 1), now())
        $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION sales_followed_until() FROM PUBLIC")
    op.execute(
        "GRANT EXECUTE ON FUNCTION sales_followed_until() TO tagback_engine, tagback_partner"
    )


def _make_rollups() -> None:
    op.drop_index("ix_sales_days_partner_id", table_name="sales_days")
    op.drop_table("sales_days")
    op.create_table(
        "sales_days",
        sa.Column("offer_id", sa.UUID(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("delays", postgresql.ARRAY(sa.Integer()), nullable=False),
        *_sums(),
        sa.PrimaryKeyConstraint(
            "offer_id", "network", "day", "currency", name=op.f("pk_sales_days")
        ),
    )
    op.create_index("ix_sales_days_day", "sales_days", ["day"], unique=False)
    op.create_index("ix_sales_days_partner_id", "sales_days", ["partner_id", "day"], unique=False)
    op.create_table(
        "sales_hours",
        sa.Column("offer_id", sa.UUID(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        *_sums(),
        sa.PrimaryKeyConstraint(
            "offer_id", "network", "hour", "currency", name=op.f("pk_sales_hours")
        ),
    )
    op.create_index("ix_sales_hours_hour", "sales_hours", ["hour"], unique=False)
    op.create_table(
        "sales_part_days",
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("delays", postgresql.ARRAY(sa.Integer()), nullable=False),
        *_sums(),
        sa.PrimaryKeyConstraint(
            "part", "value", "partner_id", "day", "currency", name=op.f("pk_sales_part_days")
        ),
    )
    for table in ("sales_days", "sales_hours", "sales_part_days"):
        _grant(table, f"partner_id = {THIS_PARTNER}")


def _sums() -> list[sa.Column]:
    names = ("redemptions", "returned", "refunds", "sales_minor", "reward_minor", "refunded_minor")
    return [
        sa.Column("partner_id", sa.UUID(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in names),
    ]


def _count_posts_by_hour() -> None:
    op.create_table(
        "post_hours",
        sa.Column("offer_id", sa.UUID(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("posts", sa.BigInteger(), nullable=False),
        sa.Column("coupons", sa.BigInteger(), nullable=False),
        sa.Column("reach", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("posts >= coupons AND coupons >= 0", name=op.f("ck_post_hours_posts")),
        sa.PrimaryKeyConstraint("offer_id", "hour", "network", name=op.f("pk_post_hours")),
    )
    op.create_index("ix_post_hours_hour", "post_hours", ["hour"], unique=False)
    _grant("post_hours", "offer_id IN (SELECT id FROM offers)")
    op.execute(
        "INSERT INTO post_hours (offer_id, hour, network, posts, coupons, reach) "
        "SELECT d.offer_id, date_trunc('hour', p.posted_at, 'UTC'), d.network, count(*), "
        "count(*) FILTER (WHERE d.outcome = 'loaded'), coalesce(sum(p.reach), 0) "
        "FROM decisions d JOIN posts p USING (network, post_id) GROUP BY 1, 2, 3"
    )


def _grant(table: str, own: str) -> None:
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO tagback_engine")
    op.execute(f"GRANT SELECT ON {table} TO tagback_partner")
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY engine ON {table} TO tagback_engine USING (true)")
    op.execute(f"CREATE POLICY own ON {table} TO tagback_partner USING ({own})")


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
    op.execute("DROP FUNCTION sales_followed_until()")
    op.drop_column("redemption_changes", "at")
    for table in ("post_hours", "sales_part_days", "sales_hours", "sales_days"):
        op.drop_table(table)
    op.create_table(
        "sales_days",
        sa.Column("offer_id", sa.UUID(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in (
                "hashtag", "network", "channel", "customer_kind", "country", "currency",
            )
        ),
        sa.Column("delay_bucket", sa.SmallInteger(), nullable=False),
        sa.Column("partner_id", sa.UUID(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("redemptions", "sales_minor", "reward_minor", "refunded_minor")
        ),
        sa.PrimaryKeyConstraint(
            "offer_id", "day", "hashtag", "network", "channel", "customer_kind", "country",
            "currency", "delay_bucket", name=op.f("pk_sales_days"),
        ),
    )  # fmt: skip
    op.create_index("ix_sales_days_partner_id", "sales_days", ["partner_id", "day"], unique=False)
    _grant("sales_days", f"partner_id = {THIS_PARTNER}")
    op.drop_index("ix_sales_purchased_at", table_name="sales")
    for column in INDEXES:
        op.drop_index(f"ix_sales_{column}", table_name="sales")
    op.create_index("ix_sales_partner_id", "sales", ["partner_id", "purchased_at"], unique=False)
    op.drop_column("sales", "reason")
    op.add_column("sales", sa.Column("reach", sa.Integer(), nullable=True))
    op.execute("DROP FUNCTION buyer_pseudonym(uuid, uuid)")
    op.drop_table("pseudonym_secrets")
    op.execute("TRUNCATE sales, redemption_changes")
    op.execute(
        "INSERT INTO redemption_changes (redemption_id) SELECT id FROM redemptions ORDER BY id"
    )
