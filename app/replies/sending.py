"""What the worker does with the outbox: claims under a lease, sends with no transaction open, and
records. The network's limits and the month's money are heeded here, for all workers together.
"""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.kit.months import Month
from app.networks import queries as networks
from app.networks.sender import LOOKUP_POSTS_MAX, SendResult
from app.replies import queries, window_queries
from app.replies.budget import (
    Ceilings,
    Channel,
    Money,
    Prices,
    Spent,
    price_of,
    total,
    usage_kind_of,
    why_held,
)
from app.replies.domain import Claimed, change, given_back
from app.replies.queries import INVITATION, Due, Of, UnderWay
from app.replies.windows import DAY, Allowance, Limit, Window, learnt, renewed

CHANNELS: tuple[Channel, ...] = ("post", "dm")
SWEEPS_MAX = 2
SWEEP_REPLIES_MAX = 5_000

log = structlog.get_logger()


class Limits(NamedTuple):
    short: Limit
    day: Limit


def limits_of(settings: Settings, channel: Channel) -> Limits:
    length = timedelta(seconds=settings.x_replies_window_seconds)
    if channel == "dm":
        short, day = settings.x_messages_per_window, settings.x_messages_per_day
    else:
        short, day = settings.x_replies_per_window, settings.x_replies_per_day
    return Limits(Limit(short, length), Limit(day, DAY))


def prices_of(settings: Settings) -> Prices:
    return Prices(
        summoned=settings.x_price_summoned_reply_microusd,
        post=settings.x_price_post_microusd,
        message=settings.x_price_message_microusd,
        look_up=LOOKUP_POSTS_MAX * settings.x_price_owned_read_microusd,
    )


