"""A member's cards, by the names that the issuer gives them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Invalid, NotFound
from app.members import queries, service
from app.members.models import Card
from app.members.schemas import CardIn

CARDS_PER_MEMBER_MAX = 50


async def list_cards(session: AsyncSession, *, member_id: UUID) -> Sequence[Card]:
    """The oldest first. Raises NotFound."""
    await service.get_member(session, member_id=member_id)
    return await queries.cards_of(session, member_id)


async def list_active(session: AsyncSession, *, member_id: UUID) -> Sequence[Card]:
    """Of a member who is known."""
    return [card for card in await queries.cards_of(session, member_id) if card.state == "active"]


async def add_card(
    session: AsyncSession,
    *,
    member_id: UUID,
    card: CardIn,
    actor: str,
    now: datetime,
    vouched_at: datetime | None = None,
) -> tuple[Card, bool]:
    """And whether that changed anything: a removed card comes back, an active one stays.
    `vouched_at`: when the issuer has said that it is the member's; None: just now. Raises NotFound,
    and Conflict when the card is another member's, was replaced, was removed since, or is one too
    many.
    """
    await service.lock_member(session, member_id)
    added, is_changed = await _add_card(session, member_id, card, now, vouched_at)
    if is_changed:
        await service.record(session, member_id, "member.add_card", actor, after={"card": "active"})
    return added, is_changed


async def add_or_replace_card(
    session: AsyncSession,
    *,
    member_id: UUID,
    card: CardIn,
    replaces: str | None,
    actor: str,
    now: datetime,
) -> tuple[Card, bool]:
    if replaces is None:
        return await add_card(session, member_id=member_id, card=card, actor=actor, now=now)
    return await replace_card(
        session, member_id=member_id, old_ref=replaces, card=card, actor=actor, now=now
    )


async def replace_card(
    session: AsyncSession,
    *,
    member_id: UUID,
    old_ref: str,
    card: CardIn,
    actor: str,
    now: datetime,
) -> tuple[Card, bool]:
    """A reissue: `card` takes the place of an active one, which still finds its member for
    transactions that come late. Tells like `add_card` whether that changed anything.
    """
    await service.lock_member(session, member_id)
    old = await _own_card(session, member_id, old_ref)
    if old.ref == card.card_ref:
        raise Invalid("a card cannot replace itself", code="card_replaces_itself")
    if old.state == "replaced" and old.replaced_by == card.card_ref:
        return await _own_card(session, member_id, card.card_ref), False
    if old.state != "active":
        raise Conflict(f"only an active card is replaced, this is {old.state}", code="card_state")
    new, _ = await _add_card(session, member_id, card, now)
    old.state = "replaced"
    old.replaced_by = new.ref
    await service.record(
        session,
        member_id,
        "member.replace_card",
        actor,
        before={"card": "active"},
        after={"card": "replaced"},
    )
    return new, True


async def remove_card(
    session: AsyncSession, *, member_id: UUID, card_ref: str, actor: str, now: datetime
) -> None:
    """Its transactions are no longer looked at. A second time changes nothing. Raises NotFound."""
    await service.lock_member(session, member_id)
    card = await _own_card(session, member_id, card_ref)
    if card.state == "removed":
        return
    before = card.state
    card.state = "removed"
    card.removed_at = now
    await service.record(
        session,
        member_id,
        "member.remove_card",
        actor,
        before={"card": before},
        after={"card": "removed"},
    )


async def _add_card(
    session: AsyncSession,
    member_id: UUID,
    given: CardIn,
    now: datetime,
    vouched_at: datetime | None = None,
) -> tuple[Card, bool]:
    added = await queries.insert_card(
        session,
        {
            "ref": given.card_ref,
            "member_id": member_id,
            "network": given.network,
            "last4": given.last4,
            "added_at": now,
        },
    )
    if added is not None:
        if len(await queries.cards_of(session, member_id)) > CARDS_PER_MEMBER_MAX:
            raise Conflict(f"a member has {CARDS_PER_MEMBER_MAX} cards at most", code="too_many")
        return added, True
    known = await queries.card_by_ref(session, given.card_ref)
    if known is None or known.member_id != member_id:
        raise Conflict("the card belongs to another member", code="card_taken")
    if known.state == "replaced":
        raise Conflict("the card was replaced", code="card_state")
    was_removed = known.state == "removed"
    if was_removed and vouched_at and known.removed_at and vouched_at <= known.removed_at:
        raise Conflict("the card was removed since", code="card_state")
    known.state = "active"
    return known, was_removed


async def _own_card(session: AsyncSession, member_id: UUID, ref: str) -> Card:
    card = await queries.card_by_ref(session, ref)
    if card is None or card.member_id != member_id:
        raise NotFound("the member has no such card", code="card_not_found")
    return card
