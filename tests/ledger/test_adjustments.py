"""Money outside the rules: it moves once, and it reaches the card like any other."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.errors import Conflict, Invalid, NotFound
from app.kit.db import Sessions
from app.kit.ids import new_id
from app.ledger import adjustments, queries, service
from app.ledger.adjustments import NewAdjustment
from app.ledger.models import Adjustment
from app.ledger.queries import BatchRow
from tests.builders import NOON, add_member, add_partner
from tests.support import Analyse
from tests.till import NOW, Till, make_transaction

CREDITED = "SELECT credited_minor FROM adjustments"


@pytest.fixture
async def till(sessions: Sessions) -> Till:
    return await Till.open(sessions)


async def adjust(till: Till, amount_minor: int = 500, **changes: Any) -> tuple[Adjustment, bool]:
    """At the programme's expense, unless told otherwise."""
    usual: dict[str, Any] = {
        "ref": "case-1",
        "member_id": till.member_id,
        "amount_minor": amount_minor,
        "currency": "USD",
        "funded_by": "programme",
        "reason": "The coupon did not load",
    }
    async with till.sessions.begin() as session:
        return await adjustments.adjust(
            session, given=NewAdjustment(**usual | changes), operator="test", now=NOW
        )


async def create(till: Till) -> BatchRow | None:
    async with till.sessions.begin() as session:
        return await service.create_batch(session, actor="test", now=NOW)


async def created(till: Till) -> BatchRow:
    batch = await create(till)
    assert batch is not None
    return batch


async def acknowledge(till: Till, batch: BatchRow, *, fails: str | None = None) -> None:
    """`fails`: which of the lines do, in SQL."""
    lines: list[tuple[Any, ...]] = []
    if fails is not None:
        lines = await till.rows(
            f"SELECT id FROM credit_lines WHERE batch_id = :id AND {fails}", id=batch.batch.id
        )
    failures: Mapping[Any, str] = {line_id: "card closed" for (line_id,) in lines}
    async with till.sessions.begin() as session:
        await service.acknowledge(
            session, batch_id=batch.batch.id, failures=failures, actor="test", now=NOW
        )


async def balances(till: Till) -> dict[str, int]:
    """In dollars; what moved nothing is left out."""
    accounts: tuple[service.Account, ...] = (
        "partner_payable",
        "member_due",
        "issuer_settlement",
        "programme",
    )
    found = {}
    async with till.sessions.begin() as session:
        for account in accounts:
            total = (await service.balance(session, account=account)).get("USD", 0)
            if total:
                found[account] = total
    return found


class TestAnAdjustment:
    @pytest.mark.parametrize(
        ("amount_minor", "funded_by", "moved"),
        [
            (500, "programme", {"programme": -500, "member_due": 500}),
            (-500, "programme", {"programme": 500, "member_due": -500}),
            (500, "partner", {"partner_payable": -500, "member_due": 500}),
            (-500, "partner", {"partner_payable": 500, "member_due": -500}),
        ],
    )
    async def test_moves_money_between_who_pays_and_the_member(
        self, till: Till, amount_minor: int, funded_by: str, moved: dict[str, int]
    ) -> None:
        made, is_new = await adjust(
            till, amount_minor, funded_by=funded_by, partner_id=till.partner_id
        )
        assert is_new
        assert await balances(till) == moved
        assert await till.rows(
            "SELECT code, cause_kind, cause_id, adjustment_id, operator, reason FROM transfers"
        ) == [
            ("adjustment", "adjustment", str(made.id), made.id, "test", "The coupon did not load")
        ]

    async def test_leaves_a_trace_of_who_made_it(self, till: Till) -> None:
        made, _ = await adjust(till)
        assert await till.rows("SELECT actor, action, subject_id, after FROM audit_entries") == [
            (
                "test",
                "adjustment.make",
                str(made.id),
                {
                    "ref": "case-1",
                    "amount_minor": 500,
                    "currency": "USD",
                    "funded_by": "programme",
                },
            )
        ]

    async def test_asked_for_again_moves_nothing(self, till: Till) -> None:
        first, _ = await adjust(till)
        second, is_new = await adjust(till)
        assert (second.id, is_new) == (first.id, False)
        assert await balances(till) == {"programme": -500, "member_due": 500}
        assert await till.rows("SELECT count(*) FROM audit_entries") == [(1,)]

    async def test_asked_for_by_many_at_once_moves_money_once(self, till: Till) -> None:
        answers = await asyncio.gather(*(adjust(till) for _ in range(6)))
        assert sum(is_new for _, is_new in answers) == 1
        assert len({made.id for made, _ in answers}) == 1
        assert await balances(till) == {"programme": -500, "member_due": 500}

    async def test_of_a_ref_that_names_another_is_a_conflict(self, till: Till) -> None:
        async with till.sessions.begin() as session:
            other = await add_member(session, "card-2")
        first: dict[str, Any] = {"partner_id": till.partner_id}
        await adjust(till, **first)
        changes: tuple[dict[str, Any], ...] = (
            {"amount_minor": 501},
            {"amount_minor": -500},
            {"currency": "EUR"},
            {"reason": "Another"},
            {"funded_by": "partner"},
            {"partner_id": None},
            {"member_id": other},
        )
        for change in changes:
            with pytest.raises(Conflict) as refused:
                await adjust(till, **first | change)
            assert refused.value.code == "adjustment_exists"
        assert await balances(till) == {"programme": -500, "member_due": 500}

    async def test_needs_the_partner_who_pays(self, till: Till) -> None:
        with pytest.raises(Invalid) as refused:
            await adjust(till, funded_by="partner")
        assert refused.value.code == "partner_missing"

    async def test_of_what_is_not_there_is_not_found(self, till: Till) -> None:
        for name in ("member_id", "partner_id", "redemption_id"):
            with pytest.raises(NotFound):
                await adjust(till, **{name: new_id()})
        assert await balances(till) == {}

    async def test_for_a_member_without_a_card_is_refused_whole(self, till: Till) -> None:
        await till.run("DELETE FROM cards")
        with pytest.raises(Conflict) as refused:
            await adjust(till)
        assert refused.value.code == "member_without_card"
        assert await till.rows("SELECT 1 FROM adjustments") == []
        assert await balances(till) == {}

    async def test_is_never_changed(self, till: Till) -> None:
        await adjust(till)
        for statement in (
            "UPDATE adjustments SET amount_minor = 1",
            "UPDATE adjustments SET reason = 'another'",
            "DELETE FROM adjustments",
        ):
            with pytest.raises(DBAPIError, match="permission denied"):
                await till.run(statement)


