"""Windows, hours and coupons by the clocks of real places, on the days on which those are moved.

Paris has 23 hours on 29 March 2026 and 25 on 25 October, New York on 8 March and 1 November;
Kathmandu is a quarter of an hour off everybody's, and moves nothing.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.offers.catalogue import build, named_by
from app.offers.schemas import OfferIn
from app.offers.terms import Terms, valid_until, within_hours
from tests.posts.test_matching import terms

TEA = terms("tea", starts=-5, ends=5)
PARIS = TEA._replace(time_zone="Europe/Paris")
NEW_YORK = TEA._replace(time_zone="America/New_York")
KATHMANDU = TEA._replace(time_zone="Asia/Kathmandu")
MICROSECOND = timedelta(microseconds=1)


def utc(text: str) -> datetime:
    """Of 2026."""
    return datetime.fromisoformat(f"2026-{text}").replace(tzinfo=UTC)


def changes_at(offer: Terms, day: str) -> list[str]:
    """When, in the 48 hours from that midnight in UTC, the offer starts and stops taking posts."""
    start = utc(f"{day}T00:00")
    quarters = [start + timedelta(minutes=15 * number) for number in range(4 * 48)]
    takes = [within_hours(offer, at) for at in quarters]
    return [
        f"{at:%d %H:%M} {'on' if now else 'off'}"
        for at, before, now in zip(quarters[1:], takes, takes[1:], strict=False)
        if now != before
    ]


class TestHours:
    def test_lose_the_hour_that_spring_takes(self) -> None:
        early = PARIS._replace(hours_from=time(1), hours_to=time(4))
        assert changes_at(early, "03-28") == [
            "28 03:00 off", "29 00:00 on", "29 02:00 off", "29 23:00 on",
        ]  # fmt: skip

    def test_within_the_hour_that_does_not_exist_do_not_come(self) -> None:
        missing = PARIS._replace(hours_from=time(2), hours_to=time(3))
        assert changes_at(missing, "03-29") == ["30 00:00 on", "30 01:00 off"]

    def test_come_twice_in_the_hour_that_autumn_repeats(self) -> None:
        half = PARIS._replace(hours_from=time(2, 30), hours_to=time(3))
        assert changes_at(half, "10-25") == [
            "25 00:30 on", "25 01:00 off", "25 01:30 on", "25 02:00 off",
            "26 01:30 on", "26 02:00 off",
        ]  # fmt: skip

    def test_over_midnight_end_by_the_moved_clock(self) -> None:
        saturday = PARIS._replace(days=frozenset({6}), hours_from=time(22), hours_to=time(3, 30))
        spring = saturday._replace(time_zone="America/New_York")
        assert changes_at(saturday, "10-24") == ["24 20:00 on", "25 02:30 off"]
        assert changes_at(spring, "03-07") == ["08 03:00 on", "08 07:30 off"]
        kathmandu = saturday._replace(time_zone="Asia/Kathmandu")
        assert changes_at(kathmandu, "03-28") == ["28 16:15 on", "28 21:45 off"]

    def test_until_midnight_end_with_their_day(self) -> None:
        evening = NEW_YORK._replace(days=frozenset({7}), hours_from=time(18), hours_to=time())
        assert changes_at(evening, "03-08") == ["08 22:00 on", "09 04:00 off"]

    @pytest.mark.parametrize(
        ("offer", "day", "changes"),
        [
            (PARIS, "03-28", ["28 23:00 on", "29 22:00 off"]),
            (PARIS, "10-24", ["24 22:00 on", "25 23:00 off"]),
            (NEW_YORK, "03-08", ["08 05:00 on", "09 04:00 off"]),
            (NEW_YORK, "11-01", ["01 04:00 on", "02 05:00 off"]),
            (KATHMANDU, "03-28", ["28 18:15 on", "29 18:15 off"]),
        ],
    )
    def test_of_a_day_are_as_many_as_it_has(
        self, offer: Terms, day: str, changes: list[str]
    ) -> None:
        assert changes_at(offer._replace(days=frozenset({7})), day) == changes

    @given(
        st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),  # noqa: DTZ001 - of UTC
        st.lists(st.times(), min_size=2, max_size=2, unique=True),
        st.sampled_from([PARIS, NEW_YORK, KATHMANDU]),
    )
    def test_and_the_rest_of_the_clock_are_every_moment_once(
        self, moment: datetime, edges: list[time], offer: Terms
    ) -> None:
        at = moment.replace(tzinfo=UTC)
        one = offer._replace(hours_from=edges[0], hours_to=edges[1])
        rest = offer._replace(hours_from=edges[1], hours_to=edges[0])
        assert within_hours(one, at) != within_hours(rest, at)


class TestACoupon:
    @pytest.mark.parametrize(
        ("offer", "posted_at", "days", "ends"),
        [
            (PARIS, "03-27T12:00", 2, "03-29T22:00"),
            (PARIS, "03-28T23:30", 0, "03-29T22:00"),  # posted in the first hour of the short day
            (PARIS, "10-24T12:00", 1, "10-25T23:00"),
            (PARIS, "10-25T22:30", 0, "10-25T23:00"),  # in the last hour of the long one
            (NEW_YORK, "03-01T12:00", 7, "03-09T04:00"),
            (NEW_YORK, "10-25T12:00", 7, "11-02T05:00"),
            (KATHMANDU, "10-25T18:14", 1, "10-26T18:15"),
            (KATHMANDU, "10-25T18:15", 1, "10-27T18:15"),
        ],
    )
    def test_is_good_to_the_midnight_after_its_last_day(
        self, offer: Terms, posted_at: str, days: int, ends: str
    ) -> None:
        offer = offer._replace(coupon_valid_days=days)
        assert valid_until(offer, utc(posted_at), default_days=30) == utc(ends)

    def test_with_a_last_day_ends_with_it_wherever_that_is(self) -> None:
        for offer, ends in ((PARIS, "10-25T23:00"), (NEW_YORK, "10-26T04:00"),
                            (KATHMANDU, "10-25T18:15")):  # fmt: skip
            dated = offer._replace(coupon_last_day=date(2026, 10, 25))
            assert valid_until(dated, utc("10-01T00:00"), default_days=30) == utc(ends)

    @given(
        st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),  # noqa: DTZ001 - of UTC
        st.integers(0, 60),
        st.sampled_from(["Europe/Paris", "America/New_York", "Asia/Kathmandu", "Africa/Cairo",
                         "Australia/Lord_Howe", "Pacific/Apia"]),
    )  # fmt: skip
    def test_outlives_its_post_and_ends_as_a_day_begins(
        self, moment: datetime, days: int, zone: str
    ) -> None:
        posted_at = moment.replace(tzinfo=UTC)
        offer = TEA._replace(time_zone=zone, coupon_valid_days=days)
        ends = valid_until(offer, posted_at, default_days=30)
        assert ends > posted_at
        before, after = (ends - MICROSECOND, ends)
        last_day = posted_at.astimezone(ZoneInfo(zone)).date() + timedelta(days=days)
        assert before.astimezone(ZoneInfo(zone)).date() == last_day
        assert after.astimezone(ZoneInfo(zone)).date() == last_day + timedelta(days=1)


class TestAWindow:
    def offer(self, starts_at: str, ends_at: str, zone: str, **more: Any) -> OfferIn:
        return OfferIn.model_validate(
            {
                "offer_ref": "o", "title": "Tea", "hashtag": "Tea", "starts_at": starts_at,
                "ends_at": ends_at, "time_zone": zone, "currency": "EUR",
                "reward": {"fixed_minor": 5}, **more,
            }
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("starts_at", "ends_at", "zone", "hours"),
        [
            ("2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00", "Europe/Paris", 23),
            ("2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00", "Europe/Paris", 25),
            ("2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00", "America/New_York", 25),
            ("2026-03-29T00:00:00+05:45", "2026-03-30T00:00:00+05:45", "Asia/Kathmandu", 24),
        ],
    )
    def test_of_a_local_day_holds_its_first_moment_and_not_its_end(
        self, starts_at: str, ends_at: str, zone: str, hours: int
    ) -> None:
        given = self.offer(starts_at, ends_at, zone)
        assert given.ends_at - given.starts_at == timedelta(hours=hours)
        offer = TEA._replace(starts_at=given.starts_at, ends_at=given.ends_at, time_zone=zone)
        following = TEA._replace(
            offer_id=offer.partner_id,
            starts_at=given.ends_at,
            ends_at=given.ends_at + timedelta(days=1),
        )
        catalogue = build(1, [offer, following])
        for moment, named in (
            (given.starts_at, offer),
            (given.ends_at - MICROSECOND, offer),
            (given.ends_at, following),
        ):
            assert named_by("tea", moment, catalogue) is named

    def test_that_ends_at_midnight_has_the_day_before_as_its_last(self) -> None:
        dates = ("2026-03-01T00:00:00+01:00", "2026-03-30T00:00:00+02:00", "Europe/Paris")
        assert self.offer(*dates, coupon_last_day="2026-03-29").coupon_last_day is not None
        with pytest.raises(ValidationError, match="last day that takes posts"):
            self.offer(*dates, coupon_last_day="2026-03-28")
