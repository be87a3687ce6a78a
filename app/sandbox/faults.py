"""What goes wrong on demand. A fault waits until what it is for happens, and then strikes."""

import asyncio
import random
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args
from uuid import uuid4

import msgspec
from msgspec import Meta, Struct

from app.sandbox.profiles import SELF_SERVE

DisconnectType = Literal[
    "OperationalDisconnect",
    "UpstreamOperationalDisconnect",
    "ForceDisconnect",
    "UpstreamUncleanDisconnect",
    "SlowReader",
    "InternalError",
    "ClientApplicationStateDegraded",
    "InvalidRules",
]
PushKind = Literal["drop", "stall", "duplicate", "reorder", "split", "disconnect", "lose"]
RequestKind = Literal[
    "unauthorized",
    "credits_depleted",
    "forbidden",
    "not_summoned",
    "not_summoned_reworded",
    "duplicate_content",
    "duplicate_content_v1",
    "dm_not_permitted",
    "client_forbidden",
    "rate_limited",
    "rate_limited_bare",
    "rate_limited_v1",
    "usage_capped",
    "internal_error",
    "bad_gateway",
    "bad_gateway_after",
    "unavailable",
    "over_capacity_v1",
    "gateway_timeout",
    "gateway_timeout_after",
    "slow",
    "slow_after",
    "cut",
    "cut_after",
]
PUSH_KINDS: Mapping[str, str] = {
    "drop": "the connection ends in the middle, and the line is lost",
    "stall": "nothing comes for some seconds, not even a sign of life",
    "duplicate": "the line or event comes twice",
    "reorder": "it is held back past the next `lines`, or for `seconds`",
    "split": "the line comes in pieces of seven bytes",
    "disconnect": "X hangs up, and says why in band: `disconnect_type`",
    "lose": "it never comes: only looking back finds the post",
}
REQUEST_KINDS: Mapping[str, str] = {
    "unauthorized": "401",
    "credits_depleted": "402",
    "forbidden": "403",
    "not_summoned": "403, as for a reply to who did not mention the account",
    "not_summoned_reworded": "the same in other words",
    "duplicate_content": "403, as for a text that was posted before",
    "duplicate_content_v1": "the same with version 1's body, code 187",
    "dm_not_permitted": "403, as for a message to who did not write first",
    "client_forbidden": "403, as for an app that is not enrolled",
    "rate_limited": "429, with headers that say until when",
    "rate_limited_bare": "429 without headers",
    "rate_limited_v1": "429 with version 1's body, code 88",
    "usage_capped": "429, the month's cap",
    "internal_error": "500",
    "bad_gateway": "502",
    "bad_gateway_after": "502 when all has been done",
    "unavailable": "503",
    "over_capacity_v1": "503 with version 1's body, code 130",
    "gateway_timeout": "504",
    "gateway_timeout_after": "504 when all has been done",
    "slow": "nothing is done for `seconds`",
    "slow_after": "all is done, and the answer takes `seconds`",
    "cut": "the connection ends without an answer, and nothing is done",
    "cut_after": "all is done, and the connection ends without an answer",
}
OPTIONS: Mapping[str, str] = {
    "times": "how often it strikes (1), or forever",
    "after": "so many pass it first (0)",
    "probability": "with which it strikes then (1)",
    "seed": "decides chance (0)",
    "seconds": "of a stall, of a slow answer, of holding back at most (1)",
    "lines": "past which a line is held back (2)",
    "disconnect_type": f"one of {', '.join(get_args(DisconnectType))}",
}
PUSHED = frozenset(PUSH_KINDS)
WEBHOOK_KINDS = frozenset({"duplicate", "reorder", "lose"})
ANY_PUSH = "push"
ANY_REQUEST = "request"
PUSH_PLACES = {ANY_PUSH, "filtered_stream", "activity_stream", "webhook"}
REQUEST_PLACES = {
    ANY_REQUEST,
    "POST /2/oauth2/token",
    "POST /2/oauth2/revoke",
    *SELF_SERVE.requests,
}


class Fault(Struct, forbid_unknown_fields=True, kw_only=True):
    """`on`: for what is pushed `filtered_stream`, `activity_stream`, `webhook` or any `push`; for
    requests a route as in `POST /2/tweets` or `GET /2/users/{user_id}/mentions`, or any `request`.
    `times`: how often it strikes, null for ever. `after`: so many pass it first. Then it strikes
    with this `probability`, decided by `seed`.

    `seconds`: how long a stall is, how long a slow answer takes, and how long a line is held back
    at most; `lines`: past how many of the next ones.
    """

    kind: PushKind | RequestKind
    on: str | None = None
    times: Annotated[int, Meta(ge=1)] | None = 1
    after: Annotated[int, Meta(ge=0)] = 0
    probability: Annotated[float, Meta(gt=0, le=1)] = 1.0
    seed: int = 0
    seconds: Annotated[float, Meta(ge=0, le=3_600)] = 1.0
    lines: Annotated[int, Meta(ge=1, le=1_000)] = 2
    disconnect_type: DisconnectType = "OperationalDisconnect"

    def __post_init__(self) -> None:
        places = PUSH_PLACES if self.kind in PUSHED else REQUEST_PLACES
        if self.place not in places:
            raise ValueError(f"{self.kind} strikes on one of {', '.join(sorted(places))}")
        if self.place == "webhook" and self.kind not in WEBHOOK_KINDS:
            raise ValueError(f"a webhook knows {', '.join(sorted(WEBHOOK_KINDS))}")

    @property
    def place(self) -> str:
        return self.on or (ANY_PUSH if self.kind in PUSHED else ANY_REQUEST)


@dataclass
class Armed:
    fault: Fault
    id: str = field(default_factory=lambda: uuid4().hex)
    seen: int = 0
    fired: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.fault.seed)  # noqa: S311 - faults are no secret

    def is_due(self) -> bool:
        """Asked once for each time that what it is for happens."""
        self.seen += 1
        return self.seen > self.fault.after and self._random.random() < self.fault.probability

    @property
    def is_spent(self) -> bool:
        return self.fault.times is not None and self.fired >= self.fault.times


class Faults:
    def __init__(self, faults: Collection[Fault] = ()) -> None:
        self.armed: dict[str, Armed] = {}
        self.stopping = asyncio.Event()
        self.fired: Counter[str] = Counter()
        for fault in faults:
            self.arm(fault)

    def arm(self, fault: Fault) -> str:
        armed = Armed(fault)
        self.armed[armed.id] = armed
        return armed.id

    def take(self, place: str, *, kinds: Collection[str]) -> Fault | None:
        """Of those that are due here, the first strikes; all have counted the occasion."""
        due = [
            armed
            for armed in self.armed.values()
            if armed.fault.place == place and armed.fault.kind in kinds and armed.is_due()
        ]
        if not due:
            return None
        first = due[0]
        first.fired += 1
        self.fired[first.fault.kind] += 1
        if first.is_spent:
            del self.armed[first.id]
        return first.fault

    async def wait(self, seconds: float) -> None:
        """No longer than the stand-in runs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()


def parse_fault(written: str) -> Fault:
    """A fault as the command line has it: `kind[@on][,option=value…]`. Raises ValueError."""
    head, *options = written.split(",")
    kind, _, on = head.partition("@")
    given: dict[str, object] = {"kind": kind.strip(), **({"on": on.strip()} if on else {})}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals:
            raise ValueError(f"{written!r}: {option!r} is no option: name=value is meant")
        given[name.strip()] = None if value.strip() == "forever" else value.strip()
    try:
        return msgspec.convert(given, Fault, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{written!r}: {error}") from error
