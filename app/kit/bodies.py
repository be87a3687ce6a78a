"""Request bodies: how large, packed how, and what JSON may be."""

import asyncio
import contextlib
import json
import math
import re
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NoReturn

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.kit.http import Problem

_DISCARD_SECONDS_MAX = 5.0
_CHUNK_BYTES = 64 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_IS_PACKED = {"gzip": True, "x-gzip": True, "identity": False, "": False}
_PACKED_ONLY = ("content-encoding", "content-length")
_DOUBTFUL_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")


class _Refused(Exception):
    pass


class Bodies:
    """Bounds and unpacks request bodies. One of more than `bytes_max` bytes is 413, whether its
    length was announced, it comes in chunks, or it is so large once unpacked; what is no gzip is
    400, and another encoding 415. Never holds more than the application itself does.
    `path`: of that route alone, else of all.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        bytes_max: int,
        path: str | None = None,
        on_too_large: Callable[[], None] = lambda: None,
    ) -> None:
        self.app = app
        self.bytes_max = bytes_max
        self.path = path
        self.on_too_large = on_too_large

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.path not in (None, scope["path"]):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = _Body(receive, self.bytes_max)
        is_packed = _IS_PACKED.get(headers.get("content-encoding", "").strip().lower())
        if is_packed is None:
            refusal = _unknown_encoding()
        elif _announced_length(headers) > self.bytes_max:
            refusal = _too_large(self.bytes_max)
        else:
            if is_packed:
                body.unpack()
                kept = [one for one in scope["headers"] if one[0].decode() not in _PACKED_ONLY]
                scope = {**scope, "headers": kept}
            await self._serve(body, scope, send)
            return
        # Whoever expects a "100 Continue" has not sent anything yet.
        body.is_sending = "expect" not in headers
        await self._refuse(body, refusal, scope, send)

    async def _serve(self, body: "_Body", scope: Scope, send: Send) -> None:
        is_answered = False

        async def watched_send(message: Message) -> None:
            nonlocal is_answered
            # Frameworks turn an error while the body is read into an answer of their own.
            if body.refusal is None or is_answered:
                is_answered = True
                await send(message)

        try:
            await self.app(scope, body.receive, watched_send)
        except _Refused:
            if is_answered:
                raise
        if body.refusal is not None and not is_answered:
            await self._refuse(body, body.refusal, scope, send)

    async def _refuse(self, body: "_Body", refusal: Problem, scope: Scope, send: Send) -> None:
        if refusal.code == "body_too_large":
            self.on_too_large()
        await body.discard()
        await refusal(scope, body.receive, send)


class _Body:
    """What comes in, counted and unpacked. `refusal` is set once it can no longer be taken."""

    def __init__(self, receive: Receive, bytes_max: int) -> None:
        self._receive = receive
        self._bytes_max = bytes_max
        self._received_bytes = 0
        self._chunks: AsyncIterator[bytes] | None = None
        self._last: Message | None = None
        self.is_sending = True
        self.refusal: Problem | None = None

    def unpack(self) -> None:
        self._chunks = self._unpacked()

    async def receive(self) -> Message:
        if self._chunks is None:
            return await self._receive_bounded()
        chunk = await anext(self._chunks, None)
        if chunk is not None:
            return {"type": "http.request", "body": chunk, "more_body": True}
        self._chunks = None  # what comes from now on is the end of the connection
        if self._last is not None and self._last["type"] != "http.request":
            return self._last
        return {"type": "http.request", "body": b"", "more_body": False}

    async def discard(self) -> None:
        """A connection that is closed on somebody who still sends loses the answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS_MAX):
                while self.is_sending:
                    self.is_sending = (await self._receive()).get("more_body", False)

    async def _receive_bounded(self) -> Message:
        message = await self._receive()
        self._received_bytes += len(message.get("body", b""))
        self.is_sending = message.get("more_body", False)
        if self._received_bytes > self._bytes_max:
            self._refuse(_too_large(self._bytes_max))
        return message

    async def _unpacked(self) -> AsyncIterator[bytes]:
        """In pieces; of one gzip file after the other, as `cat` may have put them together."""
        unpacker = zlib.decompressobj(_GZIP)
        is_within = False  # a file that has begun and not ended
        unpacked_bytes = 0
        while self.is_sending:
            self._last = await self._receive_bounded()
            packed = self._last.get("body", b"")
            is_full = False  # then there may be more of what was taken in before
            while packed or is_full:
                if unpacker.eof:
                    unpacker = zlib.decompressobj(_GZIP)
                try:
                    chunk = unpacker.decompress(packed, _CHUNK_BYTES)
                except zlib.error:
                    self._refuse(_broken("the body is no gzip"))
                unpacked_bytes += len(chunk)
                if unpacked_bytes > self._bytes_max:
                    self._refuse(_too_large(self._bytes_max))
                is_within = not unpacker.eof
                packed = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
                is_full = len(chunk) == _CHUNK_BYTES and is_within
                if chunk:
                    yield chunk
        if is_within:
            self._refuse(_broken("the body's gzip ends too early"))

    def _refuse(self, refusal: Problem) -> NoReturn:
        self.refusal = refusal
        raise _Refused


