from collections.abc import Sequence
from typing import Any


def as_arrays(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """One list for each name: parameters for `unnest(…)`, which makes one statement of any number
    of rows.
    """
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}
