"""What a partner may see must not tell what it may not: the subtractions are tried."""

from itertools import combinations, product

from hypothesis import given
from hypothesis import strategies as st

from app.insight import cells
from app.insight.cells import Cell
from app.insight.figures import SaleFigures, show
from app.insight.rollup import BUCKETS
from app.insight.suppression import GROUP_MIN, withheld

Sizes = dict[tuple[str, ...], int]

SIZES = st.dictionaries(
    st.tuples(
        st.sampled_from("ab"), st.sampled_from("klm"), st.sampled_from("xyz"), st.just("USD")
    ),
    st.one_of(st.integers(0, 30), st.integers(0, 3)),
    max_size=18,
)


def subtractions(sizes: Sizes, hidden: set[tuple[str, ...]]) -> list[list[int]]:
    """For every sum over fewer dimensions of which something is shown: the groups that are left
    when what is shown is taken from it.
    """
    found = []
    for number in range(4):
        for kept in combinations(range(3), number):
            sums: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
            for key in sizes:
                sums.setdefault((*(key[place] for place in kept), key[-1]), []).append(key)
            for keys in sums.values():
                left = [sizes[key] for key in keys if key in hidden]
                if any(key not in hidden for key in keys):
                    found.append(left)
    return found


class TestWithheld:
    @given(SIZES)
    def test_leaves_no_small_group_by_any_subtraction(self, sizes: Sizes) -> None:
        hidden = withheld(sizes)
        assert {key for key, size in sizes.items() if size < GROUP_MIN} <= hidden
        for left in subtractions(sizes, hidden):
            assert not left or (len(left) > 1 and sum(left) >= GROUP_MIN)

    def test_withholds_the_next_smallest_beside_a_small_one(self) -> None:
        sizes = {("a", "USD"): 40, ("b", "USD"): 20, ("c", "USD"): 3}
        assert withheld(sizes) == {("b", "USD"), ("c", "USD")}

    def test_withholds_no_more_than_it_must(self) -> None:
        sizes = {("a", "USD"): 40, ("b", "USD"): 6, ("c", "USD"): 4, ("d", "USD"): 0}
        assert withheld(sizes) == {("b", "USD"), ("c", "USD"), ("d", "USD")}
        assert withheld({("a", "USD"): 40, ("b", "USD"): 20}) == set()

    def test_withholds_the_next_beside_one_of_which_all_was_returned(self) -> None:
        assert withheld({("a", "USD"): 40, ("b", "USD"): 0}) == {("a", "USD"), ("b", "USD")}

    def test_looks_along_every_dimension(self) -> None:
        """One small cell: its row, its column and its neighbour's must not tell it."""
        sizes = {(*cell, "USD"): 50 for cell in product("ab", "xy")} | {("a", "x", "USD"): 3}
        assert withheld(sizes) == set(sizes)

    def test_goes_on_along_a_chain(self) -> None:
        """Each offer runs for two weeks, and a week has two: one small group tells the next."""
        chain = {(f"offer {n // 2}", f"week {(n + 1) // 2}", "USD"): 50 + n for n in range(400)}
        first = next(iter(chain))
        assert withheld(chain | {first: 3}) == set(chain)

    def test_keeps_currencies_apart(self) -> None:
        sizes = {("a", "USD"): 3, ("a", "EUR"): 40, ("b", "EUR"): 50}
        assert withheld(sizes) == {("a", "USD")}

    def test_has_nothing_to_withhold_of_nothing(self) -> None:
        assert withheld({}) == set()


class TestMinutes:
    def test_are_told_to_no_partner(self) -> None:
        """What one purchase more changes in them would tell when its post was made."""
        sales = SaleFigures(redemptions=50, delays=[50, *[0] * (BUCKETS - 1)])
        assert show(None, sales, None)["median_minutes"] is not None
        told = cells.suppress({("USD",): Cell(None, sales)})["USD",].sales
        shown = show(None, told, None)
        assert shown["redemptions"] == 50
        assert (shown["median_minutes"], shown["p90_minutes"]) == (None, None)
