"""The service, asked as its endpoints, listeners and workers ask it."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import cycle
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.errors import Conflict, Forbidden, Invalid
from app.kit.db import Sessions
from app.ledger import service as ledger
from app.networks.post import Post
from app.offers import service as offers
from app.offers.changing import change
from app.offers.schemas import OfferChange
from app.posts.enrol import Enroller
from app.redemptions.service import record_committed
from app.redemptions.transactions import Answer, Transaction
from app.upkeep.jobs import run_job
from tests.programme import NOW, OPERATOR
from tests.races.race import CALLERS, Lane

Change = Callable[[AsyncSession], Awaitable[offers.Shown]]


class Service:
    name = "the service"

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self.sessions = sessions
        self._enrollers = cycle([Enroller(sessions, settings) for _ in range(CALLERS)])

    def lane(self) -> Lane:
        enroller = next(self._enrollers)

        async def enrol(post: Post) -> tuple[str, ...]:
            now = max(NOW, post.posted_at)
            (enrolled,) = await enroller.enrol([post], source="race", now=now)
            assert enrolled.rejected is None
            return enrolled.outcomes

        return enrol

    async def pay(self, transaction: Transaction, *, now: datetime = NOW) -> Answer | None:
        (answer,) = await record_committed(self.sessions, transactions=[transaction], now=now)
        return answer

    async def publish(self, offer_id: UUID, *, by: offers.Actor) -> int | None:
        return await self._change(
            lambda session: offers.publish(session, offer_id=offer_id, by=by, now=NOW)
        )

    async def pause(self, offer_id: UUID, *, now: datetime = NOW) -> int | None:
        return await self._change(
            lambda session: offers.pause(session, offer_id=offer_id, by=OPERATOR, now=now)
        )

    async def resume(self, offer_id: UUID, *, now: datetime = NOW) -> int | None:
        return await self._change(
            lambda session: offers.resume(session, offer_id=offer_id, by=OPERATOR, now=now)
        )

    async def end(self, offer_id: UUID, *, now: datetime = NOW) -> int | None:
        return await self._change(
            lambda session: offers.end(session, offer_id=offer_id, by=OPERATOR, now=now)
        )

    async def grow(
        self, offer_id: UUID, *, coupons_max: int, ends_at: datetime | None = None
    ) -> int | None:
        end = {} if ends_at is None else {"ends_at": ends_at.isoformat()}
        growth = OfferChange.model_validate({"coupons_max": coupons_max, **end})
        return await self._change(
            lambda session: change(session, offer_id=offer_id, changes=growth, by=OPERATOR, now=NOW)
        )

    async def _change(self, step: Change) -> int | None:
        try:
            async with self.sessions.begin() as session:
                _, _, counter = await step(session)
        except (Conflict, Forbidden, Invalid):
            return None
        return counter.coupons_loaded

    async def run_job(self, name: str, *, now: datetime = NOW) -> None:
        await run_job(self.sessions, name, now=now)

    async def make_batch(self) -> None:
        async with self.sessions.begin() as session:
            await ledger.create_batch(session, actor="test", now=NOW)

    async def acknowledge(self, batch_id: UUID) -> None:
        async with self.sessions.begin() as session:
            await ledger.acknowledge(session, batch_id=batch_id, failures={}, actor="test", now=NOW)
