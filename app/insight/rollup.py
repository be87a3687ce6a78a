"""The rollup that attribution is read from: how it follows the redemptions, and from what.

`sales` has a row for each redemption. Of those that earned or were returned, three tables keep the
sums: by offer, network and day; by offer, network and hour; and by day for each single thing that
only a purchase has. Whatever asks for one of these alone reads some thousand rows, however many
sales there are.
"""

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import locks

MEASURES = ("redemptions", "returned", "refunds", "sales_minor", "reward_minor", "refunded_minor")
# what a purchase has and a post has not
PARTS = ("channel", "customer_kind", "country")

# The time from post to purchase is counted in buckets, since medians do not add up and counts do:
# the first is under a minute, each further one reaches 26 % further (three to a doubling), and the
# last begins after 91 days.
EDGES_MINUTES: tuple[float, ...] = tuple(2.0 ** (step / 3) for step in range(52))
BUCKETS = len(EDGES_MINUTES) + 1
BUCKET = (
    "width_bucket(CAST(extract(epoch FROM purchased_at - posted_at) AS float8) / 60, "
    f"CAST('{{{','.join(map(repr, EDGES_MINUTES))}}}' AS float8[]))"
)

# over rows of `sales` that have a sign and a bucket beside their own columns
_SUMS = """
    coalesce(sum(sign) FILTER (WHERE state = 'earned'), 0),
    coalesce(sum(sign) FILTER (WHERE state = 'returned'), 0),
    coalesce(sum(sign) FILTER (WHERE refunded_minor > 0), 0),
    coalesce(sum(sign * spend_minor) FILTER (WHERE state = 'earned'), 0),
    sum(sign * reward_minor), sum(sign * refunded_minor)
"""
_DELAYS = "CAST(ARRAY[{}] AS int[])".format(
    ", ".join(
        f"coalesce(sum(sign) FILTER (WHERE state = 'earned' AND bucket = {bucket}), 0)"
        for bucket in range(BUCKETS)
    )
)
_ADD_DELAYS = (
    "delays = ARRAY(SELECT known + more FROM unnest(t.delays, EXCLUDED.delays) "
    "WITH ORDINALITY AS d (known, more, bucket) ORDER BY bucket)"
)


_NONE = f"array_fill(0, ARRAY[{BUCKETS}])"
_EVERY_SALE = f"(SELECT 1 AS sign, *, {BUCKET} AS bucket FROM sales OFFSET 0)"  # noqa: S608


class Rollup(NamedTuple):
    """`keys`: its columns, and what they are of a row of `sales`; `is_of` are those that make a row
    unique, which the rest follow from.
    """

    table: str
    keys: Mapping[str, str]
    is_of: tuple[str, ...]
    has_delays: bool
    beside: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.keys, *MEASURES, *(("delays",) if self.has_delays else ()))

    def select(self, rows: str) -> str:
        """What `rows` come to."""
        sums = f"{_SUMS}, {_DELAYS}" if self.has_delays else _SUMS
        by = ", ".join(str(number + 1) for number in range(len(self.keys)))
        return (
            f"SELECT {', '.join(self.keys.values())}, {sums} FROM {rows} s {self.beside} "  # noqa: S608 - names
            f"WHERE state IN ('earned', 'returned') GROUP BY {by}"
        )

    def add(self, rows: str) -> str:
        sums = [f"{name} = t.{name} + EXCLUDED.{name}" for name in MEASURES]
        sums += [_ADD_DELAYS] if self.has_delays else []
        return (
            f"INSERT INTO {self.table} AS t ({', '.join(self.columns)}) {self.select(rows)} "
            f"ON CONFLICT ({', '.join(self.is_of)}) DO UPDATE SET {', '.join(sums)}"
        )

    def compare(self) -> str:
        """For the ledger's verification: of every row its key, what it is to be, what it is."""
        key = ", ".join(f"coalesce(n.{name}, t.{name})" for name in self.is_of)
        same = " AND ".join(f"n.{name} = t.{name}" for name in self.is_of)
        to_be, is_now = (
            ", ".join(
                f"coalesce({side}.{name}, {_NONE if name == 'delays' else 0})"
                for name in self.columns[len(self.keys) :]
            )
            for side in "nt"
        )
        return f"""
            SELECT concat_ws(' ', {key}), ({to_be})::text, ({is_now})::text
            FROM ({self.select(_EVERY_SALE)}) n ({", ".join(self.columns)})
            FULL JOIN {self.table} t ON {same}
        """  # noqa: S608 - names


