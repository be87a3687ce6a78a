from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.ids import new_id
from app.networks.sender import (
    AccessRefused,
    Duplicate,
    Limits,
    NotAllowed,
    OutOfCredits,
    RateLimited,
    Refused,
    SendResult,
    Sent,
    Temporary,
    Unknown,
)
from app.replies.domain import (
    ATTEMPTS_MAX,
    BACK_OFF_MAX,
    Change,
    Claimed,
    Window,
    change,
    learnt,
    renewed,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
SECOND = timedelta(seconds=1)


def claimed(**more: Any) -> Claimed:
    values: dict[str, Any] = {
        "id": new_id(),
        "network": "x",
        "post_id": "1",
        "text": "Done! (7K3Q9ZXM)",
        "created_at": NOW,
        "attempts": 1,
        "outcome_unknown": False,
        "leased_until": NOW + timedelta(minutes=1),
    }
    return Claimed(**(values | more))


def after(result: SendResult, *, chance: float = 0.5, **reply: Any) -> Change:
    return change(claimed(**reply), result, now=NOW, window=QUARTER, chance=chance)


class TestAReply:
    def test_that_was_sent_is_done_and_keeps_the_posts_id(self) -> None:
        done = after(Sent("99"), outcome_unknown=True)
        assert (done.state, done.sent_post_id, done.outcome_unknown) == ("sent", "99", False)

    def test_that_the_network_has_already_is_done(self) -> None:
        assert after(Duplicate()).state == "sent"

    def test_that_is_forbidden_is_never_tried_again(self) -> None:
        done = after(NotAllowed("not mentioned"))
        assert (done.state, done.problem) == ("not_allowed", "not mentioned")

    def test_that_is_refused_has_failed(self) -> None:
        assert after(Refused("400: bad")).state == "failed"

    def test_over_the_limit_waits_for_the_reset_and_lost_no_attempt(self) -> None:
        waits = after(RateLimited(NOW + 5 * SECOND), attempts=3)
        assert (waits.state, waits.not_before, waits.attempts) == ("queued", NOW + 5 * SECOND, 2)

    def test_over_a_limit_whose_end_is_unknown_waits_a_window(self) -> None:
        assert after(RateLimited(None)).not_before == NOW + QUARTER

    @pytest.mark.parametrize("result", [OutOfCredits("402"), AccessRefused("401")])
    def test_that_nobody_could_have_sent_lost_no_attempt(self, result: SendResult) -> None:
        waits = after(result, attempts=1)
        assert (waits.state, waits.attempts) == ("queued", 0)

    def test_of_unknown_outcome_is_looked_up_soon(self) -> None:
        waits = after(Unknown("no answer"))
        assert (waits.state, waits.outcome_unknown) == ("queued", True)
        assert NOW < waits.not_before <= NOW + timedelta(seconds=30)

    @pytest.mark.parametrize("result", [Temporary("503"), RateLimited(None), OutOfCredits("402")])
    def test_of_unknown_outcome_stays_so_until_it_is_known(self, result: SendResult) -> None:
        assert after(result, outcome_unknown=True).outcome_unknown

    @pytest.mark.parametrize("result", [Temporary("503"), Unknown("no answer")])
    def test_fails_after_its_last_attempt(self, result: SendResult) -> None:
        assert after(result, attempts=ATTEMPTS_MAX - 1).state == "queued"
        assert after(result, attempts=ATTEMPTS_MAX).state == "failed"

    def test_waits_twice_as_long_after_each_failure(self) -> None:
        waits = [after(Temporary("503"), attempts=n).not_before - NOW for n in range(1, 8)]
        assert [wait.total_seconds() for wait in waits] == [15, 30, 60, 120, 240, 480, 960]

    @given(attempts=st.integers(1, 60), chance=st.floats(0, 1, exclude_max=True))
    def test_waits_an_hour_and_a_half_at_most(self, attempts: int, chance: float) -> None:
        wait = after(Temporary("503"), attempts=attempts, chance=chance).not_before - NOW
        assert 7 * SECOND < wait <= BACK_OFF_MAX * 1.5

    def test_keeps_the_lease_that_tells_its_claim_from_later_ones(self) -> None:
        reply = claimed()
        done = change(reply, Sent("99"), now=NOW, window=QUARTER, chance=0)
        assert (done.id, done.leased_until) == (reply.id, reply.leased_until)


class TestAWindow:
    window = Window(remaining=40, resets_at=NOW + QUARTER)

    def learn(
        self, *results: SendResult, window: Window | None = None, in_flight: int = 0
    ) -> Window:
        return learnt(window or self.window, results, now=NOW, length=QUARTER, in_flight=in_flight)

    def test_is_full_again_when_its_time_is_over(self) -> None:
        def at(moment: datetime) -> Window:
            return renewed(self.window, now=moment, limit=100, length=QUARTER)

        end = self.window.resets_at
        assert at(end - SECOND) == self.window
        assert at(end + 2 * SECOND) == Window(100, end + 2 * SECOND + QUARTER)

    def test_waits_a_second_longer_than_the_network_says(self) -> None:
        end = self.window.resets_at
        assert renewed(self.window, now=end, limit=100, length=QUARTER) == self.window

    def test_takes_the_networks_end_and_the_smaller_number(self) -> None:
        end = NOW + timedelta(minutes=3)
        fewer = self.learn(Sent("1", limits=Limits(100, 7, end)))
        assert fewer == Window(7, end)
        more = self.learn(Sent("1", limits=Limits(100, 99, end)))
        assert more == Window(40, end)

    def test_leaves_room_for_sends_under_way_only_when_it_was_wrong(self) -> None:
        end = self.window.resets_at
        right = self.learn(Sent("1", limits=Limits(100, 45, end)), in_flight=5)
        assert right == self.window
        wrong = self.learn(Sent("1", limits=Limits(100, 20, end)), in_flight=5)
        assert wrong == Window(15, end)
        none_left = self.learn(Sent("1", limits=Limits(100, 3, end)), in_flight=5)
        assert none_left == Window(0, end)

    def test_ignores_what_was_told_of_a_window_that_is_over(self) -> None:
        assert self.learn(Sent("1", limits=Limits(100, 0, NOW - SECOND))) == self.window

    def test_that_is_over_yields_to_the_networks_new_one(self) -> None:
        over = Window(remaining=0, resets_at=NOW)
        told = Limits(100, 99, NOW + QUARTER)
        assert self.learn(Sent("1", limits=told), window=over) == Window(99, NOW + QUARTER)

    def test_is_not_refilled_in_its_last_second(self) -> None:
        end = NOW + SECOND / 2
        told = Limits(100, 5, end)
        ending = Window(remaining=0, resets_at=end)
        assert self.learn(Sent("1", limits=told), window=ending) == ending

    def test_is_closed_until_the_reset_by_a_429(self) -> None:
        end = NOW + timedelta(minutes=3)
        assert self.learn(RateLimited(end)) == Window(0, end)
        assert self.learn(RateLimited(None)) == Window(0, NOW + QUARTER)

    def test_is_closed_for_some_seconds_even_when_clocks_differ(self) -> None:
        assert self.learn(RateLimited(NOW - SECOND)).resets_at >= NOW + 5 * SECOND

    @pytest.mark.parametrize("result", [OutOfCredits("credits"), AccessRefused("token")])
    def test_is_stopped_with_the_first_reason(self, result: SendResult) -> None:
        stopped = self.learn(result, OutOfCredits("later"))
        assert stopped.stopped_reason == result.detail  # type: ignore[union-attr]

    @given(st.lists(st.integers(0, 100)))
    def test_only_shrinks_while_it_lasts(self, told: list[int]) -> None:
        results = [Sent("1", limits=Limits(100, n, self.window.resets_at)) for n in told]
        assert self.learn(*results).remaining == min([40, *told])
