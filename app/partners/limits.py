"""How many requests a key may make, and how often an address may try one that is wrong.

Counted in this process alone (docs/adr/0017-keys.md says why): of N processes each allows as much.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from uuid import UUID

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import Settings
from app.errors import TooManyRequests
from app.kit.rates import Allowance, Rates
from app.partners.roles import Role

KEYS_REMEMBERED_MAX = 10_000
# What they send is the programme's own money and members: to refuse one costs a card-holder his
# reward. They have the limit that the operator gives their key, and no other.
_ROLES_WITHOUT_DEFAULT: frozenset[Role] = frozenset({"issuer", "processor"})
_IPV6_PREFIX = 64  # what one caller is given


class Limits:
    def __init__(
        self, settings: Settings, *, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._per_minute = settings.rate_limit_per_minute
        self._wrong_keys_per_minute = settings.wrong_keys_per_minute
        self._families = Rates(clock_ns=clock_ns)
        self._addresses = Rates(clock_ns=clock_ns)
        self._good_keys: OrderedDict[bytes, None] = OrderedDict()

    def limit_of(self, role: Role, own_per_minute: int | None) -> int | None:
        """Requests a minute; None: any number."""
        if own_per_minute is not None:
            return own_per_minute
        return None if role in _ROLES_WITHOUT_DEFAULT else self._per_minute or None

    def take(self, family_id: UUID, *, per_minute: int) -> Allowance:
        return self._families.take(family_id, per_minute=per_minute)

    def check_address(self, host: str | None, hashed_key: bytes) -> None:
        """Raises TooManyRequests, before the database is asked, for an address that has tried too
        many keys; a key that was good here goes on, for behind a proxy all have one address.
        """
        if not self._wrong_keys_per_minute or hashed_key in self._good_keys:
            return
        allowance = self._addresses.look(address(host), per_minute=self._wrong_keys_per_minute)
        if not allowance.is_allowed:
            raise TooManyRequests(
                "too many keys that are not valid came from this address",
                retry_seconds=allowance.retry_seconds,
            )

    def was_good(self, hashed_key: bytes) -> None:
        self._good_keys[hashed_key] = None
        self._good_keys.move_to_end(hashed_key)
        if len(self._good_keys) > KEYS_REMEMBERED_MAX:
            self._good_keys.popitem(last=False)

    def was_wrong(self, host: str | None, hashed_key: bytes) -> None:
        self._good_keys.pop(hashed_key, None)
        if self._wrong_keys_per_minute:
            self._addresses.take(address(host), per_minute=self._wrong_keys_per_minute)


def address(host: str | None) -> str:
    """Whom a host stands for: of IPv6, one caller has as many as he likes."""
    try:
        found = ip_address(host or "")
    except ValueError:
        return host or ""
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ip_network((found.packed, _IPV6_PREFIX), strict=False))


class RateLimitHeaders:
    """On every answer to a key that has a limit, whoever made it: `request.state.allowance`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def send_with_headers(message: Message) -> None:
            allowance: Allowance | None = state.get("allowance")
            if message["type"] == "http.response.start" and allowance is not None:
                headers = MutableHeaders(scope=message)
                headers["RateLimit-Limit"] = str(allowance.limit)
                headers["RateLimit-Remaining"] = str(allowance.remaining)
                headers["RateLimit-Reset"] = str(allowance.reset_seconds)
            await send(message)

        await self.app(scope, receive, send_with_headers)
