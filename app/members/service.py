"""Members, their accounts and consent, and what they have bought where; their cards are in
`members/cards.py`.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Invalid, NotFound
from app.kit.pagination import Paging
from app.members import enrolment_queries, queries
from app.members.domain import Enrolment, SavedMember, Summary, summarise
from app.members.models import Account, Member
from app.members.queries import Author, CardHolder, LinkedAccount
from app.members.schemas import AccountIn, MemberLine
from app.partners import service as partners

__all__ = ["Author", "CardHolder", "LinkedAccount", "SavedMember", "Summary"]

ACCOUNTS_PER_MEMBER_MAX = 50
_ATTEMPTS_MAX = 5
_PROVED_BY_ISSUER = "issuer"
_ISSUERS_TEXT = "issuer"  # the wording of the consent is the issuer's own
_STOP = "stop"
_UNLINK = "unlink"

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
    keys = [(row.account.network, row.account.id) for row in rows]
    accounts = await enrolment_queries.accounts_by_key(session, keys)
    cards = await enrolment_queries.cards_by_ref(session, [row.card.card_ref for row in rows])
    # After accounts and cards: whose member was enrolled in between would look like another's.
    members = await enrolment_queries.members_locked(
        session, sorted({row.member_ref for row in rows})
    )
    consents = await enrolment_queries.consents_given(
        session, [member.id for member in members.values()]
    )
    unlinked = await enrolment_queries.unlinked_since(session, keys)
    enrolment = Enrolment(members, accounts, cards, consents, unlinked)
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
    if enrolment.new_consents:
        await queries.clear_stops(session, enrolment.new_consents)


async def enrol_member(
    session: AsyncSession, *, row: MemberLine, actor: str, now: datetime
) -> Enrolled:
    """Raises Conflict when the account or the card belongs to another member, Invalid when the
    consent is yet to come.
    """
    saved = (await save_members(session, rows=[row], now=now))[0]
    if saved.member_id is None:
        problem = Invalid if saved.code == "consent_in_future" else Conflict
        raise problem(saved.reason or "", code=saved.code)
    member = await get_member(session, member_id=saved.member_id)
    if saved.outcome != "unchanged":
        await record(session, saved.member_id, "member.enrol", actor, after={"is": saved.outcome})
    return Enrolled(member, is_unchanged=saved.outcome == "unchanged")


async def record(
    session: AsyncSession,
    member_id: UUID,
    action: str,
    actor: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any],
) -> None:
    """Without a name of his, of a card's or of an account's: the audit log is kept for good. What
    he does himself his consents tell.
    """
    await partners.audit(
        session,
        actor=actor,
        action=action,
        subject_kind="member",
        subject_id=str(member_id),
        before=before,
        after=after,
    )


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


async def consented_since(
    session: AsyncSession, *, network: str, since: Mapping[str, datetime]
) -> set[str]:
    """Those of these accounts whose member has given a consent that is newer than what the account
    did at that time. Two statements.
    """
    authors = await queries.find_authors(session, network=network, account_ids=list(since))
    member_ids = [author.member_id for author in authors.values()]
    newest: dict[UUID, datetime] = {}
    for member_id, at in await enrolment_queries.consents_given(session, member_ids):
        newest[member_id] = max(at, newest.get(member_id, at))
    return {
        account_id
        for account_id, author in authors.items()
        if author.member_id in newest and newest[author.member_id] > since[account_id]
    }


async def newest_accounts(session: AsyncSession, *, network: str, most: int) -> list[str]:
    """The ids of those that were linked last."""
    return await queries.newest_accounts(session, network=network, most=most)


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
    session: AsyncSession, *, network: str, account_ids: Collection[str]
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
    """Ends replies and loading, also for what he unlinks later, and withdraws the consent. A second
    time changes nothing. Raises NotFound.
    """
    await lock_member(session, member_id)
    await _stop(session, [member_id], [], told_by="page", now=now)


async def stop_accounts(
    session: AsyncSession,
    *,
    network: str,
    account_ids: Collection[str],
    told_by: ToldBy,
    now: datetime,
) -> set[str]:
    """Whoever holds these accounts, linked or not, has said "stop", with whatever account he may
    post. Again changes nothing. Answers whom we leave alone for it: these accounts, and whatever
    others of the network their members have.
    """
    members = await queries.lock_members_of(session, network=network, account_ids=account_ids)
    accounts = [(network, account_id) for account_id in account_ids]
    stopped = await _stop(session, members, accounts, told_by=told_by, now=now)
    return {account_id for of, account_id in stopped if of == network}


async def _stop(
    session: AsyncSession,
    member_ids: Collection[UUID],
    accounts: Collection[tuple[str, str]],
    *,
    told_by: ToldBy,
    now: datetime,
) -> set[tuple[str, str]]:
    """These accounts, and all that the members have, who are locked already. Answers which."""
    stopped = {*accounts, *await queries.account_keys_of(session, member_ids)}
    await queries.mark_stopped(session, stopped, told_by=told_by, now=now)
    new = await queries.set_opted_out(session, member_ids, now=now)
    await enrolment_queries.insert_consents(
        session, [(member_id, now) for member_id in new], act="withdrawn", text_version=_STOP
    )
    return stopped


async def find_stopped(
    session: AsyncSession, *, network: str, account_ids: Collection[str]
) -> set[str]:
    """Those of these accounts, linked or not, whose holders have said "stop". One statement."""
    return await queries.find_stopped(session, network=network, account_ids=account_ids)


async def lock_member(session: AsyncSession, member_id: UUID) -> Member:
    """Whoever changes what a member has goes one after the other."""
    member = await queries.member_by_id_locked(session, member_id)
    if member is None:
        raise _no_member(member_id)
    return member


def _no_member(member_id: UUID) -> NotFound:
    return NotFound(f"no member {member_id}", code="member_not_found")


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
    actor: str,
    now: datetime,
    proved_by: ProvedBy = "issuer",
) -> tuple[Account, bool]:
    """And whether that changed anything: a known one may have a new handle. Raises NotFound, and
    Conflict when the account is another member's or one too many.
    """
    await lock_member(session, member_id)
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
        await record(
            session, member_id, "member.link", actor, after={"account_on": account.network}
        )
        return added, True
    known = await queries.account_by_key(session, account.network, account.id)
    if known is None or known.member_id != member_id:
        raise Conflict("the account belongs to another member", code="account_taken")
    if proved_by == "oauth":
        known.proved_by = proved_by
    is_changed = account.handle is not None and account.handle != known.handle
    if is_changed:
        known.handle = account.handle
    return known, is_changed


async def find_holder(session: AsyncSession, *, network: str, account_id: str) -> Member | None:
    account = await queries.account_by_key(session, network, account_id)
    return None if account is None else await queries.member_by_id(session, account.member_id)


async def remove_account(
    session: AsyncSession,
    *,
    member_id: UUID,
    network: str,
    account_id: str,
    actor: str,
    now: datetime,
) -> None:
    """Coupons and money stay. Raises NotFound, also when the account is another member's."""
    await lock_member(session, member_id)
    if not await _unlink(session, member_id, network, account_id, now):
        raise NotFound("the member has no such account", code="account_not_found")
    await record(
        session,
        member_id,
        "member.unlink",
        actor,
        before={"account_on": network},
        after={"account_on": None},
    )


async def unlink_account(
    session: AsyncSession, *, network: str, account_id: str, now: datetime
) -> bool:
    """From whoever has it; False when nobody does."""
    members = await queries.lock_members_of(session, network=network, account_ids=[account_id])
    unlinked = [await _unlink(session, one, network, account_id, now) for one in members]
    return any(unlinked)


async def _unlink(
    session: AsyncSession, member_id: UUID, network: str, account_id: str, now: datetime
) -> bool:
    """Whoever has none left has withdrawn his consent. The member is locked already."""
    is_unlinked = await queries.delete_account(
        session, member_id=member_id, network=network, account_id=account_id, now=now
    )
    if is_unlinked and not await queries.accounts_of(session, member_id):
        await enrolment_queries.insert_consents(
            session, [(member_id, now)], act="withdrawn", text_version=_UNLINK
        )
    return is_unlinked