def ceilings_of(settings: Settings) -> Ceilings | None:
    ceiling = settings.x_monthly_ceiling_microusd
    if ceiling is None:
        return None
    return Ceilings(ceiling, ceiling * settings.x_strangers_ceiling_percent // 100)


class Claim(NamedTuple):
    """`is_cut_short`: so much had to be put aside that the next claim should come at once."""

    replies: list[Claimed]
    is_cut_short: bool = False


async def claim(
    session: AsyncSession,
    *,
    network: str,
    channel: Channel,
    settings: Settings,
    now: datetime,
    most: int,
) -> Claim:
    """Up to `most` replies that may be sent now and are this caller's until their lease is over:
    confirmations first, then the oldest, no more than the network's limits allow and the month's
    money pays. What is too old expires on the way. The transaction must be committed before any is
    sent.
    """
    # All channels, for they spend the same money.
    allowances = await _lock(session, CHANNELS, network=network, settings=settings, now=now)
    allowance = allowances[channel]
    under_way = await queries.under_way(session, network=network, now=now)
    await _charge_ended(session, under_way, network=network, settings=settings, now=now)
    money = await _money(session, allowance, under_way, network=network, settings=settings, now=now)
    mine = [one for one in under_way if one.channel == channel]
    left = allowance.left(sum(one.sending for one in mine))
    if allowance.stopped_reason is not None or left < 0:
        return Claim([])
    await queries.read_in_order(session)
    leased_until = now + timedelta(seconds=settings.reply_lease_seconds)
    due = Due(network, channel, now, now - settings.reply_age_max)
    prices, claimed = prices_of(settings), Claim([])
    # What may have been sent already comes first: its price is set aside, to look it up is not.
    look_ups = money.pays_for(prices.again(channel)).sends
    again = most if look_ups is None else min(most, max(0, look_ups))
    if any(one.lapsed for one in mine):  # which have their place in the limits, too
        claimed = await _take_again(session, "lapsed", due, claimed, leased_until, again)
    most = min(most, len(claimed.replies) + left)
    if any(one.unsure for one in mine):
        again = min(again, most)
        claimed = await _take_again(session, "unsure", due, claimed, leased_until, again)
    money = money.without(len(claimed.replies) * prices.again(channel))
    can_pay = money.pays_for(prices.dearest(channel))
    if can_pay.sends is None or can_pay.invitations is None:
        return await _take(session, "fresh", due, claimed, leased_until, most)
    most = min(most, len(claimed.replies) + max(0, can_pay.sends))
    certain = due._replace(below=INVITATION)
    claimed = await _take(session, "fresh", certain, claimed, leased_until, most)
    if claimed.is_cut_short:
        return claimed
    most = min(most, len(claimed.replies) + max(0, can_pay.invitations))
    return await _take(session, "fresh", due, claimed, leased_until, most)


async def _take_again(
    session: AsyncSession, of: Of, due: Due, before: Claim, leased_until: datetime, most: int
) -> Claim:
    """What is too old expires even where nothing may be claimed: else it would wait for ever."""
    if most > 0:
        return await _take(session, of, due, before, leased_until, most)
    await queries.sweep(session, of, due, most=SWEEP_REPLIES_MAX)
    return before


async def _take(
    session: AsyncSession, of: Of, due: Due, before: Claim, leased_until: datetime, most: int
) -> Claim:
    """With those claimed `before`, up to `most`."""
    claimed = list(before.replies)
    for _ in range(SWEEPS_MAX):
        room = most - len(claimed)
        if room <= 0:
            return Claim(claimed, before.is_cut_short)
        taken = await queries.take(session, of, due, leased_until=leased_until, most=room)
        claimed += taken.claimed
        if not taken.others:
            return Claim(claimed, before.is_cut_short)
        await queries.sweep(session, of, due, most=SWEEP_REPLIES_MAX)
    return Claim(claimed, is_cut_short=True)


async def _lock(
    session: AsyncSession,
    channels: Sequence[Channel],
    *,
    network: str,
    settings: Settings,
    now: datetime,
) -> dict[Channel, Allowance]:
    """Whatever has ended since is begun anew, and written."""
    ended = Window(0, now - DAY)
    locked = await window_queries.lock_allowances(
        session, network=network, channels=channels, if_none=Allowance(ended, ended)
    )
    for channel, found in locked.items():
        short, day = limits_of(settings, channel)
        standing = found._replace(
            short=renewed(found.short, short, now), day=renewed(found.day, day, now)
        )
        if standing != found:
            await window_queries.write_allowance(
                session, network=network, channel=channel, allowance=standing, now=now
            )
            locked[channel] = standing
    return locked


async def _money(
    session: AsyncSession,
    allowance: Allowance,
    under_way: Sequence[UnderWay],
    *,
    network: str,
    settings: Settings,
    now: datetime,
) -> Money:
    """Says when a ceiling is reached, and when it is not any more: once, for all workers."""
    ceilings, prices = ceilings_of(settings), prices_of(settings)
    reason, money = None, Money(None, Spent())
    if ceilings is not None:
        spent = await spent_in(session, network=network, month=Month.of(now))
        reason = why_held(ceilings, spent, dearest=prices.dearest("post"))
        sends = ((one.kind, one.is_summoned, one.sending + one.unsure) for one in under_way)
        looking_up = sum(one.looking_up * prices.again(one.channel) for one in under_way)
        money = Money(ceilings, spent.plus(total(sends, prices))).without(looking_up)
    if reason != allowance.held_reason:
        await window_queries.hold(session, network=network, reason=reason, now=now)
        if reason is None:
            log.info("replies_held_no_more", network=network)
        elif allowance.held_reason is None:
            log.error("replies_held", network=network, reason=reason)
    return money


async def spent_in(session: AsyncSession, *, network: str, month: Month) -> Spent:
    usage = await networks.usage_by_kind(session, network=network, month=month)
    return Spent(
        sum(one.micro_usd for one in usage),
        sum(one.micro_usd for one in usage if one.kind == "invitation"),
    )


async def record(
    session: AsyncSession,
    *,
    network: str,
    channel: Channel,
    results: Sequence[tuple[Claimed, SendResult]],
    settings: Settings,
    now: datetime,
    posts_read: int = 0,
) -> None:
    """How sends have ended, and what that tells about the network's limits. `posts_read`: our own,
    to find out what had been sent.
    """
    short, day = limits_of(settings, channel)
    locked = await _lock(session, [channel], network=network, settings=settings, now=now)
    before = locked[channel]
    after = learnt(before, [result for _, result in results], short=short, day=day, now=now)
    if after != before:
        await window_queries.write_allowance(
            session, network=network, channel=channel, allowance=after, now=now
        )
    prices = prices_of(settings)
    changes = [
        change(
            reply,
            result,
            now=now,
            window=short.length,
            cost_microusd=price_of(reply.kind, prices, is_summoned=reply.is_summoned),
            chance=random.random(),  # noqa: S311 - no secret
        )
        for reply, result in results
    ]
    charged = await queries.write_changes(session, changes, now=now)
    kinds = {reply.id: (reply.kind, reply.is_summoned) for reply, _ in results}
    sends = [(*kinds[one], 1) for one in charged]
    await _charge(session, sends, posts_read, network=network, settings=settings, now=now)
    if before.stopped_reason is None and after.stopped_reason is not None:
        log.error("replies_stopped", network=network, channel=channel, reason=after.stopped_reason)


async def _charge_ended(
    session: AsyncSession,
    under_way: Sequence[UnderWay],
    *,
    network: str,
    settings: Settings,
    now: datetime,
) -> None:
    """What will never be known to have been sent, however it has ended: expired, withdrawn or tried
    too often. The network may have charged for it.
    """
    prices = prices_of(settings)
    sends = []
    for one in under_way:
        if one.ended:
            number = await queries.charge_ended(
                session,
                network=network,
                kind=one.kind,
                is_summoned=one.is_summoned,
                cost_microusd=price_of(one.kind, prices, is_summoned=one.is_summoned),
                now=now,
            )
            sends.append((one.kind, one.is_summoned, number))
    await _charge(session, sends, 0, network=network, settings=settings, now=now)


async def _charge(
    session: AsyncSession,
    sends: Sequence[tuple[str, bool, int]],
    posts_read: int,
    *,
    network: str,
    settings: Settings,
    now: datetime,
) -> None:
    prices = prices_of(settings)
    counts: Counter[tuple[str, int]] = Counter()
    for kind, is_summoned, number in sends:
        name = usage_kind_of(kind, is_summoned=is_summoned)
        counts[name, price_of(kind, prices, is_summoned=is_summoned)] += number
    if posts_read:
        counts["owned_read", settings.x_price_owned_read_microusd] = posts_read
    # in one order, for each writes a row that others write too
    for (kind, price), units in sorted(counts.items()):
        await networks.record_usage(
            session, network=network, kind=kind, units=units, price_microusd=price, now=now
        )


async def give_back(session: AsyncSession, *, replies: Sequence[Claimed], now: datetime) -> None:
    """Claimed and not sent: others may send them."""
    changes = [given_back(reply, not_before=now) for reply in replies]
    await queries.write_changes(session, changes, now=now)
    await queries.notify(session)


async def restart(session: AsyncSession, *, now: datetime) -> None:
    """What the network had stopped, once whatever it was has been put right."""
    await window_queries.lock_windows(session)
    await window_queries.restart(session, now=now)
    await queries.notify(session)
