"""From card transactions to redemptions and rewards, on a real database."""

from datetime import timedelta
from typing import Any

import pytest

from tests.builders import NOON, add_member, add_partner, add_shop, close_coupon
from tests.till import COUPONS, POSTED, STATE, Till, make_transaction, told


class TestAPurchase:
    async def test_authorised_cleared_and_refunded(self, till: Till) -> None:
        coupon_id = await till.coupon()
        answers = await till.take_each(
            make_transaction("authorization", 4_000),
            make_transaction("clearing", 4_000, occurred_at=NOON + timedelta(days=2)),
            make_transaction("refund", 1_000, occurred_at=NOON + timedelta(days=5)),
            make_transaction("refund", 3_000, occurred_at=NOON + timedelta(days=6)),
        )
        assert [told(answer) for answer in answers] == [
            ("applied", "pending", None, 0),
            ("applied", "earned", None, 400),
            ("applied", "earned", None, 300),
            ("applied", "returned", None, 0),
        ]
        assert {answer.coupon_id for answer in answers} == {str(coupon_id)}
        assert {(answer.purchase_id, answer.currency) for answer in answers} == {("p-1", "USD")}
        assert await till.rows(
            "SELECT debit_account, credit_account, amount_minor, cause_kind, code FROM transfers "
            "ORDER BY id"
        ) == [
            ("partner_payable", "member_due", 400, "transaction", "reward"),
            ("member_due", "partner_payable", 100, "transaction", "reward"),
            ("member_due", "partner_payable", 300, "transaction", "reward"),
        ]
        assert await till.rows(STATE) == [("returned", None, True, False, 0)]
        assert await till.rows(COUPONS) == [(0, 0)]

    async def test_its_row_holds_its_sums_and_its_earliest_time(self, till: Till) -> None:
        await till.take_each(
            make_transaction("clearing", 4_200, occurred_at=NOON + timedelta(days=2)),
            make_transaction("authorization", 4_000),
            make_transaction("reversal", 300, occurred_at=NOON + timedelta(days=3)),
            make_transaction("refund", 500, occurred_at=NOON + timedelta(days=4)),
        )
        assert await till.rows(
            "SELECT occurred_at, authorised_minor, reversed_minor, cleared_minor, refunded_minor, "
            "net_minor, declined_at, customer_kind, channel FROM purchases"
        ) == [(NOON, 4_000, 300, 4_200, 500, 3_400, None, "new", "in_store")]

    async def test_a_tip_and_a_split_shipment_in_one_batch(self, till: Till) -> None:
        await till.coupon()
        answers = await till.take(
            make_transaction("authorization", 3_000),
            make_transaction("clearing", 2_000),
            make_transaction("clearing", 1_500),
        )
        assert [answer.reward_minor for answer in answers] == [0, 200, 350]
        assert await till.rows(COUPONS) == [(350, 1)]
        assert await till.rows(POSTED) == [(350,)]

    async def test_a_second_shipment_lifts_it_over_the_minimum(self, till: Till) -> None:
        await till.coupon(min_spend_minor=2_000)
        answers = await till.take_each(
            make_transaction("clearing", 1_500), make_transaction("clearing", 1_500)
        )
        assert [told(answer)[1:] for answer in answers] == [
            ("rejected", "below_minimum", 0),
            ("earned", None, 300),
        ]

    async def test_a_partial_refund_below_the_minimum_takes_all_back(self, till: Till) -> None:
        await till.coupon(min_spend_minor=3_500)
        answers = await till.take_each(
            make_transaction("clearing", 4_000), make_transaction("refund", 1_000)
        )
        assert told(answers[1]) == ("applied", "returned", None, 0)
        assert await till.rows(POSTED) == [(0,)]

    async def test_a_refund_that_comes_before_its_clearing(self, till: Till) -> None:
        await till.coupon()
        answers = await till.take_each(
            make_transaction("refund", 1_000, occurred_at=NOON + timedelta(days=1)),
            make_transaction("authorization", 4_000),
            make_transaction("clearing", 4_000),
        )
        assert [answer.reward_minor for answer in answers] == [0, 0, 300]

    async def test_declined_and_reversed_ones_release_the_use(self, till: Till) -> None:
        await till.coupon()
        declined = make_transaction("decline", 4_000, "p-declined")
        answers = await till.take_each(
            declined,
            make_transaction("authorization", 4_000),
            make_transaction("reversal", 4_000),
            make_transaction("clearing", 4_000, "p-2"),
        )
        assert [told(answer)[1:] for answer in answers] == [
            ("rejected", "reversed", 0),
            ("pending", None, 0),
            ("rejected", "reversed", 0),
            ("earned", None, 400),
        ]

    async def test_one_use_serves_one_purchase(self, till: Till) -> None:
        await till.coupon()
        answers = await till.take(
            make_transaction("authorization", 4_000, "p-1"),
            make_transaction("authorization", 4_000, "p-2"),
            make_transaction("clearing", 4_000, "p-2"),
            make_transaction("clearing", 4_000, "p-1"),
        )
        assert [answer.decision for answer in answers] == ["pending", None, None, "earned"]

    async def test_several_uses_serve_as_many(self, till: Till) -> None:
        await till.coupon(redemptions_per_coupon=2)
        answers = await till.take(
            *(make_transaction("clearing", 9_000, f"p-{number}") for number in range(3))
        )
        assert [answer.reward_minor for answer in answers] == [500, 500, 0]
        assert await till.rows(COUPONS) == [(1_000, 2)]

    async def test_burning_keeps_the_use_and_restoring_gives_it_back(self, till: Till) -> None:
        await till.coupon(refund_policy="burn")
        await till.take(make_transaction("clearing", 4_000), make_transaction("refund", 4_000))
        assert await till.rows(COUPONS) == [(0, 1)]
        (again,) = await till.take(make_transaction("clearing", 4_000, "p-2"))
        assert again.decision is None

    @pytest.mark.parametrize(
        ("currency", "basis_points", "spend_minor", "reward_minor"),
        [("JPY", 333, 1_015, 34), ("BHD", 250, 12_340, 309)],
    )
    async def test_currencies_without_two_decimals(
        self, till: Till, currency: str, basis_points: int, spend_minor: int, reward_minor: int
    ) -> None:
        await till.coupon(currency=currency, basis_points=basis_points, max_minor=10_000)
        (answer,) = await till.take(make_transaction("clearing", spend_minor, currency=currency))
        assert told(answer) == ("applied", "earned", None, reward_minor)

    async def test_of_competing_coupons_the_highest_reward_wins(self, till: Till) -> None:
        await till.coupon(basis_points=500)
        better = await till.coupon(basis_points=1_500, max_minor=900)
        (answer,) = await till.take(make_transaction("clearing", 4_000))
        assert (answer.coupon_id, answer.reward_minor) == (str(better), 600)
        assert await till.rows(POSTED) == [(600,)]

    async def test_the_first_clearing_moves_the_use_to_the_coupon_it_decides_on(
        self, till: Till
    ) -> None:
        first = await till.coupon(basis_points=1_500, max_minor=900, min_spend_minor=5_000)
        second = await till.coupon(basis_points=1_000)
        answers = await till.take_each(
            make_transaction("authorization", 4_000), make_transaction("clearing", 4_000)
        )
        assert [answer.coupon_id for answer in answers] == [str(first), str(second)]
        assert await till.rows("SELECT id, uses FROM coupons ORDER BY id") == [
            (first, 0),
            (second, 1),
        ]

    async def test_another_partners_coupon_does_not_compete(self, till: Till) -> None:
        async with till.sessions.begin() as session:
            rival = await add_partner(session, "rival")
        other = Till(till.sessions, rival, till.shop_id, till.member_id)
        await other.coupon(basis_points=9_000, max_minor=9_000)
        (answer,) = await till.take(make_transaction("clearing", 4_000))
        assert answer.decision is None

    async def test_after_closing_a_clearing_is_late_and_a_refund_still_counts(
        self, till: Till
    ) -> None:
        await till.coupon(redemptions_per_coupon=2)
        await till.take(make_transaction("clearing", 4_000))
        ((coupon_id,),) = await till.rows("SELECT id FROM coupons")
        async with till.sessions.begin() as session:
            await close_coupon(session, coupon_id)
        answers = await till.take_each(
            make_transaction("clearing", 4_000, "p-2"), make_transaction("refund", 1_000)
        )
        assert [told(answer)[1:] for answer in answers] == [
            ("rejected", "late", 0),
            ("earned", None, 300),
        ]
        assert await till.rows("SELECT reserved_minor, spent_minor FROM coupons") == [(400, 300)]

    async def test_every_event_is_told_to_who_follows(self, till: Till) -> None:
        await till.coupon()
        await till.take_each(
            make_transaction("authorization", 4_000), make_transaction("clearing", 4_000)
        )
        await till.take(make_transaction("refund", 5), make_transaction("refund", 5))
        ((redemption_id,),) = await till.rows("SELECT id FROM redemptions")
        changes = await till.rows("SELECT redemption_id FROM redemption_changes")
        assert changes == [(redemption_id,)] * 3


