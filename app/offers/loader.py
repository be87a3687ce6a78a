"""Offers from the operator's file: created and published, for the file is the approval."""

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Invalid, TagbackError
from app.kit import clock
from app.kit.db import Sessions, sqlstate
from app.kit.fields import explain
from app.kit.lines import Line, LineResult
from app.offers import service
from app.offers.schemas import OfferIn
from app.partners import service as partners

ACTOR = service.Actor("import", is_operator=True)
DEADLOCK = "40P01"


async def load(sessions: Sessions, lines: list[Line]) -> list[LineResult]:
    """Each in a transaction of its own: one whose hashtag is taken does not undo its neighbours."""
    return [await _load(sessions, line) for line in lines]


async def _load(sessions: Sessions, line: Line) -> LineResult:
    try:
        offer = OfferIn.model_validate_json(line.raw)
        outcome, made = await _save_surely(sessions, offer)
        return LineResult("accepted", (outcome,), made=made)
    except ValidationError as error:
        return LineResult("rejected", reason=explain(error))
    except TagbackError as error:
        return LineResult("rejected", reason=error.detail)


async def _save_surely(sessions: Sessions, offer: OfferIn) -> tuple[str, str | None]:
    """Once more when it and another publisher have waited for each other."""
    try:
        async with sessions.begin() as session:
            return await _save(session, offer)
    except DBAPIError as error:
        if sqlstate(error) != DEADLOCK:
            raise
    async with sessions.begin() as session:
        return await _save(session, offer)


async def _save(session: AsyncSession, offer: OfferIn) -> tuple[str, str | None]:
    """The outcome, and the partner's ref if he was not known."""
    if offer.partner is None:
        raise Invalid("partner: a file must name it")
    ref = offer.partner
    found, made = await partners.ensure_partners(session, names={ref: ref}, actor=ACTOR.name)
    (saved, _, _), is_new = await service.create(
        session, partner_id=found[ref].id, offer=offer, actor=ACTOR.name
    )
    if saved.state in ("draft", "submitted"):
        await service.publish(session, offer_id=saved.id, by=ACTOR, now=clock.now())
    return "created" if is_new else "unchanged", ref if made else None
