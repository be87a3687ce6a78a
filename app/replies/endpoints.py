from typing import Annotated

from fastapi import APIRouter, Body

from app.deps import NowDep, SessionDep
from app.kit.pagination import Page, PagingDep, make_page
from app.partners.auth import OperatorDep
from app.replies import service
from app.replies.domain import State
from app.replies.schemas import ReplyOut, ScopeIn

router = APIRouter(prefix="/v1/replies", tags=["replies"])

OptionalScope = Annotated[ScopeIn | None, Body()]


@router.get("")
async def list_replies(
    _who: OperatorDep, session: SessionDep, paging: PagingDep, state: State | None = None
) -> Page[ReplyOut]:
    rows = await service.list_replies(session, paging=paging, state=state)
    return make_page(rows, paging, show=ReplyOut.of, row_id=lambda row: row.id)


@router.post("/pause", status_code=204)
async def pause(
    who: OperatorDep, session: SessionDep, now: NowDep, body: OptionalScope = None
) -> None:
    """Stops all replies, or those about one offer. What waits expires when its post is too old."""
    scope = (body or ScopeIn()).scope
    await service.pause(session, scope=scope, actor=who.actor, now=now)


@router.post("/resume", status_code=204)
async def resume(
    who: OperatorDep, session: SessionDep, now: NowDep, body: OptionalScope = None
) -> None:
    """Lifts the pause of that scope alone. Without an offer, it also starts again what the network
    has stopped, for want of credits or of access.
    """
    scope = (body or ScopeIn()).scope
    await service.resume(session, scope=scope, actor=who.actor, now=now)
