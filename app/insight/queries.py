from collections.abc import Sequence
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Executable, Row, Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, defer

from app.insight.models import Sale, SalesDay
from app.kit import locks
from app.offers.models import Offer
from app.partners.models import Partner
from app.posts.models import PostDay

# One statement and so one snapshot: `before` reads the rows as they were, the rollup is moved by
# the difference, and the feed's rows are gone with it or not at all.
_FOLLOW = text(
    """
    WITH taken AS (
        DELETE FROM redemption_changes WHERE seq IN (
            SELECT seq FROM redemption_changes ORDER BY seq LIMIT :most
        ) RETURNING redemption_id
    ), touched AS (
        SELECT DISTINCT redemption_id FROM taken
    ), before AS (
        SELECT sales.* FROM sales JOIN touched USING (redemption_id)
    ), after AS (
        SELECT redemption_id, c.offer_id, o.partner_id,
               buyer_pseudonym(o.partner_id, c.member_id) AS buyer,
               c.network, o.hashtag, posts.reach, c.posted_at, p.occurred_at AS purchased_at,
               p.channel, p.customer_kind, a.country, r.state, r.reason, p.currency,
               p.net_minor AS spend_minor, r.owed_minor AS reward_minor,
               p.cleared_minor - p.net_minor AS refunded_minor
        FROM touched
        JOIN redemptions r ON r.id = touched.redemption_id
        JOIN purchases p ON p.id = r.purchase_id
        JOIN acceptors a ON a.id = p.acceptor_id
        JOIN coupons c ON c.id = r.coupon_id
        JOIN offers o ON o.id = c.offer_id
        LEFT JOIN posts ON posts.network = c.network AND posts.post_id = c.post_id
    ), written AS (
        INSERT INTO sales (redemption_id, offer_id, partner_id, buyer, network, hashtag, reach,
                           posted_at, purchased_at, channel, customer_kind, country, state,
                           reason, currency, spend_minor, reward_minor, refunded_minor)
        SELECT * FROM after
        ON CONFLICT (redemption_id) DO UPDATE SET
            offer_id = EXCLUDED.offer_id, hashtag = EXCLUDED.hashtag, reach = EXCLUDED.reach,
            network = EXCLUDED.network, posted_at = EXCLUDED.posted_at,
            purchased_at = EXCLUDED.purchased_at, channel = EXCLUDED.channel,
            customer_kind = EXCLUDED.customer_kind, country = EXCLUDED.country,
            state = EXCLUDED.state, reason = EXCLUDED.reason, spend_minor = EXCLUDED.spend_minor,
            reward_minor = EXCLUDED.reward_minor, refunded_minor = EXCLUDED.refunded_minor
    ), difference AS (
        SELECT 1 AS sign, * FROM after UNION ALL
        SELECT -1, redemption_id, offer_id, partner_id, buyer, network, hashtag, reach, posted_at,
               purchased_at, channel, customer_kind, country, state, reason, currency, spend_minor,
               reward_minor, refunded_minor
        FROM before
    ), rolled AS (
        INSERT INTO sales_days (offer_id, day, hashtag, network, channel, customer_kind, country,
                                currency, delay_bucket, partner_id, redemptions, sales_minor,
                                reward_minor, refunded_minor)
        SELECT offer_id, (purchased_at AT TIME ZONE 'UTC')::date, hashtag, network, channel,
               customer_kind, country, currency,
               CASE WHEN purchased_at - posted_at < interval '1 hour' THEN 0
                    ELSE floor(log(2, extract(epoch FROM purchased_at - posted_at) / 3600)) + 1
               END,
               partner_id, coalesce(sum(sign) FILTER (WHERE state = 'earned'), 0),
               sum(sign * spend_minor), sum(sign * reward_minor), sum(sign * refunded_minor)
        FROM difference
        WHERE state IN ('earned', 'returned')
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
        ON CONFLICT (offer_id, day, hashtag, network, channel, customer_kind, country, currency,
                     delay_bucket) DO UPDATE SET
            redemptions = sales_days.redemptions + EXCLUDED.redemptions,
            sales_minor = sales_days.sales_minor + EXCLUDED.sales_minor,
            reward_minor = sales_days.reward_minor + EXCLUDED.reward_minor,
            refunded_minor = sales_days.refunded_minor + EXCLUDED.refunded_minor
    )
    SELECT count(*) FROM taken
    """
)

