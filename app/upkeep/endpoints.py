"""The test clock; there only with TAGBACK_TEST_CLOCK."""

from fastapi import APIRouter

from app.deps import SessionsDep
from app.partners.auth import OperatorDep
from app.upkeep import moving
from app.upkeep.schemas import ClockOut, MoveIn

router = APIRouter(prefix="/v1", tags=["test clock"])


@router.get("/test-clock")
async def get_clock(_who: OperatorDep) -> ClockOut:
    """The service's present time, and how far it is ahead."""
    return _shown(moving.moment())


@router.post("/test-clock")
async def move_clock(body: MoveIn, who: OperatorDep, sessions: SessionsDep) -> ClockOut:
    """Moves time forward, for every process that shares the database, and answers when what has
    become due is done: offers started and ended, purchases lapsed, coupons closed.
    """
    return _shown(
        await moving.move(
            sessions, advance_seconds=body.advance_seconds, to=body.now, actor=who.actor
        )
    )


def _shown(moment: moving.Moment) -> ClockOut:
    return ClockOut(now=moment.now, offset_seconds=int(moment.ahead.total_seconds()))
