from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Executable, Row, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

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
    conditions: Sequence[ColumnElement[bool]], *, after: UUID | None, limit: int, for_partner: bool
) -> Executable:
    """Each with its offer's and its partner's ref, by id. The page is found before the rest is, so
    that it is found by the sales' own indexes. A partner's role may read nothing of the post.
    """
    page = select(Sale.redemption_id).where(*conditions).order_by(Sale.redemption_id).limit(limit)
    if after is not None:
        page = page.where(Sale.redemption_id > after)
    found = page.subquery()
    query = (
        select(Sale, Offer.ref, Partner.ref)
        .join(found, found.c.redemption_id == Sale.redemption_id)
        .join(Offer, Offer.id == Sale.offer_id)
        .join(Partner, Partner.id == Sale.partner_id)
        .order_by(Sale.redemption_id)
    )
    return query.options(defer(Sale.posted_at, raiseload=True)) if for_partner else query


async def read_sales(session: AsyncSession, query: Executable) -> Sequence[tuple[Sale, str, str]]:
    rows = await session.execute(query)
    return [(sale, offer, partner) for sale, offer, partner in rows]
