"""Bodies observed in public traffic, some with the words of X's documentation where they differ."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

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
from app.networks.x.problems import DETAIL_LENGTH_MAX, read_answer

RESET = 1_793_000_000
RESETS_AT = datetime.fromtimestamp(RESET, UTC)


def window(remaining: int, *, prefix: str = "x-rate-limit", reset: int = RESET) -> dict[str, str]:
    return {
        f"{prefix}-limit": "100",
        f"{prefix}-remaining": str(remaining),
        f"{prefix}-reset": str(reset),
    }


NOW = RESETS_AT - timedelta(minutes=10)


def read(status: int, body: object, headers: dict[str, str] | None = None) -> SendResult:
    return read_answer(status, headers or {}, json.dumps(body).encode(), now=NOW)


def read_raw(status: int, headers: dict[str, str], body: bytes) -> SendResult:
    return read_answer(status, headers, body, now=NOW)


@pytest.fixture(scope="module")
def observed(shared: Path) -> Callable[[str], SendResult]:
    """Reads an observed error by its name."""
    samples: dict[str, Any] = json.loads((shared / "x/samples/errors_observed.json").read_text())

    def answer(name: str) -> SendResult:
        sample = samples[name]
        body = sample.get("body") or {
            "title": "Forbidden",
            "type": "about:blank",
            "detail": sample["detail"],
        }
        return read(sample["status"], body, sample.get("headers"))

    return answer


class TestObservedErrors:
    @pytest.mark.parametrize(
        ("name", "kind", "said"),
        [
            ("429_usage_capped", OutOfCredits, "Usage cap exceeded: Monthly product cap"),
            ("402_credits_depleted", OutOfCredits, "does not have any credits"),
            ("403_reply_not_summoned_wording_1", NotAllowed, "have not been mentioned"),
            ("403_reply_not_summoned_wording_2", NotAllowed, "where you are mentioned"),
            ("403_dm_not_permitted", NotAllowed, "do not have permission to DM"),
            ("403_client_not_enrolled", AccessRefused, "attached to a Project"),
            ("400_invalid_request", Refused, "in_reply_to_tweet_id: is missing"),
        ],
    )
    def test_tells_what_to_do_and_why(
        self, observed: Callable[[str], SendResult], name: str, kind: type, said: str
    ) -> None:
        result = observed(name)
        assert type(result) is kind
        assert said in result.detail  # type: ignore[union-attr]

    def test_duplicate_content_is_no_refusal(self, observed: Callable[[str], SendResult]) -> None:
        assert observed("403_duplicate_content") == Duplicate()

    def test_too_many_connections_is_a_limit(self, observed: Callable[[str], SendResult]) -> None:
        assert observed("429_too_many_connections") == RateLimited(None)


class TestRecordedAnswers:
    def test_created_posts_carry_their_id_and_limits(self, shared: Path) -> None:
        path = shared / "x/samples/create_post_and_me_recorded.json"
        created = [
            sample for sample in json.loads(path.read_text()) if sample["status"]["code"] == 201
        ]
        assert created
        for sample in created:
            headers = {name.lower(): values[0] for name, values in sample["headers"].items()}
            result = read_raw(201, headers, sample["body"].encode())
            assert isinstance(result, Sent)
            assert result.post_id == json.loads(sample["body"])["data"]["id"]
            assert result.limits is not None
            assert result.limits.limit == 200

    def test_the_shape_of_2026_is_read(self, shared: Path) -> None:
        body = (shared / "x/samples/create_post_2026_response.json").read_bytes()
        assert read_raw(201, {}, body) == Sent("1900000000000000002")


class TestSuccess:
    def test_without_an_id_the_outcome_is_unknown(self) -> None:
        for body in (b"", b"{}", b'{"data":{}}', b'{"data":{"id":5}}', b'{"data":[]}', b"\xff"):
            assert isinstance(read_raw(201, {}, body), Unknown)


class TestProblemTypes:
    @pytest.mark.parametrize("host", ["api.twitter.com", "api.x.com"])
    def test_are_the_same_on_both_hosts(self, host: str) -> None:
        body = {"type": f"https://{host}/2/problems/usage-capped", "title": "?", "detail": "d"}
        assert read(429, body) == OutOfCredits("429: d")
        body = {"type": f"https://{host}/2/problems/credits", "title": "?", "detail": "d"}
        assert read(402, body) == OutOfCredits("402: d")
        assert read(403, body) == OutOfCredits("403: d")
        body = {"type": f"https://{host}/2/problems/client-forbidden", "detail": "d"}
        assert read(403, body) == AccessRefused("403: d")

    def test_version_1_codes_are_understood(self) -> None:
        def coded(code: int, status: int = 403) -> SendResult:
            return read(status, {"errors": [{"code": code, "message": "m"}]})

        assert coded(88, 429) == RateLimited(None)
        assert coded(185) == RateLimited(None)
        assert coded(187) == Duplicate()
        assert coded(64) == AccessRefused("403: m")
        assert coded(385) == NotAllowed("403: m")
        assert coded(144, 404) == Refused("404: m")


class TestMessages:
    def test_have_an_id_of_another_name(self) -> None:
        body = b'{"data":{"dm_conversation_id":"1-2","dm_event_id":"5"}}'
        assert read_answer(201, {}, body, now=NOW, id_name="dm_event_id") == Sent("5")
        assert isinstance(read_answer(201, {}, body, now=NOW), Unknown)


class TestTokens:
    def test_a_bad_token_stops_everything_and_is_not_tried_again(self) -> None:
        result = read(401, {"title": "Unauthorized", "detail": "Unauthorized"})
        assert result == AccessRefused("token refused: 401: Unauthorized")


class TestRateLimits:
    def test_the_reset_is_told_when_the_window_is_used_up(self) -> None:
        limits = Limits(100, 0, RESETS_AT)
        assert read(429, {}, window(0)) == RateLimited(RESETS_AT, limits=limits)

    def test_without_headers_the_reset_is_unknown(self) -> None:
        assert read(429, {"title": "Too Many Requests"}) == RateLimited(None)

    def test_a_window_with_room_left_is_not_what_is_used_up(self) -> None:
        result = read(429, {}, window(40))
        assert isinstance(result, RateLimited)
        assert result.resets_at is None

    def test_the_days_limits_are_told_apart_and_the_tighter_of_them_holds(self) -> None:
        day = {"reset": RESET + 36_000}
        headers = (
            window(40)
            | window(700, prefix="x-user-limit-24hour", **day)
            | window(3, prefix="x-app-limit-24hour", **day)
        )
        result = read(201, {"data": {"id": "1"}}, headers)
        assert result.limits == Limits(100, 40, RESETS_AT)
        assert result.day_limits == Limits(100, 3, RESETS_AT + timedelta(hours=10))

    def test_what_is_used_up_last_is_waited_for(self) -> None:
        day = window(0, prefix="x-app-limit-24hour", reset=RESET + 36_000)
        for headers in (window(40) | day, window(0) | day):
            result = read(429, {}, headers)
            assert isinstance(result, RateLimited)
            assert result.resets_at == RESETS_AT + timedelta(hours=10)

    @pytest.mark.parametrize("ahead", [-40, 0, 40])
    def test_ends_are_told_by_our_clock(self, ahead: int) -> None:
        """X's own time comes with its answer."""
        x_time = NOW - timedelta(seconds=ahead)
        headers = window(40) | {"date": format_datetime(x_time, usegmt=True)}
        limits = read(201, {"data": {"id": "1"}}, headers).limits
        assert limits is not None
        assert limits.resets_at == RESETS_AT + timedelta(seconds=ahead)

    @pytest.mark.parametrize(
        "date", ["yesterday", "Thu, 01 Jan 1970 00:00:00 GMT", "Sun, 25 Oct 2026 11:00:00 -0000"]
    )
    def test_a_date_that_makes_no_sense_is_as_none(self, date: str) -> None:
        result = read(201, {"data": {"id": "1"}}, window(40) | {"date": date})
        assert result.limits == Limits(100, 40, RESETS_AT)

    @pytest.mark.parametrize("bad", ["", "soon", "1e400", "9" * 30])
    def test_headers_that_make_no_sense_are_as_none(self, bad: str) -> None:
        headers = window(1) | {"x-rate-limit-reset": bad}
        assert read(201, {"data": {"id": "1"}}, headers) == Sent("1")


class TestServersInTrouble:
    @pytest.mark.parametrize("status", [408, 500, 503])
    def test_what_says_that_it_failed_may_be_tried_again(self, status: int) -> None:
        assert isinstance(read_raw(status, {}, b"<html>"), Temporary)

    @pytest.mark.parametrize("status", [502, 504])
    def test_a_gateway_does_not_know(self, status: int) -> None:
        assert isinstance(read_raw(status, {}, b"<html>"), Unknown)


class TestDetail:
    def test_is_bounded(self) -> None:
        result = read(400, {"detail": "x" * 10_000})
        assert isinstance(result, Refused)
        assert len(result.detail) == DETAIL_LENGTH_MAX

    def test_bodies_of_any_shape_are_survived(self) -> None:
        for body in (b"", b"[]", b"null", b'"x"', b'{"errors":[1,{"code":"a"}],"type":7}', b"\xff"):
            assert read_raw(400, {}, body) == Refused("400: no reason given")
