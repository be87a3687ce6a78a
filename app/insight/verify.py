"""Whether money, counters and rows agree. Every figure that is kept beside what it is made of is
made again from that, by the database, on one snapshot of it.
"""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.insight import rollup

EXAMPLES_MAX = 20


class Check(NamedTuple):
    """`rows` selects the id, the expected and the found value of everything that is checked; what
    is wrong is where the two differ.
    """

    name: str
    rows: str


class Finding(NamedTuple):
    """`examples` are up to EXAMPLES_MAX of the `wrong` ones."""

    name: str
    checked: int
    wrong: int
    examples: list[str]


# For the checks: what each transfer adds to what a redemption owes, to what was credited, or to
# what was given by adjustments.
_SIGNED = """
    rewards AS (
        SELECT redemption_id, currency, CASE WHEN debit_account = 'partner_payable'
            THEN amount_minor ELSE -amount_minor END AS minor
        FROM transfers WHERE code = 'reward'
    ), credits AS (
        SELECT cause_id, currency, CASE WHEN debit_account = 'member_due'
            THEN amount_minor ELSE -amount_minor END AS minor
        FROM transfers WHERE code = 'credit'
    ), adjusted AS (
        SELECT cause_id, currency, CASE WHEN credit_account = 'member_due'
            THEN amount_minor ELSE -amount_minor END AS minor,
            CASE WHEN 'programme' IN (debit_account, credit_account)
            THEN 'programme' ELSE 'partner' END AS funded_by, operator, reason
        FROM transfers WHERE code = 'adjustment'
    )
"""

