"""How often a name may come in a minute, held in this process alone.

GCRA: of each name one number is known, the time at which all is allowed to it again. A minute's
worth may come at once; what was used comes back evenly.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

NAMES_MAX = 10_000
_SECOND_NS = 1_000_000_000
_WINDOW_NS = 60 * _SECOND_NS


class Allowance(NamedTuple):
    """`retry_seconds` until the next is allowed, 0 at once; `reset_seconds` until all are."""

    is_allowed: bool
    limit: int
    remaining: int
    reset_seconds: int
    retry_seconds: int


class Rates:
    """Of more than `names_max`, whoever has not come for longest is forgotten, and starts anew."""

    def __init__(
        self, *, clock_ns: Callable[[], int] = time.monotonic_ns, names_max: int = NAMES_MAX
    ) -> None:
        self._clock_ns = clock_ns
        self._names_max = names_max
        self._full_at_ns: OrderedDict[Hashable, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at_ns)

    def take(self, name: Hashable, *, per_minute: int) -> Allowance:
        """What is refused uses nothing."""
        allowance, full_at_ns = self._weigh(name, per_minute)
        if allowance.is_allowed:
            self._full_at_ns[name] = full_at_ns
            self._full_at_ns.move_to_end(name)
            if len(self._full_at_ns) > self._names_max:
                self._full_at_ns.popitem(last=False)
        return allowance

    def look(self, name: Hashable, *, per_minute: int) -> Allowance:
        """As `take` would answer, and nothing is used."""
        return self._weigh(name, per_minute)[0]

    def _weigh(self, name: Hashable, per_minute: int) -> tuple[Allowance, int]:
        now_ns = self._clock_ns()
        each_ns = _WINDOW_NS // per_minute
        before_ns = max(self._full_at_ns.get(name, now_ns), now_ns)
        over_ns = before_ns + each_ns - now_ns - _WINDOW_NS
        is_allowed = over_ns <= 0
        full_at_ns = before_ns + each_ns if is_allowed else before_ns
        allowance = Allowance(
            is_allowed,
            limit=per_minute,
            remaining=min((_WINDOW_NS + now_ns - full_at_ns) // each_ns, per_minute),
            reset_seconds=_seconds(full_at_ns - now_ns),
            retry_seconds=0 if is_allowed else _seconds(over_ns),
        )
        return allowance, full_at_ns


def _seconds(duration_ns: int) -> int:
    return math.ceil(duration_ns / _SECOND_NS)
