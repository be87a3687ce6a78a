"""A partner's receiver over real HTTP, and rounds of the worker at times that the test says."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_network
from typing import Any
from uuid import UUID

from sqlalchemy import text
from standardwebhooks import Webhook

from app.cli.roles import ApiServer, address, open_socket
from app.config import Settings
from app.kit.db import Sessions
from app.notifications import sending, service
from app.notifications.calling import Caller, open_caller
from app.notifications.domain import Answer
from app.notifications.guard import Guard, Resolve, resolve_host
from app.notifications.sending import ToSend
from app.partners import service as partners
from app.secret_keys import sealer_of
from tests.programme import NOW

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@dataclass
class Received:
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> UUID:
        return UUID(self.headers["webhook-id"])

    def verified(self, secret: str) -> dict[str, Any]:
        """As the reference package has it; raises what it raises."""
        found: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return found


@dataclass
class Receiver:
    """Answers with `statuses`, one a request, and then with 204; keeps what it took."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    is_up: bool = True
    answer_body: bytes = b""
    answer_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    taken: list[Received] = field(default_factory=list)
    hold: asyncio.Event | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.paths.append(scope["path"])
        if self.hold is not None:
            await self.hold.wait()
        status = self.statuses.pop(0) if self.statuses else 204 if self.is_up else 503
        if status < 300:
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self.taken.append(Received(headers, body))
        head = {"type": "http.response.start", "status": status, "headers": self.answer_headers}
        await send(head)
        await send(
            {"type": "http.response.body", "body": b"" if status == 204 else self.answer_body}
        )


@asynccontextmanager
async def receiving(**given: Any) -> AsyncIterator[Receiver]:
    receiver = Receiver(**given)
    with open_socket("127.0.0.1", 0) as listening:
        receiver.url = f"{address(listening)}/hooks"
        server = ApiServer(receiver, lifespan="off")
        stop = asyncio.Event()
        running = asyncio.create_task(server.run_until(stop, listening))
        await server.is_ready.wait()
        yield receiver
        if receiver.hold is not None:
            receiver.hold.set()
        stop.set()
        await running


@dataclass
class Endpoint:
    id: UUID
    secret: str


@dataclass
class Post:
    """The post office: the service's functions, each in a transaction of its own."""

    sessions: Sessions
    settings: Settings
    caller: Caller

    async def endpoint(
        self, url: str, *, partner: str = "cafe", events: Sequence[str] | None = None
    ) -> Endpoint:
        async with self.sessions.begin() as session:
            await partners.ensure_partner(session, ref=partner)
            row, secret = await service.create_endpoint(
                session,
                actor="test",
                own_partner_id=None,
                partner=partner,
                url=url,
                events=events,
                description=None,
                sealer=sealer_of(self.settings),
                now=NOW,
            )
        return Endpoint(row.endpoint.id, secret)

    async def claim(self, *, now: datetime, room: int = 100) -> list[ToSend]:
        async with self.sessions.begin() as session:
            return await sending.claim(session, settings=self.settings, now=now, room=room)

    async def record(self, one: ToSend, answer: Answer, *, now: datetime) -> None:
        async with self.sessions.begin() as session:
            await sending.record(session, one, answer, now=now)

    async def round(self, *, now: datetime) -> list[Answer]:
        """All that is due then, once."""
        answers: list[Answer] = []
        tried: set[UUID] = set()
        while claimed := await self.claim(now=now):
            for one in claimed:
                assert one.delivery.id not in tried, "tried twice at one moment"
                tried.add(one.delivery.id)
            sent = await asyncio.gather(
                *(sending.send(self.caller, sealer_of(self.settings), one) for one in claimed)
            )
            for one, answer in zip(claimed, sent, strict=True):
                await self.record(one, answer, now=now)
            answers += sent
        return answers

    async def deliveries(self, columns: str = "event, sequence, state") -> list[tuple[Any, ...]]:
        async with self.sessions() as session:
            rows = await session.execute(
                text(f"SELECT {columns} FROM webhook_deliveries ORDER BY created_at, id")
            )
            return [tuple(row) for row in rows]


@asynccontextmanager
async def post_office(
    sessions: Sessions, settings: Settings, *, resolve: Resolve = resolve_host, **told: Any
) -> AsyncIterator[Post]:
    allowed = told.pop("allowed", LOOPBACK)
    settings = settings.model_copy(update={"webhooks_allow": allowed, **told})
    guard = Guard(settings.webhooks_allow, resolve)
    async with open_caller(guard, seconds_max=settings.webhooks_seconds_max) as caller:
        yield Post(sessions, settings, caller)


def answering(*answers: Sequence[str]) -> Resolve:
    """A resolver that says something else each time, and the last for ever."""
    left = list(answers)

    async def resolve(_host: str) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve
