"""schema: every table of the design, its keys, checks and indexes

Revision: 0001, the first
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | Sequence[str] | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # A migration that must wait for a long transaction gives up and is run again, rather than
    # queueing every request behind its lock.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")

    op.create_table(
        "audit_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject_kind", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entries")),
    )
    op.create_index(
        "ix_audit_entries_subject", "audit_entries", ["subject_kind", "subject_id"], unique=False
    )
    op.create_table(
        "catalogue_version",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_catalogue_version_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_catalogue_version")),
    )
    op.create_table(
        "credit_batches",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'acknowledged') = (acknowledged_at IS NOT NULL)",
            name=op.f("ck_credit_batches_acknowledged"),
        ),
        sa.CheckConstraint(
            "state IN ('open', 'acknowledged')", name=op.f("ck_credit_batches_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_batches")),
    )
    op.create_table(
        "cursors",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_cursors")),
    )
    op.create_table(
        "decisions",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("root_id", sa.Text(), nullable=False),
        sa.Column("offer_id", sa.UUID(), nullable=False),
        sa.Column("offer_version", sa.Integer(), nullable=False),
        sa.Column("post_id", sa.Text(), nullable=False),
        sa.Column("author_id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.UUID(), nullable=True),
        sa.Column("coupon_id", sa.UUID(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint(
            "(outcome = 'loaded') = (coupon_id IS NOT NULL)", name=op.f("ck_decisions_loaded")
        ),
        sa.PrimaryKeyConstraint("network", "root_id", "offer_id", name=op.f("pk_decisions")),
    )
    op.create_index(
        "ix_decisions_not_linked",
        "decisions",
        ["network", "author_id"],
        unique=False,
        postgresql_where=sa.text("outcome = 'not_linked'"),
    )
    op.create_table(
        "invitations",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("invited_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("network", "account_id", name=op.f("pk_invitations")),
    )
    op.create_table(
        "members",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("opted_out_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("country ~ '^[A-Z]{2}$'", name=op.f("ck_members_country")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_members")),
        sa.UniqueConstraint("ref", name=op.f("uq_members_ref")),
    )
    op.create_table(
        "network_usage",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("micro_usd", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "units >= 0 AND micro_usd >= 0", name=op.f("ck_network_usage_not_negative")
        ),
        sa.PrimaryKeyConstraint("network", "day", "kind", name=op.f("pk_network_usage")),
    )
    op.create_table(
        "partners",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("credit_limit_minor", sa.BigInteger(), nullable=True),
        sa.Column("credit_currency", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("ref ~ '^[a-z0-9][a-z0-9._-]{0,62}$'", name=op.f("ck_partners_ref")),
        sa.CheckConstraint(
            "(credit_limit_minor IS NULL) = (credit_currency IS NULL)",
            name=op.f("ck_partners_credit"),
        ),
        sa.CheckConstraint("credit_limit_minor >= 0", name=op.f("ck_partners_credit_limit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partners")),
        sa.UniqueConstraint("ref", name=op.f("uq_partners_ref")),
    )
    op.create_table(
        "post_days",
        sa.Column("offer_id", sa.UUID(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("posts", sa.BigInteger(), nullable=False),
        sa.Column("reach", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("posts >= 0", name=op.f("ck_post_days_posts")),
        sa.PrimaryKeyConstraint("offer_id", "day", "network", "outcome", name=op.f("pk_post_days")),
    )
    op.create_table(
        "posts",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("post_id", sa.Text(), nullable=False),
        sa.Column("root_id", sa.Text(), nullable=False),
        sa.Column("author_id", sa.Text(), nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("mentions_programme", sa.Boolean(), nullable=False),
        sa.Column("lang", sa.Text(), nullable=True),
        sa.Column("reach", sa.Integer(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("network", "post_id", name=op.f("pk_posts")),
    )
    op.create_table(
        "redemption_changes",
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("redemption_id", sa.UUID(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_redemption_changes")),
    )
    op.create_table(
        "rejected_posts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("post_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rejected_posts")),
    )
    op.create_table(
        "replies",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("root_id", sa.Text(), nullable=False),
        sa.Column("post_id", sa.Text(), nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("offer_id", sa.UUID(), nullable=False),
        sa.Column("recipient_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("outcome_unknown", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_post_id", sa.Text(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(state = 'sending') = (leased_until IS NOT NULL)", name=op.f("ck_replies_lease")
        ),
        sa.CheckConstraint(
            "kind IN ('confirmation', 'invitation', 'refusal')", name=op.f("ck_replies_kind")
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'sending', 'sent', 'not_allowed', 'failed', 'expired')",
            name=op.f("ck_replies_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replies")),
        sa.UniqueConstraint(
            "network",
            "root_id",
            "offer_id",
            "kind",
            name=op.f("uq_replies_network_root_id_offer_id_kind"),
        ),
    )
    op.create_index(
        "ix_replies_waiting",
        "replies",
        ["network", "priority", "created_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'sending')"),
    )
    op.create_index(
        "uq_replies_refusal",
        "replies",
        ["network", "recipient_id", "offer_id"],
        unique=True,
        postgresql_where=sa.text("kind = 'refusal'"),
    )
    op.create_table(
        "reply_pauses",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_reply_pauses")),
    )
    op.create_table(
        "sales_days",
        sa.Column("offer_id", sa.UUID(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("hashtag", sa.Text(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("customer_kind", sa.Text(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("delay_bucket", sa.SmallInteger(), nullable=False),
        sa.Column("partner_id", sa.UUID(), nullable=False),
        sa.Column("redemptions", sa.BigInteger(), nullable=False),
        sa.Column("sales_minor", sa.BigInteger(), nullable=False),
        sa.Column("reward_minor", sa.BigInteger(), nullable=False),
        sa.Column("refunded_minor", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "offer_id",
            "day",
            "hashtag",
            "network",
            "channel",
            "customer_kind",
            "country",
            "currency",
            "delay_bucket",
            name=op.f("pk_sales_days"),
        ),
    )
    op.create_index("ix_sales_days_partner_id", "sales_days", ["partner_id", "day"], unique=False)
    op.create_table(
        "send_windows",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("remaining", sa.Integer(), nullable=False),
        sa.Column("resets_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stopped_reason", sa.Text(), nullable=True),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("remaining >= 0", name=op.f("ck_send_windows_remaining")),
        sa.PrimaryKeyConstraint("network", name=op.f("pk_send_windows")),
    )
    op.create_table(
        "acceptors",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("partner_id", sa.UUID(), nullable=False),
        sa.Column("acquirer_id", sa.Text(), nullable=False),
        sa.Column("acceptor_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("mcc", sa.Text(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="proposed", nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "(state = 'confirmed') = (confirmed_at IS NOT NULL)",
            name=op.f("ck_acceptors_confirmed"),
        ),
        sa.CheckConstraint("channel IN ('in_store', 'online')", name=op.f("ck_acceptors_channel")),
        sa.CheckConstraint("country ~ '^[A-Z]{2}$'", name=op.f("ck_acceptors_country")),
        sa.CheckConstraint("mcc ~ '^\\d{4}$'", name=op.f("ck_acceptors_mcc")),
        sa.CheckConstraint("state IN ('proposed', 'confirmed')", name=op.f("ck_acceptors_state")),
        sa.ForeignKeyConstraint(
            ["partner_id"],
            ["partners.id"],
            name=op.f("fk_acceptors_partner_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_acceptors")),
        sa.UniqueConstraint(
            "partner_id",
            "acquirer_id",
            "acceptor_id",
            name=op.f("uq_acceptors_partner_id_acquirer_id_acceptor_id"),
        ),
    )
    op.create_index(
        "uq_acceptors_confirmed",
        "acceptors",
        ["acquirer_id", "acceptor_id"],
        unique=True,
        postgresql_where=sa.text("state = 'confirmed'"),
    )
    op.create_table(
        "accounts",
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.UUID(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=True),
        sa.Column("proved_by", sa.Text(), nullable=False),
        sa.Column("linked_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("proved_by IN ('oauth', 'issuer')", name=op.f("ck_accounts_proved_by")),
        sa.ForeignKeyConstraint(
            ["member_id"], ["members.id"], name=op.f("fk_accounts_member_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("network", "account_id", name=op.f("pk_accounts")),
    )
    op.create_index("ix_accounts_member_id", "accounts", ["member_id"], unique=False)
    op.create_table(
        "api_keys",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("partner_id", sa.UUID(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "partner_id IS NULL OR role IN ('partner', 'analyst')",
            name=op.f("ck_api_keys_partner_role"),
        ),
        sa.CheckConstraint(
            "role <> 'partner' OR partner_id IS NOT NULL", name=op.f("ck_api_keys_partner_bound")
        ),
        sa.CheckConstraint(
            "role IN ('operator', 'issuer', 'processor', 'partner', 'analyst')",
            name=op.f("ck_api_keys_role"),
        ),
        sa.ForeignKeyConstraint(
            ["partner_id"],
            ["partners.id"],
            name=op.f("fk_api_keys_partner_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_keys_hash")),
    )
    op.create_index("ix_api_keys_partner_id", "api_keys", ["partner_id"], unique=False)
    op.create_table(
        "cards",
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("member_id", sa.UUID(), nullable=False),
        sa.Column("network", sa.Text(), nullable=True),
        sa.Column("last4", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="active", nullable=False),
        sa.Column("replaced_by", sa.Text(), nullable=True),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("last4 ~ '^\\d{4}$'", name=op.f("ck_cards_last4")),
        sa.CheckConstraint(
            "state IN ('active', 'replaced', 'removed')", name=op.f("ck_cards_state")
        ),
        sa.CheckConstraint("replaced_by <> ref", name=op.f("ck_cards_replaced_by")),
        sa.ForeignKeyConstraint(
            ["member_id"], ["members.id"], name=op.f("fk_cards_member_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["replaced_by"], ["cards.ref"], name=op.f("fk_cards_replaced_by"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("ref", name=op.f("pk_cards")),
    )
    op.create_index("ix_cards_member_id", "cards", ["member_id"], unique=False)
    op.create_table(
        "claims",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("member_id", sa.UUID(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "state IN ('open', 'accepted', 'refused')", name=op.f("ck_claims_state")
        ),
        sa.ForeignKeyConstraint(
            ["member_id"], ["members.id"], name=op.f("fk_claims_member_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_claims")),
    )
    op.create_index("ix_claims_member_id", "claims", ["member_id"], unique=False)
    op.create_table(
        "consents",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("member_id", sa.UUID(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("text_version", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("act IN ('given', 'withdrawn')", name=op.f("ck_consents_act")),
        sa.ForeignKeyConstraint(
            ["member_id"], ["members.id"], name=op.f("fk_consents_member_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consents")),
    )
    op.create_index("ix_consents_member_id", "consents", ["member_id"], unique=False)
    op.create_table(
        "offers",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("partner_id", sa.UUID(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("hashtag", sa.Text(), nullable=False),
        sa.Column("tag_key", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default="draft", nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("objective", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        postgresql.ExcludeConstraint(
            (sa.column("tag_key"), "="),
            (sa.text("tstzrange(starts_at, ends_at)"), "&&"),
            where=sa.text("state IN ('scheduled', 'live', 'paused')"),
            using="gist",
            name="ex_offers_tag_window",
        ),
        sa.CheckConstraint(
            "(state = 'paused') = (paused_by IS NOT NULL)", name=op.f("ck_offers_paused")
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_offers_currency")),
        sa.CheckConstraint(
            "paused_by IN ('operator', 'partner')", name=op.f("ck_offers_paused_by")
        ),
        sa.CheckConstraint(
            "published_at IS NOT NULL OR state NOT IN ('scheduled', 'live', 'paused')",
            name=op.f("ck_offers_published"),
        ),
        sa.CheckConstraint(
            "state IN ('draft', 'submitted', 'scheduled', 'live', 'paused', 'ended')",
            name=op.f("ck_offers_state"),
        ),
        sa.CheckConstraint("tag_key <> ''", name=op.f("ck_offers_tag_key")),
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck_offers_window")),
        sa.ForeignKeyConstraint(
            ["partner_id"], ["partners.id"], name=op.f("fk_offers_partner_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offers")),
        sa.UniqueConstraint("partner_id", "ref", name=op.f("uq_offers_partner_id_ref")),
    )
    op.create_table(
        "purchase_summaries",
        sa.Column("member_id", sa.UUID(), nullable=False),
        sa.Column("partner_id", sa.UUID(), nullable=False),
        sa.Column("purchases", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("first_at <= last_at", name=op.f("ck_purchase_summaries_order")),
        sa.CheckConstraint("purchases > 0", name=op.f("ck_purchase_summaries_purchases")),
        sa.ForeignKeyConstraint(
            ["member_id"],
            ["members.id"],
            name=op.f("fk_purchase_summaries_member_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["partner_id"],
            ["partners.id"],
            name=op.f("fk_purchase_summaries_partner_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("member_id", "partner_id", name=op.f("pk_purchase_summaries")),
    )
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("partner_id", sa.UUID(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("secret_encrypted", sa.LargeBinary(), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("url ~ '^https?://'", name=op.f("ck_webhook_endpoints_url")),
        sa.ForeignKeyConstraint(
            ["partner_id"],
            ["partners.id"],
            name=op.f("fk_webhook_endpoints_partner_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_table(
        "offer_counters",
        sa.Column("offer_id", sa.UUID(), nullable=False),
        sa.Column("coupons_max", sa.BigInteger(), nullable=True),
        sa.Column("coupons_loaded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("budget_minor", sa.BigInteger(), nullable=True),
        sa.Column("reserved_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "coupons_loaded >= 0 AND reserved_minor >= 0",
            name=op.f("ck_offer_counters_not_negative"),
        ),
        sa.CheckConstraint(
            "coupons_loaded BETWEEN 0 AND coupons_max", name=op.f("ck_offer_counters_coupons")
        ),
        sa.CheckConstraint(
            "reserved_minor BETWEEN 0 AND budget_minor", name=op.f("ck_offer_counters_budget")
        ),
        sa.ForeignKeyConstraint(
            ["offer_id"],
            ["offers.id"],
            name=op.f("fk_offer_counters_offer_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("offer_id", name=op.f("pk_offer_counters")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "offer_versions",
        sa.Column("offer_id", sa.UUID(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("fixed_minor", sa.BigInteger(), nullable=True),
        sa.Column("basis_points", sa.Integer(), nullable=True),
        sa.Column("max_minor", sa.BigInteger(), nullable=True),
        sa.Column("min_spend_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("channel", sa.Text(), server_default="any", nullable=False),
        sa.Column("acceptor_ids", postgresql.ARRAY(sa.Uuid()), nullable=True),
        sa.Column("days", postgresql.ARRAY(sa.SmallInteger()), nullable=True),
        sa.Column("hours_from", sa.Time(), nullable=True),
        sa.Column("hours_to", sa.Time(), nullable=True),
        sa.Column("coupon_valid_days", sa.Integer(), nullable=True),
        sa.Column("coupon_last_day", sa.Date(), nullable=True),
        sa.Column("redemptions_per_coupon", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("audience", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("refund_policy", sa.Text(), server_default="restore", nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "channel IN ('any', 'in_store', 'online')", name=op.f("ck_offer_versions_channel")
        ),
        sa.CheckConstraint(
            "refund_policy IN ('restore', 'burn')", name=op.f("ck_offer_versions_refund_policy")
        ),
        sa.CheckConstraint(
            "(basis_points IS NULL) = (max_minor IS NULL)",
            name=op.f("ck_offer_versions_share_needs_maximum"),
        ),
        sa.CheckConstraint(
            "(fixed_minor IS NOT NULL) = (basis_points IS NULL)",
            name=op.f("ck_offer_versions_one_kind_of_reward"),
        ),
        sa.CheckConstraint(
            "(hours_from IS NULL) = (hours_to IS NULL)", name=op.f("ck_offer_versions_hours")
        ),
        sa.CheckConstraint(
            "basis_points BETWEEN 1 AND 10000", name=op.f("ck_offer_versions_basis_points")
        ),
        sa.CheckConstraint(
            "coupon_valid_days BETWEEN 0 AND 3650", name=op.f("ck_offer_versions_valid_days")
        ),
        sa.CheckConstraint(
            "coupon_valid_days IS NULL OR coupon_last_day IS NULL",
            name=op.f("ck_offer_versions_one_kind_of_validity"),
        ),
        sa.CheckConstraint(
            "days <@ ARRAY[1,2,3,4,5,6,7]::smallint[]", name=op.f("ck_offer_versions_days")
        ),
        sa.CheckConstraint("fixed_minor > 0", name=op.f("ck_offer_versions_fixed")),
        sa.CheckConstraint("max_minor > 0", name=op.f("ck_offer_versions_max")),
        sa.CheckConstraint("min_spend_minor >= 0", name=op.f("ck_offer_versions_min_spend")),
        sa.CheckConstraint(
            "redemptions_per_coupon BETWEEN 1 AND 1000", name=op.f("ck_offer_versions_redemptions")
        ),
        sa.ForeignKeyConstraint(
            ["offer_id"],
            ["offers.id"],
            name=op.f("fk_offer_versions_offer_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("offer_id", "version", name=op.f("pk_offer_versions")),
    )
    op.create_table(
        "purchases",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("member_id", sa.UUID(), nullable=False),
        sa.Column("card_ref", sa.Text(), nullable=False),
        sa.Column("acceptor_id", sa.UUID(), nullable=False),
        sa.Column("partner_id", sa.UUID(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("authorised_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reversed_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cleared_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("refunded_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("net_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("declined", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("customer_kind", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_purchases_currency")),
        sa.CheckConstraint(
            "authorised_minor >= 0 AND reversed_minor >= 0 AND cleared_minor >= 0 AND refunded_minor >= 0 AND net_minor BETWEEN 0 AND cleared_minor",
            name=op.f("ck_purchases_not_negative"),
        ),
        sa.ForeignKeyConstraint(
            ["acceptor_id"],
            ["acceptors.id"],
            name=op.f("fk_purchases_acceptor_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["card_ref"], ["cards.ref"], name=op.f("fk_purchases_card_ref"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["member_id"], ["members.id"], name=op.f("fk_purchases_member_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["partner_id"],
            ["partners.id"],
            name=op.f("fk_purchases_partner_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_purchases")),
        sa.UniqueConstraint("ref", name=op.f("uq_purchases_ref")),
    )
    op.create_index(
        "ix_purchases_card_partner",
        "purchases",
        ["card_ref", "partner_id", "occurred_at"],
        unique=False,
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("endpoint_id", sa.UUID(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'sending', 'delivered', 'parked')",
            name=op.f("ck_webhook_deliveries_state"),
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_webhook_deliveries_endpoint_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
        sa.UniqueConstraint(
            "endpoint_id",
            "subject",
            "sequence",
            name=op.f("uq_webhook_deliveries_endpoint_id_subject_sequence"),
        ),
    )
    op.create_index(
        "ix_webhook_deliveries_waiting",
        "webhook_deliveries",
        ["not_before"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'sending')"),
    )
    op.create_table(
        "card_transactions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("purchase_ref", sa.Text(), nullable=True),
        sa.Column("purchase_id", sa.UUID(), nullable=True),
        sa.Column("card_ref", sa.Text(), nullable=False),
        sa.Column("acceptor_id", sa.UUID(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answer", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint(
            "purchase_id IS NOT NULL OR type = 'refund'", name=op.f("ck_card_transactions_purchase")
        ),
        sa.CheckConstraint(
            "type IN ('authorization', 'clearing', 'reversal', 'refund', 'decline')",
            name=op.f("ck_card_transactions_type"),
        ),
        sa.CheckConstraint("amount_minor >= 0", name=op.f("ck_card_transactions_amount")),
        sa.ForeignKeyConstraint(
            ["acceptor_id"],
            ["acceptors.id"],
            name=op.f("fk_card_transactions_acceptor_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["purchase_id"],
            ["purchases.id"],
            name=op.f("fk_card_transactions_purchase_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_card_transactions")),
    )
    op.create_index(
        "ix_card_transactions_purchase_id", "card_transactions", ["purchase_id"], unique=False
    )
    op.create_table(
        "coupons",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("offer_id", sa.UUID(), nullable=False),
        sa.Column("offer_version", sa.Integer(), nullable=False),
        sa.Column("member_id", sa.UUID(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("post_id", sa.Text(), nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("loaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reserved_minor", sa.BigInteger(), nullable=False),
        sa.Column("spent_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("uses", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("uses_max", sa.SmallInteger(), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("posted_at <= valid_until", name=op.f("ck_coupons_validity")),
        sa.CheckConstraint(
            "reserved_minor > 0 OR closed_at IS NOT NULL", name=op.f("ck_coupons_reserved")
        ),
        sa.CheckConstraint(
            "spent_minor BETWEEN 0 AND reserved_minor", name=op.f("ck_coupons_spent")
        ),
        sa.CheckConstraint("uses BETWEEN 0 AND uses_max", name=op.f("ck_coupons_uses")),
        sa.ForeignKeyConstraint(
            ["member_id"], ["members.id"], name=op.f("fk_coupons_member_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["offer_id", "offer_version"],
            ["offer_versions.offer_id", "offer_versions.version"],
            name="fk_coupons_offer_version",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_coupons")),
        sa.UniqueConstraint("member_id", "offer_id", name=op.f("uq_coupons_member_id_offer_id")),
    )
    op.create_table(
        "redemptions",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("purchase_id", sa.UUID(), nullable=False),
        sa.Column("coupon_id", sa.UUID(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("decided", sa.Boolean(), nullable=False),
        sa.Column("holds_use", sa.Boolean(), nullable=False),
        sa.Column("owed_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("credited_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(state = 'earned') = (owed_minor > 0)", name=op.f("ck_redemptions_earned")
        ),
        sa.CheckConstraint(
            "(state = 'rejected') = (reason IS NOT NULL)", name=op.f("ck_redemptions_reason")
        ),
        sa.CheckConstraint(
            "reason IN ('late', 'lapsed', 'below_minimum', 'channel', 'acceptor', 'currency', 'reversed', 'used_up')",
            name=op.f("ck_redemptions_reason_known"),
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'earned', 'returned', 'rejected')",
            name=op.f("ck_redemptions_state"),
        ),
        sa.CheckConstraint("owed_minor >= 0", name=op.f("ck_redemptions_owed")),
        sa.ForeignKeyConstraint(
            ["coupon_id"],
            ["coupons.id"],
            name=op.f("fk_redemptions_coupon_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["purchase_id"],
            ["purchases.id"],
            name=op.f("fk_redemptions_purchase_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_redemptions")),
        sa.UniqueConstraint("purchase_id", name=op.f("uq_redemptions_purchase_id")),
    )
    op.create_index("ix_redemptions_coupon_id", "redemptions", ["coupon_id"], unique=False)
    op.create_index(
        "ix_redemptions_uncredited",
        "redemptions",
        ["id"],
        unique=False,
        postgresql_where=sa.text("owed_minor <> credited_minor"),
    )
    op.create_table(
        "credit_lines",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("redemption_id", sa.UUID(), nullable=False),
        sa.Column("member_id", sa.UUID(), nullable=False),
        sa.Column("card_ref", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(state = 'failed') = (failure IS NOT NULL)", name=op.f("ck_credit_lines_failure")
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'acknowledged', 'failed')", name=op.f("ck_credit_lines_state")
        ),
        sa.CheckConstraint("amount_minor <> 0", name=op.f("ck_credit_lines_amount")),
        sa.ForeignKeyConstraint(
            ["batch_id"],
            ["credit_batches.id"],
            name=op.f("fk_credit_lines_batch_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["card_ref"], ["cards.ref"], name=op.f("fk_credit_lines_card_ref"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["member_id"],
            ["members.id"],
            name=op.f("fk_credit_lines_member_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["redemption_id"],
            ["redemptions.id"],
            name=op.f("fk_credit_lines_redemption_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_lines")),
        sa.UniqueConstraint(
            "batch_id", "redemption_id", name=op.f("uq_credit_lines_batch_id_redemption_id")
        ),
    )
    op.create_index(
        "ix_credit_lines_redemption_id", "credit_lines", ["redemption_id"], unique=False
    )
    op.create_table(
        "sales",
        sa.Column("redemption_id", sa.UUID(), nullable=False),
        sa.Column("offer_id", sa.UUID(), nullable=False),
        sa.Column("partner_id", sa.UUID(), nullable=False),
        sa.Column("buyer", sa.Text(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("hashtag", sa.Text(), nullable=False),
        sa.Column("reach", sa.Integer(), nullable=True),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("purchased_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("customer_kind", sa.Text(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("spend_minor", sa.BigInteger(), nullable=False),
        sa.Column("reward_minor", sa.BigInteger(), nullable=False),
        sa.Column("refunded_minor", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["offer_id"], ["offers.id"], name=op.f("fk_sales_offer_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["partner_id"], ["partners.id"], name=op.f("fk_sales_partner_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["redemption_id"],
            ["redemptions.id"],
            name=op.f("fk_sales_redemption_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("redemption_id", name=op.f("pk_sales")),
    )
    op.create_index("ix_sales_partner_id", "sales", ["partner_id", "purchased_at"], unique=False)
    op.create_table(
        "transfers",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("debit_account", sa.Text(), nullable=False),
        sa.Column("credit_account", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("cause_kind", sa.Text(), nullable=False),
        sa.Column("cause_id", sa.Text(), nullable=False),
        sa.Column("partner_id", sa.UUID(), nullable=False),
        sa.Column("member_id", sa.UUID(), nullable=False),
        sa.Column("redemption_id", sa.UUID(), nullable=True),
        sa.Column("operator", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(code = 'adjustment') = (operator IS NOT NULL AND reason IS NOT NULL)",
            name=op.f("ck_transfers_adjustment_is_signed"),
        ),
        sa.CheckConstraint(
            "code = 'adjustment' OR redemption_id IS NOT NULL",
            name=op.f("ck_transfers_redemption_unless_adjusted"),
        ),
        sa.CheckConstraint(
            "code IN ('reward', 'credit', 'adjustment')", name=op.f("ck_transfers_code")
        ),
        sa.CheckConstraint(
            "credit_account IN ('partner_payable', 'member_due', 'issuer_settlement', 'programme')",
            name=op.f("ck_transfers_credit"),
        ),
        sa.CheckConstraint(
            "debit_account IN ('partner_payable', 'member_due', 'issuer_settlement', 'programme')",
            name=op.f("ck_transfers_debit"),
        ),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_transfers_amount")),
        sa.CheckConstraint(
            "debit_account <> credit_account", name=op.f("ck_transfers_two_accounts")
        ),
        sa.ForeignKeyConstraint(
            ["member_id"], ["members.id"], name=op.f("fk_transfers_member_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["partner_id"],
            ["partners.id"],
            name=op.f("fk_transfers_partner_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["redemption_id"],
            ["redemptions.id"],
            name=op.f("fk_transfers_redemption_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfers")),
        sa.UniqueConstraint(
            "cause_kind", "cause_id", "code", name=op.f("uq_transfers_cause_kind_cause_id_code")
        ),
    )
    op.create_index("ix_transfers_redemption_id", "transfers", ["redemption_id"], unique=False)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")

    op.drop_index("ix_transfers_redemption_id", table_name="transfers")
    op.drop_table("transfers")
    op.drop_index("ix_sales_partner_id", table_name="sales")
    op.drop_table("sales")
    op.drop_index("ix_credit_lines_redemption_id", table_name="credit_lines")
    op.drop_table("credit_lines")
    op.drop_index(
        "ix_redemptions_uncredited",
        table_name="redemptions",
        postgresql_where=sa.text("owed_minor <> credited_minor"),
    )
    op.drop_index("ix_redemptions_coupon_id", table_name="redemptions")
    op.drop_table("redemptions")
    op.drop_table("coupons")
    op.drop_index("ix_card_transactions_purchase_id", table_name="card_transactions")
    op.drop_table("card_transactions")
    op.drop_index(
        "ix_webhook_deliveries_waiting",
        table_name="webhook_deliveries",
        postgresql_where=sa.text("state IN ('queued', 'sending')"),
    )
    op.drop_table("webhook_deliveries")
    op.drop_index("ix_purchases_card_partner", table_name="purchases")
    op.drop_table("purchases")
    op.drop_table("offer_versions")
    op.drop_table("offer_counters")
    op.drop_table("webhook_endpoints")
    op.drop_table("purchase_summaries")
    op.drop_table("offers")
    op.drop_index("ix_consents_member_id", table_name="consents")
    op.drop_table("consents")
    op.drop_index("ix_claims_member_id", table_name="claims")
    op.drop_table("claims")
    op.drop_index("ix_cards_member_id", table_name="cards")
    op.drop_table("cards")
    op.drop_index("ix_api_keys_partner_id", table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_index("ix_accounts_member_id", table_name="accounts")
    op.drop_table("accounts")
    op.drop_index(
        "uq_acceptors_confirmed",
        table_name="acceptors",
        postgresql_where=sa.text("state = 'confirmed'"),
    )
    op.drop_table("acceptors")
    op.drop_table("send_windows")
    op.drop_index("ix_sales_days_partner_id", table_name="sales_days")
    op.drop_table("sales_days")
    op.drop_table("reply_pauses")
    op.drop_index(
        "uq_replies_refusal", table_name="replies", postgresql_where=sa.text("kind = 'refusal'")
    )
    op.drop_index(
        "ix_replies_waiting",
        table_name="replies",
        postgresql_where=sa.text("state IN ('queued', 'sending')"),
    )
    op.drop_table("replies")
    op.drop_table("rejected_posts")
    op.drop_table("redemption_changes")
    op.drop_table("posts")
    op.drop_table("post_days")
    op.drop_table("partners")
    op.drop_table("network_usage")
    op.drop_table("members")
    op.drop_table("invitations")
    op.drop_index(
        "ix_decisions_not_linked",
        table_name="decisions",
        postgresql_where=sa.text("outcome = 'not_linked'"),
    )
    op.drop_table("decisions")
    op.drop_table("cursors")
    op.drop_table("credit_batches")
    op.drop_table("catalogue_version")
    op.drop_index("ix_audit_entries_subject", table_name="audit_entries")
    op.drop_table("audit_entries")
