"""Which groups a partner is not shown: small ones, since a group of one is a person, and as many
more as it takes so that no small one is what is left when the others are taken from a sum.
"""

from collections.abc import Hashable, Mapping
from itertools import combinations
from typing import TypeVar

# a partner is shown no figure of fewer
GROUP_MIN = 10

Key = TypeVar("Key", bound=tuple[Hashable, ...])


def withheld(sizes: Mapping[Key, int]) -> set[Key]:
    """`sizes`: of all groups that have anything, each a value of every dimension, of which the last
    is in every sum.

    Whoever asks by fewer dimensions is told sums of these groups. So of each such sum two groups
    must be withheld, which together are GROUP_MIN, or none; until it is so, the smallest of those
    that are shown is withheld with them.
    """
    hidden = {key for key, size in sizes.items() if size < GROUP_MIN}
    dimensions = len(next(iter(sizes), ())) - 1
    sums = [
        (*kept, dimensions)
        for number in range(dimensions)
        for kept in combinations(range(dimensions), number)
    ]
    while more := {key for kept in sums for key in _exposed(sizes, hidden, kept)}:
        hidden |= more
    return hidden


def _exposed(sizes: Mapping[Key, int], hidden: set[Key], kept: tuple[int, ...]) -> set[Key]:
    """Of every sum over the groups that have the `kept` dimensions in common and that withholds too
    little, the smallest group that is shown.
    """
    withheld_of: dict[tuple[Hashable, ...], list[int]] = {}
    smallest: dict[tuple[Hashable, ...], Key] = {}
    for key, size in sizes.items():
        of = tuple(key[place] for place in kept)
        if key in hidden:
            withheld_of.setdefault(of, []).append(size)
        elif of not in smallest or (size, str(key)) < (sizes[smallest[of]], str(smallest[of])):
            smallest[of] = key
    return {
        smallest[of]
        for of, found in withheld_of.items()
        if (len(found) < 2 or sum(found) < GROUP_MIN) and of in smallest  # noqa: PLR2004
    }
