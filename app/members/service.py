"""Members, their accounts and cards, their consent, and what they have bought where."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Invalid, NotFound
from app.kit.pagination import Paging
from app.members import enrolment_queries, queries
from app.members.domain import Enrolment, SavedMember, Summary, summarise
from app.members.models import Account, Card, Member
from app.members.queries import Author, CardHolder, LinkedAccount
from app.members.schemas import AccountIn, CardIn, MemberLine

__all__ = ["Author", "CardHolder", "LinkedAccount", "SavedMember", "Summary"]

CARDS_PER_MEMBER_MAX = 50
ACCOUNTS_PER_MEMBER_MAX = 50
_ATTEMPTS_MAX = 5
_PROVED_BY_ISSUER = "issuer"
_ISSUERS_TEXT = "issuer"  # the wording of the consent is the issuer's own
_STOP = "stop"

ProvedBy = Literal["issuer", "oauth"]
ToldBy = Literal["post", "message", "page"]


class Enrolled(NamedTuple):
    member: Member
    is_unchanged: bool


# enrolment


async def save_members(
    session: AsyncSession, *, rows: Sequence[MemberLine], now: datetime
) -> list[SavedMember]:
    """Members with account, card and consent: one result a row, in order, and a fixed number of
    statements. A row again changes nothing, not even a card that was removed since. A consent that
    is newer than a member's "stop" brings him back.
    """
    if not rows:
        return []
    for _ in range(_ATTEMPTS_MAX - 1):
        try:
            async with session.begin_nested():
                return await _save_members(session, rows, now)
        except IntegrityError:
            # Somebody else has just enrolled one of them: look again, one after the other.
            await enrolment_queries.lock_colliding_enrolments(session)
    return await _save_members(session, rows, now)


async def _save_members(
    session: AsyncSession, rows: Sequence[MemberLine], now: datetime
) -> list[SavedMember]:
    accounts = await enrolment_queries.accounts_by_key(
        session, [(row.account.network, row.account.id) for row in rows]
    )
    cards = await enrolment_queries.cards_by_ref(session, [row.card.card_ref for row in rows])
    # After accounts and cards: whose member was enrolled in between would look like another's.
    members = await enrolment_queries.members_locked(
        session, sorted({row.member_ref for row in rows})
    )
    consents = await enrolment_queries.consents_given(
        session, [member.id for member in members.values()]
    )
    enrolment = Enrolment(members, accounts, cards, consents)
    results = [enrolment.take(row, now=now) for row in rows]
    await _write(session, enrolment, now)
    return results


async def _write(session: AsyncSession, enrolment: Enrolment, now: datetime) -> None:
    members = enrolment.members.values()
    accounts = enrolment.accounts.values()
    cards = enrolment.cards.values()
    await enrolment_queries.insert_members(session, (one for one in members if one.is_new), now=now)
    await enrolment_queries.update_members(
        session, (one for one in members if one.is_changed and not one.is_new)
    )
    await enrolment_queries.insert_accounts(
        session, (one for one in accounts if one.is_new), proved_by=_PROVED_BY_ISSUER, now=now
    )
    await enrolment_queries.update_handles(
        session, (one for one in accounts if one.is_changed and not one.is_new)
    )
    await enrolment_queries.insert_cards(session, (one for one in cards if one.is_new), now=now)
    await enrolment_queries.update_cards(
        session, (one for one in cards if one.is_changed and not one.is_new)
    )
    await enrolment_queries.insert_consents(
        session, enrolment.new_consents, act="given", text_version=_ISSUERS_TEXT
    )


async def enrol_member(session: AsyncSession, *, row: MemberLine, now: datetime) -> Enrolled:
    """Raises Conflict when the account or the card belongs to another member, Invalid when the
    consent is yet to come.
    """
    saved = (await save_members(session, rows=[row], now=now))[0]
    if saved.member_id is None:
        problem = Invalid if saved.code == "consent_in_future" else Conflict
        raise problem(saved.reason or "", code=saved.code)
    member = await get_member(session, member_id=saved.member_id)
    return Enrolled(member, is_unchanged=saved.outcome == "unchanged")


async def find_authors(
    session: AsyncSession, *, network: str, account_ids: Sequence[str]
) -> dict[str, Author]:
    """By account id; who is not linked is left out. One statement."""
    return await queries.find_authors(session, network=network, account_ids=account_ids)


async def count_accounts(
    session: AsyncSession, *, network: str, member_ids: Collection[UUID]
) -> dict[UUID, int]:
    """How many accounts of one network each has. One statement."""
    return await queries.count_accounts(session, network=network, member_ids=member_ids)


async def to_look_back(session: AsyncSession, *, now: datetime, most: int) -> list[LinkedAccount]:
    """Accounts whose earlier posts are due to be decided again, all of one network, those that have
    waited longest first.
    """
    return await queries.to_look_back(session, now=now, most=most)


async def set_look_backs(
    session: AsyncSession, *, network: str, at: Sequence[tuple[str, datetime | None]]
) -> int:
    """When each of the accounts is due next; None: never again. One statement; answers how many it
    could set, for an account that is being changed is left as it is.
    """
    return await queries.set_look_backs(session, network=network, at=at)


async def lock_members_of(
    session: AsyncSession, *, network: str, account_ids: Sequence[str]
) -> None:
    """The members whose accounts these are, until the transaction ends and in the order of their
    ids; coupons may still refer to them.
    """
    await queries.lock_members_of(session, network=network, account_ids=account_ids)


async def find_former_holders(
    session: AsyncSession, *, card_refs: Sequence[str]
) -> dict[str, UUID]:
    """Whose the removed ones of these cards were: refunds come long after."""
    return await queries.find_former_holders(session, card_refs)


async def find_card_holders(
    session: AsyncSession, *, card_refs: Sequence[str]
) -> dict[str, CardHolder]:
    """By card ref. A replaced card still has its holder, for transactions that come late; a removed
    one has none. One statement.
    """
    return await queries.find_card_holders(session, card_refs=card_refs)


async def purchase_summaries(
    session: AsyncSession, *, pairs: Sequence[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID], Summary]:
    """By member and partner; who never bought there is left out. One statement."""
    return await queries.purchase_summaries(session, pairs=pairs)


async def record_purchases(
    session: AsyncSession, *, rows: Sequence[tuple[UUID, UUID, datetime]]
) -> None:
    """Counts purchases of (member, partner, time of purchase): each may be given once only. One
    statement.
    """
    if rows:
        await queries.add_to_summaries(session, summarise(rows))


# one member


async def get_member(session: AsyncSession, *, member_id: UUID) -> Member:
    member = await queries.member_by_id(session, member_id)
    if member is None:
        raise _no_member(member_id)
    return member


async def find_member(session: AsyncSession, *, ref_or_id: str) -> Member:
    """Raises NotFound, which does not repeat what was given."""
    try:
        member_id = UUID(ref_or_id)
    except ValueError:
        member_id = None
    member = await queries.member_by_ref_or_id(session, ref_or_id, member_id)
    if member is None:
        raise NotFound("no member of this ref or id", code="member_not_found")
    return member


async def list_members(
    session: AsyncSession, *, paging: Paging, ref: str | None = None
) -> Sequence[Member]:
    return await queries.list_members(session, paging, ref=ref)


async def opt_out(session: AsyncSession, *, member_id: UUID, now: datetime) -> None:
    """Ends replies and loading, and withdraws the consent. A second time changes nothing. Raises
    NotFound.
    """
    member = await _lock_member(session, member_id)
    if member.opted_out_at is None:
        member.opted_out_at = now
        await enrolment_queries.insert_consents(
            session, [(member_id, now)], act="withdrawn", text_version=_STOP
        )


async def stop_accounts(
    session: AsyncSession,
    *,
    network: str,
    account_ids: Collection[str],
    told_by: ToldBy,
    now: datetime,
) -> None:
    """Whoever holds these accounts, linked or not, has said "stop". Again changes nothing."""
    members = await queries.stop_accounts(
        session, network=network, account_ids=set(account_ids), told_by=told_by, now=now
    )
    await queries.set_opted_out(session, members, now=now)
    await enrolment_queries.insert_consents(
        session, [(member_id, now) for member_id in members], act="withdrawn", text_version=_STOP
    )


async def _lock_member(session: AsyncSession, member_id: UUID) -> Member:
    """Whoever changes what a member has goes one after the other."""
    member = await queries.member_by_id_locked(session, member_id)
    if member is None:
        raise _no_member(member_id)
    return member


def _no_member(member_id: UUID) -> NotFound:
    return NotFound(f"no member {member_id}", code="member_not_found")


# cards


async def list_cards(session: AsyncSession, *, member_id: UUID) -> Sequence[Card]:
    """The oldest first. Raises NotFound."""
    await get_member(session, member_id=member_id)
    return await queries.cards_of(session, member_id)


async def add_card(
    session: AsyncSession, *, member_id: UUID, card: CardIn, now: datetime
) -> tuple[Card, bool]:
    """And whether that changed anything: a removed card comes back, an active one stays. Raises
    NotFound, and Conflict when the card is another member's, was replaced, or is one too many.
    """
    await _lock_member(session, member_id)
    return await _add_card(session, member_id, card, now)


async def add_or_replace_card(
    session: AsyncSession, *, member_id: UUID, card: CardIn, replaces: str | None, now: datetime
) -> tuple[Card, bool]:
    if replaces is None:
        return await add_card(session, member_id=member_id, card=card, now=now)
    return await replace_card(session, member_id=member_id, old_ref=replaces, card=card, now=now)


async def replace_card(
    session: AsyncSession, *, member_id: UUID, old_ref: str, card: CardIn, now: datetime
) -> tuple[Card, bool]:
    """A reissue: `card` takes the place of an active one, which still finds its member for
    transactions that come late. Tells like `add_card` whether that changed anything.
    """
    await _lock_member(session, member_id)
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
    return new, True


async def remove_card(session: AsyncSession, *, member_id: UUID, card_ref: str) -> None:
    """Its transactions are no longer looked at. A second time changes nothing. Raises NotFound."""
    await _lock_member(session, member_id)
    (await _own_card(session, member_id, card_ref)).state = "removed"


async def _add_card(
    session: AsyncSession, member_id: UUID, given: CardIn, now: datetime
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
    known.state = "active"
    return known, was_removed


async def _own_card(session: AsyncSession, member_id: UUID, ref: str) -> Card:
    card = await queries.card_by_ref(session, ref)
    if card is None or card.member_id != member_id:
        raise NotFound("the member has no such card", code="card_not_found")
    return card


# accounts


async def list_accounts(session: AsyncSession, *, member_id: UUID) -> Sequence[Account]:
    """The first linked first. Raises NotFound."""
    await get_member(session, member_id=member_id)
    return await queries.accounts_of(session, member_id)


async def add_account(
    session: AsyncSession,
    *,
    member_id: UUID,
    account: AccountIn,
    now: datetime,
    proved_by: ProvedBy = "issuer",
) -> tuple[Account, bool]:
    """And whether that changed anything: a known one may have a new handle. Raises NotFound, and
    Conflict when the account is another member's or one too many.
    """
    await _lock_member(session, member_id)
    added = await queries.insert_account(
        session,
        {
            "network": account.network,
            "account_id": account.id,
            "member_id": member_id,
            "handle": account.handle,
            "proved_by": proved_by,
            "linked_at": now,
            "look_back_at": now,
        },
    )
    if added is not None:
        if len(await queries.accounts_of(session, member_id)) > ACCOUNTS_PER_MEMBER_MAX:
            raise Conflict(
                f"a member has {ACCOUNTS_PER_MEMBER_MAX} accounts at most", code="too_many"
            )
        return added, True
    known = await queries.account_by_key(session, account.network, account.id)
    if known is None or known.member_id != member_id:
        raise Conflict("the account belongs to another member", code="account_taken")
    is_changed = account.handle is not None and account.handle != known.handle
    if is_changed:
        known.handle = account.handle
    return known, is_changed
