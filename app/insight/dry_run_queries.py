"""The SQL of a dry run: what is kept of a partner's posts, of who wrote them and of what they
bought. It reads, in one snapshot, and takes no lock.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.members.service import Summary
from app.redemptions.domain import TransactionType

SOURCES = text(
    """
    SELECT o.id, o.tag_key = :tag_key FROM offers o
    WHERE o.partner_id = :partner_id AND EXISTS (
        SELECT FROM decisions d JOIN posts p ON p.network = d.network AND p.post_id = d.post_id
        WHERE d.offer_id = o.id AND d.decided_at >= :since
            AND p.posted_at >= :since AND p.posted_at < :until
    )
    """
)

# Its author is the member he was when it was decided; else, where he has linked since, the one he
# is.
POSTS = text(
    """
    SELECT d.network, d.root_id, d.post_id, d.author_id, d.outcome, d.decided_at, p.posted_at,
           (d.seen ->> 'rank')::int, (d.seen ->> 'author_age_days')::int,
           (d.seen ->> 'author_followers')::int, (d.seen ->> 'author_default_picture')::boolean,
           (d.seen ->> 'author_posts')::int, (d.seen ->> 'member_accounts')::int,
           (d.seen ->> 'recent_coupons')::int, m.id, m.locale, m.country,
           coalesce(m.opted_out_at, s.stopped_at) IS NOT NULL,
           EXISTS (SELECT FROM cards WHERE cards.member_id = m.id AND cards.state = 'active')
    FROM decisions d
    JOIN posts p ON p.network = d.network AND p.post_id = d.post_id
    LEFT JOIN accounts a ON a.network = d.network AND a.account_id = d.author_id
    LEFT JOIN members m ON m.id = coalesce(d.member_id, a.member_id)
    LEFT JOIN stopped_accounts s ON s.network = d.network AND s.account_id = d.author_id
    WHERE d.offer_id = ANY(CAST(:offer_ids AS uuid[])) AND d.decided_at >= :since
        AND p.posted_at >= :since AND p.posted_at < :until
    ORDER BY p.posted_at DESC, p.post_id DESC LIMIT :most
    """
)

_BOUGHT = """
    FROM unnest(CAST(:member_ids AS uuid[])) AS wanted (member_id)
    JOIN cards c ON c.member_id = wanted.member_id
    JOIN purchases p ON p.card_ref = c.ref AND p.partner_id = :partner_id
"""

# A refund that named no purchase is for the one that it was found to be for.
TRANSACTIONS = text(
    f"""
    WITH bought AS MATERIALIZED (
        SELECT p.id, p.ref, p.member_id, p.occurred_at, p.lapses_at {_BOUGHT}
        WHERE p.occurred_at >= :since AND p.occurred_at < :until
        ORDER BY p.occurred_at DESC, p.id DESC LIMIT :most
    )
    SELECT t.id, t.type, b.ref, t.card_ref, a.acquirer_id, a.acceptor_id, t.amount_minor,
           t.currency, t.occurred_at, t.received_at, b.member_id, a.id, a.channel, a.mcc,
           a.country, b.occurred_at, b.lapses_at, EXISTS (
               SELECT FROM redemptions r JOIN coupons k ON k.id = r.coupon_id
               WHERE r.purchase_id = b.id AND r.state <> 'rejected'
                   AND k.offer_id <> ALL(CAST(:offer_ids AS uuid[]))
           )
    FROM bought b
    JOIN card_transactions t ON t.purchase_id = b.id
    JOIN acceptors a ON a.id = t.acceptor_id
    ORDER BY t.received_at, t.occurred_at, t.id
    """  # noqa: S608 - the join above
)

_BEFORE = text(
    f"""
    SELECT wanted.member_id, count(*), min(p.occurred_at), max(p.occurred_at) {_BOUGHT}
    WHERE p.occurred_at < :since AND p.cleared_minor > 0
    GROUP BY wanted.member_id
    """
)


class Source(NamedTuple):
    """An offer of the partner's that was named in the window."""

    offer_id: UUID
    has_the_tag: bool


class KeptPost(NamedTuple):
    """A decision with what is kept of its post and author. `seen_…` is what its rules saw then,
    None where they did not look; the member's columns are as they are now.
    """

    network: str
    root_id: str
    post_id: str
    author_id: str
    outcome: str
    decided_at: datetime
    posted_at: datetime
    seen_rank: int | None
    seen_age_days: int | None
    seen_followers: int | None
    seen_default_picture: bool | None
    seen_posts: int | None
    seen_accounts: int | None
    seen_recent_coupons: int | None
    member_id: UUID | None
    locale: str | None
    country: str | None
    has_stopped: bool
    has_active_card: bool


class KeptTransaction(NamedTuple):
    """With the purchase and the place that it belongs to. `is_taken`: another offer than those
    that the dry run stands in for has rewarded the purchase.
    """

    id: str
    type: TransactionType
    purchase_ref: str
    card_ref: str
    acquirer_id: str
    acceptor_ref: str
    amount_minor: int
    currency: str
    occurred_at: datetime
    received_at: datetime
    member_id: UUID
    acceptor_id: UUID
    channel: str
    mcc: str
    country: str
    purchased_at: datetime
    lapses_at: datetime | None
    is_taken: bool


async def begin_snapshot(session: AsyncSession) -> None:
    """In a transaction that has not begun: all that it reads is of one moment, and it cannot
    write.
    """
    await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))


async def sources(
    session: AsyncSession, *, partner_id: UUID, tag_key: str, since: datetime, until: datetime
) -> list[Source]:
    rows = await session.execute(
        SOURCES, {"partner_id": partner_id, "tag_key": tag_key, "since": since, "until": until}
    )
    return [Source(*row) for row in rows]


async def posts(
    session: AsyncSession,
    *,
    offer_ids: Collection[UUID],
    since: datetime,
    until: datetime,
    most: int,
) -> list[KeptPost]:
    """The newest first; a post is there once for each of the offers that it named."""
    rows = await session.execute(
        POSTS, {"offer_ids": list(offer_ids), "since": since, "until": until, "most": most}
    )
    return [KeptPost(*row) for row in rows]


async def transactions(
    session: AsyncSession,
    *,
    member_ids: Collection[UUID],
    partner_id: UUID,
    offer_ids: Collection[UUID],
    since: datetime,
    until: datetime,
    most: int,
) -> list[KeptTransaction]:
    """All messages of the `most` newest purchases that these members made at the partner, in the
    order in which they were received.
    """
    rows = await session.execute(
        TRANSACTIONS,
        {
            "member_ids": list(member_ids),
            "partner_id": partner_id,
            "offer_ids": list(offer_ids),
            "since": since,
            "until": until,
            "most": most,
        },
    )
    return [KeptTransaction(*row) for row in rows]


async def bought_before(
    session: AsyncSession, *, member_ids: Sequence[UUID], partner_id: UUID, since: datetime
) -> dict[UUID, Summary]:
    rows = await session.execute(
        _BEFORE, {"member_ids": list(member_ids), "partner_id": partner_id, "since": since}
    )
    return {row[0]: Summary(*row[1:]) for row in rows}
