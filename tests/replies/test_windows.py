import heapq
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.networks.sender import (
    AccessRefused,
    Limits,
    LookupFailed,
    OutOfCredits,
    RateLimited,
    SendResult,
    Sent,
    Temporary,
)
from app.replies.windows import DAY, Allowance, Limit, Window, full, learnt, renewed

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
SECOND = timedelta(seconds=1)
SHORT, LONG = Limit(100, QUARTER), Limit(10_000, DAY)
USUAL = Allowance(Window(40, NOW + QUARTER), Window(9_000, NOW + DAY))


def learn(*results: SendResult, before: Allowance = USUAL) -> Allowance:
    return learnt(before, results, short=SHORT, day=LONG, now=NOW)


def told(remaining: int, resets_at: datetime = USUAL.short.resets_at) -> Sent:
    return Sent("1", limits=Limits(100, remaining, resets_at))


class TestAWindow:
    def test_is_full_again_when_its_time_is_over(self) -> None:
        end = USUAL.short.resets_at
        assert renewed(USUAL.short, SHORT, end - SECOND) == USUAL.short
        assert renewed(USUAL.short, SHORT, end + SECOND) == Window(100, end + SECOND + QUARTER)

    def test_waits_a_second_longer_than_the_network_says(self) -> None:
        assert renewed(USUAL.short, SHORT, USUAL.short.resets_at) == USUAL.short

    def test_takes_the_networks_end_and_the_smaller_number(self) -> None:
        end = NOW + timedelta(minutes=3)
        assert learn(told(7, end)).short == Window(7, end)
        assert learn(told(99, end)).short == Window(40, end)

    def test_counts_for_itself_where_nothing_is_told(self) -> None:
        after = learn(Sent("1"), Temporary("503"))
        assert (after.short.remaining, after.day.remaining) == (38, 8_998)

    def test_counts_nothing_where_nothing_was_sent(self) -> None:
        assert learn(LookupFailed("GET: 429")) == USUAL

    def test_ignores_what_was_told_of_a_window_that_is_over(self) -> None:
        assert learn(told(0, NOW - SECOND)).short == USUAL.short

    def test_that_the_network_has_begun_anew_takes_its_place(self) -> None:
        next_end = USUAL.short.resets_at + QUARTER
        assert learn(told(99, next_end)).short == Window(99, next_end)

    def test_what_is_under_way_is_taken_off_what_was_told(self) -> None:
        assert learn(told(20)).left(5) == 15
        assert learn(told(3)).left(5) == -2

    def test_of_a_day_is_heeded_too(self) -> None:
        result = Sent("1", day_limits=Limits(10_000, 4, USUAL.day.resets_at))
        assert learn(result).left(1) == 3

    def test_of_any_settings_begins_full(self) -> None:
        assert full(SHORT, NOW) == Window(100, NOW + QUARTER)

    @given(st.lists(st.integers(0, 100)))
    def test_only_shrinks_while_it_lasts(self, numbers: list[int]) -> None:
        assert learn(*(told(n) for n in numbers)).short.remaining == min([40, *numbers])


class TestARefusal:
    def test_closes_what_is_used_up_until_its_end(self) -> None:
        end = NOW + timedelta(minutes=3)
        result = RateLimited(end, limits=Limits(100, 0, end))
        assert learn(result) == USUAL._replace(short=Window(0, end), day=Window(8_999, NOW + DAY))

    def test_of_the_day_closes_the_day(self) -> None:
        end = NOW + timedelta(hours=7)
        result = RateLimited(
            end, limits=Limits(100, 60, USUAL.short.resets_at), day_limits=Limits(10_000, 0, end)
        )
        assert learn(result) == USUAL._replace(day=Window(0, end))

    @pytest.mark.parametrize("limits", [None, Limits(100, 40, NOW + QUARTER)])
    def test_that_says_nothing_closes_for_a_window(self, limits: Limits | None) -> None:
        assert learn(RateLimited(None, limits=limits)).short == Window(0, NOW + QUARTER)

    def test_closes_for_some_seconds_even_when_clocks_differ(self) -> None:
        over = NOW - SECOND
        after = learn(RateLimited(over, limits=Limits(100, 0, over)))
        assert after.short.remaining == 0
        assert after.short.resets_at >= NOW + 5 * SECOND

    @pytest.mark.parametrize("result", [OutOfCredits("credits"), AccessRefused("token")])
    def test_for_good_stops_with_the_first_reason(self, result: SendResult) -> None:
        stopped = learn(result, OutOfCredits("later"))
        assert stopped.stopped_reason == result.detail  # type: ignore[union-attr]