OF_THE_POST = (Sale.posted_at, Sale.reach)

DIMENSIONS = (
    "offer",
    "hashtag",
    "partner",
    "network",
    "channel",
    "customer_kind",
    "country",
    "day",
)
_SALES: dict[str, Any] = {
    "offer": Offer.ref,
    "hashtag": SalesDay.hashtag,
    "partner": Partner.ref,
    "network": SalesDay.network,
    "channel": SalesDay.channel,
    "customer_kind": SalesDay.customer_kind,
    "country": SalesDay.country,
    "day": SalesDay.day,
}
# What is known of a post that sold nothing yet: a purchase's dimensions are not among it.
_POSTS: dict[str, Any] = {
    "offer": Offer.ref,
    "hashtag": Offer.hashtag,
    "partner": Partner.ref,
    "network": PostDay.network,
    "day": PostDay.day,
}


async def follow(session: AsyncSession, *, most: int) -> int | None:
    """Takes up to `most` changes into `sales` and the rollup, in the caller's transaction. None
    when another process is at it.
    """
    mine = text("SELECT pg_try_advisory_xact_lock(:key)")
    if not (await session.execute(mine, {"key": locks.ATTRIBUTION})).scalar_one():
        return None
    taken: int = (await session.execute(_FOLLOW, {"most": most})).scalar_one()
    return taken


async def sales_by(
    session: AsyncSession, dimensions: Sequence[str], *, since: date | None, until: date | None
) -> Sequence[Row[Any]]:
    keys = [_SALES[name].label(name) for name in dimensions]
    query: Select[Any] = (
        select(
            *keys,
            SalesDay.currency,
            func.sum(SalesDay.redemptions).label("redemptions"),
            func.sum(SalesDay.sales_minor).label("sales_minor"),
            func.sum(SalesDay.reward_minor).label("reward_minor"),
            func.sum(SalesDay.refunded_minor).label("refunded_minor"),
        )
        .join(Offer, Offer.id == SalesDay.offer_id)
        .join(Partner, Partner.id == SalesDay.partner_id)
        .group_by(*[_SALES[name] for name in dimensions], SalesDay.currency)
    )
    rows: Sequence[Row[Any]] = (
        await session.execute(_between(query, SalesDay.day, since, until))
    ).all()
    return rows


async def posts_by(
    session: AsyncSession, dimensions: Sequence[str], *, since: date | None, until: date | None
) -> Sequence[Row[Any]]:
    """Raises KeyError for a dimension that only a purchase has."""
    keys = [_POSTS[name].label(name) for name in dimensions]
    query: Select[Any] = (
        select(
            *keys,
            Offer.currency,
            func.sum(PostDay.posts).label("posts"),
            func.sum(PostDay.reach).label("reach"),
            func.coalesce(func.sum(PostDay.posts).filter(PostDay.outcome == "loaded"), 0).label(
                "coupons"
            ),
        )
        .join(Offer, Offer.id == PostDay.offer_id)
        .join(Partner, Partner.id == Offer.partner_id)
        .group_by(*[_POSTS[name] for name in dimensions], Offer.currency)
    )
    rows: Sequence[Row[Any]] = (
        await session.execute(_between(query, PostDay.day, since, until))
    ).all()
    return rows


def knows_posts(dimensions: Sequence[str]) -> bool:
    return all(name in _POSTS for name in dimensions)


def _between(
    query: Select[Any],
    day: InstrumentedAttribute[date],
    since: date | None,
    until: date | None,
) -> Select[Any]:
    if since is not None:
        query = query.where(day >= since)
    if until is not None:
        query = query.where(day <= until)
    return query


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
    """Each with its offer's and its partner's ref, by id. A partner's role may read nothing of the
    post.
    """
    query = (
        select(Sale, Offer.ref, Partner.ref)
        .join(Offer, Offer.id == Sale.offer_id)
        .join(Partner, Partner.id == Sale.partner_id)
        .where(*conditions)
        .order_by(Sale.redemption_id)
        .limit(limit)
    )
    if for_partner:
        query = query.options(*(defer(column, raiseload=True) for column in OF_THE_POST))
    return query if after is None else query.where(Sale.redemption_id > after)


async def read_sales(session: AsyncSession, query: Executable) -> Sequence[tuple[Sale, str, str]]:
    rows = await session.execute(query)
    return [(sale, offer, partner) for sale, offer, partner in rows]
