"""Rewards become statement credits, and a return takes them back."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.errors import Conflict, Invalid, NotFound
from app.kit.db import Sessions
from app.kit.ids import new_id
from app.kit.pagination import Paging
from app.ledger import queries, service
from app.ledger.models import CreditLine
from app.ledger.queries import BatchRow
from tests.builders import NOON, add_member
from tests.support import Analyse
from tests.till import NOW, Till, make_transaction


@pytest.fixture
async def till(sessions: Sessions) -> Till:
    return await Till.open(sessions)


async def create(till: Till) -> BatchRow | None:
    async with till.sessions.begin() as session:
        return await service.create_batch(session, actor="test", now=NOW)


async def created(till: Till) -> BatchRow:
    batch = await create(till)
    assert batch is not None
    return batch


async def lines_of(till: Till, batch: BatchRow) -> list[CreditLine]:
    async with till.sessions.begin() as session:
        paging = Paging(limit=1_000, after=None)
        return list(await service.lines(session, batch_id=batch.batch.id, paging=paging))


async def amounts(till: Till, batch: BatchRow) -> list[int]:
    return sorted(line.amount_minor for line in await lines_of(till, batch))


async def acknowledge(till: Till, batch: BatchRow, **failures: str) -> BatchRow:
    """`failures` by the line's id, written with an underscore before it."""
    async with till.sessions.begin() as session:
        return await service.acknowledge(
            session,
            batch_id=batch.batch.id,
            failures={UUID(name[1:]): reason for name, reason in failures.items()},
            actor="test",
            now=NOW,
        )


async def balances(till: Till, **whose: Any) -> dict[str, dict[str, int]]:
    accounts: tuple[service.Account, ...] = ("partner_payable", "member_due", "issuer_settlement")
    async with till.sessions.begin() as session:
        return {name: await service.balance(session, account=name, **whose) for name in accounts}


