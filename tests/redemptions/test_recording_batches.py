"""Repeats, batches and races of card transactions, on a real database."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.redemptions.transactions import Transaction
from tests.builders import NOON, add_coupon, add_member, add_shop
from tests.till import COUPONS, POSTED, STATE, Till, counted_statements, make_transaction, told


class TestARepeat:
    async def test_changes_nothing_and_is_answered_as_the_first_time(self, till: Till) -> None:
        await till.coupon()
        first = make_transaction("clearing", 4_000)
        refund = make_transaction("refund", 4_000)
        answers = await till.take(first, refund)
        before = await till.rows(STATE), await till.rows(COUPONS), await till.rows(POSTED)
        assert await till.take(first) == answers[:1]
        assert await till.take(refund, first, first) == [answers[1], answers[0], answers[0]]
        assert (await till.rows(STATE), await till.rows(COUPONS), await till.rows(POSTED)) == before

    async def test_within_one_batch_too(self, till: Till) -> None:
        await till.coupon()
        transaction = make_transaction("clearing", 4_000)
        answers = await till.take(transaction, transaction)
        assert answers[0] == answers[1]
        assert await till.rows("SELECT cleared_minor FROM purchases") == [(4_000,)]

    @pytest.mark.parametrize(
        "changes",
        [
            {"amount_minor": 4_001},
            {"type": "refund"},
            {"purchase_id": "p-2"},
            {"card_ref": "card-2"},
            {"acceptor_id": "other"},
            {"currency": "EUR"},
            {"occurred_at": NOON + timedelta(microseconds=1)},
        ],
    )
    @pytest.mark.parametrize("in_one_batch", [True, False])
    async def test_of_the_id_with_other_contents_is_refused(
        self, till: Till, changes: dict[str, Any], *, in_one_batch: bool
    ) -> None:
        async with till.sessions.begin() as session:
            await add_member(session, "card-2")
            await add_shop(session, till.partner_id, "other")
        first = make_transaction("clearing", 4_000)
        second = Transaction(**{name: getattr(first, name) for name in _FIELDS} | changes)
        how = till.take if in_one_batch else till.take_each
        answers = await how(first, second, first)
        assert told(answers[1]) == ("rejected", None, "id_reused", 0)
        assert answers[2] == answers[0]
        assert await till.rows("SELECT ref, cleared_minor FROM purchases") == [("p-1", 4_000)]


_FIELDS = Transaction.__struct_fields__


class TestBatches:
    async def test_take_the_same_statements_whatever_their_size(
        self, till: Till, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with till.sessions.begin() as session:
            for number in range(200):
                await add_member(session, f"c-{number}")
        holders = dict(await till.rows("SELECT ref, member_id FROM cards"))
        terms = await till.offer()
        async with till.sessions.begin() as session:
            for number in range(200):
                await add_coupon(session, holders[f"c-{number}"], terms)

        def batch(name: str, size: int) -> list[Transaction]:
            found = []
            for number in range(size // 5):
                card = {"card_ref": f"c-{number}"}
                purchase = f"{name}-{number}"
                found += [
                    make_transaction("authorization", 4_000, purchase, **card),
                    make_transaction("clearing", 4_000, purchase, **card),
                    make_transaction("refund", 500, purchase, **card),
                    make_transaction(
                        "refund", 500, None, **card, occurred_at=NOON + timedelta(days=1)
                    ),
                    make_transaction("clearing", 100, card_ref="stranger"),
                ]
            return found

        with counted_statements(till.sessions, monkeypatch) as few:
            await till.take(*batch("few", 10))
        with counted_statements(till.sessions, monkeypatch) as many:
            answers = await till.take(*batch("many", 1_000))
        assert Counter(answer.status for answer in answers) == {"applied": 800, "ignored": 200}
        assert many == few
        assert len(few) <= 17

    async def test_that_hold_nothing_new_only_read(
        self, till: Till, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        transactions = [make_transaction("clearing", 4_000, f"p-{n}") for n in range(10)]
        await till.take(*transactions)
        with counted_statements(till.sessions, monkeypatch) as seen:
            await till.take(*transactions)
        assert len(seen) == 1

    async def test_may_be_empty(self, till: Till) -> None:
        assert await till.take() == []

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["authorization", "clearing", "reversal", "refund", "decline"]),
                st.sampled_from([0, 900, 2_500, 6_000]),
                st.sampled_from(["p-1", "p-2", "p-3", None]),
                st.integers(-2, 2),
            ),
            min_size=2,
            max_size=12,
        ),
        st.integers(1, 11),
    )
    async def test_come_to_the_same_however_they_are_cut(
        self, till: Till, happening: list[Any], cut: int
    ) -> None:
        """Two members with like coupons: one's transactions come at once, the other's in two."""
        run = uuid4().hex
        results = []
        for name in ("whole", "cut"):
            card = f"{name}-{run}"
            async with till.sessions.begin() as session:
                member_id = await add_member(session, card)
            await till.coupon(member_id=member_id, redemptions_per_coupon=2)
            await till.coupon(
                member_id=member_id, basis_points=2_000, max_minor=700, min_spend_minor=2_000
            )
            transactions = [
                make_transaction(
                    kind,
                    amount_minor,
                    None if purchase is None and kind == "refund" else f"{card}-{purchase}",
                    card_ref=card,
                    occurred_at=NOON + timedelta(hours=hours),
                )
                for kind, amount_minor, purchase, hours in happening
            ]
            if name == "whole":
                answers = await till.take(*transactions)
            else:
                answers = await till.take(*transactions[:cut])
                answers += await till.take(*transactions[cut:])
            results.append(
                (
                    [told(answer) for answer in answers],
                    await till.rows(
                        "SELECT spent_minor, uses FROM coupons WHERE member_id = :id ORDER BY id",
                        id=member_id,
                    ),
                    await till.rows(
                        "SELECT net_minor, customer_kind, occurred_at, state, reason, owed_minor "
                        "FROM purchases p LEFT JOIN redemptions r ON r.purchase_id = p.id "
                        "WHERE member_id = :id ORDER BY right(ref, 3)",
                        id=member_id,
                    ),
                    await till.rows(
                        "SELECT purchases, first_at, last_at FROM purchase_summaries "
                        "WHERE member_id = :id",
                        id=member_id,
                    ),
                )
            )
        assert results[0] == results[1]


class TestAtTheSameTime:
    async def test_the_same_transactions_from_two_sides_count_once(self, till: Till) -> None:
        await till.coupon(redemptions_per_coupon=40)
        transactions = [make_transaction("clearing", 1_000, f"p-{n}") for n in range(40)]
        answers = await asyncio.gather(
            *(till.take(*transactions) for _ in range(3)),
            *(till.take(*reversed(transactions)) for _ in range(3)),
        )
        for found in answers[1:3]:
            assert found == answers[0]
        for found in answers[3:]:
            assert found[::-1] == answers[0]
        assert await till.rows(POSTED) == [(4_000,)]
        assert await till.rows(COUPONS) == [(4_000, 40)]
        assert await till.rows("SELECT count(*), sum(cleared_minor)::int FROM purchases") == [
            (40, 40_000)
        ]

    async def test_without_a_coupon_to_lock_too(self, till: Till) -> None:
        transactions = [make_transaction("clearing", 1_000, f"p-{n}") for n in range(20)]
        refund = make_transaction("refund", 1_000, None, occurred_at=NOON + timedelta(days=1))
        await asyncio.gather(*(till.take(*transactions, refund) for _ in range(5)))
        assert await till.rows(
            "SELECT count(*), sum(cleared_minor)::int, sum(refunded_minor)::int FROM purchases"
        ) == [(20, 20_000, 1_000)]
        assert await till.rows("SELECT purchases FROM purchase_summaries") == [(20,)]

    async def test_many_purchases_cannot_take_the_last_use_twice(self, till: Till) -> None:
        await till.coupon(redemptions_per_coupon=3)
        answers = await asyncio.gather(
            *(till.take(make_transaction("clearing", 9_000, f"p-{n}")) for n in range(8))
        )
        decisions = Counter(answer.decision for (answer,) in answers)
        assert decisions == {"earned": 3, None: 5}
        assert await till.rows(COUPONS) == [(1_500, 3)]

    async def test_the_events_of_one_purchase_all_count(self, till: Till) -> None:
        await till.coupon()
        await asyncio.gather(
            till.take(make_transaction("authorization", 4_000)),
            till.take(make_transaction("clearing", 3_000)),
            till.take(make_transaction("clearing", 1_000)),
            till.take(make_transaction("refund", 500)),
        )
        assert await till.rows(STATE) == [("earned", None, True, True, 350)]
        assert await till.rows(POSTED) == [(350,)]

    async def test_also_where_there_is_no_coupon_to_wait_for(self, till: Till) -> None:
        await till.take(make_transaction("authorization", 4_000))
        await asyncio.gather(*(till.take(make_transaction("clearing", 100)) for _ in range(8)))
        assert await till.rows("SELECT cleared_minor FROM purchases") == [(800,)]

    async def test_two_refunds_without_a_link_do_not_share_a_purchase(self, till: Till) -> None:
        await till.take(make_transaction("clearing", 4_000))
        at = NOON + timedelta(days=1)
        answers = await asyncio.gather(
            *(till.take(make_transaction("refund", 3_000, None, occurred_at=at)) for _ in range(2))
        )
        assert Counter(answer.status for (answer,) in answers) == {"applied": 1, "unmatched": 1}
