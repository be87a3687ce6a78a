"""What the end of a send means for its reply. Pure."""

from datetime import datetime, timedelta
from typing import Literal, NamedTuple, assert_never
from uuid import UUID

from app.networks.sender import (
    AccessRefused,
    Duplicate,
    LookupFailed,
    NotAllowed,
    OutOfCredits,
    RateLimited,
    Refused,
    SendResult,
    Sent,
    Temporary,
    Unknown,
)
from app.replies.budget import Channel

State = Literal["queued", "sending", "sent", "not_allowed", "failed", "expired"]

ATTEMPTS_MAX = 8
BACK_OFF_FIRST = timedelta(seconds=15)
BACK_OFF_MAX = timedelta(hours=1)
LOOK_UP_AFTER = timedelta(seconds=5)
LOOK_UP_AGAIN_AFTER = timedelta(minutes=1)


class Claimed(NamedTuple):
    """A reply that one worker may send until `leased_until`, which also tells its claim from any
    later one. `outcome_unknown`: it may have been sent already.
    """

    id: UUID
    network: str
    channel: Channel
    kind: str
    is_summoned: bool
    post_id: str | None
    recipient_id: str
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
    cost_microusd: int | None
    problem: str | None


def change(
    reply: Claimed,
    result: SendResult,
    *,
    now: datetime,
    window: timedelta,
    cost_microusd: int,
    chance: float,
) -> Change:
    """`window`: how long to wait where a limit's end is not told. `cost_microusd`: if it was sent.
    `chance`: at random from [0, 1), so that what failed together is not tried again together.
    """
    match result:
        case Sent(post_id):
            changed = _ended(reply, "sent", now, sent_post_id=post_id, cost=cost_microusd)
        case Duplicate():
            # The text carries its own reference, so the one that the network has is this one.
            changed = _ended(reply, "sent", now, cost=cost_microusd)
        case NotAllowed(detail):
            changed = _ended(reply, "not_allowed", now, problem=detail)
        case Refused(detail):
            changed = _ended(reply, "failed", now, problem=detail)
        case (
            RateLimited()
            | OutOfCredits()
            | AccessRefused()
            | LookupFailed()
            | Temporary(reached=False)
        ):
            changed = _unheard(reply, result, now=now, window=window, chance=chance)
        case Temporary(detail):
            doublings = min(reply.attempts - 1, ATTEMPTS_MAX)
            wait = min(BACK_OFF_FIRST * 2**doublings, BACK_OFF_MAX)
            changed = _tried(reply, detail, now=now, wait=wait * (0.5 + chance))
        case Unknown(detail) if reply.channel == "dm":
            # Nothing tells a message from its double: one that may have arrived is not sent again.
            changed = _ended(reply, "failed", now, problem=f"may have arrived: {detail}")
            changed = changed._replace(outcome_unknown=True)
        case Unknown(detail):
            changed = _tried(reply, detail, now=now, wait=LOOK_UP_AFTER * reply.attempts)
            changed = changed._replace(outcome_unknown=True)
        case _:
            assert_never(result)
    return changed


def _unheard(
    reply: Claimed,
    result: RateLimited | OutOfCredits | AccessRefused | LookupFailed | Temporary,
    *,
    now: datetime,
    window: timedelta,
    chance: float,
) -> Change:
    """The network has not looked at this reply, so it is tried for as long as it is young."""
    match result:
        case RateLimited(resets_at):
            return given_back(reply, not_before=resets_at or now + window, problem="rate limit")
        case LookupFailed(detail, again_at):
            again_at = again_at or now + LOOK_UP_AGAIN_AFTER * (0.5 + chance)
            return given_back(reply, not_before=again_at, problem=detail)
        case Temporary(detail):
            again_at = now + BACK_OFF_FIRST * (0.5 + chance)
            return given_back(reply, not_before=again_at, problem=detail)
        case OutOfCredits(detail) | AccessRefused(detail):
            return given_back(reply, not_before=now, problem=detail)


def _ended(
    reply: Claimed,
    state: State,
    now: datetime,
    *,
    sent_post_id: str | None = None,
    cost: int | None = None,
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
        cost_microusd=cost,
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
        cost_microusd=None,
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
        cost_microusd=None,
        problem=problem,
    )
