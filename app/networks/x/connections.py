"""The streams of the app that are open, as X counts them."""

import httpx
import msgspec

from app.networks.x.calls import ask

_PATH = "/2/connections"
_PAGE = 100


class Connection(msgspec.Struct):
    endpoint_name: str = "stream"


class _Connections(msgspec.Struct):
    data: list[Connection] = []


_connections = msgspec.json.Decoder(_Connections)


async def open_connections(client: httpx.AsyncClient) -> list[Connection]:
    """The first hundred. Raises CallError."""
    params = {"status": "active", "max_results": _PAGE}
    return (await ask(client, "GET", _PATH, _connections, params=params)).data