@dataclass
class Network:
    """X as its windows are: the first request begins one, which ends at a whole second."""

    limit: int
    seconds: int
    ahead: float  # of our clock, the network's is behind by so much
    dates: bool  # whether answers say what time it is
    resets_at: int = 0
    used: Counter[int] = field(default_factory=Counter)  # by the window's end
    refused: int = 0

    def answer(self, at: float) -> tuple[bool, int, int, int | None]:
        own = at - self.ahead
        if own >= self.resets_at:
            self.resets_at = int(own) + self.seconds
        is_taken = self.used[self.resets_at] < self.limit
        self.used[self.resets_at] += is_taken
        self.refused += not is_taken
        remaining = self.limit - self.used[self.resets_at]
        return is_taken, remaining, self.resets_at, int(own) if self.dates else None


class Simulation:
    """Workers who always have more to send, on a clock of its own. What is claimed, sent, answered
    and recorded takes its time, each send another.
    """

    def __init__(self, network: Network, *, workers: int, seed: int, slowest: float) -> None:
        self.network = network
        self.chance = random.Random(seed)
        self.slowest = slowest
        self.limit = Limit(network.limit, timedelta(seconds=network.seconds))
        self.start = 1_800_000_000.0 + self.chance.random()
        over = Window(0, self._moment(self.start) - DAY)
        self.allowance = Allowance(over, over)
        self.under_way = 0
        self.unrecorded = [0] * workers
        self.events: list[tuple[float, int, str, int, SendResult | None]] = []
        self.order = count()
        for worker in range(workers):
            self._later(self.start + self.chance.random(), "claim", worker)

    def run(self, *, windows: int) -> None:
        while self.events:
            at, _, what, worker, result = heapq.heappop(self.events)
            if at > self.start + windows * (self.network.seconds + 3):
                return
            if what == "claim":
                self._claim(at, worker)
            elif what == "arrive":
                self._arrive(at, worker)
            elif result is not None:
                self._record(at, worker, result)

    def _claim(self, at: float, worker: int) -> None:
        now = self._moment(at)
        self.allowance = self.allowance._replace(
            short=renewed(self.allowance.short, self.limit, now),
            day=renewed(self.allowance.day, LONG, now),
        )
        room = min(32 - self.unrecorded[worker], self.allowance.left(self.under_way))
        for _ in range(room):
            self.under_way += 1
            self.unrecorded[worker] += 1
            self._later(at + self._takes(), "arrive", worker)
        self._later(at + 1.5, "claim", worker)

    def _arrive(self, at: float, worker: int) -> None:
        is_taken, remaining, reset, date = self.network.answer(at)
        back = at + self._takes()
        ahead = timedelta() if date is None else timedelta(seconds=back - date)
        limits = Limits(self.network.limit, remaining, self._moment(reset) + ahead)
        result: SendResult = Sent("1", limits=limits)
        if not is_taken:
            result = RateLimited(limits.resets_at, limits=limits)
        self._later(back, "record", worker, result)

    def _record(self, at: float, worker: int, result: SendResult) -> None:
        now = self._moment(at)
        self.allowance = learnt(self.allowance, [result], short=self.limit, day=LONG, now=now)
        self.under_way -= 1
        self.unrecorded[worker] -= 1

    def _takes(self) -> float:
        return self.slowest * self.chance.random() ** 3

    def _later(self, at: float, what: str, worker: int, result: SendResult | None = None) -> None:
        heapq.heappush(self.events, (at, next(self.order), what, worker, result))

    def _moment(self, at: float) -> datetime:
        return datetime.fromtimestamp(at, UTC)

    def shares(self) -> Iterator[float]:
        """What was used of each of the network's windows but the last."""
        whole = sorted(self.network.used)[:-1]
        return (self.network.used[end] / self.network.limit for end in whole)


class TestManyWindows:
    @settings(max_examples=30, deadline=None)
    @given(
        seed=st.integers(0, 10_000),
        workers=st.integers(1, 6),
        slowest=st.sampled_from([0.1, 1.0, 8.0]),
        ahead=st.floats(-300, 300),
    )
    def test_whatever_the_clocks_say_none_is_refused_and_nothing_is_left(
        self, seed: int, workers: int, slowest: float, ahead: float
    ) -> None:
        network = Network(limit=100, seconds=900, ahead=ahead, dates=True)
        simulation = Simulation(network, workers=workers, seed=seed, slowest=slowest)
        simulation.run(windows=4)
        assert network.refused == 0
        assert len(network.used) >= 3
        assert min(simulation.shares()) >= 0.95

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 10_000), ahead=st.floats(-0.9, 0.9))
    def test_without_the_networks_time_clocks_may_differ_by_a_second(
        self, seed: int, ahead: float
    ) -> None:
        network = Network(limit=100, seconds=900, ahead=ahead, dates=False)
        simulation = Simulation(network, workers=3, seed=seed, slowest=1.0)
        simulation.run(windows=4)
        assert network.refused == 0
        assert min(simulation.shares()) >= 0.95
