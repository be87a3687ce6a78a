"""How replies leave: what any network's sender does, and every way in which a send can end."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol


class Limits(NamedTuple):
    """What the network still allows until `resets_at`, as told with an answer."""

    limit: int
    remaining: int
    resets_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """`day_limits`: of 24 hours; where several hold, the tightest."""

    limits: Limits | None = None
    day_limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Sent(_Answer):
    post_id: str


@dataclass(frozen=True, slots=True)
class Duplicate(_Answer):
    """The network has this very text from us already."""


@dataclass(frozen=True, slots=True)
class NotAllowed(_Answer):
    """The network forbids a reply to this post, for good."""

    detail: str


@dataclass(frozen=True, slots=True)
class Refused(_Answer):
    """The request itself is wrong: the same one would be refused again."""

    detail: str


@dataclass(frozen=True, slots=True)
class RateLimited(_Answer):
    """Nothing was sent. `resets_at`: None where the network does not say."""

    resets_at: datetime | None


@dataclass(frozen=True, slots=True)
class OutOfCredits(_Answer):
    """Nothing is sent for anybody until the operator has paid; waiting does not help."""

    detail: str


@dataclass(frozen=True, slots=True)
class AccessRefused(_Answer):
    """The token, the app or the account may not post at all: a matter for the operator."""

    detail: str


@dataclass(frozen=True, slots=True)
class Temporary(_Answer):
    """Nothing was sent, as far as can be told; a later try may succeed. `reached`: the network said
    so itself.
    """

    detail: str
    reached: bool = True


@dataclass(frozen=True, slots=True)
class Unknown(_Answer):
    """The request went out and its answer did not come: it may have been sent."""

    detail: str


@dataclass(frozen=True, slots=True)
class LookupFailed(_Answer):
    """Whether it was sent before could not be found out, so nothing was sent. `again_at`: None
    where the network does not say.
    """

    detail: str
    again_at: datetime | None = None


SendResult = (
    Sent
    | Duplicate
    | NotAllowed
    | Refused
    | RateLimited
    | OutOfCredits
    | AccessRefused
    | Temporary
    | Unknown
    | LookupFailed
)
NotFoundOut = LookupFailed | OutOfCredits | AccessRefused

MESSAGES_IN_FLIGHT_MAX = 2
LOOKUP_POSTS_MAX = 1_000


class Found(NamedTuple):
    """`reads`: how many posts were read to find it, or not to; each is charged. `problem`: why it
    could not be found out.
    """

    post_id: str | None
    reads: int
    problem: NotFoundOut | None = None


class Sender(Protocol):
    """Posts as the programme's account. One instance serves many sends at once."""

    @property
    def network(self) -> str: ...

    async def send(self, text: str, in_reply_to: str | None) -> SendResult:
        """One attempt at a reply, or at a post of its own, which ends in a result; it raises
        nothing of its own.
        """

    async def send_message(self, text: str, to: str) -> SendResult:
        """One attempt at a direct message to an account, as `send`. Whatever may have arrived is
        Unknown: no network tells a message from its double.
        """

    async def find_own(self, text: str, since: datetime) -> Found:
        """The account's own post with this text that is not older than `since`. Reads
        LOOKUP_POSTS_MAX at most.
        """
