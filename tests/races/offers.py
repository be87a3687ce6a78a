"""Races for offers: those who change one against each other and against the clock."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

from app.offers.service import Actor
from app.partners import service as partners
from tests.programme import NOW, OPERATOR, make_offer
from tests.races.race import CALLERS, Call, Race


class PauseAgainstClock(Race):
    """An offer is due to start. Workers start it while operators pause and resume it and members
    post; when the first worker is done, an operator ends it.
    """

    never: ClassVar = {
        "a change that did not start from what the one before it had left": """
            SELECT * FROM (
                SELECT action, before->>'state' AS found, lag(after->>'state') OVER (ORDER BY id)
                    AS was
                FROM audit_entries WHERE subject_id = CAST(CAST(:offer_id AS uuid) AS text)
                    AND after ? 'state'
            ) changes WHERE found <> was
        """,
        "an offer that was ended and is not": """
            SELECT state FROM offers WHERE id = :offer_id AND state <> 'ended'
        """,
        "a coupon more than there were when the end was answered": """
            SELECT count(*) FROM coupons WHERE offer_id = :offer_id HAVING count(*) <> :counted
        """,
    }

    async def prepare(self) -> None:
        starts_at = NOW + timedelta(hours=1)
        self.offer_id, self.tag = await self.open_offer(starts_at=starts_at.isoformat())
        self.members = await self.enrol_members(27)
        self._now = NOW + timedelta(hours=2)
        self.counted: int | None = None
        self._started = asyncio.Event()

    def callers(self) -> Sequence[Call]:
        now = self._now
        return [
            *(self._start() for _ in range(12)),
            *(self.alone(self.subject.pause(self.offer_id, now=now)) for _ in range(12)),
            *(self.alone(self.subject.resume(self.offer_id, now=now)) for _ in range(12)),
            *(self.post(member, self.tag, posted_at=now) for member in self.members),
            self._end(),
        ]

    async def _start(self) -> None:
        try:
            await self.alone(self.subject.run_job("schedule", now=self._now))
        finally:
            self._started.set()

    async def _end(self) -> None:
        await self._started.wait()
        self.counted = await self.alone(self.subject.end(self.offer_id, now=self._now))


class SameTag(Race):
    """Eight drafts ask for one hashtag and the same days; each is published eight times at once."""

    never: ClassVar = {
        "two offers that one hashtag means, or none": """
            SELECT count(*) FROM offers WHERE tag_key = :tag_key AND state = 'live'
            HAVING count(*) <> 1
        """,
    }

    async def prepare(self) -> None:
        tag = self.new_name()
        self.tag_key = tag.lower()
        self._offer_ids = [
            await make_offer(self.sessions, tag, offer_ref=self.new_name(), publish=False)
            for _ in range(8)
        ]

    def callers(self) -> Sequence[Call]:
        return [
            self.alone(self.subject.publish(offer_id, by=OPERATOR))
            for offer_id in self._offer_ids * (CALLERS // 8)
        ]


class CreditLimit(Race):
    """A partner publishes eight offers, each eight times at once; his credit covers three."""

    never: ClassVar = {
        "more published than the credit covers, or less": """
            SELECT sum(c.budget_minor) FROM offers o JOIN offer_counters c ON c.offer_id = o.id
            WHERE o.partner_id = :partner_id AND o.state = 'live'
            HAVING sum(c.budget_minor) <> 1500
        """,
    }

    async def prepare(self) -> None:
        ref = f"partner-of-{self.new_name().lower()}"
        async with self.sessions.begin() as session:
            made = await partners.create_partner(
                session,
                actor="test",
                ref=ref,
                name=ref,
                credit_limit_minor=1_999,
                credit_currency="USD",
            )
        self.partner_id = made.id
        self._offer_ids = [
            (await self.open_offer(partner=ref, publish=False, budget_minor=500))[0]
            for _ in range(8)
        ]

    def callers(self) -> Sequence[Call]:
        partner = Actor("partner", is_operator=False)
        return [
            self.alone(self.subject.publish(offer_id, by=partner))
            for offer_id in self._offer_ids * (CALLERS // 8)
        ]
