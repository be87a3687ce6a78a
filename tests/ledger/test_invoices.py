"""What partners owe for a month: the ledger's own transfers, and nobody else's."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.errors import Invalid
from app.kit.db import Sessions
from app.ledger import adjustments, invoices, service
from app.ledger.adjustments import NewAdjustment
from app.ledger.invoices import Month
from app.ledger.queries import InvoiceRow
from tests.builders import add_partner, add_shop
from tests.support import MakeKey, Tagback
from tests.till import Till, make_transaction

MARCH, APRIL = Month(2026, 3), Month(2026, 4)
LAST_MOMENT = datetime(2026, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC)


async def adjust(till: Till, ref: str, amount_minor: int, at: datetime, **changes: Any) -> None:
    usual: dict[str, Any] = {
        "ref": ref,
        "member_id": till.member_id,
        "amount_minor": amount_minor,
        "currency": "USD",
        "funded_by": "partner",
        "reason": "As agreed",
        "partner_id": till.partner_id,
    }
    async with till.sessions.begin() as session:
        await adjustments.adjust(
            session, given=NewAdjustment(**usual | changes), operator="test", now=at
        )


@pytest.fixture
async def rival(sessions: Sessions) -> UUID:
    async with sessions.begin() as session:
        return await add_partner(session, "rival")


@pytest.fixture
async def till(sessions: Sessions, rival: UUID) -> Till:
    """In March three rewards, one of them returned in April, yen beside dollars; adjustments of all
    kinds; a rival with one reward; and credits, which are no partner's.
    """
    till = await Till.open(sessions)
    await till.coupon(redemptions_per_coupon=5)
    await till.coupon(currency="JPY")
    await till.take(
        make_transaction("clearing", 4_000, "p-1"),
        make_transaction("clearing", 3_000, "p-2"),
        make_transaction("refund", 1_000, "p-2"),
        make_transaction("clearing", 2_000, "p-3", currency="JPY"),
        now=LAST_MOMENT,
    )
    april = LAST_MOMENT + timedelta(microseconds=1)
    await till.take(make_transaction("refund", 4_000, "p-1"), now=april)
    ((redemption_id,),) = await till.rows(
        "SELECT r.id FROM redemptions r JOIN purchases p ON p.id = r.purchase_id "
        "WHERE p.ref = 'p-2'"
    )
    await adjust(till, "more", 70, LAST_MOMENT, redemption_id=redemption_id)
    await adjust(till, "less", -20, LAST_MOMENT)
    await adjust(till, "ours", 1_000, LAST_MOMENT, funded_by="programme")
    await adjust(till, "back", -300, april)
    async with sessions.begin() as session:
        await add_shop(session, rival, "rivals")
    mine, till.partner_id = till.partner_id, rival
    await till.coupon()
    till.partner_id = mine
    await till.take(make_transaction("clearing", 1_000, "p-4", acceptor_id="rivals"), now=april)
    async with sessions.begin() as session:
        batch = await service.create_batch(session, actor="test", now=april)
        assert batch is not None
        await service.acknowledge(
            session, batch_id=batch.batch.id, failures={}, actor="test", now=april
        )
    return till


async def of_month(till: Till, month: Month, partner_id: UUID | None = None) -> list[InvoiceRow]:
    async with till.sessions.begin() as session:
        return await invoices.invoices(session, month=month, partner_id=partner_id)


class TestInvoices:
    async def test_are_a_partners_month_in_each_currency(self, till: Till, rival: UUID) -> None:
        assert await of_month(till, MARCH) == [
            InvoiceRow(till.partner_id, "acme", "JPY", 200, 0, 0, 1),
            InvoiceRow(till.partner_id, "acme", "USD", 700, 100, 50, 2),
        ]
        assert await of_month(till, APRIL) == [
            InvoiceRow(till.partner_id, "acme", "USD", 0, 400, -300, 1),
            InvoiceRow(rival, "rival", "USD", 100, 0, 0, 1),
        ]
        assert [row.payable_minor for row in await of_month(till, MARCH)] == [200, 650]
        assert await of_month(till, Month(2026, 5)) == []

    async def test_of_all_months_are_the_balance_of_what_partners_owe(
        self, till: Till, rival: UUID
    ) -> None:
        for partner_id in (None, till.partner_id, rival):
            payable: Counter[str] = Counter()
            for number in range(1, 13):
                for row in await of_month(till, Month(2026, number), partner_id):
                    payable[row.currency] += row.payable_minor
            async with till.sessions.begin() as session:
                balance = await service.balance(
                    session, account="partner_payable", partner_id=partner_id
                )
            assert {name: -total for name, total in balance.items()} == payable
            assert any(payable.values())

    def test_of_december_end_with_the_year(self) -> None:
        december = Month.parse("2026-12")
        assert december.starts_at == datetime(2026, 12, 1, tzinfo=UTC)
        assert december.ends_at == datetime(2027, 1, 1, tzinfo=UTC) == Month(2027, 1).starts_at

    @pytest.mark.parametrize("value", ["2026-13", "2026-00", "2026-7", "26-07", "2026-07-01", ""])
    def test_are_of_a_month_and_nothing_else(self, value: str) -> None:
        with pytest.raises(Invalid):
            Month.parse(value)


class TestOverHttp:
    async def ask(self, client: httpx.AsyncClient, key: str, **params: str) -> list[dict[str, Any]]:
        answer = await client.get(
            "/v1/invoices",
            params={"month": "2026-04", **params},
            headers={"Authorization": f"Bearer {key}"},
        )
        assert answer.status_code == 200
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    @pytest.mark.usefixtures("till")
    async def test_the_operator_sees_every_partners(
        self, rival: UUID, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        _, last = await self.ask(client, await make_key("operator"))
        assert last == {
            "month": "2026-04",
            "is_final": True,
            "partner_id": str(rival),
            "partner": "rival",
            "currency": "USD",
            "rewards_minor": 100,
            "taken_back_minor": 0,
            "adjustments_minor": 0,
            "payable_minor": 100,
            "redemptions": 1,
        }

    async def test_a_partner_sees_his_own_whatever_he_asks_for(
        self, till: Till, rival: UUID, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        key = await make_key("partner", rival)
        for asked in ({}, {"partner": "acme"}, {"partner_id": str(till.partner_id)}):
            assert [one["partner"] for one in await self.ask(client, key, **asked)] == ["rival"]
        mine = await self.ask(client, await make_key("partner", till.partner_id))
        assert [(one["partner"], one["payable_minor"]) for one in mine] == [("acme", -700)]

    async def test_is_for_the_operator_and_partners(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        for role in ("issuer", "analyst"):
            headers = {"Authorization": f"Bearer {await make_key(role)}"}
            answer = await client.get("/v1/invoices?month=2026-04", headers=headers)
            assert answer.status_code == 403

    async def test_of_no_month_is_refused(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        headers = {"Authorization": f"Bearer {await make_key('operator')}"}
        for query in ("", "?month=2026-13", "?month=9999-12"):
            answer = await client.get(f"/v1/invoices{query}", headers=headers)
            assert answer.status_code == 422


@pytest.mark.usefixtures("till")
class TestTheCommand:
    async def test_shows_what_each_partner_owes(self, tagback: Tagback) -> None:
        ran = await tagback("ledger", "invoice", "--month", "2026-03")
        assert ran.status == 0, ran.err
        heads, yen, dollars, total = [line.split() for line in ran.out.splitlines()]
        assert heads[0] == "partner"
        assert yen == ["acme", "¥200", "¥0", "¥0", "¥200", "1"]
        assert dollars == ["acme", "$7.00", "$1.00", "$0.50", "$6.50", "2"]
        assert total == ["2026-03:", "2", "invoices"]

    async def test_shows_one_partners_to_programs(self, tagback: Tagback) -> None:
        ran = await tagback(
            *("ledger", "invoice", "--month", "2026-04", "--partner", "rival", "--json")
        )
        (row,) = [json.loads(line) for line in ran.out.splitlines()]
        assert (row["partner"], row["payable_minor"]) == ("rival", 100)


class TestAMonth:
    def test_is_final_when_all_that_began_in_it_must_have_been_written(self) -> None:
        over = datetime(2026, 4, 1, tzinfo=UTC)
        assert not MARCH.is_final(over)
        assert not MARCH.is_final(over + timedelta(minutes=59))
        assert MARCH.is_final(over + timedelta(hours=1))
