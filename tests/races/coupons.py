"""Races for coupons: posts against posts, and against whoever changes the offer."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

from sqlalchemy import text

from app.members import service as members
from app.members.schemas import AccountIn
from tests.programme import NOW, make_post
from tests.races.race import CALLERS, Call, Race


class LastCoupon(Race):
    """64 members post at once; the offer gives three coupons."""

    never: ClassVar = {
        "more coupons than the cap, or fewer": """
            SELECT count(*) FROM coupons WHERE offer_id = :offer_id HAVING count(*) <> 3
        """,
        "coupons that nobody was told of, or the other way round": """
            SELECT count(*) FROM coupons WHERE offer_id = :offer_id HAVING count(*) <> :told
        """,
    }

    async def prepare(self) -> None:
        self.offer_id, self.tag = await self.open_offer(coupons_max=3)
        self.members = await self.enrol_members(CALLERS)
        self.told = 0

    def callers(self) -> Sequence[Call]:
        return [self._post(member) for member in self.members]

    async def _post(self, member: str) -> None:
        outcome = await self.post(member, self.tag)
        self.told += outcome == "loaded"


class LastCent(Race):
    """64 members post at once; the budget is for three coupons of 5.00, to the cent."""

    never: ClassVar = {
        "reserved over the budget, or short of it": """
            SELECT sum(reserved_minor) FROM coupons WHERE offer_id = :offer_id
            HAVING sum(reserved_minor) <> 1500
        """,
        "a counter over the budget": """
            SELECT reserved_minor FROM offer_counters
            WHERE offer_id = :offer_id AND reserved_minor > budget_minor
        """,
    }

    async def prepare(self) -> None:
        self.offer_id, self.tag = await self.open_offer(budget_minor=1_500)
        self.members = await self.enrol_members(CALLERS)

    def callers(self) -> Sequence[Call]:
        return [self.post(member, self.tag) for member in self.members]


class PauseAgainstEnrol(Race):
    """One pauses the offer while 63 post. 16 of these post a second time when the pause has been
    answered, by the same lane, which had the offer in memory while it was live.
    """

    never: ClassVar = {
        "a coupon more than there were when the pause was answered": """
            SELECT count(*) FROM coupons WHERE offer_id = :offer_id HAVING count(*) <> :counted
        """,
        "a coupon of a post that came after the answer": """
            SELECT post_id FROM coupons WHERE post_id = ANY(:too_late)
        """,
    }

    async def prepare(self) -> None:
        self.offer_id, self.tag = await self.open_offer()
        self.members = await self.enrol_members(CALLERS - 1)
        self.latecomers = await self.enrol_members(16)
        self.too_late: list[str] = []
        self.counted: int | None = None
        self._paused = asyncio.Event()

    def callers(self) -> Sequence[Call]:
        again = zip(self.members, self.latecomers, strict=False)
        once = self.members[len(self.latecomers) :]
        return [
            self._pause(),
            *(self._before_and_after(*pair) for pair in again),
            *(self.post(member, self.tag) for member in once),
        ]

    async def _pause(self) -> None:
        try:
            self.counted = await self.alone(self.subject.pause(self.offer_id))
        finally:
            self._paused.set()

    async def _before_and_after(self, member: str, latecomer: str) -> None:
        lane = self.subject.lane()
        await self.post(member, self.tag, lane=lane)
        await self._paused.wait()
        post = make_post(latecomer, self.tag, mentions_programme=False)
        self.too_late.append(post.id)
        await self.alone(lane(post))


class TwoHandles(Race):
    """A member posts the same offer 64 times at once, from two handles."""

    never: ClassVar = {
        "two coupons of one member, or none": """
            SELECT count(*) FROM coupons WHERE offer_id = :offer_id HAVING count(*) <> 1
        """,
        "a place taken without a coupon": """
            SELECT coupons_loaded FROM offer_counters
            WHERE offer_id = :offer_id AND coupons_loaded <> 1
        """,
    }

    async def prepare(self) -> None:
        self.offer_id, self.tag = await self.open_offer()
        (self.handle,) = await self.enrol_members(1)
        self.other_handle = f"2{self.handle}"
        async with self.sessions.begin() as session:
            member_id = await session.scalar(
                text("SELECT member_id FROM accounts WHERE account_id = :id"), {"id": self.handle}
            )
            other = AccountIn(network="x", id=self.other_handle)
            await members.add_account(
                session, member_id=member_id, account=other, actor="test", now=NOW
            )

    def callers(self) -> Sequence[Call]:
        handles = [self.handle, self.other_handle] * (CALLERS // 2)
        return [self.post(handle, self.tag) for handle in handles]


class SamePost(Race):
    """One post that names two offers is delivered 64 times at once."""

    never: ClassVar = {
        "two coupons of one offer by one post, or none": """
            SELECT o.id, count(c.id) FROM offers o LEFT JOIN coupons c ON c.offer_id = o.id
            WHERE o.id IN (:tea, :cake) GROUP BY o.id HAVING count(c.id) <> 1
        """,
        "two decisions": """
            SELECT offer_id, count(*) FROM decisions WHERE root_id = :post_id
            GROUP BY offer_id HAVING count(*) > 1
        """,
        "a post that is there twice": """
            SELECT count(*) FROM posts WHERE post_id = :post_id HAVING count(*) <> 1
        """,
    }

    async def prepare(self) -> None:
        self.tea, tea = await self.open_offer()
        self.cake, cake = await self.open_offer()
        (member,) = await self.enrol_members(1)
        self._post = make_post(member, tea, cake, mentions_programme=False)
        self.post_id = self._post.id

    def callers(self) -> Sequence[Call]:
        return [self.alone(self.subject.lane()(self._post)) for _ in range(CALLERS)]


class EditedPost(Race):
    """64 versions of one post arrive at once; each names one of eight offers. A post is good for
    two offers, however often it is edited.
    """

    never: ClassVar = {
        "coupons of more than two offers by one post": """
            SELECT count(*) FROM decisions WHERE root_id = :root_id AND outcome = 'loaded'
            HAVING count(*) > 2
        """,
        "two decisions for one offer": """
            SELECT offer_id, count(*) FROM decisions WHERE root_id = :root_id
            GROUP BY offer_id HAVING count(*) > 1
        """,
    }

    async def prepare(self) -> None:
        self.tags = [(await self.open_offer())[1] for _ in range(8)]
        (self.member,) = await self.enrol_members(1)
        self.root_id = make_post(self.member).id

    def callers(self) -> Sequence[Call]:
        first = self.post(self.member, self.tags[0], id=self.root_id)
        edits = [self.tags[number % 8] for number in range(1, CALLERS)]
        return [first, *(self.post(self.member, tag, root_id=self.root_id) for tag in edits)]


class FrequencyCap(Race):
    """A member posts eight offers, each eight times, all at once; two coupons a month are his."""

    settings: ClassVar = {"coupons_per_member_max": 2}
    never: ClassVar = {
        "more coupons than a member may have in a month, or fewer": """
            SELECT count(*) FROM coupons c JOIN accounts a ON a.member_id = c.member_id
            WHERE a.account_id = :member HAVING count(*) <> 2
        """,
    }

    async def prepare(self) -> None:
        self.tags = [(await self.open_offer())[1] for _ in range(8)]
        (self.member,) = await self.enrol_members(1)

    def callers(self) -> Sequence[Call]:
        return [self.post(self.member, self.tags[number % 8]) for number in range(CALLERS)]


class EditAgainstLoad(Race):
    """The offer's end has passed, by the posts' time. One moves it later and raises the cap from
    two to eight, four others raise the cap to less; meanwhile 59 post, thirty of them when the
    first was answered.
    """

    never: ClassVar = {
        "a coupon from before the end was moved": """
            SELECT CAST(:counted AS bigint) WHERE :counted <> 0
        """,
        "a coupon by terms that were not current": """
            SELECT c.post_id, d.seen->>'ends_at' FROM coupons c
            JOIN decisions d ON d.coupon_id = c.id JOIN offers o ON o.id = c.offer_id
            WHERE c.offer_id = :offer_id AND (
                (d.seen->>'ends_at')::timestamptz <= c.posted_at OR c.offer_version <> o.version)
        """,
        "a post after the answer that was decided as before it": """
            SELECT post_id, outcome FROM decisions
            WHERE post_id = ANY(:latecomers) AND outcome NOT IN ('loaded', 'sold_out')
        """,
        "a cap that shrank": """
            SELECT coupons_max FROM offer_counters WHERE offer_id = :offer_id AND coupons_max <> 8
        """,
        "more coupons than the cap": """
            SELECT count(*) FROM coupons WHERE offer_id = :offer_id HAVING count(*) > 8
        """,
    }

    async def prepare(self) -> None:
        self.ends_at = NOW + timedelta(hours=1)
        self.offer_id, self.tag = await self.open_offer(
            ends_at=self.ends_at.isoformat(), coupons_max=2
        )
        self.members = await self.enrol_members(CALLERS - 5)
        self.counted: int | None = None
        self.latecomers: list[str] = []
        self._moved = asyncio.Event()

    def callers(self) -> Sequence[Call]:
        late, others = self.members[:30], self.members[30:]
        smaller = (self.subject.grow(self.offer_id, coupons_max=most) for most in (3, 4, 5, 6))
        return [
            self._move_end(),
            *(self.alone(growth) for growth in smaller),
            *(self._post_afterwards(member) for member in late),
            *(self._post(member) for member in others),
        ]

    async def _move_end(self) -> None:
        later = self.ends_at + timedelta(hours=2)
        growth = self.subject.grow(self.offer_id, coupons_max=8, ends_at=later)
        try:
            self.counted = await self.alone(growth)
        finally:
            self._moved.set()

    async def _post(self, member: str, **fields: Any) -> None:
        posted_at = self.ends_at + timedelta(hours=1)
        await self.post(member, self.tag, posted_at=posted_at, **fields)

    async def _post_afterwards(self, member: str) -> None:
        await self._moved.wait()
        self.latecomers.append(make_post(member).id)
        await self._post(member, id=self.latecomers[-1])
