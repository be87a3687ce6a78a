"""What a purchase earns, asked of the rules alone."""

from datetime import timedelta

import pytest

from app.redemptions.domain import (
    Event,
    Sums,
    net,
)
from tests.builders import NOON
from tests.redemptions.shopping import OTHER_SHOP_ID, Shopping, happened, make_coupon, told_after


class TestNet:
    @pytest.mark.parametrize(
        ("sums", "left"),
        [
            (Sums(authorised_minor=100), 0),
            (Sums(authorised_minor=100, cleared_minor=100), 100),
            (Sums(authorised_minor=100, cleared_minor=120), 120),
            (Sums(authorised_minor=100, cleared_minor=100, refunded_minor=30), 70),
            (Sums(authorised_minor=100, cleared_minor=100, refunded_minor=130), 0),
            # the pump authorised 100, gave 60, and the rest was released
            (Sums(authorised_minor=100, cleared_minor=60, reversed_minor=40), 60),
            # a reversal of more than was open comes off what has cleared
            (Sums(authorised_minor=100, cleared_minor=60, reversed_minor=50), 50),
            (Sums(authorised_minor=100, cleared_minor=100, reversed_minor=100), 0),
            (Sums(cleared_minor=100, reversed_minor=40), 60),
            (Sums(refunded_minor=50), 0),
        ],
    )
    def test_reversals_cancel_what_has_not_cleared_first(self, sums, left):
        assert net(sums) == left