def _too_large(bytes_max: int) -> Problem:
    return Problem(
        413,
        code="body_too_large",
        detail=f"a request body may have {bytes_max} bytes, unpacked too",
        headers={"Connection": "close"},
    )


def _broken(detail: str) -> Problem:
    return Problem(400, code="body_encoding", detail=detail, headers={"Connection": "close"})


def _unknown_encoding() -> Problem:
    return Problem(
        415,
        code="content_encoding",
        detail="a request body comes as it is or as gzip",
        headers={"Accept-Encoding": "gzip", "Connection": "close"},
    )


def _announced_length(headers: Headers) -> int:
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


class BadText(json.JSONDecodeError):
    """`path` leads to it, or to the object that has such a name."""

    def __init__(self, path: tuple[str | int, ...]) -> None:
        super().__init__("a text holds NUL or half of a surrogate pair", "", 0)
        self.path = path


class JsonRequest(Request):
    """Its JSON has one meaning, whoever reads it, and can be stored: UTF-8, no name twice in an
    object, no number that is none, no NUL and no half of a surrogate pair in a text.
    """

    async def json(self) -> Any:  # noqa: ANN401 - any JSON
        """Raises JSONDecodeError, which FastAPI makes an error of validation."""
        if not hasattr(self, "_json"):
            self._json = read_json(await self.body())
        return self._json


def read_json(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Raises JSONDecodeError."""
    try:
        text = body.decode()
        found = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_number
        )
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError:
        raise _refusal("it is not UTF-8") from None
    except RecursionError:
        raise _refusal("it is nested too deep") from None
    except ValueError:  # Python's own bound, of some thousand digits
        raise _refusal("an integer is too long") from None
    if _DOUBTFUL_ESCAPE.search(text):
        _check_texts(found)
    return found


def _refusal(reason: str) -> json.JSONDecodeError:
    return json.JSONDecodeError(reason, "", 0)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _refusal("an object has a name twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise _refusal(f"{name} is no number")


def _number(digits: str) -> float:
    found = float(digits)
    if not math.isfinite(found):
        raise _refusal("a number is too large")
    return found


def _check_texts(found: object) -> None:
    """Holds one path and no more: in a list of millions, each would have its own."""
    path: list[str | int] = []
    levels: list[Iterator[tuple[str | int, object]]] = [iter([("", found)])]
    while levels:
        if (part := next(levels[-1], None)) is None:
            levels.pop()
            del path[-1:]
            continue
        name, value = part
        if isinstance(name, str) and _NO_TEXT.search(name):
            raise BadText(tuple(path[1:]))
        if isinstance(value, str) and _NO_TEXT.search(value):
            raise BadText((*path, name)[1:])
        if isinstance(value, dict | list):
            path.append(name)
            levels.append(iter(value.items() if isinstance(value, dict) else enumerate(value)))