DAYS = Rollup(
    "sales_days",
    {
        "offer_id": "offer_id",
        "network": "network",
        "day": "CAST(purchased_at AT TIME ZONE 'UTC' AS date)",
        "currency": "currency",
        "partner_id": "partner_id",
    },
    is_of=("offer_id", "network", "day", "currency"),
    has_delays=True,
)
HOURS = Rollup(
    "sales_hours",
    {
        "offer_id": "offer_id",
        "network": "network",
        "hour": "date_trunc('hour', purchased_at, 'UTC')",
        "currency": "currency",
        "partner_id": "partner_id",
    },
    is_of=("offer_id", "network", "hour", "currency"),
    has_delays=False,
)
PART_DAYS = Rollup(
    "sales_part_days",
    {
        "part": "part",
        "value": "value",
        "partner_id": "partner_id",
        "day": "CAST(purchased_at AT TIME ZONE 'UTC' AS date)",
        "currency": "currency",
    },
    is_of=("part", "value", "partner_id", "day", "currency"),
    has_delays=True,
    beside="CROSS JOIN LATERAL (VALUES {}) AS of (part, value)".format(
        ", ".join(f"('{part}', {part})" for part in PARTS)
    ),
)
ROLLUPS = (DAYS, HOURS, PART_DAYS)

_SALE = (
    "redemption_id", "offer_id", "partner_id", "buyer", "network", "hashtag", "posted_at",
    "purchased_at", "channel", "customer_kind", "country", "state", "reason", "currency",
    "spend_minor", "reward_minor", "refunded_minor",
)  # fmt: skip

# What `sales` says of a redemption.
SALE_OF = """
    SELECT r.id AS redemption_id, c.offer_id, o.partner_id,
           buyer_pseudonym(o.partner_id, c.member_id) AS buyer, c.network, o.hashtag,
           c.posted_at, p.occurred_at AS purchased_at, p.channel, p.customer_kind, a.country,
           r.state, r.reason, p.currency, p.net_minor AS spend_minor, r.owed_minor AS reward_minor,
           p.cleared_minor - p.net_minor AS refunded_minor
    FROM redemptions r
    JOIN purchases p ON p.id = r.purchase_id
    JOIN acceptors a ON a.id = p.acceptor_id
    JOIN coupons c ON c.id = r.coupon_id
    JOIN offers o ON o.id = c.offer_id
"""

# One statement and so one snapshot: `before` reads the rows as they were, the rollups are moved by
# the difference, and the feed's rows are gone with it or not at all.
_FOLLOW = text(
    f"""
    WITH taken AS (
        DELETE FROM redemption_changes WHERE seq IN (
            SELECT seq FROM redemption_changes ORDER BY seq LIMIT :most
        ) RETURNING redemption_id
    ), touched AS (
        SELECT DISTINCT redemption_id FROM taken
    ), before AS (
        SELECT sales.* FROM sales JOIN touched USING (redemption_id)
    ), after AS (
        {SALE_OF} JOIN touched ON touched.redemption_id = r.id
    ), written AS (
        INSERT INTO sales ({", ".join(_SALE)}) SELECT * FROM after
        ON CONFLICT (redemption_id) DO UPDATE SET
            {", ".join(f"{name} = EXCLUDED.{name}" for name in _SALE[1:])}
    ), difference AS MATERIALIZED (
        SELECT 1 AS sign, {", ".join(_SALE)}, {BUCKET} AS bucket FROM after
        UNION ALL
        SELECT -1, {", ".join(_SALE)}, {BUCKET} FROM before
    ), {", ".join(f"{one.table}_moved AS ({one.add('difference')})" for one in ROLLUPS)}
    SELECT count(*) FROM taken
    """  # noqa: S608 - names
)


COMPARE_SALES = f"""
    SELECT coalesce(n.redemption_id, s.redemption_id)::text,
           ({", ".join(f"n.{name}" for name in _SALE)})::text,
           ({", ".join(f"s.{name}" for name in _SALE)})::text
    FROM ({SALE_OF}) n FULL JOIN sales s ON s.redemption_id = n.redemption_id
    WHERE NOT EXISTS (
        SELECT FROM redemption_changes c
        WHERE c.redemption_id = coalesce(n.redemption_id, s.redemption_id)
    )
"""  # noqa: S608 - names


async def begin(session: AsyncSession) -> bool:
    """False when another process is at it. Held until the transaction ends."""
    mine: bool = (
        await session.execute(
            text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": locks.ATTRIBUTION}
        )
    ).scalar_one()
    return mine


async def follow(session: AsyncSession, *, most: int) -> int:
    """Takes up to `most` changes into `sales` and the rollups; answers how many there were."""
    taken: int = (await session.execute(_FOLLOW, {"most": most})).scalar_one()
    return taken


async def forget(session: AsyncSession) -> int:
    """Begins again with nothing: every redemption is to be followed, the oldest first, and says
    when it was made, so that readers see how far it has come. Answers how many there are.
    """
    await session.execute(text("SET LOCAL statement_timeout = 0"))
    await session.execute(text("SET LOCAL transaction_timeout = 0"))
    for table in ("redemption_changes", "sales", *(one.table for one in ROLLUPS)):
        await session.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - names
    fed = await session.execute(
        text(
            "WITH fed AS (INSERT INTO redemption_changes (redemption_id, at) "
            # by a test clock they may have been made in times to come
            "SELECT id, least(created_at, now()) FROM redemptions ORDER BY id RETURNING 1) "
            "SELECT count(*) FROM fed"
        )
    )
    found: int = fed.scalar_one()
    return found
