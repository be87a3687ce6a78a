"""The outbox: what is queued with the decision that it tells, the red button, and what is there.
How it is sent: `sending.py`.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.kit.ids import new_id
from app.kit.pagination import Paging
from app.offers import service as offers
from app.partners.service import audit
from app.replies import queries, window_queries
from app.replies.models import Reply
from app.replies.queries import NewReply, priority_of
from app.replies.texts import farewell, locale_for

Scope = Literal["all"] | UUID

ANNOUNCEMENTS_SHOWN = 5

# queueing


async def queue(session: AsyncSession, *, rows: Sequence[NewReply]) -> None:
    """One COPY, in a transaction that an earlier statement has begun. Raises asyncpg's
    UniqueViolationError when a reply of that kind to that post is there already.
    """
    if rows:
        await queries.insert_replies(session, rows)
        await queries.notify(session)


async def claim_invitations(
    session: AsyncSession,
    *,
    network: str,
    account_ids: Collection[str],
    now: datetime,
    every_days: int,
) -> set[str]:
    """Those of the accounts that may be invited now; they count as invited if this commits."""
    if not account_ids:
        return set()
    return await queries.claim_invitations(
        session,
        network=network,
        account_ids=account_ids,
        now=now,
        last_before=now - timedelta(days=every_days),
    )


async def withdraw_invitations(
    session: AsyncSession, *, network: str, root_ids: Collection[str], now: datetime
) -> None:
    """Whose author has linked before they were sent."""
    await queries.withdraw_invitations(session, network=network, root_ids=root_ids, now=now)


async def withdraw_for(
    session: AsyncSession, *, network: str, account_ids: Collection[str], now: datetime
) -> None:
    """Whatever would answer these accounts, whose holders have said "stop". A farewell stays."""
    await queries.withdraw_for(session, network=network, account_ids=account_ids, now=now)


async def claim_refusals(
    session: AsyncSession, *, network: str, pairs: Collection[tuple[str, UUID]], now: datetime
) -> set[tuple[str, UUID]]:
    """Those of the pairs of account and offer that may be told of a refusal now, for an account is
    told of it once for an offer; they count as told if this commits.
    """
    if not pairs:
        return set()
    return await queries.claim_refusals(session, network=network, pairs=pairs, now=now)


async def queue_farewell(
    session: AsyncSession,
    *,
    network: str,
    account_id: str,
    message_id: str,
    sent_at: datetime,
    locale: str | None,
    now: datetime,
    settings: Settings,
) -> bool:
    """The one direct message that we ever write: an answer to somebody who has told us to stop in
    a message of his own, `sent_at`, which may come again for a day. One to an account for the
    messages of a day; False when there is one.
    """
    spoken = locale_for(locale, default=settings.default_locale)
    row = NewReply(
        id=new_id(),
        network=network,
        root_id=f"{account_id}:{sent_at.date()}",
        post_id=message_id,
        posted_at=now,
        offer_id=None,
        recipient_id=account_id,
        kind="farewell",
        priority=priority_of("farewell"),
        locale=spoken,
        text=farewell(locale=spoken),
        state="queued",
        not_before=now,
        created_at=now,
        updated_at=now,
        channel="dm",
    )
    if not await queries.insert_once(session, row):
        return False
    await queries.notify(session)
    return True


# the red button


async def pause(session: AsyncSession, *, scope: Scope, actor: str, now: datetime) -> None:
    """Stops all replies or one offer's; those already on their way arrive. Pausing twice changes
    nothing. Raises NotFound for an unknown offer.
    """
    if isinstance(scope, UUID):
        await offers.get(session, offer_id=scope)
    if await queries.insert_pause(session, scope=str(scope), actor=actor, now=now):
        await audit(
            session,
            actor=actor,
            action="replies.pause",
            subject_kind="replies",
            subject_id=str(scope),
            before={"paused": False},
            after={"paused": True},
        )


async def resume(session: AsyncSession, *, scope: Scope, actor: str, now: datetime) -> None:
    """Lifts the pause of that scope alone. For all: also starts again what was stopped by the
    network, for want of credits or of access. Raises NotFound for an unknown offer.
    """
    if isinstance(scope, UUID):
        await offers.get(session, offer_id=scope)
    was_paused = await queries.delete_pause(session, scope=str(scope))
    reasons = await window_queries.lock_windows(session)
    if isinstance(scope, UUID):
        await queries.unpark(session, offer_id=scope, now=now)
        reasons = []
    else:
        await window_queries.restart(session, now=now)
    await queries.notify(session)
    if was_paused or reasons:
        await audit(
            session,
            actor=actor,
            action="replies.resume",
            subject_kind="replies",
            subject_id=str(scope),
            before={"paused": was_paused, "stopped_reasons": reasons},
            after={"paused": False, "stopped_reasons": []},
        )


# what is there


async def waiting_count(session: AsyncSession) -> int:
    return await queries.count_waiting(session)


async def summary(session: AsyncSession) -> dict[str, Any]:
    """`replies`: counts by kind, then by state. `pauses`: scope to the time since when. `windows`:
    by network and channel, what the network still allows until when, and why nothing is sent.
    `announcements`: the last of them, newest first.
    """
    counts: dict[str, dict[str, int]] = {}
    for kind, state, count in await queries.count_by_kind_and_state(session):
        counts.setdefault(kind, {})[state] = count
    pauses = await queries.read_pauses(session)
    windows: dict[str, dict[str, Any]] = {}
    for window in await window_queries.read_windows(session):
        windows.setdefault(window.network, {})[window.channel] = {
            "remaining": window.remaining,
            "resets_at": window.resets_at,
            "day_remaining": window.day_remaining,
            "day_resets_at": window.day_resets_at,
            "stopped_reason": window.stopped_reason,
            "held_reason": window.held_reason,
        }
    announcements = await queries.last_announcements(session, most=ANNOUNCEMENTS_SHOWN)
    return {
        "replies": counts,
        "pauses": {pause.scope: pause.at for pause in pauses},
        "windows": windows,
        "announcements": announcements,
    }


async def list_replies(
    session: AsyncSession, *, paging: Paging, state: str | None
) -> Sequence[Reply]:
    """One more than a page, in the order of their ids, which is that of time."""
    return await queries.page(session, after=paging.after, limit=paging.limit + 1, state=state)
