"""What a person commits on the page: he has signed in with a network, has shown his issuer's link,
and consents.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFound
from app.kit.ids import new_id
from app.members import cards, enrolment_queries, queries, service
from app.members.models import Member
from app.members.schemas import AccountIn, CardIn

HIMSELF = "member"  # as the audit log names him


class Holder(NamedTuple):
    """Whom the issuer's link is for. What it leaves out stays as it is."""

    ref: str
    locale: str | None
    time_zone: str | None
    country: str | None


async def link_by_network(
    session: AsyncSession,
    *,
    holder: Holder,
    account: AccountIn,
    card: CardIn,
    vouched_at: datetime,
    text_version: str,
    now: datetime,
) -> Member:
    """Made if unknown, with the account, the card and the consent. `vouched_at`: when the issuer
    has made its link. Raises Conflict when account or card belong to another member, when the card
    was replaced, or removed since, or one is one too many.
    """
    member = await _ensure_member(session, holder, now)
    # in the order of an enrolment: the account first, then the card
    await service.add_account(
        session, member_id=member.id, account=account, actor=HIMSELF, now=now, proved_by="oauth"
    )
    await cards.add_card(
        session, member_id=member.id, card=card, actor=HIMSELF, now=now, vouched_at=vouched_at
    )
    await _consent(session, member, text_version=text_version, now=now)
    return member


async def consent_again(
    session: AsyncSession, *, member_id: UUID, text_version: str, now: datetime
) -> None:
    """Of a member who had said "stop". Raises NotFound."""
    member = await service.lock_member(session, member_id)
    await _consent(session, member, text_version=text_version, now=now)


async def _ensure_member(session: AsyncSession, holder: Holder, now: datetime) -> Member:
    given = {name: value for name, value in holder._asdict().items() if value is not None}
    await queries.insert_member(session, {"id": new_id(), **given, "created_at": now})
    member = await queries.member_by_ref_locked(session, holder.ref)
    if member is None:
        raise NotFound("the member has just been removed", code="member_not_found")
    for name, value in given.items():
        setattr(member, name, value)
    return member


async def _consent(
    session: AsyncSession, member: Member, *, text_version: str, now: datetime
) -> None:
    """Takes back what he has said before. His row is locked."""
    member.opted_out_at = None
    consents = [(member.id, now)]
    await enrolment_queries.insert_consents(
        session, consents, act="given", text_version=text_version
    )
    await queries.clear_stops(session, consents)
