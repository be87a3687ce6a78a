"""All SQL on card transactions, purchases and redemptions; and on what coupons have spent, which
only a redemption changes.

A batch takes a fixed number of these statements. The locks follow one order everywhere: coupons by
id, then purchases by id, then redemptions by id; what is decided on is read by later statements.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.arrays import as_arrays
from app.kit.db import copy_rows
from app.redemptions.domain import Purchase, Redemption, Sums, net

_PURCHASE = """
    p.id, p.ref, p.member_id, p.partner_id, p.currency, p.occurred_at, p.card_ref, p.acceptor_id,
    p.channel, p.customer_kind, p.authorised_minor, p.reversed_minor, p.cleared_minor,
    p.refunded_minor, p.authorised_at, p.declined_at, p.lapses_at, p.lapsed
"""


class SeenTransaction(NamedTuple):
    id: str
    type: str
    card_ref: str
    acquirer_id: str
    acceptor_id: str
    amount_minor: int
    currency: str
    occurred_at: datetime
    purchase_ref: str | None
    answer: dict[str, Any]


class KnownCoupon(NamedTuple):
    id: UUID
    offer_id: UUID
    offer_version: int
    member_id: UUID
    partner_id: UUID
    posted_at: datetime
    valid_until: datetime
    reserved_minor: int
    spent_minor: int
    uses: int
    uses_max: int
    is_closed: bool


class KnownRedemption(NamedTuple):
    id: UUID
    redemption: Redemption


class ToldOf(NamedTuple):
    """A redemption as its partner is shown it: `GET /v1/redemptions` says no more. Neither the
    coupon nor how long after the post it was: with those it would tell whose post it was.
    """

    partner_id: UUID
    data: dict[str, Any]


class NewTransaction(NamedTuple):
    """In the order of the columns that COPY writes; `answer` is JSON."""

    id: str
    type: str
    purchase_ref: str | None
    purchase_id: UUID | None
    card_ref: str
    acceptor_id: UUID
    amount_minor: int
    currency: str
    occurred_at: datetime
    received_at: datetime
    answer: str


class RefundKey(NamedTuple):
    """Where to look for what a refund without a link is for; times are inclusive."""

    card_ref: str
    partner_id: UUID
    since: datetime
    until: datetime


# reading


async def seen_transactions(session: AsyncSession, ids: Collection[str]) -> list[SeenTransaction]:
    found = await session.execute(
        text(
            """
            SELECT t.id, t.type, t.card_ref, a.acquirer_id, a.acceptor_id, t.amount_minor,
                   t.currency, t.occurred_at, t.purchase_ref, t.answer
            FROM card_transactions t JOIN acceptors a ON a.id = t.acceptor_id
            WHERE t.id = ANY(CAST(:ids AS text[]))
            """
        ),
        {"ids": list(ids)},
    )
    return [SeenTransaction(*row) for row in found]


_COUPONS = """
    SELECT c.id, c.offer_id, c.offer_version, c.member_id, o.partner_id, c.posted_at,
           c.valid_until, c.reserved_minor, c.spent_minor, c.uses, c.uses_max,
           c.closed_at IS NOT NULL
    FROM unnest(CAST(:members AS uuid[]), CAST(:partners AS uuid[]))
         AS wanted (member_id, partner_id)
    JOIN coupons c ON c.member_id = wanted.member_id
    JOIN offers o ON o.id = c.offer_id AND o.partner_id = wanted.partner_id
    ORDER BY c.id
