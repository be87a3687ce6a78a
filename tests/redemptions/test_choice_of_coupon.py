"""Which coupon, which purchase, and in whatever order: asked of the rules alone."""

from datetime import datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from app.offers.terms import reward
from app.redemptions.domain import (
    Coupon,
    Event,
    Purchase,
    Sums,
    find_refunded,
    net,
)
from tests.builders import NOON, PARTNER_ID, SHOP_ID
from tests.redemptions.shopping import Shopping, happened, make_coupon


class TestCompetingCoupons:
    def chosen(self, *coupons: Coupon, events: tuple[Event, ...]) -> int:
        """The number of the coupon, whichever way the coupons are put in."""
        found = set()
        for order in permutations(coupons):
            redemption = Shopping(*order).take(*events)
            assert redemption is not None
            found.add(redemption.coupon_id.int)
        (number,) = found
        return number

    cleared = (happened("clearing", 4_000),)

    def test_the_highest_reward_wins(self):
        coupons = make_coupon(1), make_coupon(2, basis_points=1_100), make_coupon(3)
        assert self.chosen(*coupons, events=self.cleared) == 2

    def test_then_the_first_to_expire(self):
        sooner = make_coupon(2, valid_until=NOON + timedelta(days=1))
        assert self.chosen(make_coupon(1), sooner, make_coupon(3), events=self.cleared) == 2

    def test_then_the_oldest(self):
        older = make_coupon(2, posted_at=NOON - timedelta(days=1))
        assert self.chosen(make_coupon(1), older, make_coupon(3), events=self.cleared) == 2

    def test_then_the_id(self):
        assert self.chosen(make_coupon(2), make_coupon(1), events=self.cleared) == 1

    def test_one_that_fits_goes_before_one_that_would_pay_more(self):
        rich = make_coupon(1, basis_points=9_000, max_minor=9_000, channel="online")
        assert self.chosen(rich, make_coupon(2), events=self.cleared) == 2

    def test_the_nearest_miss_is_told(self):
        coupons = (
            make_coupon(1, currency="EUR"),
            make_coupon(2, min_spend_minor=9_000),
            make_coupon(3, channel="online"),
        )
        assert self.chosen(*coupons, events=self.cleared) == 2

    def test_one_reward_a_purchase(self):
        shopping = Shopping(make_coupon(1), make_coupon(2))
        shopping.take(*self.cleared)
        assert sum(coupon.spent_minor for coupon in shopping.coupons.values()) == 400

    def test_the_authorised_amount_chooses_provisionally_and_the_clearing_decides(self):
        small = make_coupon(1, fixed_minor=300, basis_points=None, max_minor=None)
        large = make_coupon(2, fixed_minor=900, min_spend_minor=5_000, basis_points=None)
        shopping = Shopping(small, large)
        provisional = shopping.take(happened("authorization", 4_000))
        assert provisional is not None
        assert provisional.coupon_id == large.id
        decided = shopping.take(happened("clearing", 4_000))
        assert decided is not None
        assert decided.coupon_id == small.id
        assert [coupon.uses for coupon in shopping.coupons.values()] == [1, 0]
        # and it is kept, though the other would pay more by now
        kept = shopping.take(happened("clearing", 4_000))
        assert kept is not None
        assert kept.coupon_id == small.id


class TestUnlinkedRefund:
    def purchase(self, number: int, at: datetime, cleared_minor: int, **changes: Any) -> Purchase:
        usual = Purchase(
            id=UUID(int=number),
            ref=f"p-{number}",
            member_id=UUID(int=0xE),
            partner_id=PARTNER_ID,
            currency="USD",
            occurred_at=at,
            card_ref="card-1",
            acceptor_id=SHOP_ID,
            channel="in_store",
            customer_kind="new",
            sums=Sums(cleared_minor=cleared_minor),
        )
        return usual._replace(**changes)

    def found(self, *purchases: Purchase, amount_minor: int = 1_000) -> int | None:
        purchase = find_refunded(
            purchases, amount_minor=amount_minor, currency="USD", refunded_at=NOON
        )
        return None if purchase is None else purchase.id.int

    def test_the_newest_that_has_enough_left(self):
        old = self.purchase(1, NOON - timedelta(days=9), 5_000)
        new = self.purchase(2, NOON - timedelta(days=8), 1_000)
        newest = self.purchase(3, NOON - timedelta(days=7), 999)
        assert self.found(newest, old, new) == 2

    def test_what_was_refunded_already_is_not_left(self):
        sums = Sums(cleared_minor=1_500, refunded_minor=600)
        assert self.found(self.purchase(1, NOON - timedelta(days=1), 0, sums=sums)) is None

    def test_180_days_and_no_more(self):
        assert self.found(self.purchase(1, NOON - timedelta(days=180), 5_000)) == 1
        older = NOON - timedelta(days=180, microseconds=1)
        assert self.found(self.purchase(1, older, 5_000)) is None

    def test_not_a_later_purchase_nor_one_in_another_currency(self):
        assert self.found(self.purchase(1, NOON + timedelta(seconds=1), 5_000)) is None
        yen = self.purchase(1, NOON - timedelta(days=1), 5_000, currency="JPY")
        assert self.found(yen) is None


events = st.builds(
    happened,
    st.sampled_from(["authorization", "clearing", "reversal", "refund", "decline"]),
    st.sampled_from([0, 1, 500, 1_999, 2_000, 2_500, 10_000]),
    after=st.integers(-3, 3).map(lambda hours: timedelta(hours=hours)),
    acceptor_id=st.just(SHOP_ID),
)
coupons = st.builds(
    make_coupon,
    min_spend_minor=st.sampled_from([0, 2_000]),
    refund_policy=st.sampled_from(["restore", "burn"]),
    redemptions_per_coupon=st.sampled_from([1, 2]),
    posted_at=st.sampled_from([NOON - timedelta(days=1), NOON]),
    valid_until=st.sampled_from([NOON + timedelta(hours=2), NOON + timedelta(days=1)]),
    is_closed=st.booleans(),
    channel=st.sampled_from(["any", "in_store", "online"]),
)


class TestAnyOrder:
    @settings(max_examples=400, deadline=None)
    @given(coupons, st.lists(events, min_size=1, max_size=6), st.randoms(use_true_random=False))
    def test_the_order_of_a_purchases_events_changes_nothing(self, coupon, happening, random):
        in_order, shuffled = Shopping(coupon), Shopping(coupon)
        in_order.take(*happening)
        random.shuffle(happening)
        shuffled.take(*happening)
        assert shuffled.purchase == in_order.purchase
        assert shuffled.coupons == in_order.coupons
        assert shuffled.told()[2] == in_order.told()[2]
        purchase = in_order.purchase
        assert purchase is not None
        if coupon.posted_at <= purchase.occurred_at < coupon.valid_until:
            assert shuffled.redemption == in_order.redemption
        else:
            # a coupon that seemed valid for a while leaves its refusal behind
            assert {shuffled.told()[:2], in_order.told()[:2]} <= {
                (None, None),
                ("rejected", "late"),
            }

    @settings(max_examples=400, deadline=None)
    @given(coupons, st.lists(events, min_size=1, max_size=6))
    def test_no_more_is_owed_than_the_terms_say_of_what_was_kept(self, coupon, happening):
        shopping = Shopping(coupon)
        shopping.take(*happening)
        state, reason, owed_minor = shopping.told()
        assert owed_minor in (0, reward(coupon.terms, net(shopping.sums)))
        assert (state == "earned") == (owed_minor > 0)
        assert (state == "rejected") == (reason is not None)
