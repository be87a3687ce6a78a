"""Races for money: card transactions against each other, against what time does, and against the
credits that pay the rewards out.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import text

from app.redemptions.domain import TransactionType
from tests.programme import NOW
from tests.races.race import CALLERS, Call, Race

# Of each redemption: what was posted to the ledger for it, reward or credit.
POSTED = """
    SELECT redemption_id,
           sum(CASE debit_account WHEN 'partner_payable' THEN amount_minor ELSE -amount_minor END)
               FILTER (WHERE code = 'reward') AS reward,
           sum(CASE debit_account WHEN 'member_due' THEN amount_minor ELSE -amount_minor END)
               FILTER (WHERE code = 'credit') AS credit
    FROM transfers GROUP BY redemption_id
"""
NOT_POSTED = f"""
    SELECT p.ref, r.owed_minor, t.reward FROM redemptions r
    JOIN purchases p ON p.id = r.purchase_id LEFT JOIN ({POSTED}) t ON t.redemption_id = r.id
    WHERE p.card_ref = ANY(:cards) AND r.owed_minor <> coalesce(t.reward, 0)
"""
OVERSPENT = """
    SELECT c.uses, c.spent_minor, c.reserved_minor FROM coupons c
    JOIN cards ON cards.member_id = c.member_id
    WHERE cards.ref = ANY(:cards) AND (c.uses > c.uses_max OR c.spent_minor > c.reserved_minor)
"""
USED_TWICE = """
    SELECT c.id, count(*) FROM coupons c JOIN redemptions r ON r.coupon_id = c.id AND r.holds_use
    JOIN cards ON cards.member_id = c.member_id WHERE cards.ref = ANY(:cards)
    GROUP BY c.id, c.uses_max HAVING count(*) > c.uses_max
