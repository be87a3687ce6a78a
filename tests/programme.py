"""A programme for tests: partners, offers and members made the way the service makes them."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from app.kit.db import Sessions
from app.members import service as members
from app.members.schemas import MemberLine
from app.networks.post import Post
from app.offers import service as offers
from app.offers.schemas import OfferIn
from app.partners import service as partners
from app.partners.schemas import MerchantLine
from app.redemptions.domain import TransactionType
from app.redemptions.service import record_committed
from app.redemptions.transactions import Answer, Transaction

NOW = datetime(2026, 7, 15, 12, 0, tzinfo=UTC)
OPERATOR = offers.Actor("test", is_operator=True)
_numbers = count(1)


async def make_offer(
    sessions: Sessions, hashtag: str, *, partner: str = "cafe", publish: bool = True, **terms: Any
) -> UUID:
    offer = OfferIn.model_validate(
        {
            "offer_ref": hashtag.lower(),
            "title": f"Offer {hashtag}",
            "hashtag": hashtag,
            "starts_at": (NOW - timedelta(days=10)).isoformat(),
            "ends_at": (NOW + timedelta(days=10)).isoformat(),
            "time_zone": "UTC",
            "currency": "USD",
            "reward": {"fixed_minor": 500},
            **terms,
        }
    )
    async with sessions.begin() as session:
        owner = await partners.ensure_partner(session, ref=partner)
        (made, _, _), _ = await offers.create(
            session, partner_id=owner.id, offer=offer, actor="test"
        )
        if publish:
            await offers.publish(session, offer_id=made.id, by=OPERATOR, now=NOW)
    return made.id


async def make_shop(
    sessions: Sessions, place: str, *, partner: str = "cafe", **fields: Any
) -> None:
    """A confirmed acceptor, `place` at the acquirer ACQ."""
    line = {
        "partner": partner,
        "acquirer_id": "ACQ",
        "acceptor_id": place,
        "name": place.title(),
        "channel": "in_store",
        "mcc": "5814",
        "country": "US",
        **fields,
    }
    async with sessions.begin() as session:
        (saved,) = await partners.save_acceptors(
            session, rows=[MerchantLine.model_validate(line)], now=NOW
        )
    assert saved.outcome == "created"


async def pay(
    sessions: Sessions, account_id: str, kind: TransactionType, amount_minor: int, **fields: Any
) -> Answer:
    """A card transaction of the member with that account, at NOW in the shop `counter`."""
    number = next(_numbers)
    given: dict[str, Any] = {
        "id": f"t{number}",
        "type": kind,
        "purchase_id": f"p{number}",
        "card_ref": f"c-{account_id}",
        "acquirer_id": "ACQ",
        "acceptor_id": "counter",
        "amount_minor": amount_minor,
        "currency": "USD",
        "occurred_at": NOW,
        **fields,
    }
    (answer,) = await record_committed(sessions, transactions=[Transaction(**given)], now=NOW)
    return answer


async def make_members(sessions: Sessions, number: int, **fields: Any) -> list[str]:
    """Account ids of new members, as `link` makes them."""
    account_ids = [str(10_000_000 + next(_numbers)) for _ in range(number)]
    await link(sessions, *account_ids, **fields)
    return account_ids


async def link(sessions: Sessions, *account_ids: str, **fields: Any) -> None:
    lines = [MemberLine.model_validate(member_line(one, **fields)) for one in account_ids]
    async with sessions.begin() as session:
        saved = await members.save_members(session, rows=lines, now=NOW)
    assert all(member.outcome != "rejected" for member in saved)


def member_line(account_id: str, **fields: Any) -> dict[str, Any]:
    """A member with a card; his ref is `m-` and the account id."""
    return {
        "member_ref": f"m-{account_id}",
        "account": {"network": "x", "id": account_id, "handle": f"h{account_id}"},
        "card": {"card_ref": f"c-{account_id}", "network": "visa", "last4": "4242"},
        "consented_at": "2026-01-01T00:00:00Z",
        **fields,
    }


def make_post(author_id: str, *tags: str, **fields: Any) -> Post:
    post_id = str(1_900_000_000_000_000_000 + next(_numbers))
    given: dict[str, Any] = {
        "network": "x",
        "id": post_id,
        "root_id": fields.get("id", post_id),
        "author_id": author_id,
        "posted_at": NOW - timedelta(minutes=5),
        "tags": tags,
        "mentions_programme": True,
        "is_repost": False,
        "lang": "en",
        "author_followers": 100,
        **fields,
    }
    return Post(**given)