"""


async def read_coupons(
    session: AsyncSession, pairs: Collection[tuple[UUID, UUID]], *, lock: bool
) -> list[KnownCoupon]:
    """All coupons of each (member, partner)."""
    found = await session.execute(
        text(_COUPONS + ("FOR UPDATE OF c" if lock else "")),
        as_arrays(("members", "partners"), list(pairs)),
    )
    return [KnownCoupon(*row) for row in found]


async def purchase_by_id(session: AsyncSession, purchase_id: UUID) -> Purchase:
    row = await session.execute(
        text(f"SELECT {_PURCHASE} FROM purchases p WHERE p.id = :id"),  # noqa: S608 - names of columns
        {"id": purchase_id},
    )
    return _purchase(row.one())


async def add_purchases(session: AsyncSession, purchases: Collection[Purchase]) -> set[UUID]:
    """Those whose ref is new, by id. Another process that adds the same ref is waited for, in the
    order of refs.
    """
    rows = [purchase[:-1] for purchase in sorted(purchases, key=lambda one: one.ref)]
    names = Purchase._fields[:-1]
    found = await session.scalars(
        text(
            f"""
            INSERT INTO purchases ({", ".join(names)})
            SELECT * FROM unnest(
                CAST(:id AS uuid[]), CAST(:ref AS text[]), CAST(:member_id AS uuid[]),
                CAST(:partner_id AS uuid[]), CAST(:currency AS text[]),
                CAST(:occurred_at AS timestamptz[]), CAST(:card_ref AS text[]),
                CAST(:acceptor_id AS uuid[]), CAST(:channel AS text[]),
                CAST(:customer_kind AS text[])
            )
            ON CONFLICT (ref) DO NOTHING RETURNING id
            """  # noqa: S608 - names of columns
        ),
        as_arrays(names, rows),
    )
    return set(found)


async def lock_purchases(
    session: AsyncSession, *, refs: Collection[str], refunds: Sequence[RefundKey]
) -> list[Purchase]:
    """By ref, and those that a refund without a link may be for."""
    found = await session.execute(
        text(
            f"""
            SELECT {_PURCHASE} FROM purchases p
            WHERE p.id IN (
                SELECT id FROM purchases WHERE ref = ANY(CAST(:refs AS text[]))
                UNION
                SELECT known.id
                FROM unnest(CAST(:card_ref AS text[]), CAST(:partner_id AS uuid[]),
                            CAST(:since AS timestamptz[]), CAST(:until AS timestamptz[]))
                     AS refund (card_ref, partner_id, since, until)
                JOIN purchases known ON known.card_ref = refund.card_ref
                     AND known.partner_id = refund.partner_id
                     AND known.occurred_at BETWEEN refund.since AND refund.until
            )
            ORDER BY p.id FOR UPDATE
            """  # noqa: S608 - names of columns
        ),
        {"refs": list(refs), **as_arrays(RefundKey._fields, refunds)},
    )
    return [_purchase(row) for row in found]


def _purchase(row: Row[Any]) -> Purchase:
    plain = len(Purchase._fields) - 1
    return Purchase(*row[:plain])._replace(sums=Sums(*row[plain:]))


class DuePurchase(NamedTuple):
    ref: str
    member_id: UUID
    partner_id: UUID


async def due_to_lapse(session: AsyncSession, *, now: datetime, most: int) -> list[DuePurchase]:
    found = await session.execute(
        text(
            """
            SELECT ref, member_id, partner_id FROM purchases
            WHERE cleared_minor = 0 AND NOT lapsed AND lapses_at <= :now
            ORDER BY lapses_at, id LIMIT :most
            """
        ),
        {"now": now, "most": most},
    )
    return [DuePurchase(*row) for row in found]


# Nothing more is to come: expired and settled long enough, or used up so long, where a refund would
# not bring the use back.
_CLOSABLE = """
    c.closed_at IS NULL
    AND (c.valid_until <= :settled_before OR c.uses >= c.uses_max AND EXISTS (
        SELECT FROM offer_versions v
        WHERE v.offer_id = c.offer_id AND v.version = c.offer_version AND v.refund_policy = 'burn'
    ))
    AND NOT EXISTS (
        SELECT FROM redemptions r WHERE r.coupon_id = c.id
            AND (r.state = 'pending'
                 OR c.valid_until > :settled_before AND r.updated_at > :settled_before)
    )
