"""Offers from the operator's file: created and published, for the file is the approval."""

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Invalid, TagbackError
from app.kit import clock
from app.kit.db import Sessions
from app.kit.fields import explain
from app.kit.lines import Line, LineResult
from app.offers import service
from app.offers.schemas import OfferIn
from app.partners import service as partners

ACTOR = "import"


async def load(sessions: Sessions, lines: list[Line]) -> list[LineResult]:
    """Each in a transaction of its own: one whose hashtag is taken does not undo its neighbours."""
    results = []
    for line in lines:
        try:
            offer = OfferIn.model_validate_json(line.raw)
            async with sessions.begin() as session:
                outcome = await _save(session, offer)
        except ValidationError as error:
            results.append(LineResult("rejected", reason=explain(error)))
        except TagbackError as error:
            results.append(LineResult("rejected", reason=error.detail))
        else:
            results.append(LineResult("accepted", (outcome,)))
    return results


async def _save(session: AsyncSession, offer: OfferIn) -> str:
    if offer.partner is None:
        raise Invalid("partner: a file must name it")
    partner = await partners.ensure_partner(session, ref=offer.partner)
    (saved, _, _), is_new = await service.create(
        session, partner_id=partner.id, offer=offer, actor=ACTOR
    )
    if saved.state in ("draft", "submitted"):
        await service.publish(
            session, offer_id=saved.id, actor=ACTOR, approves=True, now=clock.now()
        )
    return "created" if is_new else "unchanged"