class TestWhoseItIs:
    async def test_an_unknown_card_is_ignored_and_forgotten(self, till: Till) -> None:
        (answer,) = await till.take(make_transaction("clearing", 4_000, card_ref="stranger"))
        assert told(answer) == ("ignored", None, "not_linked", 0)
        assert await till.rows("SELECT 1 FROM card_transactions") == []

    async def test_so_is_a_place_that_nobody_confirmed(self, till: Till) -> None:
        async with till.sessions.begin() as session:
            await add_shop(session, till.partner_id, "stall", state="proposed", confirmed_at=None)
        answers = await till.take(
            make_transaction("clearing", 4_000, acceptor_id="elsewhere"),
            make_transaction("clearing", 4_000, acceptor_id="stall"),
        )
        assert {told(answer) for answer in answers} == {("ignored", None, "not_registered", 0)}
        assert await till.rows("SELECT 1 FROM purchases") == []

    async def test_what_was_ignored_may_come_again_when_the_card_is_linked(
        self, till: Till
    ) -> None:
        transaction = make_transaction("clearing", 4_000, card_ref="card-2")
        assert (await till.take(transaction))[0].status == "ignored"
        async with till.sessions.begin() as session:
            await add_member(session, "card-2")
        assert (await till.take(transaction))[0].status == "applied"

    async def test_a_members_purchase_is_kept_without_a_coupon(self, till: Till) -> None:
        (answer,) = await till.take(make_transaction("clearing", 4_000))
        assert told(answer) == ("applied", None, None, 0)
        assert (answer.purchase_id, answer.coupon_id) == ("p-1", None)
        assert await till.rows("SELECT cleared_minor FROM purchases") == [(4_000,)]

    async def test_new_returning_and_lapsed_customers_are_told_apart(self, till: Till) -> None:
        days = {"p-1": 0, "p-2": 10, "p-3": 200}
        for purchase, day in days.items():
            at = NOON + timedelta(days=day)
            await till.take(
                make_transaction("authorization", 100, purchase, occurred_at=at),
                make_transaction("clearing", 100, purchase, occurred_at=at),
            )
        assert await till.rows("SELECT ref, customer_kind FROM purchases ORDER BY ref") == [
            ("p-1", "new"),
            ("p-2", "returning"),
            ("p-3", "lapsed"),
        ]
        assert await till.rows("SELECT purchases, first_at, last_at FROM purchase_summaries") == [
            (3, NOON, NOON + timedelta(days=200))
        ]

    async def test_also_within_one_batch(self, till: Till) -> None:
        await till.take(
            make_transaction("clearing", 100, "p-1"),
            make_transaction("clearing", 100, "p-2"),
            make_transaction("authorization", 100, "p-3"),
        )
        assert await till.rows("SELECT ref, customer_kind FROM purchases ORDER BY ref") == [
            ("p-1", "new"),
            ("p-2", "returning"),
            ("p-3", "returning"),
        ]
        assert await till.rows("SELECT purchases FROM purchase_summaries") == [(2,)]

    @pytest.mark.parametrize(
        "changes",
        [{"card_ref": "card-2"}, {"acceptor_id": "rival"}, {"currency": "EUR"}],
    )
    async def test_a_purchase_has_one_member_one_partner_and_one_currency(
        self, till: Till, changes: dict[str, Any]
    ) -> None:
        async with till.sessions.begin() as session:
            await add_member(session, "card-2")
            await add_shop(session, await add_partner(session, "rival"), "rival")
        stray = make_transaction("clearing", 500, **changes)
        answers = await till.take(make_transaction("clearing", 4_000), stray)
        assert told(answers[1]) == ("rejected", None, "purchase_mismatch", 0)
        assert told((await till.take(stray))[0]) == told(answers[1])
        assert await till.rows("SELECT cleared_minor FROM purchases") == [(4_000,)]
        assert len(await till.rows("SELECT 1 FROM card_transactions")) == 1

    async def test_one_that_used_a_coupon_is_safe_from_another_members_card(
        self, till: Till
    ) -> None:
        await till.coupon()
        async with till.sessions.begin() as session:
            await add_member(session, "card-of-another")
        await till.take(make_transaction("clearing", 4_000))
        strays = [
            make_transaction("refund", 500, card_ref="card-of-another"),
            make_transaction("clearing", 500, "p-2", card_ref="card-of-another"),
        ]
        answers = await till.take(*strays)
        assert told(answers[0]) == ("rejected", None, "purchase_mismatch", 0)
        assert told(answers[1]) == ("applied", None, None, 0)
        assert await till.rows(POSTED) == [(400,)]

    async def test_two_shops_of_a_partner_may_share_a_purchase(self, till: Till) -> None:
        await till.coupon(channel="in_store")
        async with till.sessions.begin() as session:
            await add_shop(session, till.partner_id, "web", channel="online")
        answers = await till.take_each(
            make_transaction("clearing", 4_000),
            make_transaction(
                "refund", 1_000, acceptor_id="web", occurred_at=NOON + timedelta(days=1)
            ),
        )
        assert told(answers[1]) == ("applied", "earned", None, 300)

    async def test_sums_that_no_purchase_has_are_refused(self, till: Till) -> None:
        await till.take(make_transaction("clearing", 10**15))
        await till.run("UPDATE purchases SET cleared_minor = 1000000000000000000")
        (answer,) = await till.take(make_transaction("clearing", 1))
        assert told(answer) == ("rejected", None, "purchase_too_large", 0)

    async def test_a_removed_card_still_answers_for_what_it_bought(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 4_000))
        await till.run("UPDATE cards SET state = 'removed'")
        answers = await till.take_each(
            make_transaction("refund", 1_000),
            make_transaction("refund", 500, None, occurred_at=NOON + timedelta(days=1)),
            make_transaction("clearing", 4_000, "p-2"),
            make_transaction("refund", 9_000, None, occurred_at=NOON + timedelta(days=1)),
        )
        assert [told(answer) for answer in answers] == [
            ("applied", "earned", None, 300),
            ("applied", "earned", None, 250),
            ("ignored", None, "not_linked", 0),
            ("ignored", None, "not_linked", 0),
        ]


