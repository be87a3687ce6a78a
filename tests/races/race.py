"""What a race is: a world, 64 callers who start together, and what must never be afterwards.

A race does not know who it is run against: the service, or a twin of it that takes no locks and
whose tables have no constraints. Both are asked the same things, on connections of their own.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any, ClassVar, Protocol
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.insight.verify import verify
from app.kit.db import Sessions
from app.networks.post import Post
from app.offers.service import Actor
from app.redemptions.domain import TransactionType
from app.redemptions.transactions import Answer, Transaction
from tests.programme import NOW, make_members, make_offer, make_post, make_shop

CALLERS = 64
CONNECTIONS = CALLERS + 4
# Each lane reads every offer when one has changed: a database that fills up makes rounds slow.
ROUNDS_TO_A_DATABASE = 10
EXAMPLES_MAX = 5

Call = Coroutine[Any, Any, object]
Lane = Callable[[Post], Awaitable[tuple[str, ...]]]
_numbers = count(1)


class Subject(Protocol):
    """Whoever keeps the coupons and the money. What is refused, as when an offer that has ended is
    paused, is answered with None.
    """

    name: str
    sessions: Sessions

    def lane(self) -> Lane:
        """A process that enrols posts, with what it remembers of the offers."""

    async def pay(self, transaction: Transaction, *, now: datetime = NOW) -> Answer | None: ...

    async def publish(self, offer_id: UUID, *, by: Actor) -> int | None: ...

    async def pause(self, offer_id: UUID, *, now: datetime = NOW) -> int | None:
        """How many coupons were loaded, as the answer has it; so do the others."""

    async def resume(self, offer_id: UUID, *, now: datetime = NOW) -> int | None: ...

    async def end(self, offer_id: UUID, *, now: datetime = NOW) -> int | None: ...

    async def grow(
        self, offer_id: UUID, *, coupons_max: int, ends_at: datetime | None = None
    ) -> int | None: ...

    async def run_job(self, name: str, *, now: datetime = NOW) -> None: ...

    async def make_batch(self) -> None: ...

    async def acknowledge(self, batch_id: UUID) -> None: ...


class Race:
    """One round of it. `never` names what must not be, each with a query that finds it; the query's
    parameters are the round's attributes.
    """

    settings: ClassVar[dict[str, Any]] = {}
    never: ClassVar[dict[str, str]]

    def __init__(self, subject: Subject, turn: AbstractAsyncContextManager[Any]) -> None:
        self.subject = subject
        self.sessions = subject.sessions
        self._turn = turn

    async def prepare(self) -> None:
        """The world of this round, with names of its own."""
        raise NotImplementedError

    def callers(self) -> Sequence[Call]:
        raise NotImplementedError

    async def afterwards(self) -> None:
        """What is done alone once all have come through."""

    async def violations(self, session: AsyncSession) -> list[str]:
        about = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        found = []
        for what, query in self.never.items():
            statement = text(query)
            named = {name: about[name] for name in statement.compile().params}
            rows = await session.execute(statement, named)
            found += [f"{what}: {tuple(row)}" for row in rows]
        return found

    # what the worlds are made of

    def new_name(self) -> str:
        return f"Race{next(_numbers)}"

    async def open_offer(self, **terms: Any) -> tuple[UUID, str]:
        """Its id and its hashtag: 5.00 back for everybody, unless told otherwise."""
        tag = self.new_name()
        return await make_offer(self.sessions, tag, **terms), tag

    async def enrol_members(self, number: int) -> list[str]:
        return await make_members(self.sessions, number)

    async def post(self, author: str, *tags: str, lane: Lane | None = None, **fields: Any) -> str:
        """What became of it for its first offer."""
        fields.setdefault("mentions_programme", False)
        post = make_post(author, *tags, **fields)
        async with self._turn:
            outcomes = await (lane or self.subject.lane())(post)
        return outcomes[0]

    async def pay(
        self, author: str, kind: TransactionType, amount_minor: int, **fields: Any
    ) -> Answer | None:
        """By the card of that member, at NOW in the shop `counter`, a purchase of its own; or as
        told.
        """
        number = next(_numbers)
        given: dict[str, Any] = {
            "id": f"race-t{number}",
            "type": kind,
            "purchase_id": f"race-p{number}",
            "card_ref": f"c-{author}",
            "acquirer_id": "ACQ",
            "acceptor_id": "counter",
            "amount_minor": amount_minor,
            "currency": "USD",
            "occurred_at": NOW,
            **fields,
        }
        answer: Answer | None = await self.alone(self.subject.pay(Transaction(**given)))
        return answer

    async def alone(self, call: Awaitable[Any]) -> Any:
        """Its turn, where callers take turns; at once, where they race."""
        async with self._turn:
            return await call


@dataclass
class Tally:
    race: str
    subject: str = ""
    rounds: int = 0
    violated: int = 0  # rounds in which something was that must never be
    violations: list[str] = field(default_factory=list)  # the first of them
    disagreements: list[str] = field(default_factory=list)  # of `ledger verify`
    deadlocks: int = 0
    seconds: float = 0.0

    def note(self, found: Sequence[str]) -> None:
        self.rounds += 1
        self.violated += bool(found)
        self.violations += found[: EXAMPLES_MAX - len(self.violations)]

    def __str__(self) -> str:
        return (
            f"{self.subject}: {self.violated:,} of {self.rounds:,} rounds in {self.seconds:,.0f} s"
        )


async def run(
    tally: Tally,
    race: type[Race],
    subject: Subject,
    *,
    rounds: int,
    rounds_max: int | None = None,
    wipe: Callable[[], Awaitable[None]],
    in_turn: bool = False,
) -> None:
    """`rounds_max`: goes on so far until a promise is broken. `in_turn`: the same callers, of whom
    only one does something at a time.
    """
    tally.subject = f"{subject.name}, in turn" if in_turn else subject.name
    started, deadlocks = time.perf_counter(), await _deadlocks(subject.sessions)
    for number in range(rounds_max or rounds):
        if number >= rounds and tally.violations:
            break
        if number % ROUNDS_TO_A_DATABASE == 0:
            await wipe()
            await make_shop(subject.sessions, "counter")
        turn = asyncio.Lock() if in_turn else nullcontext()
        one = race(subject, turn)
        await one.prepare()
        await _start_together(one.callers(), seed=number)
        await one.afterwards()
        async with subject.sessions.begin() as session:
            tally.note(await one.violations(session))
        if (number + 1) % ROUNDS_TO_A_DATABASE == 0 or number + 1 == rounds:
            tally.disagreements += await _disagreements(subject.sessions)
        tally.seconds = time.perf_counter() - started
    tally.deadlocks = await _deadlocks(subject.sessions) - deadlocks


async def _start_together(calls: Sequence[Call], *, seed: int) -> None:
    """In an order of chance, so that no caller is always the first."""
    assert len(calls) == CALLERS
    shuffled = list(calls)
    random.Random(seed).shuffle(shuffled)
    barrier = asyncio.Barrier(CALLERS)

    async def start(call: Call) -> None:
        await barrier.wait()
        await call

    ended = await asyncio.gather(*map(start, shuffled), return_exceptions=True)
    if failed := [error for error in ended if isinstance(error, Exception)]:
        raise ExceptionGroup("callers failed", failed)


async def _disagreements(sessions: Sessions) -> list[str]:
    async with sessions.begin() as session:
        found = await verify(session)
    return [f"{finding.name}: {finding.examples[:2]}" for finding in found if finding.wrong]


async def _deadlocks(sessions: Sessions) -> int:
    """Rings of locks that the server has broken; it may tell a second late."""
    async with sessions.begin() as session:
        found = await session.scalar(
            text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        )
    return int(found or 0)
