from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Executable, Row, select, text
from sqlalchemy.ext.asyncio import AsyncResult, AsyncSession
from sqlalchemy.orm import aliased

from app.insight.models import Sale
from app.offers.models import Offer
from app.partners.models import Partner


async def find_post(session: AsyncSession, *, network: str, post_id: str) -> Row[Any] | None:
    return (
        await session.execute(
            text("SELECT * FROM posts WHERE network = :network AND post_id = :id"),
            {"network": network, "id": post_id},
        )
    ).first()


async def is_removed(session: AsyncSession, *, network: str, post_id: str) -> bool:
    found: bool = (
        await session.execute(
            text(
                "SELECT EXISTS (SELECT FROM removed_posts "
                "WHERE network = :network AND post_id = :id)"
            ),
            {"network": network, "id": post_id},
        )
    ).scalar_one()
    return found


async def find_rejection(session: AsyncSession, *, network: str, post_id: str) -> str | None:
    reason: str | None = (
        await session.execute(
            text(
                "SELECT reason FROM rejected_posts WHERE network = :network AND post_id = :id "
                "ORDER BY id DESC LIMIT 1"
            ),
            {"network": network, "id": post_id},
        )
    ).scalar()
    return reason


async def find_decisions(
    session: AsyncSession, *, network: str, root_id: str
) -> Sequence[Row[Any]]:
    rows: Sequence[Row[Any]] = (
        await session.execute(
            text(
                "SELECT d.*, c.valid_until, r.state AS reply_state "
                "FROM decisions d LEFT JOIN coupons c ON c.id = d.coupon_id "
                # who was invited, and has linked, is told twice: the ids are in order of time
                "LEFT JOIN LATERAL (SELECT state FROM replies WHERE network = d.network "
                "AND root_id = d.root_id AND offer_id = d.offer_id "
                "ORDER BY id DESC LIMIT 1) r ON true "
                "WHERE d.network = :network AND d.root_id = :root "
                "ORDER BY d.decided_at, d.post_id, (d.seen ->> 'rank')::int"
            ),
            {"network": network, "root": root_id},
        )
    ).all()
    return rows


_COUNTS = {
    "outcomes": "SELECT outcome, count(*) FROM decisions GROUP BY 1 ORDER BY 1",
    "replies": "SELECT kind || '_' || state, count(*) FROM replies GROUP BY 1 ORDER BY 1",
    "redemptions": "SELECT state, count(*) FROM redemptions GROUP BY 1 ORDER BY 1",
    # what members are owed: decreases swap the accounts
    "rewards_minor": (
        "SELECT currency, sum(CASE credit_account WHEN 'member_due' THEN amount_minor "
        "ELSE -amount_minor END)::bigint FROM transfers WHERE code = 'reward' GROUP BY 1 ORDER BY 1"
    ),
    "credits_minor": (
        "SELECT currency, sum(CASE debit_account WHEN 'member_due' THEN amount_minor "
        "ELSE -amount_minor END)::bigint FROM transfers WHERE code = 'credit' GROUP BY 1 ORDER BY 1"
    ),
}


async def count_by(session: AsyncSession, what: str) -> dict[str, int]:
    rows = await session.execute(text(_COUNTS[what]))
    return {name: int(number) for name, number in rows}


async def count_posts(session: AsyncSession) -> int:
    number: int = (await session.execute(text("SELECT count(*) FROM posts"))).scalar_one()
    return number


async def count_transactions(session: AsyncSession) -> int:
    number: int = (
        await session.execute(text("SELECT count(*) FROM card_transactions"))
    ).scalar_one()
    return number


async def count_coupons(session: AsyncSession) -> Row[Any]:
    return (
        await session.execute(
            text(
                "SELECT count(*) AS coupons, "
                "count(*) FILTER (WHERE posts.mentions_programme) AS with_mention "
                "FROM coupons JOIN posts USING (network, post_id)"
            )
        )
    ).one()


async def confirmation_texts(session: AsyncSession) -> set[str]:
    rows = await session.scalars(text("SELECT text FROM replies WHERE kind = 'confirmation'"))
    return set(rows)


async def count_waiting_replies(session: AsyncSession) -> int:
    number: int = (
        await session.execute(
            text("SELECT count(*) FROM replies WHERE state IN ('queued', 'sending')")
        )
    ).scalar_one()
    return number


async def has_members(session: AsyncSession) -> bool:
    found: bool = (await session.execute(text("SELECT EXISTS (SELECT FROM members)"))).scalar_one()
    return found


# What leaves the house. Each is one statement, so one snapshot; amounts are minor units.
EXPORTS = {
    "redemptions": """
        SELECT r.id AS redemption_id, r.state, r.reason, offers.ref AS offer_ref,
               partners.ref AS partner, offers.hashtag, c.network, c.post_id, m.ref AS member_ref,
               p.ref AS purchase_id, p.occurred_at AS purchased_at, c.posted_at, p.channel,
               p.customer_kind, p.currency, p.authorised_minor, p.cleared_minor, p.refunded_minor,
               p.net_minor, r.owed_minor AS reward_minor, r.credited_minor
        FROM redemptions r
        JOIN purchases p ON p.id = r.purchase_id
        JOIN coupons c ON c.id = r.coupon_id
        JOIN members m ON m.id = p.member_id
        JOIN offers ON offers.id = c.offer_id
        JOIN partners ON partners.id = offers.partner_id
        ORDER BY r.id
    """,
    "coupons": """
        SELECT c.id AS coupon_id, offers.ref AS offer_ref, partners.ref AS partner, offers.hashtag,
               c.offer_version, m.ref AS member_ref, c.network, c.post_id, c.posted_at, c.loaded_at,
               c.valid_until, c.uses, c.uses_max, offers.currency, c.reserved_minor, c.spent_minor,
               c.closed_at
        FROM coupons c
        JOIN members m ON m.id = c.member_id
        JOIN offers ON offers.id = c.offer_id
        JOIN partners ON partners.id = offers.partner_id
        ORDER BY c.id
    """,
    "posts": """
        SELECT p.network, p.post_id, p.root_id, p.author_id, p.posted_at, p.received_at, p.source,
               p.mentions_programme, p.lang, p.reach, offers.ref AS offer_ref, offers.hashtag,
               d.outcome, d.decided_at, d.coupon_id
        FROM posts p
        LEFT JOIN decisions d ON d.network = p.network AND d.post_id = p.post_id
        LEFT JOIN offers ON offers.id = d.offer_id
        ORDER BY p.network, p.post_id, d.offer_id
    """,
    "credits": """
        SELECT l.id AS line_id, l.batch_id, b.created_at, b.acknowledged_at, m.ref AS member_ref,
               l.card_ref, l.amount_minor, l.currency, l.state, l.failure, l.redemption_id,
               l.adjustment_id, a.ref AS adjustment_ref
        FROM credit_lines l
        JOIN credit_batches b ON b.id = l.batch_id
        JOIN members m ON m.id = l.member_id
        LEFT JOIN adjustments a ON a.id = l.adjustment_id
        ORDER BY l.batch_id, l.id
    """,
}


async def stream_export(session: AsyncSession, what: str, *, chunk: int) -> AsyncResult[Any]:
    """A server-side cursor of the whole set, `chunk` rows in memory at a time, however long it
    takes.
    """
    await session.execute(text("SET LOCAL transaction_timeout = 0"))
    return await session.stream(
        text(EXPORTS[what]), execution_options={"yield_per": chunk, "max_row_buffer": chunk}
    )


async def find_transaction(session: AsyncSession, transaction_id: str) -> Row[Any] | None:
    return (
        await session.execute(
            text(
                "SELECT t.id, t.type, t.amount_minor, t.currency, t.occurred_at, t.received_at, "
                "t.answer, t.purchase_id, a.name AS place, a.channel, p.ref AS purchase_ref, "
                "p.occurred_at AS purchased_at, p.net_minor, p.authorised_minor, p.cleared_minor, "
                "coalesce(p.member_id, c.member_id) AS member_id, "
                "r.state, r.reason, r.owed_minor, r.credited_minor, r.coupon_id "
                "FROM card_transactions t JOIN acceptors a ON a.id = t.acceptor_id "
                "LEFT JOIN purchases p ON p.id = t.purchase_id "
                "LEFT JOIN cards c ON c.ref = t.card_ref "
                "LEFT JOIN redemptions r ON r.purchase_id = p.id WHERE t.id = :id"
            ),
            {"id": transaction_id},
        )
    ).first()


def page_of_sales(
    conditions: Sequence[ColumnElement[bool]], *, after: UUID | None, limit: int
) -> Executable:
    """Each with its offer's and its partner's ref, by id. The page is found before the refs are, so
    that it is found by the sales' own indexes.
    """
    page = select(Sale).where(*conditions).order_by(Sale.redemption_id).limit(limit)
    if after is not None:
        page = page.where(Sale.redemption_id > after)
    sale = aliased(Sale, page.subquery())
    return (
        select(sale, Offer.ref, Partner.ref)
        .join(Offer, Offer.id == sale.offer_id)
        .join(Partner, Partner.id == sale.partner_id)
        .order_by(sale.redemption_id)
    )


async def read_sales(session: AsyncSession, query: Executable) -> Sequence[tuple[Sale, str, str]]:
    rows = await session.execute(query)
    return [(sale, offer, partner) for sale, offer, partner in rows]
