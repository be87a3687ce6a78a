from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from app.deps import NowDep, SessionDep, SessionsDep
from app.partners.auth import Principal, require
from app.privacy import erasure
from app.privacy.export import export

router = APIRouter(prefix="/v1", tags=["members"])

IssuerDep = Annotated[Principal, Depends(require("issuer", "operator"))]


class MemberExport(BaseModel):
    """`data` has the rows of each table that are the member's, under the tables' own names."""

    exported_at: datetime
    data: dict[str, list[dict[str, Any]]]


@router.get("/members/{member_id}/export")
async def export_member(
    member_id: UUID, _who: IssuerDep, session: SessionDep, now: NowDep
) -> MemberExport:
    """All that is kept of a person, for who asks what that is."""
    found = await export(session, member_id=member_id, now=now)
    return MemberExport(exported_at=found.exported_at, data=found.data)


@router.delete("/members/{member_id}", status_code=204)
async def erase_member(
    member_id: UUID,
    who: IssuerDep,
    sessions: SessionsDep,
    now: NowDep,
    *,
    forfeit: Annotated[
        bool, Query(description="give up what is owed and not yet credited, and what may yet be")
    ] = False,
) -> None:
    """Erases all that identifies the member, for good; what money hangs on stays, and names nobody.
    409 while money is under way. Again: 204.
    """
    await erasure.erase(sessions, member_id=member_id, forfeit=forfeit, actor=who.actor, now=now)