"""


class MoneyRace(Race):
    """Members who hold a coupon each; `cards` are theirs."""

    members: list[str]
    cards: list[str]

    async def give_coupons(
        self, number: int, *, posted_at: datetime = NOW - timedelta(minutes=5), **terms: Any
    ) -> None:
        self.offer_id, self.tag = await self.open_offer(**terms)
        self.members = await self.enrol_members(number)
        self.cards = [f"c-{member}" for member in self.members]
        for member in self.members:
            assert await self.post(member, self.tag, posted_at=posted_at) == "loaded"

    def purchase(self, member: str, what: str = "first") -> str:
        return f"{what}-of-{member}"


class LastUse(MoneyRace):
    """A member pays 64 times at once, half of it cleared already; his coupon is good for two."""

    never: ClassVar = {
        "a coupon overspent": OVERSPENT,
        "a coupon that more purchases hold than it has uses": USED_TWICE,
        "a use that is left": """
            SELECT count(*) FROM redemptions r JOIN purchases p ON p.id = r.purchase_id
            WHERE p.card_ref = ANY(:cards) AND r.holds_use HAVING count(*) <> 2
        """,
        "owed and not posted, or posted and not owed": NOT_POSTED,
    }

    async def prepare(self) -> None:
        await self.give_coupons(1, redemptions_per_coupon=2)

    def callers(self) -> Sequence[Call]:
        (member,) = self.members
        kinds: list[TransactionType] = ["authorization", "clearing"] * (CALLERS // 2)
        return [self.pay(member, kind, 2_000) for kind in kinds]


class RefundAgainstClearing(MoneyRace):
    """What belongs to one purchase arrives all at once: an authorisation, clearings of its parts, a
    reversal, refunds that name it and refunds that do not. 10 % from 10.00 on, 5.00 at most.
    """

    never: ClassVar = {
        "owed otherwise than by the rule": """
            SELECT p.cleared_minor, p.refunded_minor, p.net_minor, r.owed_minor
            FROM purchases p JOIN redemptions r ON r.purchase_id = p.id
            WHERE p.ref = :ref AND r.owed_minor <> CASE
                WHEN p.net_minor < 1000 THEN 0 ELSE least(floor(p.net_minor * 0.1 + 0.5), 500) END
        """,
        "sums that are not those of its transactions": """
            SELECT p.cleared_minor, p.refunded_minor, p.net_minor FROM purchases p CROSS JOIN (
                SELECT sum(amount_minor) FILTER (WHERE type = 'clearing') AS cleared,
                       sum(amount_minor) FILTER (WHERE type = 'refund') AS refunded
                FROM card_transactions
                WHERE card_ref = ANY(:cards) AND answer->>'status' = 'applied'
            ) t
            WHERE p.ref = :ref AND (p.cleared_minor, p.refunded_minor, p.net_minor)
                IS DISTINCT FROM (t.cleared, t.refunded, greatest(0, t.cleared - t.refunded))
        """,
        "two purchases or two redemptions, or none": """
            SELECT count(DISTINCT p.id), count(*) FROM purchases p
            JOIN redemptions r ON r.purchase_id = p.id WHERE p.ref = :ref HAVING count(*) <> 1
        """,
        "owed and not posted, or posted and not owed": NOT_POSTED,
    }

    async def prepare(self) -> None:
        reward = {"basis_points": 1_000, "max_minor": 500}
        await self.give_coupons(1, reward=reward, min_spend_minor=1_000)
        self.ref = self.purchase(self.members[0])

    def callers(self) -> Sequence[Call]:
        (member,), ref = self.members, self.ref
        return [
            self.pay(member, "authorization", 10_000, purchase_id=ref),
            self.pay(member, "reversal", 200, purchase_id=ref),
            *(self.pay(member, "clearing", 200 + n, purchase_id=ref) for n in range(24)),
            *(self.pay(member, "refund", 100 + n, purchase_id=ref) for n in range(19)),
            *(self.pay(member, "refund", 130 + n, purchase_id=None) for n in range(19)),
        ]


class ManyParts(Race):
    """A purchase of a member who has no coupon, which would be locked, arrives in 64 parts."""

    never: ClassVar = {
        "a purchase that is not the sum of its parts": """
            SELECT p.id, p.cleared_minor, p.net_minor FROM purchases p
            WHERE p.card_ref = :card AND (p.cleared_minor, p.net_minor) <> (6400, 6400)
        """,
        "two purchases, or none": """
            SELECT count(*) FROM purchases WHERE card_ref = :card HAVING count(*) <> 1
        """,
    }

    async def prepare(self) -> None:
        (self.member,) = await self.enrol_members(1)
        self.card = f"c-{self.member}"

    def callers(self) -> Sequence[Call]:
        ref = f"parts-of-{self.member}"
        return [self.pay(self.member, "clearing", 100, purchase_id=ref) for _ in range(CALLERS)]


class UnlinkedRefunds(MoneyRace):
    """A purchase of 10.00 stands; 63 refunds of 6.00 that name no purchase arrive at once, and one
    that names it. Only one of the 63 may be for it.
    """

    never: ClassVar = {
        "more refunds without a link than the purchase can be meant by": """
            SELECT count(*) FROM card_transactions t JOIN purchases p ON p.id = t.purchase_id
            WHERE p.ref = :ref AND t.purchase_ref IS NULL HAVING count(*) > 1
        """,
        "a reward for more than is left": """
            SELECT p.net_minor, r.owed_minor FROM purchases p
            JOIN redemptions r ON r.purchase_id = p.id
            WHERE p.ref = :ref AND r.owed_minor <> least(p.net_minor, 500)
        """,
        "owed and not posted, or posted and not owed": NOT_POSTED,
    }

    async def prepare(self) -> None:
        await self.give_coupons(1)
        self.ref = self.purchase(self.members[0])
        await self.pay(self.members[0], "clearing", 1_000, purchase_id=self.ref)

    def callers(self) -> Sequence[Call]:
        (member,) = self.members
        unlinked = (self.pay(member, "refund", 600, purchase_id=None) for _ in range(CALLERS - 1))
        return [self.pay(member, "refund", 600, purchase_id=self.ref), *unlinked]


class SameTransaction(MoneyRace):
    """A clearing is sent 64 times at once, half of them with another amount by mistake."""

    never: ClassVar = {
        "a transaction that was taken twice, or never": """
            SELECT count(*) FROM card_transactions WHERE id = :id HAVING count(*) <> 1
        """,
        "a reward that was posted twice, or never": """
            SELECT count(*) FROM transfers WHERE cause_id = :id HAVING count(*) <> 1
        """,
        "owed and not posted, or posted and not owed": NOT_POSTED,
    }

    async def prepare(self) -> None:
        await self.give_coupons(1)
        self.id = f"t-of-{self.members[0]}"

    def callers(self) -> Sequence[Call]:
        (member,), amounts = self.members, (1_000, 2_000)
        ref = self.purchase(member)
        return [
            self.pay(member, "clearing", amounts[number % 2], id=self.id, purchase_id=ref)
            for number in range(CALLERS)
        ]


class CloseAgainstClearing(MoneyRace):
    """Eight coupons are due to close, and the budget is all theirs. Eight workers close them while
    a late clearing and a late authorisation come in for each, and 40 others post for what is given
    back.
    """

    never: ClassVar = {
        "a coupon overspent": OVERSPENT,
        "closed without giving back what was not spent": """
            SELECT id, reserved_minor, spent_minor FROM coupons
            WHERE offer_id = :offer_id AND closed_at IS NOT NULL AND reserved_minor <> spent_minor
        """,
        "closed while a purchase is open": """
            SELECT c.id FROM coupons c JOIN redemptions r ON r.coupon_id = c.id
            WHERE c.offer_id = :offer_id AND c.closed_at IS NOT NULL AND r.state = 'pending'
        """,
        "closed with less than its purchases earned": """
            SELECT c.id, c.reserved_minor, sum(r.owed_minor) FROM coupons c
            JOIN redemptions r ON r.coupon_id = c.id WHERE c.offer_id = :offer_id
            GROUP BY c.id, c.reserved_minor HAVING sum(r.owed_minor) > c.reserved_minor
        """,
        "an offer that has reserved otherwise than its coupons, or over its budget": """
            SELECT o.reserved_minor, sum(c.reserved_minor), o.budget_minor
            FROM offer_counters o JOIN coupons c ON c.offer_id = o.offer_id
            WHERE o.offer_id = :offer_id GROUP BY o.reserved_minor, o.budget_minor
            HAVING o.reserved_minor <> sum(c.reserved_minor)
                OR sum(c.reserved_minor) > o.budget_minor
        """,
        "owed and not posted, or posted and not owed": NOT_POSTED,
    }

    async def prepare(self) -> None:
        await self.give_coupons(
            8,
            posted_at=NOW - timedelta(days=80),
            starts_at=(NOW - timedelta(days=100)).isoformat(),
            coupon_valid_days=30,
            budget_minor=8 * 500,
        )
        self.posters = await self.enrol_members(40)

    def callers(self) -> Sequence[Call]:
        late = {"occurred_at": NOW - timedelta(days=60)}
        return [
            *(self.alone(self.subject.run_job("close")) for _ in range(8)),
            *(self.pay(member, "clearing", 900, **late) for member in self.members),
            *(self.pay(member, "authorization", 900, **late) for member in self.members),
            *(self.post(poster, self.tag) for poster in self.posters),
        ]


class LapseAgainstClearing(MoneyRace):
    """Sixteen authorisations are due to lapse. Sixteen workers lapse them while each is cleared,
    the same member pays again, and asks for a third purchase.
    """

    never: ClassVar = {
        "a purchase that was cleared and has lapsed": """
            SELECT ref FROM purchases
            WHERE card_ref = ANY(:cards) AND lapsed AND cleared_minor > 0
        """,
        "a coupon overspent": OVERSPENT,
        "a coupon that two purchases hold": USED_TWICE,
        "a coupon used otherwise than its purchases hold it": """
            SELECT c.id, c.uses, count(r.id) FROM coupons c
            LEFT JOIN redemptions r ON r.coupon_id = c.id AND r.holds_use
            WHERE c.offer_id = :offer_id GROUP BY c.id, c.uses HAVING c.uses <> count(r.id)
        """,
        "owed and not posted, or posted and not owed": NOT_POSTED,
    }

    async def prepare(self) -> None:
        await self.give_coupons(16, posted_at=NOW - timedelta(days=9))
        for member in self.members:
            authorised = {"occurred_at": NOW - timedelta(days=8)}
            await self.pay(
                member, "authorization", 900, purchase_id=self.purchase(member), **authorised
            )

    def callers(self) -> Sequence[Call]:
        return [
            *(self.alone(self.subject.run_job("lapse")) for _ in self.members),
            *(self.pay(m, "clearing", 900, purchase_id=self.purchase(m)) for m in self.members),
            *(self.pay(member, "clearing", 700) for member in self.members),
            *(self.pay(member, "authorization", 800) for member in self.members),
        ]


class CreditsAgainstRefund(MoneyRace):
    """Of sixteen rewards of 5.00, half are in a credit batch. Sixteen callers acknowledge it and
    sixteen make the next, while each purchase is refunded in part and in part cleared again.
    """

    never: ClassVar = {
        "paid out otherwise than owed, once all is paid": f"""
            SELECT p.ref, r.owed_minor, t.credit FROM redemptions r
            JOIN purchases p ON p.id = r.purchase_id
            LEFT JOIN ({POSTED}) t ON t.redemption_id = r.id
            WHERE p.card_ref = ANY(:cards) AND r.owed_minor <> coalesce(t.credit, 0)
        """,
        "a credit line that was paid twice, or never": """
            SELECT l.id, count(t.id) FROM credit_lines l
            LEFT JOIN transfers t ON t.cause_id = l.id::text
            WHERE l.card_ref = ANY(:cards) GROUP BY l.id HAVING count(t.id) <> 1
        """,
        "owed and not posted, or posted and not owed": NOT_POSTED,
    }

    async def prepare(self) -> None:
        await self.give_coupons(16)
        for number, member in enumerate(self.members):
            if number == len(self.members) // 2:
                await self.subject.make_batch()
            await self.pay(member, "clearing", 600, purchase_id=self.purchase(member))
        (self._batch_id,) = await self._open_batches()

    async def _open_batches(self) -> list[UUID]:
        async with self.sessions.begin() as session:
            found = await session.scalars(
                text("SELECT id FROM credit_batches WHERE state = 'open' ORDER BY id")
            )
            return list(found)

    def callers(self) -> Sequence[Call]:
        return [
            *(self.alone(self.subject.acknowledge(self._batch_id)) for _ in self.members),
            *(self.alone(self.subject.make_batch()) for _ in self.members),
            *(self.pay(m, "refund", 400, purchase_id=self.purchase(m)) for m in self.members),
            *(self.pay(m, "clearing", 100, purchase_id=self.purchase(m)) for m in self.members),
        ]

    async def afterwards(self) -> None:
        await self.subject.make_batch()
        for batch_id in await self._open_batches():
            await self.subject.acknowledge(batch_id)
