"""When an authorisation that nobody clears is given up, asked of the rules alone."""

from datetime import datetime, timedelta

import pytest

from app.redemptions.domain import account, authorisation_days, decide, lapse
from tests.builders import NOON
from tests.redemptions.shopping import Shopping, happened, make_coupon


def lapsed(shopping: Shopping, now: datetime) -> Shopping:
    before = shopping.purchase
    assert before is not None
    after = lapse(before, now=now)
    redemption = decide(
        before=before,
        after=after,
        redemption=shopping.redemption,
        coupons=list(shopping.coupons.values()),
    )
    shopping.coupons |= account(shopping.coupons, before=shopping.redemption, after=redemption)
    shopping.purchase, shopping.redemption = after, redemption
    return shopping


def uses(shopping: Shopping) -> int:
    return sum(coupon.uses for coupon in shopping.coupons.values())


class TestTheTime:
    @pytest.mark.parametrize(
        ("mcc", "days"),
        [
            ("5812", 7),
            ("0000", 7),
            ("3350", 7),
            ("3351", 30),
            ("3441", 30),
            ("3442", 7),
            ("3500", 7),
            ("3501", 30),
            ("3999", 30),
            ("4000", 7),
            ("7011", 30),
            ("7512", 30),
            ("7513", 30),
        ],
    )
    def test_is_a_week_and_thirty_days_for_lodging_and_car_rental(self, mcc, days):
        assert authorisation_days(mcc) == days

    @pytest.mark.parametrize(("mcc", "days"), [("5812", 7), ("7011", 30)])
    def test_passes_to_the_second(self, mcc, days):
        early = NOON + timedelta(days=days, seconds=-1)
        for now, state in ((early, "pending"), (early + timedelta(seconds=1), "rejected")):
            shopping = Shopping(make_coupon())
            shopping.take(happened("authorization", 4_000, mcc=mcc))
            assert lapsed(shopping, now).told()[0] == state

    def test_is_counted_from_the_newest_authorisation(self):
        shopping = Shopping(make_coupon())
        shopping.take(
            happened("authorization", 4_000, after=timedelta(days=5)),
            happened("authorization", 1_000),
        )
        assert lapsed(shopping, NOON + timedelta(days=11)).told()[0] == "pending"
        assert lapsed(shopping, NOON + timedelta(days=12)).told()[:2] == ("rejected", "lapsed")

    def test_never_comes_for_what_has_cleared(self):
        shopping = Shopping(make_coupon())
        shopping.take(happened("authorization", 4_000), happened("clearing", 1_000))
        assert lapsed(shopping, NOON + timedelta(days=99)).told() == ("earned", None, 100)


class TestLapsing:
    def test_releases_the_use(self):
        shopping = Shopping(make_coupon())
        shopping.take(happened("authorization", 4_000))
        assert uses(shopping) == 1
        lapsed(shopping, NOON + timedelta(days=7))
        assert shopping.told() == ("rejected", "lapsed", 0)
        assert uses(shopping) == 0

    def test_twice_is_lapsing_once(self):
        shopping = Shopping(make_coupon())
        shopping.take(happened("authorization", 4_000))
        lapsed(shopping, NOON + timedelta(days=7))
        once = shopping.purchase, shopping.redemption, shopping.coupons
        lapsed(shopping, NOON + timedelta(days=8))
        assert (shopping.purchase, shopping.redemption, shopping.coupons) == once

    def test_is_forgotten_when_it_is_cleared_after_all(self):
        shopping = Shopping(make_coupon())
        shopping.take(happened("authorization", 4_000))
        lapsed(shopping, NOON + timedelta(days=7))
        shopping.take(happened("clearing", 4_000, after=timedelta(days=8)))
        assert shopping.told() == ("earned", None, 400)
        assert uses(shopping) == 1

    def test_is_forgotten_when_it_is_authorised_again(self):
        shopping = Shopping(make_coupon())
        shopping.take(happened("authorization", 4_000))
        lapsed(shopping, NOON + timedelta(days=7))
        shopping.take(happened("authorization", 4_000, after=timedelta(days=7)))
        assert shopping.told()[0] == "pending"

    def test_of_what_was_cancelled_says_that_it_was_cancelled(self):
        shopping = Shopping(make_coupon())
        shopping.take(happened("authorization", 4_000), happened("reversal", 4_000))
        assert lapsed(shopping, NOON + timedelta(days=7)).told()[:2] == ("rejected", "reversed")