class TestOnePurchaseOneCoupon:
    def test_an_authorisation_is_pending_and_holds_the_use(self):
        shopping = Shopping(make_coupon())
        redemption = shopping.take(happened("authorization", 4_000))
        assert shopping.told() == ("pending", None, 0)
        assert redemption is not None
        assert redemption.holds_use
        assert not redemption.decided

    def test_its_clearing_earns(self):
        shopping = Shopping(make_coupon())
        redemption = shopping.take(happened("authorization", 4_000), happened("clearing", 4_000))
        assert redemption is not None
        assert redemption.decided
        assert shopping.told() == ("earned", None, 400)
        (coupon,) = shopping.coupons.values()
        assert (coupon.spent_minor, coupon.uses) == (400, 1)

    def test_a_clearing_alone_earns(self):
        assert told_after(make_coupon(), happened("clearing", 4_000)) == ("earned", None, 400)

    def test_the_reward_is_at_most_the_maximum(self):
        assert told_after(make_coupon(), happened("clearing", 99_999))[2] == 500

    def test_a_tip_is_rewarded(self):
        events = happened("authorization", 3_000), happened("clearing", 3_600)
        assert told_after(make_coupon(), *events) == ("earned", None, 360)

    def test_a_fuel_pump_authorises_one_unit_and_the_minimum_is_not_asked(self):
        coupon = make_coupon(min_spend_minor=3_000)
        assert told_after(coupon, happened("authorization", 100)) == ("pending", None, 0)
        events = happened("authorization", 100), happened("clearing", 5_000)
        assert told_after(coupon, *events) == ("earned", None, 500)

    def test_a_split_shipment_earns_once_for_all(self):
        events = happened("clearing", 1_000), happened("clearing", 1_500)
        assert told_after(make_coupon(), *events) == ("earned", None, 250)

    def test_the_second_shipment_lifts_the_purchase_over_the_minimum(self):
        coupon = make_coupon(min_spend_minor=2_000)
        first, second = happened("clearing", 1_500), happened("clearing", 500)
        assert told_after(coupon, first) == ("rejected", "below_minimum", 0)
        assert told_after(coupon, first, second) == ("earned", None, 200)

    def test_below_the_minimum_releases_the_use(self):
        shopping = Shopping(make_coupon(min_spend_minor=2_000))
        shopping.take(happened("authorization", 1_500), happened("clearing", 1_500))
        (coupon,) = shopping.coupons.values()
        assert coupon.uses == 0

    def test_a_partial_refund_lowers_the_reward(self):
        events = happened("clearing", 4_000), happened("refund", 1_000)
        assert told_after(make_coupon(), *events) == ("earned", None, 300)

    def test_a_partial_refund_below_the_minimum_returns_all_of_it(self):
        coupon = make_coupon(min_spend_minor=3_500)
        events = happened("clearing", 4_000), happened("refund", 1_000)
        assert told_after(coupon, *events) == ("returned", None, 0)

    def test_a_full_refund_restores_the_use(self):
        shopping = Shopping(make_coupon())
        shopping.take(happened("clearing", 4_000), happened("refund", 4_000))
        assert shopping.told() == ("returned", None, 0)
        (coupon,) = shopping.coupons.values()
        assert (coupon.spent_minor, coupon.uses) == (0, 0)

    def test_or_burns_it_where_the_offer_says_so(self):
        shopping = Shopping(make_coupon(refund_policy="burn"))
        shopping.take(happened("clearing", 4_000), happened("refund", 4_000))
        assert shopping.told() == ("returned", None, 0)
        (coupon,) = shopping.coupons.values()
        assert (coupon.spent_minor, coupon.uses) == (0, 1)

    def test_a_refund_before_the_clearing_counts(self):
        events = (
            happened("authorization", 4_000),
            happened("refund", 1_000),
            happened("clearing", 4_000),
        )
        assert told_after(make_coupon(), *events) == ("earned", None, 300)

    def test_a_reversed_authorisation_releases_the_use(self):
        shopping = Shopping(make_coupon())
        shopping.take(happened("authorization", 4_000), happened("reversal", 4_000))
        assert shopping.told() == ("rejected", "reversed", 0)
        (coupon,) = shopping.coupons.values()
        assert coupon.uses == 0

    def test_a_partial_reversal_leaves_it_pending(self):
        events = happened("authorization", 4_000), happened("reversal", 1_000)
        assert told_after(make_coupon(), *events) == ("pending", None, 0)

    def test_a_declined_card_earns_nothing(self):
        coupon = make_coupon()
        assert told_after(coupon, happened("decline", 4_000)) == ("rejected", "reversed", 0)

    def test_a_second_try_after_a_decline_is_pending(self):
        again = happened("authorization", 4_000, after=timedelta(seconds=1))
        assert told_after(make_coupon(), happened("decline", 4_000), again)[0] == "pending"

    def test_a_decline_in_the_second_of_the_approval_came_after_it(self):
        events = happened("authorization", 4_000), happened("decline", 4_000)
        assert told_after(make_coupon(), *events) == ("rejected", "reversed", 0)

    def test_a_decline_after_the_approval_releases_the_use(self):
        shopping = Shopping(make_coupon())
        shopping.take(
            happened("authorization", 4_000), happened("decline", 4_000, after=timedelta(minutes=1))
        )
        assert shopping.told() == ("rejected", "reversed", 0)
        (coupon,) = shopping.coupons.values()
        assert coupon.uses == 0

    def test_the_order_in_which_a_decline_and_an_approval_arrive_does_not_matter(self):
        approved = happened("authorization", 4_000)
        declined = happened("decline", 4_000, after=timedelta(minutes=1))
        assert told_after(make_coupon(), declined, approved) == ("rejected", "reversed", 0)

    def test_what_was_declined_and_clears_all_the_same_earns(self):
        events = (
            happened("authorization", 4_000),
            happened("decline", 4_000, after=timedelta(minutes=1)),
            happened("clearing", 4_000, after=timedelta(days=1)),
        )
        assert told_after(make_coupon(), *events) == ("earned", None, 400)

    def test_a_chargeback_takes_the_reward_back(self):
        events = happened("clearing", 4_000), happened("chargeback", 4_000)
        assert told_after(make_coupon(), *events) == ("returned", None, 0)

    def test_a_chargeback_of_a_part_is_a_refund_of_it(self):
        events = happened("clearing", 4_000), happened("chargeback", 1_000)
        assert told_after(make_coupon(), *events) == ("earned", None, 300)

    def test_a_clearing_after_the_reversal_is_netted(self):
        events = (
            happened("authorization", 4_000),
            happened("reversal", 4_000),
            happened("clearing", 4_000),
        )
        assert told_after(make_coupon(), *events) == ("returned", None, 0)

    def test_yen_have_no_minor_unit(self):
        coupon = make_coupon(currency="JPY", basis_points=333, max_minor=10_000)
        # 3.33 % of 1,015 yen are 33.7995 yen
        told = told_after(coupon, happened("clearing", 1_015), currency="JPY")
        assert told == ("earned", None, 34)

    def test_dinars_have_a_thousand(self):
        coupon = make_coupon(currency="BHD", basis_points=250, max_minor=5_000)
        # 2.5 % of 12.340 dinars are 0.3085 dinars
        told = told_after(coupon, happened("clearing", 12_340), currency="BHD")
        assert told == ("earned", None, 309)

    def test_a_fixed_reward_is_at_most_what_was_spent(self):
        coupon = make_coupon(fixed_minor=500, basis_points=None, max_minor=None)
        assert told_after(coupon, happened("clearing", 300)) == ("earned", None, 300)


