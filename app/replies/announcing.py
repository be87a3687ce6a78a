"""An offer told on the programme's own profile: by the operator, in words made from its terms."""

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.errors import Conflict, Invalid
from app.kit.ids import new_id
from app.kit.urls import URL
from app.kit.weighted_length import weighted_length
from app.networks import X, accounts
from app.offers import service as offers
from app.offers.models import Offer
from app.partners.service import audit
from app.replies import queries
from app.replies.queries import NewReply, priority_of
from app.replies.texts import (
    ROOM,
    announcement,
    facts_of,
    reference,
    with_reference,
    without_reference,
)

SAME_AGAIN_AFTER = timedelta(days=1)
_MAY_BE_SEEN = ("queued", "sending", "sent")


class Announcement(NamedTuple):
    """`reply_id` is None where it was only tried. `warning`: what the operator should know."""

    reply_id: UUID | None
    text: str
    warning: str | None


async def announce(
    session: AsyncSession,
    *,
    offer_id: UUID,
    words: str | None,
    again: bool,
    is_dry_run: bool,
    actor: str,
    settings: Settings,
    now: datetime,
) -> Announcement:
    """Queues one post, in the programme's language or in these words. Raises NotFound; Conflict for
    an offer that cannot be had, and for what was announced within a day, unless `again`; Invalid
    for words that do not do.
    """
    offer, _, _ = await offers.lock(session, offer_id)  # one announcement of it at a time
    state = offers.shown_state(offer, now)
    if state not in ("live", "scheduled"):
        raise Conflict(f"an offer that is {state} is not announced", code="offer_state")
    said = await _made(session, offer, settings) if words is None else _checked(words)
    earlier = await queries.announcements_of(session, offer_id, network=X)
    is_same = any(
        without_reference(one.text) == said
        and one.state in _MAY_BE_SEEN
        and now - one.created_at < SAME_AGAIN_AFTER
        for one in earlier
    )
    if is_same and not again:
        raise Conflict("the same was announced within a day: say so if you mean it", code="again")
    reply_id = new_id()
    text = with_reference(said, reference(reply_id))
    warning = None
    if state == "scheduled":
        warning = f"the offer starts at {offer.starts_at:%Y-%m-%d %H:%M} UTC"
    if is_dry_run:
        return Announcement(None, text, warning)
    row = NewReply(
        id=reply_id,
        network=X,
        root_id=f"offer:{offer_id}:{len(earlier) + 1}",
        post_id=None,
        # what waits expires with the offer, if that is before it is too old
        posted_at=min(now, offer.ends_at - settings.reply_age_max),
        offer_id=offer_id,
        recipient_id="",
        kind="announcement",
        priority=priority_of("announcement"),
        locale=settings.default_locale,
        text=text,
        state="queued",
        not_before=now,
        created_at=now,
        updated_at=now,
        is_summoned=False,
    )
    await queries.insert_once(session, row)
    await queries.notify(session)
    await audit(
        session,
        actor=actor,
        action="offer.announce",
        subject_kind="offer",
        subject_id=str(offer_id),
        before=None,
        after={"text": text},
    )
    return Announcement(reply_id, text, warning)


async def _made(session: AsyncSession, offer: Offer, settings: Settings) -> str:
    handle = (await accounts.identity(session, settings=settings)).handle
    if handle is None:
        raise Invalid("whom to mention is not known: run `tagback x connect`")
    version = (offer.id, offer.version)
    terms = (await offers.read_terms(session, versions=[version]))[version]
    return announcement(
        facts_of(terms, valid_until=None),
        hashtag=terms.hashtag,
        handle=handle,
        locale=settings.default_locale,
    )


def _checked(words: str) -> str:
    if URL.search(words):
        raise Invalid("an announcement holds no link: X charges 13 times as much for one")
    if (length := weighted_length(words)) > ROOM:
        raise Invalid(f"the text counts {length}; {ROOM} is the most, beside its reference")
    return words
