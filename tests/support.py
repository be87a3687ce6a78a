"""What the fixtures of conftest.py give, for those who name its type."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

# `await make_key(role, partner_id=None)`
MakeKey = Callable[..., Awaitable[str]]


class Ran(NamedTuple):
    status: int
    out: str
    err: str


# `await tagback("import", "members", "-", given=b"…", TAGBACK_PORT="1")`
Tagback = Callable[..., Awaitable[Ran]]

# `await analyse("accounts", "posts")`
Analyse = Callable[..., Awaitable[None]]
