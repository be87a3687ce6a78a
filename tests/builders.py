"""Plain values for tests that ask the rules alone, and rows for those that ask the database."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.ids import new_id
from app.metadata import metadata
from app.offers.terms import EVERYBODY, Terms, largest_reward
from app.posts import queries as posts

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PARTNER_ID = UUID(int=0xA)
SHOP_ID = UUID(int=0xB)


def make_terms(**changes: Any) -> Terms:
    """10 % up to 5.00, in dollars, for anybody and anything."""
    usual = Terms(
        offer_id=UUID(int=1),
        version=1,
        partner_id=PARTNER_ID,
        partner="acme",
        title="10 % back",
        hashtag="AcmeTen",
        tag_key="acmeten",
        starts_at=NOON - timedelta(days=30),
        ends_at=NOON + timedelta(days=30),
        state="live",
        currency="USD",
        time_zone="UTC",
        fixed_minor=None,
        basis_points=1_000,
        max_minor=500,
        min_spend_minor=0,
        channel="any",
        acceptor_ids=None,
        days=None,
        hours_from=None,
        hours_to=None,
        coupon_valid_days=30,
        coupon_last_day=None,
        redemptions_per_coupon=1,
        audience=EVERYBODY,
        refund_policy="restore",
    )
    return usual._replace(**changes)


# rows, written as the service would have written them


async def add_partner(session: AsyncSession, ref: str = "acme") -> UUID:
    return await _insert(session, "partners", ref=ref, name=ref.title())


async def add_shop(
    session: AsyncSession, partner_id: UUID, name: str = "shop", **more: Any
) -> UUID:
    """Confirmed; its acquirer is `acq` and its acceptor id `name`, unless told otherwise."""
    usual = {
        "partner_id": partner_id,
        "acquirer_id": "acq",
        "acceptor_id": name,
        "name": name.title(),
        "channel": "in_store",
        "mcc": "5812",
        "country": "US",
        "state": "confirmed",
        "confirmed_at": NOON - timedelta(days=90),
    }
    return await _insert(session, "acceptors", **usual | more)


async def add_member(session: AsyncSession, *card_refs: str) -> UUID:
    """With these cards, the first the oldest; by default one whose ref is `card-1`."""
    cards = card_refs or ("card-1",)
    member_id = await _insert(session, "members", ref=f"member of {cards[0]}")
    for number, ref in enumerate(cards):
        await _insert(
            session,
            "cards",
            ref=ref,
            member_id=member_id,
            added_at=NOON - timedelta(days=100 - number),
        )
    return member_id


async def add_offer(session: AsyncSession, partner_id: UUID, **changes: Any) -> Terms:
    """Live, with the terms of `make_terms` but for the changes, and without caps."""
    offer_id = new_id()
    tag = f"acme{offer_id.hex}"
    terms = make_terms(offer_id=offer_id, partner_id=partner_id, tag_key=tag, **changes)
    of_offer = ("partner_id", "hashtag", "tag_key", "starts_at", "ends_at", "state")
    await _insert(
        session,
        "offers",
        id=offer_id,
        ref=str(offer_id),
        currency=terms.currency,
        published_at=terms.starts_at,
        **{name: getattr(terms, name) for name in of_offer},
    )
    of_version = (
        "version",
        "title",
        "time_zone",
        "fixed_minor",
        "basis_points",
        "max_minor",
        "min_spend_minor",
        "channel",
        "redemptions_per_coupon",
        "refund_policy",
    )
    acceptors = None if terms.acceptor_ids is None else list(terms.acceptor_ids)
    await _insert(
        session,
        "offer_versions",
        offer_id=offer_id,
        acceptor_ids=acceptors,
        **{name: getattr(terms, name) for name in of_version},
    )
    await _insert(session, "offer_counters", offer_id=offer_id)
    return terms


async def add_coupon(
    session: AsyncSession, member_id: UUID, terms: Terms, *, posted_at: datetime | None = None
) -> UUID:
    """From a post of its own an hour before NOON, good for 30 days, and counted like any."""
    coupon_id, post_id = new_id(), new_id().hex
    posted_at = posted_at or NOON - timedelta(hours=1)
    reserved_minor = largest_reward(terms) * terms.redemptions_per_coupon
    of_post = {"network": "x", "post_id": post_id, "root_id": post_id, "author_id": str(member_id)}
    await _insert(
        session,
        "posts",
        **of_post,
        posted_at=posted_at,
        received_at=posted_at,
        tags=[terms.tag_key],
        mentions_programme=True,
        source="test",
    )
    await _insert(
        session,
        "decisions",
        **of_post,
        offer_id=terms.offer_id,
        offer_version=terms.version,
        member_id=member_id,
        coupon_id=coupon_id,
        outcome="loaded",
        decided_at=posted_at,
        seen={},
    )
    await posts.count(
        session,
        {
            posts.HourKey(
                terms.offer_id, posted_at.replace(minute=0), "x", "loaded"
            ): posts.Counted(1, 0)
        },
    )
    await _insert(
        session,
        "coupons",
        id=coupon_id,
        offer_id=terms.offer_id,
        offer_version=terms.version,
        member_id=member_id,
        network="x",
        post_id=post_id,
        posted_at=posted_at,
        loaded_at=posted_at,
        valid_until=posted_at + timedelta(days=30),
        reserved_minor=reserved_minor,
        uses_max=terms.redemptions_per_coupon,
    )
    await session.execute(
        text(
            "UPDATE offer_counters SET coupons_loaded = coupons_loaded + 1, "
            "reserved_minor = reserved_minor + :reserved_minor WHERE offer_id = :offer_id"
        ),
        {"reserved_minor": reserved_minor, "offer_id": terms.offer_id},
    )
    return coupon_id


async def close_coupon(session: AsyncSession, coupon_id: UUID) -> None:
    """What it has not spent goes back to its offer."""
    await session.execute(
        text(
            "UPDATE offer_counters o SET reserved_minor = o.reserved_minor "
            "- (c.reserved_minor - c.spent_minor) FROM coupons c "
            "WHERE c.id = :id AND o.offer_id = c.offer_id"
        ),
        {"id": coupon_id},
    )
    await session.execute(
        text("UPDATE coupons SET reserved_minor = spent_minor, closed_at = :at WHERE id = :id"),
        {"id": coupon_id, "at": NOON + timedelta(days=60)},
    )


async def _insert(session: AsyncSession, table: str, **values: Any) -> UUID:
    """The row's id, where its table has one."""
    known = metadata.tables[table]
    row_id: UUID = values.get("id") or new_id()
    if "id" in known.c:
        values["id"] = row_id
    await session.execute(insert(known).values(**values))
    return row_id