"""


async def closable_coupons(
    session: AsyncSession, *, settled_before: datetime, most: int
) -> list[tuple[UUID, UUID]]:
    """Ids of coupons and of their offers."""
    found = await session.execute(
        text(
            f"""
            (SELECT c.id, c.offer_id FROM coupons c
             WHERE c.valid_until <= :settled_before AND {_CLOSABLE} LIMIT :most)
            UNION
            (SELECT c.id, c.offer_id FROM coupons c
             WHERE c.uses >= c.uses_max AND {_CLOSABLE} LIMIT :most)
            """  # noqa: S608 - the rule above
        ),
        {"settled_before": settled_before, "most": most},
    )
    return [(coupon_id, offer_id) for coupon_id, offer_id in found]


async def lock_coupons(session: AsyncSession, coupon_ids: Collection[UUID]) -> None:
    await session.execute(
        text("SELECT 1 FROM coupons WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE"),
        {"ids": list(coupon_ids)},
    )


async def close_coupons(
    session: AsyncSession,
    coupon_ids: Collection[UUID],
    *,
    settled_before: datetime,
    now: datetime,
) -> list[tuple[UUID, int]]:
    """Of each that could still be closed: its offer, and what it had reserved and not spent."""
    found = await session.execute(
        text(
            f"""
            UPDATE coupons c SET reserved_minor = c.spent_minor, closed_at = :now
            WHERE c.id = ANY(CAST(:ids AS uuid[])) AND {_CLOSABLE}
            RETURNING c.offer_id, old.reserved_minor - old.spent_minor
            """  # noqa: S608 - the rule above
        ),
        {"ids": list(coupon_ids), "settled_before": settled_before, "now": now},
    )
    return [(offer_id, unspent_minor) for offer_id, unspent_minor in found]


async def redemptions_of(
    session: AsyncSession, purchase_ids: Collection[UUID]
) -> dict[UUID, KnownRedemption]:
    """By purchase. To be asked once the purchases are locked: a statement that locks sees other
    tables as they were before it waited.
    """
    found = await session.execute(
        text(
            """
            SELECT purchase_id, id, coupon_id, state, reason, decided, holds_use, owed_minor
            FROM redemptions WHERE purchase_id = ANY(CAST(:ids AS uuid[]))
            """
        ),
        {"ids": list(purchase_ids)},
    )
    return {row[0]: KnownRedemption(row[1], Redemption(*row[2:])) for row in found}


# writing


async def update_purchases(session: AsyncSession, purchases: Sequence[Purchase]) -> None:
    if not purchases:
        return
    names = (
        "id",
        "occurred_at",
        "card_ref",
        "acceptor_id",
        "channel",
        "customer_kind",
        *Sums._fields,
        "net_minor",
    )
    rows = [
        (
            one.id,
            one.occurred_at,
            one.card_ref,
            one.acceptor_id,
            one.channel,
            one.customer_kind,
            *one.sums,
            net(one.sums),
        )
        for one in purchases
    ]
    await session.execute(
        text(
            """
            UPDATE purchases SET occurred_at = new.occurred_at, card_ref = new.card_ref,
                acceptor_id = new.acceptor_id, channel = new.channel,
                customer_kind = new.customer_kind, authorised_minor = new.authorised,
                reversed_minor = new.reversed, cleared_minor = new.cleared,
                refunded_minor = new.refunded, authorised_at = new.authorised_at,
                declined_at = new.declined_at, lapses_at = new.lapses_at, lapsed = new.lapsed,
                net_minor = new.net
            FROM unnest(
                CAST(:id AS uuid[]), CAST(:occurred_at AS timestamptz[]),
                CAST(:card_ref AS text[]), CAST(:acceptor_id AS uuid[]), CAST(:channel AS text[]),
                CAST(:customer_kind AS text[]), CAST(:authorised_minor AS bigint[]),
                CAST(:reversed_minor AS bigint[]), CAST(:cleared_minor AS bigint[]),
                CAST(:refunded_minor AS bigint[]), CAST(:authorised_at AS timestamptz[]),
                CAST(:declined_at AS timestamptz[]), CAST(:lapses_at AS timestamptz[]),
                CAST(:lapsed AS boolean[]), CAST(:net_minor AS bigint[])
            ) AS new (id, occurred_at, card_ref, acceptor_id, channel, customer_kind, authorised,
                      reversed, cleared, refunded, authorised_at, declined_at, lapses_at, lapsed,
                      net)
            WHERE purchases.id = new.id
            """
        ),
        as_arrays(names, rows),
    )


async def save_redemptions(
    session: AsyncSession, redemptions: Sequence[tuple[UUID, KnownRedemption]], *, now: datetime
) -> None:
    """Pairs of a purchase's id and its redemption; what has been credited is left alone."""
    if not redemptions:
        return
    names = ("purchase_id", "id", *Redemption._fields)
    rows = [
        (purchase_id, known.id, *known.redemption)
        for purchase_id, known in sorted(redemptions, key=lambda pair: pair[1].id)
    ]
    await session.execute(
        text(
            """
            INSERT INTO redemptions AS known (purchase_id, id, coupon_id, state, reason, decided,
                                              holds_use, owed_minor, created_at, updated_at)
            SELECT new.*, CAST(:now AS timestamptz), CAST(:now AS timestamptz) FROM unnest(
                CAST(:purchase_id AS uuid[]), CAST(:id AS uuid[]), CAST(:coupon_id AS uuid[]),
                CAST(:state AS text[]), CAST(:reason AS text[]), CAST(:decided AS boolean[]),
                CAST(:holds_use AS boolean[]), CAST(:owed_minor AS bigint[])
            ) AS new
            ON CONFLICT (purchase_id) DO UPDATE SET coupon_id = excluded.coupon_id,
                state = excluded.state, reason = excluded.reason, decided = excluded.decided,
                holds_use = excluded.holds_use, owed_minor = excluded.owed_minor,
                updated_at = excluded.updated_at
            """
        ),
        {**as_arrays(names, rows), "now": now},
    )


