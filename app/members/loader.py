"""Members from the issuer's file."""

from pydantic import ValidationError

from app.kit import clock
from app.kit.db import Sessions
from app.kit.fields import explain
from app.kit.lines import Line, LineResult
from app.members import service
from app.members.schemas import MemberLine


async def load(sessions: Sessions, lines: list[Line]) -> list[LineResult]:
    """All that are taken in one transaction."""
    parsed = [_parse(line) for line in lines]
    rows = [found for found in parsed if isinstance(found, MemberLine)]
    async with sessions.begin() as session:
        saved = iter(await service.save_members(session, rows=rows, now=clock.now()))
    return [_result(next(saved)) if isinstance(found, MemberLine) else found for found in parsed]


def _parse(line: Line) -> MemberLine | LineResult:
    try:
        return MemberLine.model_validate_json(line.raw)
    except ValidationError as error:
        return LineResult("rejected", reason=explain(error))


def _result(saved: service.SavedMember) -> LineResult:
    if saved.outcome == "rejected":
        return LineResult("rejected", reason=saved.reason)
    return LineResult("accepted", (saved.outcome,))
