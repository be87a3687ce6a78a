"""What a purchase earns, asked of the rules alone."""

from datetime import datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.offers.terms import largest_reward, reward
from app.redemptions.domain import (
    Coupon,
    Event,
    Purchase,
    Redemption,
    Sums,
    TransactionType,
    account,
    decide,
    find_refunded,
    happen,
    net,
)
from tests.builders import NOON, PARTNER_ID, SHOP_ID, make_terms

OTHER_SHOP_ID = UUID(int=0xC)


def make_coupon(number: int = 1, **changes: Any) -> Coupon:
    """Loaded an hour before NOON, good for 30 days, for one purchase; terms may be changed too."""
    of_terms = {name: changes.pop(name) for name in list(changes) if hasattr(make_terms(), name)}
    terms = make_terms(offer_id=UUID(int=number), **of_terms)
    uses_max = terms.redemptions_per_coupon
    usual = Coupon(
        id=UUID(int=number),
        terms=terms,
        posted_at=NOON - timedelta(hours=1),
        valid_until=NOON + timedelta(days=30),
        reserved_minor=largest_reward(terms) * uses_max,
        spent_minor=0,
        uses=0,
        uses_max=uses_max,
        is_closed=False,
    )
    return usual._replace(**changes)


def happened(
    event_type: TransactionType, amount_minor: int, *, after: timedelta = timedelta(), **where: Any
) -> Event:
    return Event(
        type=event_type,
        amount_minor=amount_minor,
        occurred_at=where.get("at", NOON + after),
        card_ref="card-1",
        acceptor_id=where.get("acceptor_id", SHOP_ID),
        channel=where.get("channel", "in_store"),
    )


class Shopping:
    """A purchase and the coupons of its member, event by event."""

    def __init__(self, *coupons: Coupon, currency: str = "USD") -> None:
        self.coupons = {coupon.id: coupon for coupon in coupons}
        self.currency = currency
        self.purchase: Purchase | None = None
        self.redemption: Redemption | None = None

    def take(self, *events: Event) -> Redemption | None:
        for event in events:
            before = self.purchase or Purchase(
                id=UUID(int=0xD),
                ref="p-1",
                member_id=UUID(int=0xE),
                partner_id=PARTNER_ID,
                currency=self.currency,
                occurred_at=event.occurred_at,
                card_ref=event.card_ref,
                acceptor_id=event.acceptor_id,
                channel=event.channel,
                customer_kind="new",
            )
            after = happen(before, event)
            redemption = decide(
                before=before,
                after=after,
                redemption=self.redemption,
                coupons=list(self.coupons.values()),
            )
            self.coupons |= account(self.coupons, before=self.redemption, after=redemption)
            self.purchase, self.redemption = after, redemption
            for coupon in self.coupons.values():
                assert 0 <= coupon.spent_minor <= coupon.reserved_minor
                assert 0 <= coupon.uses <= coupon.uses_max
        return self.redemption

    @property
    def sums(self) -> Sums:
        assert self.purchase is not None
        return self.purchase.sums

    def told(self) -> tuple[str | None, str | None, int]:
        """State, reason and what is owed."""
        if self.redemption is None:
            return None, None, 0
        return self.redemption.state, self.redemption.reason, self.redemption.owed_minor


def told_after(coupon: Coupon, *events: Event, currency: str = "USD") -> tuple[Any, Any, int]:
    shopping = Shopping(coupon, currency=currency)
    shopping.take(*events)
    return shopping.told()


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
        events = happened("decline", 4_000), happened("authorization", 4_000)
        assert told_after(make_coupon(), *events) == ("pending", None, 0)

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