MONEY = (
    Check(
        "redemptions owe what their rewards add up to",
        """
        SELECT r.id::text, r.owed_minor::numeric, coalesce(t.posted, 0)
        FROM redemptions r LEFT JOIN (
            SELECT redemption_id, sum(minor) AS posted FROM rewards GROUP BY redemption_id
        ) t ON t.redemption_id = r.id
        """,
    ),
    Check(
        "redemptions were credited what their lines add up to",
        """
        SELECT r.id::text, r.credited_minor::numeric, coalesce(l.asked, 0)
        FROM redemptions r LEFT JOIN (
            SELECT redemption_id, sum(amount_minor) AS asked
            FROM credit_lines WHERE state <> 'failed' GROUP BY redemption_id
        ) l ON l.redemption_id = r.id
        """,
    ),
    Check(
        "acknowledged credit lines, and no others, have their transfer",
        """
        SELECT coalesce(l.id::text, 'transfer for ' || t.cause_id),
               CASE WHEN l.state = 'acknowledged' THEN l.amount_minor END, t.minor
        FROM credit_lines l FULL JOIN credits t ON t.cause_id = l.id::text
        """,
    ),
    Check(
        "transfers are in the currency, of the member and of the partner of their purchase",
        """
        SELECT t.id::text, (p.currency, p.member_id, p.partner_id)::text,
               (t.currency, t.member_id, t.partner_id)::text
        FROM transfers t
        JOIN redemptions r ON r.id = t.redemption_id JOIN purchases p ON p.id = r.purchase_id
        """,
    ),
    Check(
        "rewards add up in every currency",
        """
        SELECT coalesce(o.currency, t.currency), coalesce(o.owed, 0), coalesce(t.posted, 0)
        FROM (
            SELECT p.currency, sum(r.owed_minor) AS owed
            FROM redemptions r JOIN purchases p ON p.id = r.purchase_id GROUP BY p.currency
        ) o FULL JOIN (
            SELECT currency, sum(minor) AS posted FROM rewards GROUP BY currency
        ) t ON t.currency = o.currency
        """,
    ),
    Check(
        "credits add up in every currency",
        """
        SELECT coalesce(l.currency, t.currency), coalesce(l.booked, 0), coalesce(t.posted, 0)
        FROM (
            SELECT currency, sum(amount_minor) AS booked
            FROM credit_lines WHERE state = 'acknowledged' GROUP BY currency
        ) l FULL JOIN (
            SELECT currency, sum(minor) AS posted FROM credits GROUP BY currency
        ) t ON t.currency = l.currency
        """,
    ),
    Check(
        "adjustments, and nothing else that is called so, have their transfer",
        """
        SELECT coalesce(a.id::text, 'transfer for ' || t.cause_id),
               (a.amount_minor, a.currency, a.funded_by, a.operator, a.reason)::text,
               (t.minor, t.currency, t.funded_by, t.operator, t.reason)::text
        FROM adjustments a FULL JOIN adjusted t ON t.cause_id = a.id::text
        """,
    ),
    Check(
        "adjustments add up in every currency",
        """
        SELECT coalesce(a.currency, t.currency), coalesce(a.given, 0), coalesce(t.posted, 0)
        FROM (
            SELECT currency, sum(amount_minor) AS given FROM adjustments GROUP BY currency
        ) a FULL JOIN (
            SELECT currency, sum(minor) AS posted FROM adjusted GROUP BY currency
        ) t ON t.currency = a.currency
        """,
    ),
    Check(
        "adjustments were credited what their lines add up to",
        """
        SELECT a.id::text, a.credited_minor::numeric, coalesce(l.asked, 0)
        FROM adjustments a LEFT JOIN (
            SELECT adjustment_id, sum(amount_minor) AS asked
            FROM credit_lines WHERE state <> 'failed' GROUP BY adjustment_id
        ) l ON l.adjustment_id = a.id
        """,
    ),
    Check(
        "transfers of an adjustment are in its currency, of its member, partner and redemption",
        """
        SELECT t.id::text, (a.currency, a.member_id, a.partner_id, a.redemption_id)::text,
               (t.currency, t.member_id, t.partner_id, t.redemption_id)::text
        FROM transfers t JOIN adjustments a ON a.id = t.adjustment_id
        """,
    ),
    Check(
        "accepted claims, and no others, were paid by an adjustment to their member",
        """
        SELECT c.id::text, CASE WHEN c.state = 'accepted' THEN c.member_id END, a.member_id
        FROM claims c LEFT JOIN adjustments a ON a.id = c.adjustment_id
        """,
    ),
    Check(
        "purchases are what their card transactions add up to",
        """
        SELECT p.id::text,
               (p.authorised_minor::numeric, p.reversed_minor::numeric, p.cleared_minor::numeric,
                p.refunded_minor::numeric, p.authorised_at, p.declined_at)::text,
               (coalesce(t.authorised, 0), coalesce(t.reversed, 0), coalesce(t.cleared, 0),
                coalesce(t.refunded, 0), t.authorised_at, t.declined_at)::text
        FROM purchases p LEFT JOIN (
            SELECT purchase_id,
                   coalesce(sum(amount_minor) FILTER (WHERE type = 'authorization'), 0)
                       AS authorised,
                   coalesce(sum(amount_minor) FILTER (WHERE type = 'reversal'), 0) AS reversed,
                   coalesce(sum(amount_minor) FILTER (WHERE type = 'clearing'), 0) AS cleared,
                   coalesce(sum(amount_minor) FILTER (WHERE type IN ('refund', 'chargeback')), 0)
                       AS refunded,
                   max(occurred_at) FILTER (WHERE type = 'authorization') AS authorised_at,
                   max(occurred_at) FILTER (WHERE type = 'decline') AS declined_at
            FROM card_transactions GROUP BY purchase_id
        ) t ON t.purchase_id = p.id
        """,
    ),
)