class TestABatch:
    async def test_has_a_line_for_each_redemption_that_is_owed(self, till: Till) -> None:
        await till.coupon(redemptions_per_coupon=2)
        await till.take(
            make_transaction("clearing", 4_000, "p-1"), make_transaction("clearing", 2_500, "p-2")
        )
        batch = await created(till)
        assert (batch.batch.state, batch.lines, batch.failed) == ("open", 2, 0)
        assert batch.totals == {"USD": 650}
        assert await amounts(till, batch) == [250, 400]
        assert await till.rows("SELECT owed_minor - credited_minor FROM redemptions") == [(0,)] * 2

    async def test_is_not_made_when_there_is_nothing_to_credit(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("authorization", 4_000))
        assert await create(till) is None
        assert await till.rows("SELECT 1 FROM credit_batches") == []

    async def test_asks_for_nothing_that_another_has_asked_for(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 3_000))
        await created(till)
        assert await create(till) is None
        await till.take(make_transaction("clearing", 1_000))
        assert await amounts(till, await created(till)) == [100]

    async def test_takes_back_what_was_returned_after_its_credit(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        await acknowledge(till, await created(till))
        await till.take(make_transaction("refund", 4_000, occurred_at=NOON + timedelta(days=1)))
        batch = await created(till)
        assert await amounts(till, batch) == [-400]
        await acknowledge(till, batch)
        assert await till.rows(
            "SELECT debit_account, credit_account, amount_minor FROM transfers "
            "WHERE code = 'credit' ORDER BY id"
        ) == [
            ("member_due", "issuer_settlement", 400),
            ("issuer_settlement", "member_due", 400),
        ]

    async def test_of_two_at_once_only_one_has_a_line(self, till: Till) -> None:
        await till.coupon(redemptions_per_coupon=50)
        await till.take(*(make_transaction("clearing", 4_000, f"p-{n}") for n in range(50)))
        batches = await asyncio.gather(*(create(till) for _ in range(4)))
        assert sum(batch.lines for batch in batches if batch is not None) == 50
        assert await till.rows(
            "SELECT count(*), count(DISTINCT redemption_id) FROM credit_lines"
        ) == [(50, 50)]

    async def test_leaves_none_out_while_purchases_go_on(self, till: Till) -> None:
        await till.coupon(redemptions_per_coupon=60)

        async def buy(start: int) -> None:
            for number in range(start, start + 20):
                await till.take(make_transaction("clearing", 1_000, f"p-{number}"))
                await till.take(make_transaction("refund", 500, f"p-{number}"))

        async def credit() -> None:
            for _ in range(15):
                batch = await create(till)
                if batch is not None:
                    await acknowledge(till, batch)

        await asyncio.gather(buy(0), buy(20), buy(40), credit(), credit())
        await credit()
        assert await till.rows(
            "SELECT count(*) FROM redemptions WHERE owed_minor <> credited_minor"
        ) == [(0,)]
        assert (await balances(till))["issuer_settlement"] == {"USD": 60 * 50}

    async def test_does_not_look_at_what_was_credited_long_ago(
        self, till: Till, analyse: Analyse
    ) -> None:
        await till.coupon(redemptions_per_coupon=1_000)
        await till.take(*(make_transaction("clearing", 100, f"p-{n}") for n in range(999)))
        await created(till)
        await till.take(make_transaction("clearing", 100, "p-999"))
        await analyse("redemptions", "adjustments", "purchases", "cards")
        async with till.sessions() as session:
            found = await session.execute(
                text(f"EXPLAIN {queries.CLAIM}"),
                {"batch_id": new_id(), "lines_max": 10, "now": NOW},
            )
            plan = "\n".join(row[0] for row in found)
        assert "ix_redemptions_uncredited" in plan


class TestWhichCard:
    async def credited(self, till: Till) -> str:
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        (line,) = await lines_of(till, await created(till))
        return line.card_ref

    async def test_the_purchases_own(self, till: Till) -> None:
        await till.run(
            "INSERT INTO cards (ref, member_id, added_at) VALUES ('newer', :id, now())",
            id=till.member_id,
        )
        assert await self.credited(till) == "card-1"

    async def test_else_the_members_newest_that_is_active(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        for day, ref, state in ((1, "old", "active"), (2, "new", "active"), (3, "x", "removed")):
            await till.run(
                "INSERT INTO cards (ref, member_id, added_at, state) "
                "VALUES (:ref, :id, :at, :state)",
                ref=ref,
                id=till.member_id,
                at=NOON + timedelta(days=day),
                state=state,
            )
        await till.run("UPDATE cards SET state = 'replaced' WHERE ref = 'card-1'")
        (line,) = await lines_of(till, await created(till))
        assert line.card_ref == "new"

    async def test_else_the_purchases_own_after_all(self, till: Till) -> None:
        async with till.sessions.begin() as session:
            await add_member(session, "somebody else's")
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        await till.run("UPDATE cards SET state = 'removed' WHERE ref = 'card-1'")
        (line,) = await lines_of(till, await created(till))
        assert line.card_ref == "card-1"


class TestAcknowledging:
    async def test_posts_a_transfer_for_each_line_that_was_booked(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        assert (await balances(till))["member_due"] == {"USD": 400}
        done = await acknowledge(till, await created(till))
        assert (done.batch.state, done.batch.acknowledged_at) == ("acknowledged", NOW)
        assert await balances(till) == {
            "partner_payable": {"USD": -400},
            "member_due": {"USD": 0},
            "issuer_settlement": {"USD": 400},
        }
        assert await till.rows("SELECT state FROM credit_lines") == [("acknowledged",)]

    async def test_a_failed_line_is_taken_up_again_once(self, till: Till) -> None:
        await till.coupon(redemptions_per_coupon=2)
        await till.take(
            make_transaction("clearing", 4_000, "p-1"), make_transaction("clearing", 2_500, "p-2")
        )
        batch = await created(till)
        failed, _ = sorted(await lines_of(till, batch), key=lambda line: line.amount_minor)
        done = await acknowledge(till, batch, **{f"_{failed.id}": "card closed"})
        assert (done.lines, done.failed, done.totals) == (2, 1, {"USD": 400})
        assert await till.rows(
            "SELECT amount_minor, state, failure FROM credit_lines ORDER BY amount_minor"
        ) == [(250, "failed", "card closed"), (400, "acknowledged", None)]
        again = await created(till)
        assert await amounts(till, again) == [250]
        assert await create(till) is None
        await acknowledge(till, again)
        assert (await balances(till))["issuer_settlement"] == {"USD": 650}

    async def test_a_line_may_fail_after_the_next_batch_took_up_a_difference(
        self, till: Till
    ) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 3_000))
        first = await created(till)
        await till.take(make_transaction("clearing", 1_000))
        second = await created(till)
        (line,) = await lines_of(till, first)
        await acknowledge(till, first, **{f"_{line.id}": "no such account"})
        await acknowledge(till, second)
        assert await amounts(till, await created(till)) == [300]

    async def test_a_reward_that_was_returned_meanwhile_is_not_taken_up(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        batch = await created(till)
        await till.take(make_transaction("refund", 4_000))
        (line,) = await lines_of(till, batch)
        await acknowledge(till, batch, **{f"_{line.id}": "card closed"})
        assert await create(till) is None

    async def test_twice_changes_nothing(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        batch = await created(till)
        (line,) = await lines_of(till, batch)
        failure = {f"_{line.id}": "card closed"}
        first = await acknowledge(till, batch, **failure)
        second = await acknowledge(till, batch, **failure)
        assert (second.lines, second.failed, second.totals) == (1, 1, {"USD": 0})
        assert second.batch.acknowledged_at == first.batch.acknowledged_at
        assert await till.rows("SELECT credited_minor FROM redemptions") == [(0,)]

    async def test_twice_at_the_same_time_posts_once(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        batch = await created(till)
        await asyncio.gather(*(acknowledge(till, batch) for _ in range(5)))
        assert (await balances(till))["issuer_settlement"] == {"USD": 400}

    async def test_with_other_failures_is_a_conflict(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        batch = await created(till)
        (line,) = await lines_of(till, batch)
        await acknowledge(till, batch)
        with pytest.raises(Conflict):
            await acknowledge(till, batch, **{f"_{line.id}": "card closed"})

    async def test_a_line_of_another_batch_is_refused(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        batch = await created(till)
        with pytest.raises(Invalid):
            await acknowledge(till, batch, **{f"_{new_id()}": "card closed"})
        assert await till.rows("SELECT state FROM credit_lines") == [("pending",)]

    async def test_an_unknown_batch_is_not_found(self, till: Till) -> None:
        async with till.sessions.begin() as session:
            with pytest.raises(NotFound):
                await service.acknowledge(
                    session, batch_id=new_id(), failures={}, actor="test", now=NOW
                )


class TestTheLedger:
    async def test_balances_in_every_currency(self, till: Till) -> None:
        for currency in ("USD", "JPY", "BHD"):
            await till.coupon(currency=currency, redemptions_per_coupon=4)
        for number, currency in enumerate(("USD", "JPY", "BHD", "JPY")):
            await till.take(
                make_transaction("clearing", 4_000, f"p-{number}", currency=currency),
                make_transaction("refund", 1_000, f"p-{number}", currency=currency),
            )
        await acknowledge(till, await created(till))
        assert await balances(till) == {
            "partner_payable": {"BHD": -300, "JPY": -600, "USD": -300},
            "member_due": {"BHD": 0, "JPY": 0, "USD": 0},
            "issuer_settlement": {"BHD": 300, "JPY": 600, "USD": 300},
        }
        assert (await balances(till, partner_id=new_id()))["member_due"] == {}
        mine = await balances(till, member_id=till.member_id, partner_id=till.partner_id)
        assert mine == await balances(till)

    @pytest.mark.parametrize("statement", ["UPDATE transfers SET at = at", "DELETE FROM transfers"])
    async def test_is_never_changed(self, till: Till, statement: str) -> None:
        with pytest.raises(DBAPIError, match="permission denied"):
            await till.run(statement)
