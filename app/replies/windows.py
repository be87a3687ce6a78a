"""How many sends the network's limits still allow. Pure.

The network counts what has reached it; whether it has counted what is under way is not known. So
what may be begun is what remained by its last word, less all that is under way: never too many,
and in the end none too few, for an answer takes one from both.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from app.networks.sender import (
    AccessRefused,
    Limits,
    LookupFailed,
    OutOfCredits,
    RateLimited,
    SendResult,
)

CLOCKS_DIFFER_BY = timedelta(seconds=1)
RATE_LIMIT_WAIT_MIN = timedelta(seconds=5)
DAY = timedelta(hours=24)


class Limit(NamedTuple):
    """What settings say until the network does: so many sends in a window of this length, which
    begins with its first send.
    """

    sends: int
    length: timedelta


class Window(NamedTuple):
    """What remains of a limit until `resets_at`, by the network's last word, or as counted here
    where it says nothing.
    """

    remaining: int
    resets_at: datetime


class Allowance(NamedTuple):
    """What one channel may send. `stopped_reason`: nothing, until an operator resumes it.
    `held_reason`: less or nothing, until there is money again.
    """

    short: Window
    day: Window
    stopped_reason: str | None = None
    held_reason: str | None = None

    def left(self, under_way: int) -> int:
        """How many more may be begun. Below zero: the network has been used by others too."""
        return min(self.short.remaining, self.day.remaining) - under_way


def full(limit: Limit, now: datetime) -> Window:
    """When it ends is a guess until an answer tells."""
    return Window(limit.sends, now + limit.length)


def renewed(window: Window, limit: Limit, now: datetime) -> Window:
    """Its own time over, a window is full again."""
    return window if now < window.resets_at + CLOCKS_DIFFER_BY else full(limit, now)


def learnt(
    allowance: Allowance, results: Iterable[SendResult], *, short: Limit, day: Limit, now: datetime
) -> Allowance:
    """After what the network has told with its answers."""
    for result in results:
        if isinstance(result, LookupFailed):
            continue  # that was a read, which has limits of its own
        allowance = allowance._replace(
            short=_told(allowance.short, result.limits, short.length, now),
            day=_told(allowance.day, result.day_limits, day.length, now),
        )
        match result:
            case RateLimited():
                allowance = _refused(allowance, result, short, now)
            case OutOfCredits(detail) | AccessRefused(detail) if not allowance.stopped_reason:
                allowance = allowance._replace(stopped_reason=detail)
            case _:
                pass
    return allowance


def _told(window: Window, limits: Limits | None, length: timedelta, now: datetime) -> Window:
    if limits is None:
        return window._replace(remaining=max(0, window.remaining - 1))
    if limits.resets_at <= now:
        return window  # of a window that is over
    if limits.resets_at > window.resets_at + length / 2:
        return Window(limits.remaining, limits.resets_at)  # the network has begun the next one
    return Window(min(window.remaining, limits.remaining), limits.resets_at)


def _refused(allowance: Allowance, result: RateLimited, short: Limit, now: datetime) -> Allowance:
    """What is used up, as far as the network says, is closed to its end; else the short window is,
    for its length.
    """
    soonest = now + RATE_LIMIT_WAIT_MIN
    if _is_used_up(result.day_limits):
        allowance = allowance._replace(day=_closed(allowance.day, soonest))
    elif _is_used_up(result.limits):
        allowance = allowance._replace(short=_closed(allowance.short, soonest))
    else:
        allowance = allowance._replace(short=Window(0, max(now + short.length, soonest)))
    return allowance


def _is_used_up(limits: Limits | None) -> bool:
    return limits is not None and limits.remaining == 0


def _closed(window: Window, soonest: datetime) -> Window:
    return Window(0, max(window.resets_at, soonest))
