from hypothesis import given
from hypothesis import strategies as st

from app.replies.budget import (
    Ceilings,
    Money,
    Prices,
    Spent,
    price_of,
    total,
    usage_kind_of,
    why_held,
)

PRICES = Prices(summoned=10_000, post=15_000, message=20_000, look_up=500_000)
CEILINGS = Ceilings(all=100_000, strangers=20_000)


class TestAPrice:
    def test_is_lower_for_those_who_have_called_us(self) -> None:
        assert price_of("confirmation", PRICES, is_summoned=True) == 10_000
        assert price_of("refusal", PRICES, is_summoned=False) == 15_000
        assert price_of("announcement", PRICES, is_summoned=False) == 15_000
        assert price_of("farewell", PRICES, is_summoned=True) == 20_000

    def test_is_counted_under_a_name_of_its_own(self) -> None:
        assert usage_kind_of("confirmation", is_summoned=True) == "summoned_reply"
        assert usage_kind_of("confirmation", is_summoned=False) == "post_create"
        assert usage_kind_of("announcement", is_summoned=False) == "post_create"
        assert usage_kind_of("invitation", is_summoned=True) == "invitation"
        assert usage_kind_of("farewell", is_summoned=True) == "dm"

    def test_of_several_adds_up_and_strangers_are_told_apart(self) -> None:
        sends = [("confirmation", True, 3), ("invitation", True, 2), ("farewell", True, 1)]
        assert total(sends, PRICES) == Spent(all=70_000, strangers=20_000)


class TestACeiling:
    def test_counts_what_is_under_way(self) -> None:
        left = Money(CEILINGS, Spent(40_000).plus(Spent(30_000, 10_000))).pays_for(15_000)
        assert (left.sends, left.invitations) == (2, 0)

    def test_that_was_lowered_is_overdrawn(self) -> None:
        left = Money(CEILINGS, Spent(110_000)).pays_for(15_000)
        assert left.sends is not None
        assert left.sends < 0

    def test_does_not_bind_what_costs_nothing(self) -> None:
        assert Money(CEILINGS, Spent(100_000)).pays_for(0).sends is None

    def test_says_why_it_holds(self) -> None:
        assert why_held(CEILINGS, Spent(85_000), dearest=15_000) is None
        reason = why_held(CEILINGS, Spent(85_001), dearest=15_000)
        assert reason == "the month's ceiling is reached: $0.09 of $0.10 spent"
        reason = why_held(CEILINGS, Spent(20_000, 20_000), dearest=15_000)
        assert reason == "the month's ceiling for invitations is reached: $0.02 of $0.02 spent"

    @given(
        ceiling=st.integers(0, 10**7),
        taken=st.integers(0, 10**7),
        dearest=st.integers(1, 10**6),
    )
    def test_is_never_exceeded_by_what_it_allows(
        self, ceiling: int, taken: int, dearest: int
    ) -> None:
        left = Money(Ceilings(ceiling, 0), Spent(taken)).pays_for(dearest)
        assert left.sends is not None
        if left.sends > 0:
            assert taken + left.sends * dearest <= ceiling
        assert taken + (left.sends + 1) * dearest > ceiling