async def update_coupons(session: AsyncSession, spent: Sequence[tuple[UUID, int, int]]) -> None:
    """Of each coupon: its id, what it has spent, how many of its uses are taken."""
    if not spent:
        return
    await session.execute(
        text(
            """
            UPDATE coupons SET spent_minor = new.spent_minor, uses = new.uses
            FROM unnest(CAST(:id AS uuid[]), CAST(:spent_minor AS bigint[]),
                        CAST(:uses AS smallint[])) AS new (id, spent_minor, uses)
            WHERE coupons.id = new.id
            """
        ),
        as_arrays(("id", "spent_minor", "uses"), spent),
    )


async def add_transactions(session: AsyncSession, transactions: Sequence[NewTransaction]) -> None:
    await copy_rows(session, "card_transactions", NewTransaction._fields, transactions)


async def read_told(session: AsyncSession, redemption_ids: Collection[UUID]) -> list[ToldOf]:
    """As the caller's transaction leaves them, in the order of their ids."""
    found = await session.execute(
        text(
            """
            SELECT o.partner_id, r.id, r.state, r.reason, o.id AS offer_id, o.ref AS offer,
                   pa.ref AS partner, o.hashtag, c.network,
                   buyer_pseudonym(o.partner_id, c.member_id) AS buyer, p.channel,
                   p.customer_kind, a.country, p.occurred_at AS purchased_at, p.currency,
                   p.net_minor AS spend_minor, r.owed_minor AS reward_minor,
                   p.cleared_minor - p.net_minor AS refunded_minor
            FROM redemptions r
            JOIN purchases p ON p.id = r.purchase_id
            JOIN acceptors a ON a.id = p.acceptor_id
            JOIN coupons c ON c.id = r.coupon_id
            JOIN offers o ON o.id = c.offer_id
            JOIN partners pa ON pa.id = o.partner_id
            WHERE r.id = ANY(CAST(:ids AS uuid[])) ORDER BY r.id
            """
        ),
        {"ids": list(redemption_ids)},
    )
    told = []
    for row in found.mappings():
        data = dict(row)
        told.append(ToldOf(data.pop("partner_id"), data))
    return told


async def add_changes(session: AsyncSession, redemption_ids: Collection[UUID]) -> None:
    """The feed that attribution follows."""
    rows = [(redemption_id,) for redemption_id in redemption_ids]
    await copy_rows(session, "redemption_changes", ("redemption_id",), rows)
