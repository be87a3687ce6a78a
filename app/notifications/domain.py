"""What a partner can be told, and what the end of an attempt means for its delivery. Pure."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Literal, NamedTuple, get_args
from uuid import UUID

import msgspec

EventName = Literal[
    "coupon.loaded",
    "coupon.closed",
    "redemption.pending",
    "redemption.earned",
    "redemption.returned",
    "redemption.rejected",
    "offer.sold_out",
    "offer.budget_low",
    "offer.ended",
]
EVENTS: tuple[EventName, ...] = get_args(EventName)
TEST = "webhook.test"  # goes to the endpoint it is asked for, whatever that wants to be told
DeliveryState = Literal["queued", "sending", "delivered", "parked"]

TRIED_FOR = timedelta(days=1)
_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)
# after the first attempt, the second, and so on; the last of them again and again
BACK_OFF = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    2 * _MINUTE,
    10 * _MINUTE,
    30 * _MINUTE,
    _HOUR,
    2 * _HOUR,
    4 * _HOUR,
)
JITTER = 0.2


class Claimed(NamedTuple):
    """A delivery that one worker may send until `leased_until`, which also tells its claim from any
    later one.
    """

    id: UUID
    endpoint_id: UUID
    event: str
    subject: str
    sequence: int
    data: dict[str, Any]
    created_at: datetime
    attempts: int
    tried_until: datetime
    leased_until: datetime


class Answer(NamedTuple):
    """`status` is None where none came; `error` says what was wrong."""

    status: int | None
    error: str | None


class Attempt(NamedTuple):
    state: Literal["queued", "delivered", "parked"]
    not_before: datetime
    status: int | None
    error: str | None


def message(delivery: Claimed) -> str:
    """The body, as Standard Webhooks has it; the same whenever it is sent."""
    body = {
        "type": delivery.event,
        "timestamp": delivery.created_at.astimezone(UTC),
        "subject": delivery.subject,
        "sequence": delivery.sequence,
        "data": delivery.data,
    }
    return msgspec.json.encode(body).decode()


def is_gone(answer: Answer) -> bool:
    return answer.status == HTTPStatus.GONE


def attempted(delivery: Claimed, answer: Answer, *, now: datetime, chance: float) -> Attempt:
    """`chance`: at random from [0, 1), so that what failed together is not tried again together."""
    if answer.error is None:
        return Attempt("delivered", now, answer.status, None)
    wait = BACK_OFF[min(delivery.attempts, len(BACK_OFF)) - 1]
    again_at = now + wait * (1 - JITTER + 2 * JITTER * chance)
    if is_gone(answer) or again_at > delivery.tried_until:
        return Attempt("parked", now, answer.status, answer.error)
    return Attempt("queued", again_at, answer.status, answer.error)
