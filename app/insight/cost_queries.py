"""The SQL of what a network has cost, by offer."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


class OfferCost(NamedTuple):
    """In millionths of a US dollar. `posts_read`: that named the offer."""

    offer_id: UUID
    offer_ref: str
    hashtag: str
    replies_microusd: int
    posts_read: int
    coupons: int
    confirmed: int


async def by_offer(
    session: AsyncSession, *, network: str, since: datetime, until: datetime
) -> list[OfferCost]:
    """What came by file or by the API was not read from the network."""
    rows = await session.execute(
        text(
            """
            WITH replied AS (
                SELECT offer_id, CAST(coalesce(sum(cost_microusd), 0) AS bigint) AS microusd,
                       count(*) FILTER (WHERE kind = 'confirmation' AND state = 'sent')
                           AS confirmed
                FROM replies
                WHERE network = :network AND offer_id IS NOT NULL
                    AND (state = 'sent' OR cost_microusd IS NOT NULL)
                    AND updated_at >= :since AND updated_at < :until
                GROUP BY offer_id
            ), received AS (
                SELECT d.offer_id, count(*) AS posts
                FROM posts p JOIN decisions d ON d.network = p.network AND d.root_id = p.root_id
                WHERE p.network = :network AND p.source LIKE :network || ':%'
                    AND p.received_at >= :since AND p.received_at < :until
                GROUP BY d.offer_id
            ), loaded AS (
                SELECT offer_id, count(*) AS coupons FROM coupons
                WHERE network = :network AND loaded_at >= :since AND loaded_at < :until
                GROUP BY offer_id
            )
            SELECT o.id, o.ref, o.hashtag, coalesce(replied.microusd, 0),
                   coalesce(received.posts, 0), coalesce(loaded.coupons, 0),
                   coalesce(replied.confirmed, 0)
            FROM offers o
            LEFT JOIN replied ON replied.offer_id = o.id
            LEFT JOIN received ON received.offer_id = o.id
            LEFT JOIN loaded ON loaded.offer_id = o.id
            WHERE coalesce(replied.offer_id, received.offer_id, loaded.offer_id) IS NOT NULL
            ORDER BY o.id
            """
        ),
        {"network": network, "since": since, "until": until},
    )
    return [OfferCost(*row) for row in rows]