class TestWhatTakesNoUse:
    async def test_a_card_check_leaves_the_coupon_to_the_purchase_after_it(
        self, till: Till
    ) -> None:
        await till.coupon()
        await till.take_each(
            make_transaction("authorization", 0, "check"),
            make_transaction("authorization", 3_000, "real"),
            make_transaction("clearing", 3_000, "real"),
        )
        assert await till.rows(
            "SELECT p.ref, r.state FROM redemptions r JOIN purchases p ON p.id = r.purchase_id "
            "ORDER BY p.ref"
        ) == [("check", "rejected"), ("real", "earned")]

    async def test_nor_does_a_refund_of_what_was_bought_before(self, till: Till) -> None:
        await till.coupon()
        await till.take_each(
            make_transaction("refund", 500, "long ago"),
            make_transaction("clearing", 3_000, "real"),
        )
        assert ("real", "earned") in await till.rows(
            "SELECT p.ref, r.state FROM redemptions r JOIN purchases p ON p.id = r.purchase_id"
        )


class TestARefundOnAReissuedCard:
    async def test_that_was_removed_since_takes_the_reward_back(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("clearing", 3_000, "p-1"))
        await till.run("UPDATE cards SET state = 'replaced' WHERE ref = 'card-1'")
        await till.run(
            "INSERT INTO cards (ref, member_id, state, added_at) "
            "SELECT 'card-2', member_id, 'removed', now() FROM cards WHERE ref = 'card-1'"
        )
        (answer,) = await till.take(make_transaction("refund", 3_000, "p-1", card_ref="card-2"))
        assert (answer.status, answer.decision) == ("applied", "returned")


