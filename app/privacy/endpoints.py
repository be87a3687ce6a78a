from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from app.deps import NowDep, SessionDep, SessionsDep
from app.errors import Conflict, NotFound
from app.openapi import problems
from app.partners.auth import Principal, require
from app.privacy import erasure
from app.privacy.export import export

router = APIRouter(prefix="/v1", tags=["members"])

IssuerDep = Annotated[Principal, Depends(require("issuer", "operator"))]


class MemberExport(BaseModel):
    """`data` has the rows of each table that are the member's, under the tables' own names."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "exported_at": "2026-07-15T12:00:00Z",
                    "data": {
                        "members": [{"ref": "m-1001", "locale": "en", "country": "US"}],
                        "cards": [{"ref": "card-7f3a", "last4": "4242", "state": "active"}],
                    },
                }
            ]
        }
    )

    exported_at: datetime
    data: dict[str, list[dict[str, Any]]]


@router.get("/members/{member_id}/export", responses=problems(NotFound))
async def export_member(
    member_id: UUID, _who: IssuerDep, session: SessionDep, now: NowDep
) -> MemberExport:
    """All that is kept of a person, for who asks what that is."""
    found = await export(session, member_id=member_id, now=now)
    return MemberExport(exported_at=found.exported_at, data=found.data)


@router.delete("/members/{member_id}", status_code=204, responses=problems(Conflict, NotFound))
async def erase_member(
    member_id: UUID,
    who: IssuerDep,
    sessions: SessionsDep,
    now: NowDep,
    *,
    forfeit: bool = False,
) -> None:
    """Erases all that identifies the member, for good; what money hangs on stays, and names nobody.
    409 while money is under way. Again: 204.
    """
    await erasure.erase(sessions, member_id=member_id, forfeit=forfeit, actor=who.actor, now=now)
