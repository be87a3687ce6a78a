"""Rewards, validity and hours, as rules over plain values."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.offers.terms import Terms, customer_kind, reward, valid_until, within_hours
from tests.posts.test_matching import terms

TEA = terms("tea", starts=-5, ends=5)
SHARE = TEA._replace(fixed_minor=None, basis_points=1_000, max_minor=700)


class TestAReward:
    def test_fixed_is_the_same_for_every_spend_that_reaches_the_minimum(self) -> None:
        asked = TEA._replace(min_spend_minor=2_000)
        assert [reward(asked, spend) for spend in (1_999, 2_000, 90_000)] == [0, 500, 500]

    def test_share_is_rounded_half_up_once_and_capped(self) -> None:
        assert [reward(SHARE, spend) for spend in (4, 5, 14, 15, 6_994, 6_995, 99_999)] == [
            0, 1, 1, 2, 699, 700, 700
        ]  # fmt: skip

    @given(st.integers(-(10**9), 10**9), st.sampled_from([TEA, SHARE]))
    def test_is_never_negative_nor_more_than_was_spent(self, spend: int, offer: Terms) -> None:
        assert 0 <= reward(offer, spend) <= max(0, spend)


class TestTheLastDay:
    def test_is_a_whole_day_in_the_offers_zone(self) -> None:
        offer = TEA._replace(time_zone="America/New_York", coupon_valid_days=3)
        late_evening = datetime(2026, 7, 16, 3, 30, tzinfo=UTC)  # still the 15th there
        ends = valid_until(offer, late_evening, default_days=30)
        assert ends == datetime(2026, 7, 19, 4, 0, tzinfo=UTC)

    def test_does_not_drift_by_an_hour_when_summer_time_ends(self) -> None:
        offer = TEA._replace(time_zone="Europe/Paris", coupon_valid_days=1)
        before = datetime(2026, 10, 24, 12, 0, tzinfo=UTC)  # summer time ends on the 25th
        assert valid_until(offer, before, default_days=30) == datetime(2026, 10, 25, 23, tzinfo=UTC)

    def test_may_be_given_and_is_else_the_default(self) -> None:
        post = datetime(2026, 7, 15, 12, 0, tzinfo=UTC)
        fixed = TEA._replace(coupon_last_day=date(2026, 12, 24))
        assert valid_until(fixed, post, default_days=30) == datetime(2026, 12, 25, tzinfo=UTC)
        assert valid_until(TEA, post, default_days=30) == datetime(2026, 8, 15, tzinfo=UTC)


def local(zone: str, day: int, hour: int, minute: int = 0) -> datetime:
    """A moment of July 2026, whose 13th is a Monday."""
    return datetime(2026, 7, day, hour, minute, tzinfo=ZoneInfo(zone)).astimezone(UTC)


class TestHours:
    @pytest.mark.parametrize(
        ("hour", "minute", "takes"),
        [(10, 59, False), (11, 0, True), (21, 59, True), (22, 0, False)],
    )
    def test_are_local_and_their_end_is_exclusive(
        self, hour: int, minute: int, *, takes: bool
    ) -> None:
        offer = TEA._replace(time_zone="Asia/Tokyo", hours_from=time(11), hours_to=time(22))
        assert within_hours(offer, local("Asia/Tokyo", 15, hour, minute)) is takes

    def test_over_midnight_belong_to_the_day_on_which_they_began(self) -> None:
        friday_night = TEA._replace(
            time_zone="Europe/Paris", days=frozenset({5}), hours_from=time(22), hours_to=time(2)
        )
        cases = {(17, 21): False, (17, 22): True, (18, 1): True, (18, 2): False, (17, 1): False}
        found = {case: within_hours(friday_night, local("Europe/Paris", *case)) for case in cases}
        assert found == cases

    def test_without_hours_a_day_is_a_whole_one(self) -> None:
        monday = TEA._replace(time_zone="Pacific/Auckland", days=frozenset({1}))
        assert within_hours(monday, local("Pacific/Auckland", 13, 0))
        assert not within_hours(monday, local("Pacific/Auckland", 12, 23, 59))


def test_customers_are_new_returning_or_lapsed() -> None:
    now = datetime(2026, 7, 15, tzinfo=UTC)
    seen = {days: customer_kind(last_purchase_at=now - timedelta(days=days), at=now)
            for days in (1, 180, 181)}  # fmt: skip
    assert seen == {1: "returning", 180: "returning", 181: "lapsed"}
    assert customer_kind(last_purchase_at=None, at=now) == "new"
