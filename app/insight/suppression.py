"""Which groups a partner is not shown: small ones, since a group of one is a person, and as many
more as it takes so that no small one is what is left when the others are taken from a sum.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping
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
    dimensions = len(next(iter(sizes), ())) - 1
    sums: dict[Hashable, list[Key]] = {}
    sums_of: dict[Key, list[Hashable]] = {}
    for key in sorted(sizes, key=lambda key: (sizes[key], str(key))):
        sums_of[key] = [
            tuple((place, key[place]) for place in (*kept, dimensions))
            for number in range(dimensions)
            for kept in combinations(range(dimensions), number)
        ]
        for one in sums_of[key]:
            sums.setdefault(one, []).append(key)
    hidden = {key for key, size in sizes.items() if size < GROUP_MIN}
    doubtful = [*sums]
    while doubtful:
        exposed = _exposed(sums[doubtful.pop()], sizes, hidden)
        if exposed is not None:
            hidden.add(exposed)
            doubtful.extend(sums_of[exposed])
    return hidden


def _exposed(keys: Iterable[Key], sizes: Mapping[Key, int], hidden: Collection[Key]) -> Key | None:
    """Of a sum that withholds too little, the smallest group that is shown. Its keys are in order
    of their size.
    """
    groups, size, smallest = 0, 0, None
    for key in keys:
        if key in hidden:
            groups, size = groups + 1, size + sizes[key]
            if groups > 1 and size >= GROUP_MIN:
                return None
        elif smallest is None:
            smallest = key
    return smallest if groups else None
