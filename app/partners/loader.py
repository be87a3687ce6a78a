"""Merchants from the operator's own file, which is their confirmation."""

from pydantic import ValidationError

from app.kit import clock
from app.kit.db import Sessions
from app.kit.fields import explain
from app.kit.lines import Line, LineResult
from app.partners import service
from app.partners.schemas import MerchantLine


async def load(sessions: Sessions, lines: list[Line]) -> list[LineResult]:
    """All that are taken in one transaction."""
    parsed = [_parse(line) for line in lines]
    rows = [found for found in parsed if isinstance(found, MerchantLine)]
    async with sessions.begin() as session:
        saved = iter(await service.save_acceptors(session, rows=rows, now=clock.now()))
    return [
        _result(found, next(saved)) if isinstance(found, MerchantLine) else found
        for found in parsed
    ]


def _parse(line: Line) -> MerchantLine | LineResult:
    try:
        return MerchantLine.model_validate_json(line.raw)
    except ValidationError as error:
        return LineResult("rejected", reason=explain(error))


def _result(line: MerchantLine, saved: service.SavedAcceptor) -> LineResult:
    if saved.outcome == "rejected":
        return LineResult("rejected", reason=saved.reason)
    made = line.partner if saved.partner_made else None
    return LineResult("accepted", (saved.outcome,), made=made)
