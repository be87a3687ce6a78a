"""One POST to a partner's receiver: to an address that was judged, without redirects, proxies or
anything kept between two calls.

httpcore and not httpx, since only there the connection can be made by ourselves.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import httpcore
import httpx

from app.kit.cards import looks_like_card_number
from app.notifications.domain import Answer
from app.notifications.guard import Guard, UnsafeAddress, parse

ERROR_CHARACTERS_MAX = 200
READ_BYTES_MAX = 64 * 1024
_CONNECTIONS_MAX = 1_000  # the worker has its own bound
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class _Unresolved(OSError):
    pass


class _JudgedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to no address but those that the guard has just seen: a name that means another
    address a moment later gains nothing. TLS is begun with the name all the same.
    """

    def __init__(self, guard: Guard, *, is_secure: bool) -> None:
        self._guard = guard
        self._is_secure = is_secure
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await self._guard.addresses(host, is_secure=self._is_secure)
        except OSError as error:
            raise _Unresolved from error
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(
            addresses[-1], port, timeout, local_address, socket_options
        )

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


class Caller:
    def __init__(self, guard: Guard, *, seconds_max: float, tls: ssl.SSLContext) -> None:
        self._seconds_max = seconds_max
        self._pools = {
            scheme: httpcore.AsyncConnectionPool(
                ssl_context=tls,
                max_connections=_CONNECTIONS_MAX,
                max_keepalive_connections=0,  # so that each call is judged
                network_backend=_JudgedNetwork(guard, is_secure=scheme == "https"),
            )
            for scheme in ("http", "https")
        }

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
        """Never raises for what is the receiver's doing."""
        try:
            parsed = parse(url)
            async with asyncio.timeout(self._seconds_max):
                return await self._post(parsed, headers, body)
        except UnsafeAddress as error:
            return Answer(None, error.detail)
        except _Unresolved:
            return Answer(None, "the host's name was not resolved")
        except TimeoutError:
            return Answer(None, f"no answer within {self._seconds_max:g} s")
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            return Answer(None, _shortened(f"{type(error).__name__}: {error}"))
        except (OSError, ssl.SSLError) as error:
            return Answer(None, _shortened(f"{type(error).__name__}: {error}"))

    async def _post(self, url: httpx.URL, headers: Mapping[str, str], body: bytes) -> Answer:
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        async with self._pools[url.scheme].stream(
            "POST", target, headers=list(headers.items()), content=body
        ) as response:
            status = response.status
            if 200 <= status < 300:  # noqa: PLR2004 - success
                return Answer(status, None)
            said = await _beginning(response.aiter_stream())
        return Answer(status, _shortened(f"answered {status}", said))


async def _beginning(chunks: AsyncIterator[bytes]) -> str:
    """Of the body: one chunk, which the library reads no larger than READ_BYTES_MAX."""
    async for chunk in chunks:
        return chunk[:READ_BYTES_MAX].decode("utf-8", "replace")
    return ""


def _shortened(problem: str, said: str = "") -> str:
    """On one line. What looks like a card number is nobody's to keep."""
    said = _UNPRINTABLE.sub(" ", said).strip()[:ERROR_CHARACTERS_MAX]
    if looks_like_card_number(said):
        said = "(hidden)"
    problem = _UNPRINTABLE.sub(" ", problem)[:ERROR_CHARACTERS_MAX]
    return f"{problem}: {said}" if said else problem


@asynccontextmanager
async def open_caller(
    guard: Guard, *, seconds_max: float, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Caller]:
    """`tls`: of receivers whose certificates are none of the public authorities'."""
    caller = Caller(guard, seconds_max=seconds_max, tls=tls or httpx.create_ssl_context())
    try:
        yield caller
    finally:
        await caller.close()
