"""What a send costs, and how many more the month's money allows. Pure; all sums are millionths of a
US dollar.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

Channel = Literal["post", "dm"]

_DOLLAR = 1_000_000


class Prices(NamedTuple):
    """Of a reply to somebody who has called us, of any other post, and of a direct message; and the
    most that it may cost to find out whether a post was sent.
    """

    summoned: int
    post: int
    message: int
    look_up: int

    def dearest(self, channel: Channel) -> int:
        return self.message if channel == "dm" else max(self.summoned, self.post)

    def again(self, channel: Channel) -> int:
        """Beside its price, of one that may have been sent already: messages are not looked up."""
        return 0 if channel == "dm" else self.look_up


class Ceilings(NamedTuple):
    """For a calendar month: for all that the network charges, and the part of it that may be spent
    on strangers, which is to say on invitations.
    """

    all: int
    strangers: int


class Spent(NamedTuple):
    all: int = 0
    strangers: int = 0

    def plus(self, other: "Spent") -> "Spent":
        return Spent(self.all + other.all, self.strangers + other.strangers)


class Affordable(NamedTuple):
    """How many more sends, and how many invitations among them; None is any number. Below zero:
    what is under way is too much already.
    """

    sends: int | None = None
    invitations: int | None = None


class Money(NamedTuple):
    """What a month allows, where there is a ceiling, and what of it is spent or set aside."""

    ceilings: Ceilings | None
    taken: Spent

    def without(self, amount: int) -> "Money":
        return self._replace(taken=self.taken.plus(Spent(amount)))

    def pays_for(self, price: int) -> Affordable:
        """How often that much. Where it is the dearest that a send may turn out to cost, and what
        was set aside is enough, no ceiling is exceeded.
        """
        if self.ceilings is None:
            return Affordable()
        return Affordable(
            _times(self.ceilings.all - self.taken.all, price),
            _times(self.ceilings.strangers - self.taken.strangers, price),
        )


def price_of(kind: str, prices: Prices, *, is_summoned: bool) -> int:
    match kind:
        case "farewell":
            return prices.message
        case "announcement":
            return prices.post
        case _:
            return prices.summoned if is_summoned else prices.post


def usage_kind_of(kind: str, *, is_summoned: bool) -> str:
    """Under what it is counted."""
    match kind:
        case "farewell":
            return "dm"
        case "announcement":
            return "post_create"
        case "invitation":
            return "invitation"
        case _:
            return "summoned_reply" if is_summoned else "post_create"


def total(sends: Iterable[tuple[str, bool, int]], prices: Prices) -> Spent:
    """What so many of a kind, summoned or not, will have cost."""
    spent = Spent()
    for kind, is_summoned, number in sends:
        cost = number * price_of(kind, prices, is_summoned=is_summoned)
        spent = spent.plus(Spent(cost, cost if kind == "invitation" else 0))
    return spent


def _times(left: int, price: int) -> int | None:
    if price == 0:
        return None if left >= 0 else -1
    return left // price


def why_held(ceilings: Ceilings, spent: Spent, *, dearest: int) -> str | None:
    """For whoever wonders why nothing is sent. What is under way may yet come to nothing."""
    left = Money(ceilings, spent).pays_for(dearest)
    if left.sends is not None and left.sends <= 0:
        return f"the month's ceiling is reached: {_of(spent.all, ceilings.all)} spent"
    if left.invitations is not None and left.invitations <= 0:
        amount = _of(spent.strangers, ceilings.strangers)
        return f"the month's ceiling for invitations is reached: {amount} spent"
    return None


def _of(spent: int, ceiling: int) -> str:
    return f"${spent / _DOLLAR:,.2f} of ${ceiling / _DOLLAR:,.2f}"
