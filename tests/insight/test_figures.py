"""Medians from counts, and ratios."""

from bisect import bisect_right
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from app.insight.figures import divide, percentile, ratio, two_digits
from app.insight.rollup import BUCKET, BUCKETS, EDGES_MINUTES
from app.kit.db import Sessions
from tests.programme import NOW

RATIO = 2 ** (1 / 3)
NINETY_DAYS = 90 * 24 * 60


def counted(minutes: list[float]) -> list[int]:
    delays = [0] * BUCKETS
    for one in minutes:
        delays[bisect_right(EDGES_MINUTES, one)] += 1
    return delays


def exact(minutes: list[float], percent: int) -> float:
    ordered = sorted(minutes)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


class TestAPercentile:
    @pytest.mark.parametrize("middle", [5, 90, 1_440, 20_000])
    @pytest.mark.parametrize("spread", [0.3, 1.0, 2.0])
    def test_is_within_a_tenth_of_the_exact_one(self, middle: float, spread: float) -> None:
        """Of times as people have them: most soon, some long after."""
        chance = Random(f"{middle} {spread}")
        minutes = [
            min(NINETY_DAYS, middle * chance.lognormvariate(0, spread)) for _ in range(3_000)
        ]
        delays = counted(minutes)
        for percent in (50, 90):
            assert percentile(delays, percent) == pytest.approx(
                exact(minutes, percent), rel=0.1, abs=1
            )

    @given(st.lists(st.floats(1, NINETY_DAYS), min_size=1, max_size=60))
    def test_is_never_further_off_than_a_bucket(self, minutes: list[float]) -> None:
        found = percentile(counted(minutes), 50)
        low, high = exact(minutes, 49), exact(minutes, 50)
        assert found is not None
        assert low / RATIO - 1 <= found <= high * RATIO + 1

    def test_is_none_of_nothing(self) -> None:
        assert percentile([0] * BUCKETS, 50) is None
        assert percentile(None, 50) is None

    def test_is_of_whole_minutes_from_the_first_bucket_to_the_last(self) -> None:
        assert percentile(counted([0.1]), 90) == 1
        assert percentile(counted([10.0**6]), 50) == 2**17

    def test_is_rounded_half_up(self) -> None:
        assert percentile(counted([0.1]), 50) == 1  # 0.5

    async def test_has_its_buckets_from_the_database(self, sessions: Sessions) -> None:
        minutes = [0, 0.5, 1, 1.5, 2, 61, 64, 1_440, NINETY_DAYS, 2**17, 10**6]
        times = "CAST(:posted AS timestamptz) AS posted_at, at AS purchased_at"
        async with sessions.begin() as session:
            found = await session.scalars(
                text(
                    f"SELECT {BUCKET} FROM "
                    f"(SELECT {times} FROM unnest(CAST(:at AS timestamptz[])) AS at) s"
                ),
                {"posted": NOW, "at": [NOW + timedelta(minutes=one) for one in minutes]},
            )
            assert list(found) == [bisect_right(EDGES_MINUTES, one) for one in minutes]


class TestARatio:
    def test_has_four_decimals_half_up_and_is_none_of_nothing(self) -> None:
        assert [ratio(2, 3), ratio(1, 3), ratio(1, 20_000), ratio(7, 2), ratio(1, 0)] == [
            0.6667, 0.3333, 0.0001, 3.5, None,
        ]  # fmt: skip

    def test_of_minor_units_is_half_up(self) -> None:
        assert [divide(5, 2), divide(4, 3), divide(0, 3), divide(3, 0)] == [3, 1, 0, None]

    def test_has_two_digits_for_a_partner(self) -> None:
        assert [two_digits(n) for n in (0, 7, 99, 104, 105, 995, 52_340)] == [
            0, 7, 99, 100, 110, 1_000, 52_000,
        ]  # fmt: skip
