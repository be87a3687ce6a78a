"""What the end of a send means for its reply and for those that wait. Pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, assert_never
from uuid import UUID

from app.networks.sender import (
    AccessRefused,
    Duplicate,
    Limits,
    NotAllowed,
    OutOfCredits,
    RateLimited,
    Refused,
    SendResult,
    Sent,
    Temporary,
    Unknown,
)

State = Literal["queued", "sending", "sent", "not_allowed", "failed", "expired"]

ATTEMPTS_MAX = 8
BACK_OFF_FIRST = timedelta(seconds=15)
BACK_OFF_MAX = timedelta(hours=1)
LOOK_UP_AFTER = timedelta(seconds=5)
CLOCKS_DIFFER_BY = timedelta(seconds=1)
RATE_LIMIT_WAIT_MIN = timedelta(seconds=5)


class Claimed(NamedTuple):
    """A reply that one worker may send until `leased_until`, which also tells its claim from any
    later one. `outcome_unknown`: it may have been sent already.
    """

    id: UUID
    network: str
    post_id: str
    text: str
    created_at: datetime
    attempts: int
    outcome_unknown: bool
    leased_until: datetime


class Change(NamedTuple):
    """What becomes of a claimed reply, in the order of the columns that are written."""

    id: UUID
    leased_until: datetime
    state: State
    not_before: datetime
    attempts: int
    outcome_unknown: bool
    sent_post_id: str | None
    problem: str | None


def change(
    reply: Claimed, result: SendResult, *, now: datetime, window: timedelta, chance: float
) -> Change:
    """`window`: how long to wait where a limit's end is not told. `chance`: at random from [0, 1),
    so that what failed together is not tried again together.
    """
    match result:
        case Sent(post_id):
            changed = _ended(reply, "sent", now, sent_post_id=post_id)
        case Duplicate():
            # The text carries its own reference, so the one that the network has is this one.
            changed = _ended(reply, "sent", now)
        case NotAllowed(detail):
            changed = _ended(reply, "not_allowed", now, problem=detail)
        case Refused(detail):
            changed = _ended(reply, "failed", now, problem=detail)
        case RateLimited(resets_at):
            changed = given_back(reply, not_before=resets_at or now + window, problem="rate limit")
        case OutOfCredits(detail) | AccessRefused(detail):
            changed = given_back(reply, not_before=now, problem=detail)
        case Temporary(detail):
            doublings = min(reply.attempts - 1, ATTEMPTS_MAX)
            wait = min(BACK_OFF_FIRST * 2**doublings, BACK_OFF_MAX)
            changed = _tried(reply, detail, now=now, wait=wait * (0.5 + chance))
        case Unknown(detail):
            changed = _tried(reply, detail, now=now, wait=LOOK_UP_AFTER * reply.attempts)
            changed = changed._replace(outcome_unknown=True)
        case _:
            assert_never(result)
    return changed


def _ended(
    reply: Claimed,
    state: State,
    now: datetime,
    *,
    sent_post_id: str | None = None,
    problem: str | None = None,
) -> Change:
    return Change(
        id=reply.id,
        leased_until=reply.leased_until,
        state=state,
        not_before=now,
        attempts=reply.attempts,
        outcome_unknown=False,
        sent_post_id=sent_post_id,
        problem=problem,
    )


def given_back(reply: Claimed, *, not_before: datetime, problem: str | None = None) -> Change:
    """Nothing was wrong with this reply: the attempt does not count."""
    return Change(
        id=reply.id,
        leased_until=reply.leased_until,
        state="queued",
        not_before=not_before,
        attempts=reply.attempts - 1,
        outcome_unknown=reply.outcome_unknown,
        sent_post_id=None,
        problem=problem,
    )


def _tried(reply: Claimed, problem: str, *, now: datetime, wait: timedelta) -> Change:
    return Change(
        id=reply.id,
        leased_until=reply.leased_until,
        state="failed" if reply.attempts >= ATTEMPTS_MAX else "queued",
        not_before=now + wait,
        attempts=reply.attempts,
        outcome_unknown=reply.outcome_unknown,
        sent_post_id=None,
        problem=problem,
    )


class Window(NamedTuple):
    """How many replies may still be claimed until `resets_at`. With a reason to stop, none."""

    remaining: int
    resets_at: datetime
    stopped_reason: str | None = None


def renewed(window: Window, *, now: datetime, limit: int, length: timedelta) -> Window:
    """Its own time over, a window is full again. When it ends is a guess until an answer tells."""
    if now < window.resets_at + CLOCKS_DIFFER_BY:
        return window
    return window._replace(remaining=limit, resets_at=now + length)


def learnt(
    window: Window,
    results: Iterable[SendResult],
    *,
    now: datetime,
    length: timedelta,
    in_flight: int,
) -> Window:
    """The window after what the network has told with its answers. `in_flight`: how many more
    sends are under way, which the network may not have counted yet.
    """
    for result in results:
        window = _with_limits(window, result.limits, now, in_flight)
        match result:
            case RateLimited(resets_at):
                until = max(resets_at or now + length, now + RATE_LIMIT_WAIT_MIN)
                window = window._replace(remaining=0, resets_at=until)
            case OutOfCredits(detail) | AccessRefused(detail) if window.stopped_reason is None:
                window = window._replace(stopped_reason=detail)
            case _:
                pass
    return window


def _with_limits(window: Window, limits: Limits | None, now: datetime, in_flight: int) -> Window:
    """The network counts what it has answered, the window what was claimed. As long as the network
    leaves no less, the window is right; else somebody else sends too, or the setting is wrong.
    """
    if limits is None or limits.resets_at <= now:
        return window
    left = max(0, limits.remaining - in_flight)
    is_over = now >= window.resets_at - CLOCKS_DIFFER_BY
    if is_over and limits.resets_at > window.resets_at + CLOCKS_DIFFER_BY:
        return window._replace(remaining=left, resets_at=limits.resets_at)
    if limits.remaining >= window.remaining:
        left = window.remaining
    return window._replace(remaining=left, resets_at=limits.resets_at)
