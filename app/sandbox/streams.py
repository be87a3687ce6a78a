"""Streams: NDJSON lines that end in CR LF, with an empty line as a sign of life."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import uuid4

import msgspec

from app.sandbox.selection import Selection
from app.sandbox.state import State

StreamName = Literal["activity_stream", "filtered_stream"]

_LINES_AT_ONCE_MAX = 200
_ENDED_KEPT_MAX = 100


class Line(NamedTuple):
    """`post_id`: the post that is charged as read."""

    body: bytes
    post_id: str | None = None


_LAST = Line(b"")


@dataclass(eq=False, kw_only=True)
class Connection:
    """`queue` holds lines; an empty one is the last, in whose place `goodbye` is sent."""

    stream: StreamName
    selection: Selection
    queue: asyncio.Queue[Line]
    client_ip: str
    connected_at: datetime
    id: str = field(default_factory=lambda: str(uuid4()))
    goodbye: bytes = b""
    disconnected_at: datetime | None = None
    disconnect_reason: str | None = None


class Streams:
    def __init__(self, state: State) -> None:
        self._settings = state.settings
        self._state = state
        self.connections: list[Connection] = []
        self.ended: deque[Connection] = deque(maxlen=_ENDED_KEPT_MAX)

    def open(self, stream: StreamName, selection: Selection, *, client_ip: str) -> Connection:
        connection = Connection(
            stream=stream,
            selection=selection,
            queue=asyncio.Queue(self._settings.queue_events_max),
            client_ip=client_ip,
            connected_at=self._state.now(),
        )
        self.connections.append(connection)
        return connection

    def connected(self, stream: StreamName) -> list[Connection]:
        return [c for c in self.connections if c.stream == stream]

    def pending(self, stream: StreamName) -> int:
        return sum(c.queue.qsize() for c in self.connected(stream))

    async def send(self, stream: StreamName, line_for: Callable[[Selection], Line]) -> None:
        """Waits while a reader's queue is full, and hangs up on one that stays so."""
        listeners = self.connected(stream)
        if not listeners:
            self._state.channels[stream].unheard += 1
        for connection in listeners:
            line = line_for(connection.selection)
            try:
                async with asyncio.timeout(self._settings.slow_reader_seconds):
                    await connection.queue.put(line)
            except TimeoutError:
                self._state.channels[stream].dropped += 1
                self.hang_up(connection, "SlowReader")

    def hang_up(self, connection: Connection, disconnect_type: str) -> None:
        """What still waits for the reader is dropped; he is told why, in band, as X does."""
        if connection not in self.connections:
            return
        self._end(connection, disconnect_type)
        problem = {
            "title": "operational-disconnect",
            "disconnect_type": disconnect_type,
            "detail": "This stream has been disconnected for operational reasons.",
            "type": "https://api.twitter.com/2/problems/operational-disconnect",
        }
        connection.goodbye = msgspec.json.encode({"errors": [problem]}) + b"\r\n"
        connection.queue.put_nowait(_LAST)

    def hang_up_all(self, disconnect_type: str) -> None:
        for connection in self.connections.copy():
            self.hang_up(connection, disconnect_type)

    async def read(self, connection: Connection) -> AsyncGenerator[bytes, None]:
        """The body of the answer, until either side hangs up."""
        channel = self._state.channels[connection.stream]
        unsent = 0
        try:
            while True:
                lines = await self._next_lines(connection.queue)
                ends = lines[-1:] == [_LAST]
                unsent = len(lines) - ends
                body = (
                    b"".join(line.body for line in lines) + (connection.goodbye if ends else b"")
                    or b"\r\n"
                )
                for piece in self._pieces(body):
                    yield piece
                channel.delivered += unsent
                for line in lines:
                    if line.post_id:
                        self._state.charge_read(line.post_id)
                unsent = 0
                if ends:
                    return
        finally:
            channel.dropped += unsent

    def close(self, connection: Connection) -> None:
        """The reader is gone."""
        if connection in self.connections:
            self._end(connection, "ClientDisconnected")

    def _end(self, connection: Connection, reason: str) -> None:
        self.connections.remove(connection)
        self._drop_waiting(connection)
        connection.disconnected_at = self._state.now()
        connection.disconnect_reason = reason
        self.ended.append(connection)

    async def _next_lines(self, queue: asyncio.Queue[Line]) -> list[Line]:
        """At least one; none when it is time for a sign of life."""
        try:
            async with asyncio.timeout(self._settings.keep_alive_seconds):
                lines = [await queue.get()]
        except TimeoutError:
            return []
        while lines[-1] != _LAST and len(lines) < _LINES_AT_ONCE_MAX and not queue.empty():
            lines.append(queue.get_nowait())
        return lines

    def _pieces(self, body: bytes) -> list[bytes]:
        size = self._settings.stream_chunk_bytes or len(body)
        return [body[start : start + size] for start in range(0, len(body), size)]

    def _drop_waiting(self, connection: Connection) -> None:
        while not connection.queue.empty():
            dropped = connection.queue.get_nowait() != _LAST
            self._state.channels[connection.stream].dropped += dropped
