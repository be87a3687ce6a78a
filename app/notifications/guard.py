"""Where a delivery may go. Whoever names an address for us to call must not reach what only we can:
so every address that a host has is judged, and the connection goes to one that was.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

import httpx

from app.errors import Invalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
# The addresses of a host, as `getaddrinfo` writes them. Raises OSError.
Resolve = Callable[[str], Awaitable[Sequence[str]]]

URL_CHARACTERS_MAX = 2_048
RESOLVE_SECONDS_MAX = 5.0
SETTING = "TAGBACK_WEBHOOKS_ALLOW"
# A lookup cannot be ended, and whose name it is may make it last: what else the process does in
# threads, and its way to the database, must not wait for it.
_lookups = ThreadPoolExecutor(128, thread_name_prefix="lookup")

_GLOBAL_UNICAST = IPv6Network("2000::/3")
# what carries an IPv4 address inside
_NAT64 = IPv6Network("64:ff9b::/96")
_TUNNELS = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))
# to the nearest 6to4 relay; documentation; segment routing: of those that ipaddress calls global
_NOT_PUBLIC = (IPv4Network("192.88.99.0/24"), IPv4Network("192.0.0.0/24"), IPv6Network("3fff::/20"))


class UnsafeAddress(Invalid):
    code = "unsafe_url"


def is_public(address: Address) -> bool:
    if any(address in network for network in _NOT_PUBLIC if network.version == address.version):
        return False
    if isinstance(address, IPv4Address):
        return address.is_global and not (address.is_multicast or address.is_reserved)
    if (inside := _inside(address)) is not None:
        return is_public(inside)
    is_tunnel = any(address in network for network in _TUNNELS)
    return address in _GLOBAL_UNICAST and address.is_global and not is_tunnel


def _inside(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a connection to this one would reach."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped


class Guard(NamedTuple):
    """`allowed`: networks that may be called although they are not public, and without https."""

    allowed: tuple[Network, ...]
    resolve: Resolve

    async def check(self, url: str) -> str:
        """The URL as it is stored. Raises UnsafeAddress, which says why."""
        parsed = parse(url)
        try:
            async with asyncio.timeout(RESOLVE_SECONDS_MAX):
                await self.addresses(parsed.host, is_secure=parsed.scheme == "https")
        except OSError:
            raise UnsafeAddress("the host's name was not resolved") from None
        return str(parsed)

    async def addresses(self, host: str, *, is_secure: bool) -> list[str]:
        """All of the host's, once every one of them may be called. Raises UnsafeAddress, and
        OSError for a host that has none.
        """
        found = await self.resolve(host)
        if not found:
            raise OSError("the host has no address")
        for address in found:
            self._judge(ip_address(address), is_secure=is_secure)
        return list(found)

    def _judge(self, address: Address, *, is_secure: bool) -> None:
        inside = _inside(address) if isinstance(address, IPv6Address) else None
        if any(self._is_allowed(one) for one in (address, inside) if one is not None):
            return
        if not is_secure:
            raise UnsafeAddress(f"http is for networks in {SETTING} alone: use https")
        if not is_public(address):
            raise UnsafeAddress(
                f"the host has an address that is not public; {SETTING} may allow it"
            )

    def _is_allowed(self, address: Address) -> bool:
        return any(address in one for one in self.allowed if one.version == address.version)


def parse(url: str) -> httpx.URL:
    """Raises UnsafeAddress for what is no plain http or https URL."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise UnsafeAddress("not a URL") from None
    if len(url) > URL_CHARACTERS_MAX:
        raise UnsafeAddress(f"a URL may have {URL_CHARACTERS_MAX} characters")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UnsafeAddress("a URL as in https://shop.example/hooks")
    if parsed.userinfo:
        raise UnsafeAddress("a URL without a user and a password: the signature tells who calls")
    if parsed.fragment:
        raise UnsafeAddress("a URL without a fragment")
    return parsed


async def resolve_host(host: str) -> list[str]:
    """By the system's resolver, which also knows numbers in decimal and octal for addresses."""
    try:
        look_up = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(_lookups, look_up)
    except UnicodeError as error:
        raise OSError("no name of a host") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
