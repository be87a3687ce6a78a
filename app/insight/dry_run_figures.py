"""A dry run in figures: as they are for the operator; for a partner so that no question, nor the
difference between two, tells of one person (ADR 20).
"""

from collections import Counter as Count
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import blake2b
from itertools import chain
from typing import Any
from uuid import UUID

from app.insight.figures import divide, ratio, two_digits
from app.insight.replay import Bought, Decided
from app.insight.suppression import GROUP_MIN

LEVEL_SPREAD = 0.1  # by how much of themselves amounts may be off: a tenth is one of GROUP_MIN
_DRAWS = 1 << 64


def exact(decided: Decided, bought: Bought) -> dict[str, Any]:
    sales_minor, redemptions = bought.sales_minor.total(), len(bought.redemptions)
    return {
        "posts": sum(map(len, decided.outcomes.values())),
        "outcomes": _counted(decided.outcomes),
        "coupons": len(decided.coupons),
        "would_be_sold_out_at": _to_the_hour(decided.sold_out_at),
        "would_be_budget_spent_at": _to_the_hour(decided.budget_spent_at),
        "purchases": len(bought.purchases),
        "redemptions": redemptions,
        "sales_minor": sales_minor,
        "reward_minor": bought.reward_minor,
        "average_basket_minor": divide(sales_minor, redemptions),
        "reward_share": ratio(bought.reward_minor, sales_minor),
        "not_rewarded": _counted(bought.not_rewarded),
    }


def _counted(groups: dict[str, list[Any]]) -> dict[str, int]:
    return {name: len(found) for name, found in sorted(groups.items()) if found}


def _to_the_hour(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(minute=0, second=0, microsecond=0)


def blurred(decided: Decided, everybody: Decided, bought: Bought) -> dict[str, Any]:
    """`everybody`: the coupons of all who posted, which no term of the offer chooses from, and
    `bought` is what they bought. It is set down for as many coupons as `decided` has.
    """
    draws = _Draws(coupon.member_id for coupon in everybody.coupons)
    coupons = draws.count(decided.outcomes["loaded"])
    scale = 0.0
    if coupons is not None and everybody.coupons:
        scale = coupons / len(everybody.coupons) * draws.level

    def scaled(value: int, members: Iterable[UUID]) -> int | None:
        return None if not scale or _is_small(members) else two_digits(round(value * scale))

    sales_minor, buyers = bought.sales_minor.total(), set(bought.redemptions)
    if _is_one_mans(bought.sales_minor):
        buyers.clear()
    shows_sales = bool(scale) and not _is_small(buyers)
    return {
        "posts": draws.count([*chain.from_iterable(decided.outcomes.values())]),
        "outcomes": {
            name: draws.count(authors) for name, authors in sorted(decided.outcomes.items())
        },
        "coupons": coupons,
        "would_be_sold_out_at": None if coupons is None else _to_the_day(decided.sold_out_at),
        "would_be_budget_spent_at": (
            None if coupons is None else _to_the_day(decided.budget_spent_at)
        ),
        "purchases": scaled(len(bought.purchases), bought.purchases),
        "redemptions": scaled(len(bought.redemptions), bought.redemptions),
        "sales_minor": scaled(sales_minor, buyers),
        "reward_minor": scaled(bought.reward_minor, buyers),
        "average_basket_minor": (
            two_digits(round(sales_minor / len(bought.redemptions))) if shows_sales else None
        ),
        "reward_share": round(bought.reward_minor / sales_minor, 2) if shows_sales else None,
        "not_rewarded": {
            reason: scaled(len(members), members)
            for reason, members in sorted(bought.not_rewarded.items())
            if members
        },
    }


def _is_small(people: Iterable[object]) -> bool:
    return len(set(people)) < GROUP_MIN


def _is_one_mans(sales_minor: Count[UUID]) -> bool:
    """Whether the sum would be about one person, however many are in it."""
    return 2 * max(sales_minor.values(), default=0) > sales_minor.total()


def _to_the_day(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(hour=0, minute=0, second=0, microsecond=0)


class _Draws:
    """Chance that nobody can wear out by asking again: the same group is always given the same,
    another group, were it by one person, another. Members' ids, which no partner has seen, are the
    secret in it.
    """

    def __init__(self, member_ids: Iterable[UUID]) -> None:
        found = b"".join(sorted(member_id.bytes for member_id in member_ids))
        self._key = blake2b(found, digest_size=32).digest()

    @property
    def level(self) -> float:
        """Of all amounts alike, so that two of them compare."""
        return 1 - LEVEL_SPREAD + 2 * LEVEL_SPREAD * self._draw("level", ())

    def count(self, people: Sequence[str]) -> int | None:
        """To tens, down or up by chance, so that the mean is right; None for a small group."""
        if _is_small(people):
            return None
        tens, rest = divmod(len(people), 10)
        return 10 * (tens + (self._draw("count", people) < rest / 10))

    def _draw(self, what: str, people: Iterable[str]) -> float:
        """From 0 to 1."""
        told = "\n".join((what, *sorted(people))).encode()
        return int.from_bytes(blake2b(told, key=self._key, digest_size=8).digest()) / _DRAWS
