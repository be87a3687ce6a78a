"""Redemptions by the million, written by set-based SQL: every table and constraint is the real one,
only the service's own way of writing them is left out.
"""

from sqlalchemy import text

from app.kit.db import Sessions

PARTNERS = 10
OFFERS = 50
REDEMPTIONS_PER_COUPON = 4

_PROGRAMME = (
    (
        "INSERT INTO partners (id, ref, name) "
        "SELECT uuidv7(), 'partner-' || n, 'Partner ' || n FROM generate_series(1, :partners) n"
    ),
    """
    INSERT INTO acceptors (id, partner_id, acquirer_id, acceptor_id, name, channel, mcc, country,
                           state, confirmed_at)
    SELECT uuidv7(), id, 'ACQ', ref || '-' || channel, name, channel, '5812',
           CASE channel WHEN 'online' THEN 'IE' ELSE 'US' END, 'confirmed', now()
    FROM partners, unnest(ARRAY['in_store', 'online']) channel
    """,
    """
    INSERT INTO offers (id, partner_id, ref, hashtag, tag_key, starts_at, ends_at, state, currency,
                        published_at)
    SELECT uuidv7(), p.id, 'offer-' || n, 'Tag' || n, 'tag' || n, '2026-01-01Z', '2027-01-01Z',
           'live', 'USD', '2026-01-01Z'
    FROM generate_series(1, :offers) n JOIN partners p ON p.ref = 'partner-' || (n % :partners + 1)
    """,
    (
        "INSERT INTO offer_versions (offer_id, version, title, time_zone, fixed_minor, "
        "redemptions_per_coupon) SELECT id, 1, ref, 'UTC', 500, :uses FROM offers"
    ),
    (
        "INSERT INTO members (id, ref) "
        "SELECT uuidv7(), 'member-' || n FROM generate_series(1, :members) n"
    ),
    (
        "INSERT INTO cards (ref, member_id, added_at) "
        "SELECT 'card of ' || ref, id, '2026-01-01Z' FROM members"
    ),
)
_COUPONS = (
    """
    INSERT INTO coupons (id, offer_id, offer_version, member_id, network, post_id, posted_at,
                         loaded_at, valid_until, reserved_minor, spent_minor, uses, uses_max)
    SELECT uuidv7(), offer_id, 1, member_id, 'x', post_id, posted_at, posted_at,
           posted_at + interval '30 days', 500 * :uses, 500 * :uses, :uses, :uses
    FROM (
        SELECT o.id AS offer_id, m.id AS member_id,
               (1900000000000000000 + row_number() OVER ())::text AS post_id,
               '2026-01-01Z'::timestamptz + random() * interval '300 days' AS posted_at
        FROM offers o, members m LIMIT :coupons
    ) posts
    """,
    """
    INSERT INTO posts (network, post_id, root_id, author_id, posted_at, received_at, tags,
                       mentions_programme, lang, reach, source)
    SELECT c.network, c.post_id, c.post_id, c.member_id::text, c.posted_at, c.loaded_at,
           ARRAY[o.tag_key], true, 'en', random(0, 10000), 'bench'
    FROM coupons c JOIN offers o ON o.id = c.offer_id
    """,
    (
        "INSERT INTO offer_counters (offer_id, coupons_loaded, reserved_minor) "
        "SELECT offer_id, count(*), sum(reserved_minor) FROM coupons GROUP BY offer_id"
    ),
)
# One statement for three tables: each purchase, its redemption and its sale know one another.
_REDEMPTIONS = """
    WITH bought AS MATERIALIZED (
        SELECT uuidv7() AS purchase_id, uuidv7() AS redemption_id, c.id AS coupon_id,
               c.member_id, c.offer_id, o.partner_id, o.hashtag, o.ref AS offer, c.network,
               c.posted_at, c.posted_at + random() ^ 3 * interval '14 days' AS at,
               a.id AS acceptor_id, a.channel, a.country, 'card of ' || m.ref AS card_ref,
               (ARRAY['new', 'returning', 'lapsed'])[random(1, 3)] AS customer_kind,
               random(1000, 9000) AS cleared_minor,
               CASE random(1, 20) WHEN 1 THEN random(1, 400) ELSE 0 END AS refunded_minor
        FROM coupons c
        JOIN offers o ON o.id = c.offer_id
        JOIN members m ON m.id = c.member_id
        JOIN posts p ON p.network = c.network AND p.post_id = c.post_id
        CROSS JOIN generate_series(1, :uses) use
        JOIN acceptors a ON a.partner_id = o.partner_id
            AND a.channel = CASE use % 3 WHEN 0 THEN 'online' ELSE 'in_store' END
    ), purchased AS (
        INSERT INTO purchases (id, ref, member_id, card_ref, acceptor_id, partner_id, channel,
                               currency, occurred_at, authorised_minor, cleared_minor,
                               refunded_minor, net_minor, customer_kind)
        SELECT purchase_id, 'P-' || purchase_id, member_id, card_ref, acceptor_id, partner_id,
               channel, 'USD', at, cleared_minor, cleared_minor, refunded_minor,
               cleared_minor - refunded_minor, customer_kind
        FROM bought
    ), redeemed AS (
        INSERT INTO redemptions (id, purchase_id, coupon_id, state, decided, holds_use, owed_minor,
                                 created_at, updated_at)
        SELECT redemption_id, purchase_id, coupon_id, 'earned', true, true, 500, at, at FROM bought
    )
    INSERT INTO sales (redemption_id, offer_id, partner_id, buyer, network, hashtag,
                       posted_at, purchased_at, channel, customer_kind, country, state, currency,
                       spend_minor, reward_minor, refunded_minor)
    SELECT redemption_id, offer_id, partner_id,
           buyer_pseudonym(partner_id, member_id),
           network, hashtag, posted_at, at, channel, customer_kind, country, 'earned',
           'USD', cleared_minor - refunded_minor, 500, refunded_minor
    FROM bought
"""


async def write_redemptions(sessions: Sessions, number: int) -> None:
    """Into an empty database; `number` is a multiple of REDEMPTIONS_PER_COUPON."""
    coupons = number // REDEMPTIONS_PER_COUPON
    given = {
        "partners": PARTNERS,
        "offers": OFFERS,
        "members": -(-coupons // OFFERS),
        "uses": REDEMPTIONS_PER_COUPON,
        "coupons": coupons,
    }
    async with sessions.begin() as session:
        await session.execute(text("SET LOCAL statement_timeout = 0"))
        await session.execute(text("SET LOCAL transaction_timeout = 0"))
        for statement in (*_PROGRAMME, *_COUPONS, _REDEMPTIONS):
            named = {name: value for name, value in given.items() if f":{name}" in statement}
            await session.execute(text(statement), named)