class TestOfARedemption:
    @pytest.fixture
    async def redemption(self, till: Till) -> dict[str, Any]:
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        ((redemption_id,),) = await till.rows("SELECT id FROM redemptions")
        return {"redemption_id": redemption_id}

    async def test_is_of_its_partner_without_naming_him(
        self, till: Till, redemption: dict[str, Any]
    ) -> None:
        made, _ = await adjust(till, funded_by="partner", **redemption)
        assert made.partner_id == till.partner_id
        again, is_new = await adjust(
            till, funded_by="partner", partner_id=till.partner_id, **redemption
        )
        assert (again.id, is_new) == (made.id, False)

    async def test_cannot_be_of_another_member_partner_or_currency(
        self, till: Till, redemption: dict[str, Any]
    ) -> None:
        async with till.sessions.begin() as session:
            rival = await add_partner(session, "rival")
            other = await add_member(session, "card-2")
        for wrong in ({"member_id": other}, {"partner_id": rival}, {"currency": "EUR"}):
            with pytest.raises(Invalid) as refused:
                await adjust(till, **redemption, **wrong)
            assert refused.value.code == "redemption_mismatch"

    async def test_goes_to_the_card_of_the_purchase(
        self, till: Till, redemption: dict[str, Any]
    ) -> None:
        await till.run(
            "INSERT INTO cards (ref, member_id, added_at) VALUES ('newer', :id, :at)",
            id=till.member_id,
            at=NOW,
        )
        await adjust(till, 100, **redemption)
        await adjust(till, 200, ref="case-2")
        await created(till)
        assert await till.rows(
            "SELECT amount_minor, card_ref FROM credit_lines ORDER BY amount_minor"
        ) == [(100, "card-1"), (200, "newer"), (400, "card-1")]


