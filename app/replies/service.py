"""The outbox. A reply is queued with the decision it tells, claimed under a lease, sent with no
transaction open, and recorded.
"""

import random
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.kit.pagination import Paging
from app.networks import queries as networks
from app.networks.sender import Duplicate, SendResult, Sent
from app.offers import service as offers
from app.partners.service import audit
from app.replies import queries
from app.replies.domain import Claimed, Window, change, given_back, learnt, renewed
from app.replies.models import Reply
from app.replies.queries import NewReply

__all__ = [
    "Claim",
    "NewReply",
    "Scope",
    "claim",
    "claim_invitations",
    "give_back",
    "list_replies",
    "pause",
    "queue",
    "record",
    "refusals_told",
    "resume",
    "summary",
    "waiting_count",
    "withdraw_invitations",
]

USAGE_KIND = "summoned_reply"
SWEEPS_MAX = 2
SWEEP_REPLIES_MAX = 5_000

Scope = Literal["all"] | UUID

log = structlog.get_logger()


# queueing


async def queue(session: AsyncSession, *, rows: Sequence[NewReply]) -> None:
    """One COPY, in a transaction that an earlier statement has begun. Raises asyncpg's
    UniqueViolationError when a reply of that kind to that post, or a refusal to that account, is
    there already.
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


async def refusals_told(
    session: AsyncSession,
    *,
    network: str,
    recipient_ids: Collection[str],
    offer_ids: Collection[UUID],
) -> set[tuple[str, UUID]]:
    """Pairs of account and offer that were refused before: they are not told again."""
    if not recipient_ids or not offer_ids:
        return set()
    return await queries.refusals_told(
        session, network=network, recipient_ids=recipient_ids, offer_ids=offer_ids
    )


# sending


class Claim(NamedTuple):
    """`is_cut_short`: so much had to be put aside that the next claim should come at once."""

    replies: list[Claimed]
    is_cut_short: bool = False


async def claim(
    session: AsyncSession, *, network: str, settings: Settings, now: datetime, most: int
) -> Claim:
    """Up to `most` replies that may be sent now and are this caller's until their lease is over:
    confirmations first, then the oldest, no more than the network's window allows. Replies to
    posts that are too old expire on the way. The transaction must be committed before any is sent.
    """
    window = await _lock_window(session, network=network, settings=settings, now=now)
    if window.stopped_reason is not None or not window.remaining:
        return Claim([])
    await queries.read_in_order(session)
    oldest = now - settings.reply_age_max
    leased_until = now + timedelta(seconds=settings.reply_lease_seconds)
    claimed: list[Claimed] = []
    is_cut_short = False
    for sweeps in range(1, SWEEPS_MAX + 1):
        room = min(most, window.remaining) - len(claimed)
        if room <= 0:
            break
        taken = await queries.take(
            session, network=network, now=now, oldest=oldest, leased_until=leased_until, most=room
        )
        claimed += taken.claimed
        if not taken.others:
            break
        await queries.sweep(
            session, network=network, now=now, oldest=oldest, most=SWEEP_REPLIES_MAX
        )
        is_cut_short = sweeps == SWEEPS_MAX
    if claimed:
        window = window._replace(remaining=window.remaining - len(claimed))
        await queries.write_window(session, network=network, window=window, now=now)
    return Claim(claimed, is_cut_short)


async def _lock_window(
    session: AsyncSession, *, network: str, settings: Settings, now: datetime
) -> Window:
    limit, length = settings.x_replies_per_window, _window_length(settings)
    full = Window(limit, now + length)
    window = await queries.lock_window(session, network=network, if_none=full)
    return renewed(window, now=now, limit=limit, length=length)


def _window_length(settings: Settings) -> timedelta:
    return timedelta(seconds=settings.x_replies_window_seconds)


async def record(
    session: AsyncSession,
    *,
    network: str,
    results: Sequence[tuple[Claimed, SendResult]],
    settings: Settings,
    now: datetime,
    in_flight: int = 0,
) -> None:
    """How sends have ended, and what that tells about the network's window. `in_flight`: how many
    more the caller has under way.
    """
    length = _window_length(settings)
    before = await _lock_window(session, network=network, settings=settings, now=now)
    ends = [result for _, result in results]
    after = learnt(before, ends, now=now, length=length, in_flight=in_flight)
    if after != before:
        await queries.write_window(session, network=network, window=after, now=now)
    changes = [
        change(reply, result, now=now, window=length, chance=random.random())  # noqa: S311 - no secret
        for reply, result in results
    ]
    await queries.write_changes(session, changes, now=now)
    sent = sum(isinstance(result, Sent | Duplicate) for _, result in results)
    if sent:
        await networks.record_usage(
            session,
            network=network,
            kind=USAGE_KIND,
            units=sent,
            price_microusd=settings.x_price_summoned_reply_microusd,
            now=now,
        )
    if before.stopped_reason is None and after.stopped_reason is not None:
        log.error("replies_stopped", network=network, reason=after.stopped_reason)


async def give_back(
    session: AsyncSession,
    *,
    network: str,
    replies: Sequence[Claimed],
    settings: Settings,
    now: datetime,
) -> None:
    """Claimed and not sent: others may send them. A window of which nothing remains may have been
    closed by the network, and stays so.
    """
    window = await _lock_window(session, network=network, settings=settings, now=now)
    if window.remaining:
        remaining = min(window.remaining + len(replies), settings.x_replies_per_window)
        window = window._replace(remaining=remaining)
        await queries.write_window(session, network=network, window=window, now=now)
    changes = [given_back(reply, not_before=now) for reply in replies]
    await queries.write_changes(session, changes, now=now)
    await queries.notify(session)


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
            before=None,
            after={"paused": True},
        )


async def resume(session: AsyncSession, *, scope: Scope, actor: str, now: datetime) -> None:
    """Lifts the pause of that scope alone. For all: also starts again what was stopped by the
    network, for want of credits or of access. Raises NotFound for an unknown offer.
    """
    if isinstance(scope, UUID):
        await offers.get(session, offer_id=scope)
    was_paused = await queries.delete_pause(session, scope=str(scope))
    reasons = await queries.lock_windows(session)
    if isinstance(scope, UUID):
        await queries.unpark(session, offer_id=scope, now=now)
        reasons = []
    else:
        await queries.restart(session, now=now)
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
    by network, what may still be sent until when, and why nothing is.
    """
    counts: dict[str, dict[str, int]] = {}
    for kind, state, count in await queries.count_by_kind_and_state(session):
        counts.setdefault(kind, {})[state] = count
    pauses = await queries.read_pauses(session)
    windows = await queries.read_windows(session)
    return {
        "replies": counts,
        "pauses": {pause.scope: pause.at for pause in pauses},
        "windows": {
            window.network: {
                "remaining": window.remaining,
                "resets_at": window.resets_at,
                "stopped_reason": window.stopped_reason,
            }
            for window in windows
        },
    }


async def list_replies(
    session: AsyncSession, *, paging: Paging, state: str | None
) -> Sequence[Reply]:
    """One more than a page, in the order of their ids, which is that of time."""
    return await queries.page(session, after=paging.after, limit=paging.limit + 1, state=state)
