import pytest

from app.kit.rates import Rates

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = 5 * SECOND

    def __call__(self) -> int:
        return self.now_ns

    def move(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND)


class TestANameThatComesOften:
    @pytest.mark.parametrize("per_minute", [1, 7, 60, 1_200, 1_000_000])
    def test_may_come_so_often_at_once_and_no_more(self, per_minute: int) -> None:
        rates = Rates(clock_ns=Clock())
        first = min(per_minute, 2_000)
        told = [rates.take("a", per_minute=per_minute) for _ in range(first)]
        assert all(one.is_allowed for one in told)
        assert [one.remaining for one in told] == list(
            range(per_minute - 1, per_minute - 1 - first, -1)
        )
        assert rates.take("a", per_minute=per_minute).is_allowed is (first < per_minute)

    def test_is_told_when_to_come_again(self) -> None:
        clock = Clock()
        rates = Rates(clock_ns=clock)
        for _ in range(6):
            rates.take("a", per_minute=6)
        refused = rates.take("a", per_minute=6)
        assert (refused.is_allowed, refused.remaining) == (False, 0)
        assert (refused.retry_seconds, refused.reset_seconds) == (10, 60)
        clock.move(9.9)
        assert not rates.take("a", per_minute=6).is_allowed
        clock.move(0.1)
        assert rates.take("a", per_minute=6).is_allowed
        assert not rates.take("a", per_minute=6).is_allowed

    def test_has_all_of_it_again_after_a_minute(self) -> None:
        clock = Clock()
        rates = Rates(clock_ns=clock)
        for _ in range(3):
            rates.take("a", per_minute=3)
        clock.move(3_600)
        assert [rates.take("a", per_minute=3).remaining for _ in range(3)] == [2, 1, 0]

    def test_does_not_wait_longer_for_having_been_refused(self) -> None:
        clock = Clock()
        rates = Rates(clock_ns=clock)
        told = [rates.take("a", per_minute=1).retry_seconds for _ in range(50)]
        assert told == [0] + [60] * 49

    def test_takes_nothing_from_another(self) -> None:
        rates = Rates(clock_ns=Clock())
        assert rates.take("a", per_minute=1).is_allowed
        assert rates.take("b", per_minute=1).is_allowed

    def test_that_only_looks_uses_nothing(self) -> None:
        rates = Rates(clock_ns=Clock())
        assert all(rates.look("a", per_minute=1).is_allowed for _ in range(3))
        assert rates.take("a", per_minute=1).is_allowed
        assert not rates.look("a", per_minute=1).is_allowed


def test_what_is_held_is_bounded_and_the_longest_unused_goes_first() -> None:
    rates = Rates(clock_ns=Clock(), names_max=3)
    for name in "abcadef":
        rates.take(name, per_minute=2)
    assert len(rates) == 3
    assert rates.take("f", per_minute=2).remaining == 0
    assert rates.take("a", per_minute=2).remaining == 1