class TestACreditBatch:
    async def test_takes_it_up_once_as_a_line_of_its_own(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        made, _ = await adjust(till)
        batch = await created(till)
        assert (batch.lines, batch.totals) == (2, {"USD": 900})
        assert await till.rows(
            "SELECT adjustment_id, redemption_id IS NULL, member_id, amount_minor "
            "FROM credit_lines ORDER BY amount_minor DESC"
        ) == [(made.id, True, till.member_id, 500), (None, False, till.member_id, 400)]
        assert await create(till) is None
        await acknowledge(till, batch)
        assert await balances(till) == {
            "programme": -500,
            "partner_payable": -400,
            "issuer_settlement": 900,
        }
        assert await till.rows(
            "SELECT partner_id, redemption_id, adjustment_id FROM transfers "
            "WHERE code = 'credit' AND amount_minor = 500"
        ) == [(None, None, made.id)]

    async def test_of_one_that_takes_back_has_a_negative_line(self, till: Till) -> None:
        await adjust(till, -500, funded_by="partner", partner_id=till.partner_id)
        batch = await created(till)
        assert batch.totals == {"USD": -500}
        await acknowledge(till, batch)
        assert await balances(till) == {"partner_payable": 500, "issuer_settlement": -500}
        assert await till.rows("SELECT partner_id FROM transfers WHERE code = 'credit'") == [
            (till.partner_id,)
        ]

    async def test_that_fails_gives_it_back_and_the_next_takes_it_up(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        await adjust(till)
        await adjust(till, 70, ref="case-2")
        await acknowledge(till, await created(till), fails="amount_minor <> 70")
        assert await till.rows(f"{CREDITED} ORDER BY ref") == [(0,), (70,)]
        again = await created(till)
        assert (again.lines, again.totals) == (2, {"USD": 900})
        await acknowledge(till, again)
        assert await create(till) is None
        assert (await balances(till))["issuer_settlement"] == 970

    async def test_of_many_at_once_only_one_has_it(self, till: Till) -> None:
        for number in range(20):
            await adjust(till, ref=f"case-{number}")
        batches = await asyncio.gather(*(create(till) for _ in range(4)))
        assert sum(batch.lines for batch in batches if batch is not None) == 20
        assert await till.rows(
            "SELECT count(*), count(DISTINCT adjustment_id) FROM credit_lines"
        ) == [(20, 20)]

    async def test_that_is_full_leaves_the_rest_to_the_next(
        self, till: Till, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "BATCH_LINES_MAX", 3)
        await till.coupon(redemptions_per_coupon=3)
        await till.take(*(make_transaction("clearing", 4_000, f"p-{n}") for n in range(3)))
        for number in range(2):
            await adjust(till, ref=f"case-{number}")
        assert [(await created(till)).lines for _ in range(2)] == [3, 2]
        assert await create(till) is None

    async def test_goes_to_the_newest_active_card_else_to_the_last_he_had(self, till: Till) -> None:
        for day, state in ((1, "active"), (2, "active"), (3, "removed")):
            await till.run(
                "INSERT INTO cards (ref, member_id, added_at, state) "
                "VALUES (:ref, :id, :at, :state)",
                ref=f"day-{day}",
                id=till.member_id,
                at=NOON + timedelta(days=day),
                state=state,
            )
        await adjust(till, 100)
        await created(till)
        await till.run("UPDATE cards SET state = 'removed'")
        await adjust(till, 200, ref="case-2")
        await created(till)
        assert await till.rows(
            "SELECT amount_minor, card_ref FROM credit_lines ORDER BY amount_minor"
        ) == [(100, "day-2"), (200, "day-3")]

    async def test_is_not_held_up_by_one_whose_member_has_lost_all_cards(self, till: Till) -> None:
        async with till.sessions.begin() as session:
            other = await add_member(session, "card-2")
        await adjust(till, ref="case-1", member_id=other)
        await adjust(till, 70, ref="case-2")
        await till.run("DELETE FROM cards WHERE ref = 'card-2'")
        assert (await created(till)).totals == {"USD": 70}
        assert await till.rows(f"{CREDITED} ORDER BY ref") == [(0,), (70,)]

    async def test_does_not_look_at_what_was_credited_long_ago(
        self, till: Till, analyse: Analyse
    ) -> None:
        await till.run(
            "INSERT INTO adjustments (id, ref, member_id, amount_minor, currency, funded_by, "
            "reason, operator, credited_minor, created_at) "
            "SELECT uuidv7(), n::text, :id, 1, 'USD', 'programme', '', '', (n > 1)::int, now() "
            "FROM generate_series(1, 1000) n",
            id=till.member_id,
        )
        await analyse("redemptions", "adjustments", "purchases", "cards")
        async with till.sessions() as session:
            found = await session.execute(
                text(f"EXPLAIN {queries.CLAIM}"),
                {"batch_id": new_id(), "lines_max": 10, "now": NOW},
            )
            plan = "\n".join(row[0] for row in found)
        assert "ix_adjustments_uncredited" in plan


class TestTheDatabase:
    async def test_takes_no_transfer_that_nobody_could_account_for(self, till: Till) -> None:
        made, _ = await adjust(till)
        insert = (
            "INSERT INTO transfers (code, debit_account, credit_account, partner_id, "
            "adjustment_id, operator, reason, amount_minor, currency, cause_kind, cause_id, "
            "member_id, at) VALUES ({}, 1, 'USD', 'test', 'x', :member, now())"
        )
        partner, adjustment = f"'{till.partner_id}'", f"'{made.id}'"
        for values in (
            "'reward', 'partner_payable', 'member_due', NULL, NULL, NULL, NULL",
            "'credit', 'member_due', 'issuer_settlement', NULL, NULL, NULL, NULL",
            "'adjustment', 'programme', 'member_due', NULL, NULL, 'test', 'why'",
            f"'adjustment', 'partner_payable', 'member_due', NULL, {adjustment}, 'test', 'why'",
            f"'adjustment', 'programme', 'member_due', NULL, {adjustment}, NULL, NULL",
            f"'reward', 'partner_payable', 'member_due', {partner}, {adjustment}, NULL, NULL",
        ):
            with pytest.raises(DBAPIError, match="violates check constraint"):
                await till.run(insert.format(values), member=till.member_id)

    async def test_takes_no_line_for_two_things_or_none(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        await adjust(till)
        await created(till)
        for change in (
            "redemption_id = (SELECT id FROM redemptions) WHERE adjustment_id IS NOT NULL",
            "redemption_id = NULL WHERE redemption_id IS NOT NULL",
        ):
            with pytest.raises(DBAPIError, match="ck_credit_lines_one_cause"):
                await till.run(f"UPDATE credit_lines SET {change}")

    async def test_credits_all_of_an_adjustment_or_nothing(self, till: Till) -> None:
        await adjust(till)
        with pytest.raises(DBAPIError, match="ck_adjustments_credited"):
            await till.run("UPDATE adjustments SET credited_minor = 499")