COUNTERS = (
    Check(
        "coupons have spent what their redemptions owe",
        """
        SELECT c.id::text, c.spent_minor::numeric, coalesce(r.owed, 0)
        FROM coupons c LEFT JOIN (
            SELECT coupon_id, sum(owed_minor) AS owed FROM redemptions GROUP BY coupon_id
        ) r ON r.coupon_id = c.id
        """,
    ),
    Check(
        "coupons are used as often as their redemptions hold a use",
        """
        SELECT c.id::text, c.uses::bigint, coalesce(r.held, 0)
        FROM coupons c LEFT JOIN (
            SELECT coupon_id, count(*) AS held FROM redemptions WHERE holds_use GROUP BY coupon_id
        ) r ON r.coupon_id = c.id
        """,
    ),
    Check(
        "offers have loaded as many coupons as they count",
        """
        SELECT o.offer_id::text, o.coupons_loaded, coalesce(c.loaded, 0)
        FROM offer_counters o LEFT JOIN (
            SELECT offer_id, count(*) AS loaded FROM coupons GROUP BY offer_id
        ) c ON c.offer_id = o.offer_id
        """,
    ),
    Check(
        "offers have reserved what their coupons reserve",
        """
        SELECT o.offer_id::text, o.reserved_minor::numeric, coalesce(c.reserved, 0)
        FROM offer_counters o LEFT JOIN (
            SELECT offer_id, sum(reserved_minor) AS reserved FROM coupons GROUP BY offer_id
        ) c ON c.offer_id = o.offer_id
        """,
    ),
    Check(
        "posts are counted by day as they were decided",
        """
        SELECT concat_ws(' ', coalesce(d.offer_id, n.offer_id), coalesce(d.day, n.day),
                         coalesce(d.network, n.network), coalesce(d.outcome, n.outcome)),
               coalesce(d.posts, 0), coalesce(n.posts, 0)
        FROM post_days d FULL JOIN (
            SELECT decisions.offer_id, (posts.posted_at AT TIME ZONE 'UTC')::date AS day,
                   decisions.network, decisions.outcome, count(*) AS posts
            FROM decisions JOIN posts USING (network, post_id) GROUP BY 1, 2, 3, 4
        ) n ON n.offer_id = d.offer_id AND n.day = d.day AND n.network = d.network
            AND n.outcome = d.outcome
        """,
    ),
    Check(
        "posts are counted by hour as they were decided",
        """
        SELECT concat_ws(' ', coalesce(h.offer_id, n.offer_id), coalesce(h.hour, n.hour),
                         coalesce(h.network, n.network)),
               (coalesce(n.posts, 0), coalesce(n.coupons, 0))::text,
               (coalesce(h.posts, 0), coalesce(h.coupons, 0))::text
        FROM post_hours h FULL JOIN (
            SELECT decisions.offer_id, date_trunc('hour', posts.posted_at, 'UTC') AS hour,
                   decisions.network, count(*) AS posts,
                   count(*) FILTER (WHERE decisions.outcome = 'loaded') AS coupons
            FROM decisions JOIN posts USING (network, post_id) GROUP BY 1, 2, 3
        ) n ON n.offer_id = h.offer_id AND n.hour = h.hour AND n.network = h.network
        """,
    ),
)

# Attribution follows the redemptions some seconds behind: what it has not followed yet is left out.
ATTRIBUTION = (
    Check("sales are what their redemptions are", rollup.COMPARE_SALES),
    Check("sales add up by day", rollup.DAYS.compare()),
    Check("sales add up by hour", rollup.HOURS.compare()),
    Check("sales add up by channel, customer kind and country", rollup.PART_DAYS.compare()),
)

