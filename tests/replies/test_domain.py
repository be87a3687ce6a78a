from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.ids import new_id
from app.networks.sender import (
    AccessRefused,
    Duplicate,
    LookupFailed,
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
    change,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
SECOND = timedelta(seconds=1)
COST = 10_000


def claimed(**more: Any) -> Claimed:
    values: dict[str, Any] = {
        "id": new_id(),
        "network": "x",
        "channel": "post",
        "kind": "confirmation",
        "is_summoned": True,
        "post_id": "1",
        "recipient_id": "7",
        "text": "Done! (7K3Q9ZXM)",
        "created_at": NOW,
        "attempts": 1,
        "outcome_unknown": False,
        "leased_until": NOW + timedelta(minutes=1),
    }
    return Claimed(**(values | more))


def after(result: SendResult, *, chance: float = 0.5, **reply: Any) -> Change:
    return change(
        claimed(**reply), result, now=NOW, window=QUARTER, cost_microusd=COST, chance=chance
    )


class TestAReply:
    def test_that_was_sent_is_done_and_keeps_the_posts_id(self) -> None:
        done = after(Sent("99"), outcome_unknown=True)
        assert (done.state, done.sent_post_id, done.outcome_unknown) == ("sent", "99", False)

    def test_that_the_network_has_already_is_done(self) -> None:
        assert after(Duplicate()).state == "sent"

    def test_that_was_sent_has_cost_something_and_any_other_nothing(self) -> None:
        assert after(Sent("99")).cost_microusd == after(Duplicate()).cost_microusd == COST
        for other in (NotAllowed(""), Refused(""), RateLimited(None), Temporary(""), Unknown("")):
            assert after(other).cost_microusd is None

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

    @pytest.mark.parametrize(
        "result", [Temporary("no route", reached=False), LookupFailed("GET: 503")]
    )
    def test_that_x_has_not_heard_of_lost_no_attempt(self, result: SendResult) -> None:
        waits = after(result, attempts=ATTEMPTS_MAX, outcome_unknown=True)
        assert (waits.state, waits.attempts) == ("queued", ATTEMPTS_MAX - 1)
        assert waits.outcome_unknown
        assert 5 * SECOND < waits.not_before - NOW < timedelta(minutes=2)

    def test_is_looked_up_again_when_x_says(self) -> None:
        at = NOW + 800 * SECOND
        assert after(LookupFailed("GET: 429", at)).not_before == at

    def test_of_unknown_outcome_is_looked_up_soon(self) -> None:
        waits = after(Unknown("no answer"))
        assert (waits.state, waits.outcome_unknown) == ("queued", True)
        assert NOW < waits.not_before <= NOW + timedelta(seconds=30)

    def test_in_a_message_is_not_sent_again_when_it_may_have_arrived(self) -> None:
        done = after(Unknown("no answer"), channel="dm", kind="farewell")
        assert (done.state, done.problem) == ("failed", "may have arrived: no answer")
        assert done.outcome_unknown

    def test_in_a_message_that_was_not_sent_is_tried_again(self) -> None:
        assert after(Temporary("not reached"), channel="dm", kind="farewell").state == "queued"

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
        done = change(reply, Sent("99"), now=NOW, window=QUARTER, cost_microusd=COST, chance=0)
        assert (done.id, done.leased_until) == (reply.id, reply.leased_until)
