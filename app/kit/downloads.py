"""A body that goes out while it is made."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.kit.http import Problem, route_of

log = structlog.get_logger()

PIECE_BYTES = 128 * 1024  # sent at once, at least

Write = Callable[[bytes], Awaitable[None]]
Make = Callable[[Write], Awaitable[Any]]


class Download(Response):
    """`make` is given where to write, and waits there for a client that is slower than it; it is
    cancelled when the client goes away. The status is sent with the first piece, so an error before
    that is answered like any other; one after it breaks the connection off, and no client can take
    what it has for the whole.
    """

    def __init__(
        self,
        make: Make,
        *,
        media_type: str,
        file_name: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.make = make
        self.background = None
        self.status_code = 200
        self.media_type = media_type
        self.init_headers(
            {
                "Content-Disposition": f'attachment; filename="{file_name}"',
                "Cache-Control": "no-store",
                **(headers or {}),
            }
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["http_version"] == "1.0":  # where a body ends with the connection, however it ends
            refusal = Problem(505, code="http_version", detail="a download needs HTTP/1.1 or newer")
            await refusal(scope, receive, send)
            return
        making = asyncio.create_task(self._send(scope, send))
        leaving = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait({making, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (making, leaving):
                task.cancel()
            await asyncio.gather(making, leaving, return_exceptions=True)
        for task in (making, leaving):
            if not task.cancelled():
                task.result()

    async def _send(self, scope: Scope, send: Send) -> None:
        body = _Body(send, {"status": self.status_code, "headers": self.raw_headers})
        try:
            await self.make(body.write)
        except Exception:
            if not body.has_begun:
                raise
            log.exception("download_broken_off", route=route_of(scope))
            return  # with the body unfinished: the server closes the connection
        await body.end()


class _Body:
    def __init__(self, send: Send, start: Mapping[str, Any]) -> None:
        self._send = send
        self._start = start
        self.has_begun = False
        self._parts: list[bytes] = []
        self._bytes = 0

    async def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._bytes += len(data)
        if self._bytes >= PIECE_BYTES:
            await self._send_on(more=True)

    async def end(self) -> None:
        await self._send_on(more=False)

    async def _send_on(self, *, more: bool) -> None:
        if not self.has_begun:
            self.has_begun = True
            await self._send({"type": "http.response.start", **self._start})
        body, self._parts, self._bytes = b"".join(self._parts), [], 0
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
