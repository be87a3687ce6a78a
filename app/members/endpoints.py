from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from app.deps import NowDep, SessionDep
from app.errors import Conflict, NotFound
from app.kit.fields import ExternalId, NetworkName
from app.kit.pagination import Page, PagingDep, make_page
from app.members import cards, service
from app.members.schemas import (
    AccountIn,
    AccountOut,
    CardOut,
    MemberLine,
    MemberOut,
    NewCardIn,
)
from app.openapi import problems
from app.partners.auth import Principal, require
from app.partners.idempotency import ApiRoute

router = APIRouter(prefix="/v1", tags=["members"], route_class=ApiRoute)

IssuerDep = Annotated[Principal, Depends(require("issuer", "operator"))]


@router.post(
    "/members", status_code=201, responses={200: {"model": MemberOut}, **problems(Conflict)}
)
async def enrol_member(
    body: MemberLine, who: IssuerDep, session: SessionDep, now: NowDep, response: Response
) -> MemberOut:
    """A member with account, card and consent. 200 when all of it was so already."""
    enrolled = await service.enrol_member(session, row=body, actor=who.actor, now=now)
    if enrolled.is_unchanged:
        response.status_code = 200
    return MemberOut.of(enrolled.member)


@router.get("/members")
async def list_members(
    _who: IssuerDep,
    session: SessionDep,
    paging: PagingDep,
    member_ref: Annotated[ExternalId | None, Query(description="the issuer's own name")] = None,
) -> Page[MemberOut]:
    """The oldest first."""
    rows = await service.list_members(session, paging=paging, ref=member_ref)
    return make_page(rows, paging, show=MemberOut.of, row_id=lambda row: row.id)


@router.get("/members/{member_id}", responses=problems(NotFound))
async def get_member(member_id: UUID, _who: IssuerDep, session: SessionDep) -> MemberOut:
    """A member who said stop has `opted_out_at`."""
    return MemberOut.of(await service.get_member(session, member_id=member_id))


@router.post(
    "/members/{member_id}/cards",
    status_code=201,
    responses={200: {"model": CardOut}, **problems(Conflict, NotFound)},
)
async def add_card(
    member_id: UUID,
    body: NewCardIn,
    who: IssuerDep,
    session: SessionDep,
    now: NowDep,
    response: Response,
) -> CardOut:
    """A further card, or with `replaces` a reissue. 200 when it was so already."""
    card, is_changed = await cards.add_or_replace_card(
        session,
        member_id=member_id,
        card=body,
        replaces=body.replaces,
        actor=who.actor,
        now=now,
    )
    if not is_changed:
        response.status_code = 200
    return CardOut.of(card)


@router.get("/members/{member_id}/cards", responses=problems(NotFound))
async def list_cards(member_id: UUID, _who: IssuerDep, session: SessionDep) -> Page[CardOut]:
    """All of them: a member has 50 at most."""
    found = await cards.list_cards(session, member_id=member_id)
    return Page(items=[CardOut.of(card) for card in found], next_cursor=None)


@router.delete(
    "/members/{member_id}/cards/{card_ref}", status_code=204, responses=problems(NotFound)
)
async def remove_card(
    member_id: UUID, card_ref: ExternalId, who: IssuerDep, session: SessionDep, now: NowDep
) -> None:
    """What is paid with it earns nothing any more. Coupons and money stay."""
    await cards.remove_card(
        session, member_id=member_id, card_ref=card_ref, actor=who.actor, now=now
    )


@router.post(
    "/members/{member_id}/accounts",
    status_code=201,
    responses={200: {"model": AccountOut}, **problems(Conflict, NotFound)},
)
async def add_account(
    member_id: UUID,
    body: AccountIn,
    who: IssuerDep,
    session: SessionDep,
    now: NowDep,
    response: Response,
) -> AccountOut:
    """200 when it was so already."""
    account, is_changed = await service.add_account(
        session, member_id=member_id, account=body, actor=who.actor, now=now
    )
    if not is_changed:
        response.status_code = 200
    return AccountOut.of(account)


@router.get("/members/{member_id}/accounts", responses=problems(NotFound))
async def list_accounts(member_id: UUID, _who: IssuerDep, session: SessionDep) -> Page[AccountOut]:
    """All of them: a member has 50 at most."""
    accounts = await service.list_accounts(session, member_id=member_id)
    return Page(items=[AccountOut.of(account) for account in accounts], next_cursor=None)


@router.delete(
    "/members/{member_id}/accounts/{network}/{account_id}",
    status_code=204,
    responses=problems(NotFound),
)
async def remove_account(
    member_id: UUID,
    network: NetworkName,
    account_id: ExternalId,
    who: IssuerDep,
    session: SessionDep,
    now: NowDep,
) -> None:
    """Unlinks it: what it posts loads nothing any more. Coupons and money stay."""
    await service.remove_account(
        session,
        member_id=member_id,
        network=network,
        account_id=account_id,
        actor=who.actor,
        now=now,
    )