class TestWhatDoesNotFit:
    def test_no_coupon_no_redemption(self):
        shopping = Shopping()
        assert shopping.take(happened("clearing", 4_000)) is None

    def test_a_purchase_before_the_post_has_no_coupon(self):
        coupon = make_coupon(posted_at=NOON + timedelta(seconds=1))
        assert told_after(coupon, happened("clearing", 4_000)) == (None, None, 0)

    def test_a_purchase_at_the_moment_of_the_post_has_one(self):
        coupon = make_coupon(posted_at=NOON)
        assert told_after(coupon, happened("clearing", 4_000))[0] == "earned"

    def test_a_coupon_ends_at_its_end(self):
        coupon = make_coupon(valid_until=NOON)
        assert told_after(coupon, happened("clearing", 4_000)) == (None, None, 0)

    def test_the_purchases_own_time_counts_not_that_of_its_clearing(self):
        coupon = make_coupon(valid_until=NOON + timedelta(hours=1))
        events = (
            happened("authorization", 4_000),
            happened("clearing", 4_000, after=timedelta(days=3)),
        )
        assert told_after(coupon, *events) == ("earned", None, 400)
        assert told_after(coupon, *reversed(events)) == ("earned", None, 400)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"is_closed": True}, "late"),
            ({"currency": "EUR"}, "currency"),
            ({"acceptor_ids": frozenset({OTHER_SHOP_ID})}, "acceptor"),
            ({"channel": "online"}, "channel"),
            ({"min_spend_minor": 4_001}, "below_minimum"),
            # the first check that fails is the reason
            ({"channel": "online", "currency": "EUR", "is_closed": True}, "late"),
            ({"channel": "online", "acceptor_ids": frozenset({OTHER_SHOP_ID})}, "acceptor"),
        ],
    )
    def test_a_misfit_is_told_and_takes_no_use(self, changes, reason):
        shopping = Shopping(make_coupon(**changes))
        shopping.take(happened("authorization", 4_000), happened("clearing", 4_000))
        assert shopping.told() == ("rejected", reason, 0)
        (coupon,) = shopping.coupons.values()
        assert coupon.uses == 0

    def test_without_a_free_use_there_is_no_redemption(self):
        coupon = make_coupon(uses=1, spent_minor=500)
        assert told_after(coupon, happened("clearing", 4_000)) == (None, None, 0)

    def test_a_use_that_was_given_up_may_be_gone(self):
        shopping = Shopping(make_coupon())
        shopping.take(happened("clearing", 4_000), happened("refund", 4_000))
        (coupon,) = shopping.coupons.values()
        shopping.coupons[coupon.id] = coupon._replace(uses=1, spent_minor=500)
        shopping.take(happened("clearing", 2_000))
        assert shopping.told() == ("rejected", "used_up", 0)

    def test_a_provisional_use_that_was_given_up_may_be_gone(self):
        shopping = Shopping(make_coupon())
        shopping.take(happened("authorization", 4_000), happened("reversal", 4_000))
        (coupon,) = shopping.coupons.values()
        shopping.coupons[coupon.id] = coupon._replace(uses=1)
        shopping.take(happened("authorization", 4_000))
        assert shopping.told() == ("rejected", "used_up", 0)

    def test_nor_can_a_return_burn_a_use_that_is_gone(self):
        shopping = Shopping(make_coupon(refund_policy="burn"))
        shopping.take(happened("authorization", 4_000), happened("reversal", 4_000))
        (coupon,) = shopping.coupons.values()
        shopping.coupons[coupon.id] = coupon._replace(uses=1, spent_minor=500)
        shopping.take(happened("clearing", 4_000))
        assert shopping.told() == ("returned", None, 0)

    def test_a_place_learnt_late_can_refute_the_choice(self):
        shopping = Shopping(make_coupon(channel="in_store"))
        shopping.take(happened("clearing", 4_000, after=timedelta(days=1)))
        assert shopping.told() == ("earned", None, 400)
        shopping.take(happened("authorization", 4_000, acceptor_id=OTHER_SHOP_ID, channel="online"))
        assert shopping.told() == ("rejected", "channel", 0)

    def test_a_time_learnt_late_can_refute_the_choice(self):
        shopping = Shopping(make_coupon(posted_at=NOON + timedelta(hours=1)))
        shopping.take(happened("clearing", 4_000, after=timedelta(days=1)))
        assert shopping.told() == ("earned", None, 400)
        shopping.take(happened("authorization", 4_000))
        assert shopping.told() == ("rejected", "late", 0)
        (coupon,) = shopping.coupons.values()
        assert (coupon.spent_minor, coupon.uses) == (0, 0)


class TestAfterClosing:
    def closed(self, *events: Event) -> Shopping:
        """A coupon whose offer got back what these events had not spent."""
        shopping = Shopping(make_coupon())
        shopping.take(*events)
        (coupon,) = shopping.coupons.values()
        shopping.coupons[coupon.id] = coupon._replace(
            reserved_minor=coupon.spent_minor, is_closed=True
        )
        return shopping

    def test_a_clearing_is_late(self):
        shopping = self.closed()
        shopping.take(happened("clearing", 4_000))
        assert shopping.told() == ("rejected", "late", 0)

    def test_and_stays_late_when_some_of_it_comes_back(self):
        shopping = self.closed()
        shopping.take(happened("clearing", 4_000), happened("refund", 1_000))
        assert shopping.told() == ("rejected", "late", 0)

    def test_a_decrease_is_posted(self):
        shopping = self.closed(happened("clearing", 4_000))
        shopping.take(happened("refund", 1_000))
        assert shopping.told() == ("earned", None, 300)

    def test_an_increase_is_not(self):
        shopping = self.closed(happened("clearing", 4_000))
        shopping.take(happened("clearing", 500))
        assert shopping.told() == ("earned", None, 400)

    def test_what_was_given_back_stays_given_back(self):
        shopping = self.closed(happened("clearing", 4_000))
        shopping.take(happened("refund", 4_000), happened("clearing", 4_000))
        assert shopping.told() == ("returned", None, 0)