class TestARefundWithoutALink:
    async def test_goes_to_the_newest_purchase_that_has_enough_left(self, till: Till) -> None:
        await till.coupon(redemptions_per_coupon=3)
        await till.take(
            make_transaction("clearing", 4_000, "p-1"),
            make_transaction("clearing", 4_000, "p-2", occurred_at=NOON + timedelta(days=1)),
            make_transaction("clearing", 500, "p-3", occurred_at=NOON + timedelta(days=2)),
        )
        refund = make_transaction("refund", 3_000, None, occurred_at=NOON + timedelta(days=3))
        again = make_transaction("refund", 3_000, None, occurred_at=NOON + timedelta(days=3))
        answers = await till.take(refund, again)
        assert [(answer.purchase_id, answer.reward_minor) for answer in answers] == [
            ("p-2", 100),
            ("p-1", 100),
        ]
        assert await till.rows(
            "SELECT t.id, t.purchase_ref, p.ref FROM card_transactions t "
            "JOIN purchases p ON p.id = t.purchase_id WHERE t.type = 'refund' ORDER BY t.id"
        ) == sorted([(refund.id, None, "p-2"), (again.id, None, "p-1")])

    async def test_also_to_one_of_the_same_batch(self, till: Till) -> None:
        answers = await till.take(
            make_transaction("clearing", 4_000),
            make_transaction("refund", 4_000, None, occurred_at=NOON + timedelta(hours=1)),
        )
        assert answers[1].purchase_id == "p-1"

    @pytest.mark.parametrize(
        "changes",
        [
            {"card_ref": "card-2"},
            {"acceptor_id": "rival"},
            {"currency": "EUR"},
            {"amount": 4_001},
            {"occurred_at": NOON + timedelta(days=180, seconds=1)},
            {"occurred_at": NOON - timedelta(seconds=1)},
        ],
    )
    async def test_else_is_kept_as_unmatched(self, till: Till, changes: dict[str, Any]) -> None:
        async with till.sessions.begin() as session:
            await add_member(session, "card-2")
            await add_shop(session, await add_partner(session, "rival"), "rival")
        await till.take(make_transaction("clearing", 4_000))
        changes = {"occurred_at": NOON + timedelta(days=1)} | changes
        amount_minor = changes.pop("amount", 1_000)
        refund = make_transaction("refund", amount_minor, None, **changes)
        (answer,) = await till.take(refund)
        assert told(answer) == ("unmatched", None, None, 0)
        assert await till.rows(
            "SELECT id, purchase_id, answer->>'status' FROM card_transactions WHERE type = 'refund'"
        ) == [(refund.id, None, "unmatched")]
        assert (await till.take(refund))[0] == answer
