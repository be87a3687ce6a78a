"""Erasure: a member asks to be forgotten (GDPR, article 17), and all that identifies him goes, in
every table, in one transaction. What money hangs on stays, and belongs to nobody any more.

Whoever knew him before waits, or finds him gone: browsers' sessions and claims are locked first, in
the order in which those who hold them ask for the member; then offers, the member against all who
refer to him, coupons, purchases, redemptions and adjustments.
"""

import asyncio
from datetime import datetime
from itertools import groupby
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, NotFound, Unavailable
from app.kit.db import Sessions
from app.ledger import forfeiting
from app.members import erasure_queries
from app.offers import service as offers
from app.partners import service as partners
from app.posts import removal
from app.privacy import queries
from app.redemptions.service import committed

ATTEMPTS_MAX = 7
PAUSE_SECONDS = 0.05  # after the first attempt; it doubles with each

log = structlog.get_logger(__name__)


class _NotYetError(Exception):
    """Something has happened to him between what was looked up and the locks."""


async def erase(
    sessions: Sessions, *, member_id: UUID, forfeit: bool, actor: str, now: datetime
) -> None:
    """A second time changes nothing. Raises NotFound for who was never here, Conflict while money
    is under way, which `forfeit` gives up where nobody else is at it, and Unavailable.
    """
    for attempt in range(ATTEMPTS_MAX):
        try:
            await committed(
                sessions,
                lambda session: _erase(
                    session, member_id=member_id, forfeit=forfeit, actor=actor, now=now
                ),
            )
        except _NotYetError:
            await asyncio.sleep(PAUSE_SECONDS * 2**attempt)
        else:
            return
    raise Unavailable("the member is too busy to be erased now: try again")


async def _erase(
    session: AsyncSession, *, member_id: UUID, forfeit: bool, actor: str, now: datetime
) -> None:
    is_known, erased_at = await queries.erased_at(session, member_id)
    if not is_known:
        raise NotFound(f"no member {member_id}", code="member_not_found")
    if erased_at is not None:
        return
    await _lock(session, member_id)
    if (await queries.erased_at(session, member_id))[1] is not None:
        return
    totals = await _settle(session, member_id, forfeit=forfeit, actor=actor, now=now)
    await _close_coupons(session, member_id, now=now)
    await _forget_posts(session, member_id)
    accounts = await queries.accounts_of(session, member_id)
    await erasure_queries.remember(session, member_id=member_id, accounts=accounts, now=now)
    await queries.blur_coupons(session, member_id)
    await queries.forget_accounts(session, accounts)
    await queries.forget_claims(session, member_id)
    await queries.forget_purchases(session, member_id)
    await queries.forget_cards(session, member_id, now=now)
    await queries.forget_member(session, member_id, now=now)
    await partners.audit(
        session,
        actor=actor,
        action="member.erase",
        subject_kind="member",
        subject_id=str(member_id),
        after={"given_up_minor": totals},
    )
    log.info("member_erased", member=str(member_id))


async def _lock(session: AsyncSession, member_id: UUID) -> None:
    await queries.forget_browsers(session, member_id)
    await queries.lock_claims(session, member_id)
    offer_ids = await queries.offers_of(session, member_id)
    await offers.lock_all(session, offer_ids=offer_ids)
    await queries.lock_member(session, member_id)
    if not await queries.offers_of(session, member_id) <= offer_ids:
        raise _NotYetError
    await queries.lock_coupons_and_purchases(session, member_id)
    if not await forfeiting.lock(session, member_id=member_id):
        raise _NotYetError


async def _settle(
    session: AsyncSession, member_id: UUID, *, forfeit: bool, actor: str, now: datetime
) -> dict[str, int]:
    """What was given up, in minor units by currency."""
    due = await forfeiting.owed(session, member_id=member_id)
    purchases, claims = await queries.waiting(session, member_id)
    if not forfeit and (due.items or purchases or claims):
        raise Conflict(
            f"money is under way: {due.items} amounts not credited, {purchases} purchases not "
            f"cleared, {claims} claims not decided. Wait, or give it up: ?forfeit=true",
            code="money_under_way",
        )
    await forfeiting.forfeit(session, member_id=member_id, actor=actor, now=now)
    return due.totals


async def _close_coupons(session: AsyncSession, member_id: UUID, *, now: datetime) -> None:
    unspent_minor: dict[UUID, int] = {}
    for offer_id, minor in await queries.close_coupons(session, member_id, now=now):
        unspent_minor[offer_id] = unspent_minor.get(offer_id, 0) + minor
    await offers.give_back(session, unspent_minor=unspent_minor)


async def _forget_posts(session: AsyncSession, member_id: UUID) -> None:
    """As if each had been deleted on its network (ADR 14), and with the day alone of its time."""
    posts = sorted(await queries.posts_of(session, member_id))
    for network, of_network in groupby(posts, key=lambda post: post.network):
        kept = [post.kept for post in of_network]
        await queries.blur_hours(session, network, sorted({post.root_id for post in kept}))
        renamed = removal.rename(kept)
        await removal.carry_out(session, network=network, renamed=renamed)
        new_ids = {name for new in renamed.values() for name in (new.post_id, new.root_id)}
        await queries.blur_posts(session, network, sorted(new_ids))
