from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body

from app.deps import NowDep, SessionDep, SettingsDep
from app.errors import Conflict, NotFound
from app.kit.pagination import Page, PagingDep, make_page
from app.openapi import problems
from app.partners.auth import OperatorDep
from app.partners.idempotency import ApiRoute
from app.replies import announcing, service
from app.replies.domain import State
from app.replies.schemas import AnnouncementIn, AnnouncementOut, ReplyOut, ScopeIn

router = APIRouter(prefix="/v1", tags=["replies"], route_class=ApiRoute)

OptionalScope = Annotated[ScopeIn | None, Body()]
OptionalWords = Annotated[AnnouncementIn | None, Body()]


@router.get("/replies")
async def list_replies(
    _who: OperatorDep, session: SessionDep, paging: PagingDep, state: State | None = None
) -> Page[ReplyOut]:
    """The oldest first."""
    rows = await service.list_replies(session, paging=paging, state=state)
    return make_page(rows, paging, show=ReplyOut.of, row_id=lambda row: row.id)


@router.post("/replies/pause", status_code=204, responses=problems(NotFound))
async def pause_replies(
    who: OperatorDep, session: SessionDep, now: NowDep, body: OptionalScope = None
) -> None:
    """Stops all replies, or those about one offer. What waits expires when its post is too old."""
    scope = (body or ScopeIn()).scope
    await service.pause(session, scope=scope, actor=who.actor, now=now)


@router.post("/replies/resume", status_code=204, responses=problems(NotFound))
async def resume_replies(
    who: OperatorDep, session: SessionDep, now: NowDep, body: OptionalScope = None
) -> None:
    """Lifts the pause of that scope alone. Without an offer, it also starts again what the network
    has stopped, for want of credits or of access.
    """
    scope = (body or ScopeIn()).scope
    await service.resume(session, scope=scope, actor=who.actor, now=now)


@router.post("/offers/{offer_id}/announce", status_code=201, responses=problems(Conflict, NotFound))
async def announce_offer(
    offer_id: UUID,
    who: OperatorDep,
    session: SessionDep,
    settings: SettingsDep,
    now: NowDep,
    body: OptionalWords = None,
) -> AnnouncementOut:
    """Queues one post about the offer on the programme's own profile. The same within a day needs
    `again`; with `dry_run` nothing is queued.
    """
    wanted = body or AnnouncementIn()
    made = await announcing.announce(
        session,
        offer_id=offer_id,
        words=wanted.text,
        again=wanted.again,
        is_dry_run=wanted.dry_run,
        actor=who.actor,
        settings=settings,
        now=now,
    )
    return AnnouncementOut.model_validate(made._asdict())
