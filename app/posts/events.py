"""What a network tells beside posts, and what follows: a removed post is marked, whoever says
"stop" is left alone, and access that was revoked ends the link. Each in the caller's transaction,
and a second time it changes nothing.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import assert_never

import structlog
from prometheus_client import Counter
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.members import service as members
from app.members.service import ToldBy
from app.networks import accounts
from app.networks.post import AccessRevoked, Event, Messages, PostRemoved
from app.posts import removal_queries
from app.replies import service as replies

REVOKED = f"the access was revoked on the network: {accounts.CONNECT}"

_events = Counter("tagback_network_events", "What networks told beside posts.", ["kind"])
log = structlog.get_logger(__name__)


async def take(session: AsyncSession, event: Event, *, settings: Settings, now: datetime) -> None:
    match event:
        case PostRemoved():
            _events.labels("post_removed").inc()
            await removal_queries.mark_removed(
                session, network=event.network, post_id=event.post_id, now=now
            )
        case Messages():
            await _take_messages(session, event, settings=settings, now=now)
        case AccessRevoked():
            _events.labels("access_revoked").inc()
            await _take_revocation(session, event, settings=settings, now=now)
        case _:
            assert_never(event)


async def heed_stop(
    session: AsyncSession,
    *,
    network: str,
    said_at: Mapping[str, datetime],
    told_by: ToldBy,
    now: datetime,
) -> set[str]:
    """Answers whom. A "stop" that comes late, or again, does not undo a consent that is newer."""
    back = await members.consented_since(session, network=network, since=said_at)
    heeded = said_at.keys() - back
    if heeded:
        silent = await members.stop_accounts(
            session, network=network, account_ids=heeded, told_by=told_by, now=now
        )
        await replies.withdraw_for(session, network=network, account_ids=silent, now=now)
        log.info("stop_heeded", network=network, told_by=told_by, accounts=len(heeded))
    return heeded


async def _take_messages(
    session: AsyncSession, event: Messages, *, settings: Settings, now: datetime
) -> None:
    """Nothing but "stop" is read out of a message."""
    _events.labels("message").inc(len(event.messages))
    who = await accounts.identity(session, settings=settings)
    stops = {
        message.sender_id: message
        for message in event.messages
        if message.asks_to_stop and message.sender_id != who.account_id
    }
    if not stops:
        return
    said_at = {sender: message.sent_at for sender, message in stops.items()}
    heeded = await heed_stop(
        session, network=event.network, said_at=said_at, told_by="message", now=now
    )
    authors = await members.find_authors(session, network=event.network, account_ids=sorted(heeded))
    for sender in sorted(heeded):
        await replies.queue_farewell(
            session,
            network=event.network,
            account_id=sender,
            message_id=stops[sender].id,
            sent_at=stops[sender].sent_at,
            locale=authors[sender].locale if sender in authors else None,
            now=now,
            settings=settings,
        )


async def _take_revocation(
    session: AsyncSession, event: AccessRevoked, *, settings: Settings, now: datetime
) -> None:
    """Told late, or again, it does not undo a sign-in that is newer."""
    network, account_id = event.network, event.account_id
    who = await accounts.identity(session, settings=settings)
    if account_id == who.account_id:
        connected = await accounts.find(session, network=network)
        if connected is None:
            log.error("programme_access_revoked", network=network)
        elif connected.connected_at <= event.revoked_at:
            await accounts.mark_problem(session, network=network, problem=REVOKED)
        return
    since = {account_id: event.revoked_at}
    if await members.consented_since(session, network=network, since=since):
        return
    if await members.unlink_account(session, network=network, account_id=account_id, now=now):
        log.info("account_unlinked", network=network, reason="access revoked")