# Between rows that one transaction writes together there is no foreign key: nothing else would
# notice an orphan.
ORPHANS = (
    Check(
        "decisions that loaded a coupon have it",
        """
        SELECT concat_ws(' ', d.network, d.root_id, d.offer_id),
               (d.coupon_id, d.member_id, d.offer_id, d.offer_version)::text,
               (c.id, c.member_id, c.offer_id, c.offer_version)::text
        FROM decisions d LEFT JOIN coupons c ON c.id = d.coupon_id WHERE d.outcome = 'loaded'
        """,
    ),
    Check(
        "coupons were each loaded by one decision",
        """
        SELECT c.id::text, 1::bigint, coalesce(d.decisions, 0)
        FROM coupons c LEFT JOIN (
            SELECT coupon_id, count(*) AS decisions FROM decisions
            WHERE outcome = 'loaded' GROUP BY coupon_id
        ) d ON d.coupon_id = c.id
        """,
    ),
    Check(
        "decisions about a member have him",
        """
        SELECT concat_ws(' ', d.network, d.root_id, d.offer_id), d.member_id, m.id
        FROM decisions d LEFT JOIN members m ON m.id = d.member_id WHERE d.member_id IS NOT NULL
        """,
    ),
    Check(
        "decisions have their post",
        """
        SELECT concat_ws(' ', d.network, d.root_id, d.offer_id), d.post_id, p.post_id
        FROM decisions d LEFT JOIN posts p ON p.network = d.network AND p.post_id = d.post_id
        """,
    ),
    Check(
        "replies have their decision",
        """
        SELECT r.id::text, r.root_id, d.root_id
        FROM replies r LEFT JOIN decisions d
            ON d.network = r.network AND d.root_id = r.root_id AND d.offer_id = r.offer_id
        WHERE r.kind NOT IN ('announcement', 'farewell')
        """,
    ),
)

# A unique index forbids each of these. It may have been dropped, or be broken.
DOUBLES = (
    Check(
        "members have one coupon of an offer",
        """
        SELECT concat_ws(' ', member_id, offer_id), 1::bigint, count(*)
        FROM coupons GROUP BY member_id, offer_id
        """,
    ),
    Check(
        "posts are decided once for an offer, whatever their edits",
        """
        SELECT concat_ws(' ', network, root_id, offer_id), 1::bigint, count(*)
        FROM decisions GROUP BY network, root_id, offer_id
        """,
    ),
    Check(
        "card transactions are taken once",
        "SELECT id, 1::bigint, count(*) FROM card_transactions GROUP BY id",
    ),
    Check(
        "purchases have one redemption",
        "SELECT purchase_id::text, 1::bigint, count(*) FROM redemptions GROUP BY purchase_id",
    ),
    Check(
        "transfers have a cause of their own",
        """
        SELECT concat_ws(' ', code, 'for', cause_kind, cause_id), 1::bigint, count(*)
        FROM transfers GROUP BY code, cause_kind, cause_id
        """,
    ),
)

CHECKS = (*MONEY, *COUNTERS, *ATTRIBUTION, *ORPHANS, *DOUBLES)


async def verify(session: AsyncSession) -> list[Finding]:
    """Every check, in a transaction that has not begun: all see the database as it was at one
    moment, and none changes it.
    """
    await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    await session.execute(text("SET LOCAL statement_timeout = 0"))
    await session.execute(text("SET LOCAL transaction_timeout = 0"))
    # the rows themselves are asked: a broken index would hide what it has let through
    for way in ("indexscan", "indexonlyscan", "bitmapscan"):
        await session.execute(text(f"SET LOCAL enable_{way} = off"))
    return [await _run(session, check) for check in CHECKS]


async def _run(session: AsyncSession, check: Check) -> Finding:
    found = await session.execute(
        text(
            f"""
            WITH {_SIGNED}, checked (id, expected, found) AS MATERIALIZED ({check.rows}),
            wrong AS MATERIALIZED (SELECT * FROM checked WHERE expected IS DISTINCT FROM found)
            SELECT (SELECT count(*) FROM checked), (SELECT count(*) FROM wrong), ARRAY(
                SELECT concat(id, ': ', coalesce(expected::text, 'nothing'), ', but ',
                              coalesce(found::text, 'nothing'))
                FROM wrong ORDER BY id LIMIT :most
            )
            """  # noqa: S608 - the checks are those above
        ),
        {"most": EXAMPLES_MAX},
    )
    checked, wrong, examples = found.one()
    return Finding(check.name, checked, wrong, examples)
