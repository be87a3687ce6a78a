"""What an answer of X to a new post means. Pure.

X answers with problem+json (`type`, `title`, `detail`), on some routes still with version 1's
`errors` of `code` and `message`. A problem's type is known by its last path segment: X serves it
under two hosts. Observed bodies: see the tests.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import msgspec

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

DETAIL_LENGTH_MAX = 300

_SHORT_LIMIT = "x-rate-limit"  # of a quarter of an hour
_DAY_LIMITS = ("x-user-limit-24hour", "x-app-limit-24hour")
# A date further from our own is no clock's but a cache's, or a mistake.
_CLOCKS_DIFFER_MAX = timedelta(hours=1)
_USAGE_KINDS = {"usage-capped", "credits"}
_USAGE_TITLES = {"UsageCapExceeded", "CreditsDepleted"}
_ACCESS_KINDS = {"client-forbidden", "unsupported-authentication", "oauth1-permissions"}
# Version 1: could not authenticate, suspended, invalid or expired token, bad timestamp, app may
# not write, account locked.
_ACCESS_CODES = {32, 64, 89, 135, 261, 326}
_DUPLICATE_CODE = 187
_TRY_AGAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}
_RATE_CODES = {88, 185}  # the window's limit; the day's limit of posts


def read_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, now: datetime, id_name: str = "id"
) -> SendResult:
    """`headers`: looked up in lower case. `now`: when the answer came. `id_name`: what X calls the
    id of what was to be created.
    """
    limits, day_limits = read_limits(headers, now), read_day_limits(headers, now)
    result = _read(status, body, id_name, limits, day_limits)
    return replace(result, limits=limits, day_limits=day_limits)


def _read(
    status: int, body: bytes, id_name: str, limits: Limits | None, day_limits: Limits | None
) -> SendResult:
    if status in (HTTPStatus.OK, HTTPStatus.CREATED):
        created = _created_id(body, id_name)
        return Unknown(f"answered {status} without an id") if created is None else Sent(created)
    if status in (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT):
        # A gateway does not know what became of the request behind it.
        return Unknown(f"{status} from a gateway")
    problem = _Problem(status, body)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRY_AGAIN:
        return Temporary(problem.detail)
    if problem.is_about_rate() and not problem.is_about_credits():
        used_up = [one.resets_at for one in (limits, day_limits) if one and not one.remaining]
        return RateLimited(max(used_up, default=None))
    return _refusal(status, problem)


def _refusal(status: int, problem: "_Problem") -> SendResult:
    detail = problem.detail
    result: SendResult = Refused(detail)
    if status == HTTPStatus.UNAUTHORIZED:
        result = AccessRefused(f"token refused: {detail}")
    elif problem.is_about_credits():
        result = OutOfCredits(detail)
    elif problem.is_about_duplicate():
        result = Duplicate()
    elif problem.kind in _ACCESS_KINDS or problem.codes & _ACCESS_CODES:
        result = AccessRefused(detail)
    elif status == HTTPStatus.FORBIDDEN:
        result = NotAllowed(detail)
    return result


def read_limits(headers: Mapping[str, str], now: datetime) -> Limits | None:
    """None where X sends no whole set of its limit headers, as it sometimes does not."""
    return _limits(headers, _SHORT_LIMIT, now)


def read_day_limits(headers: Mapping[str, str], now: datetime) -> Limits | None:
    """The tighter of the account's and the app's."""
    found = [limits for prefix in _DAY_LIMITS if (limits := _limits(headers, prefix, now))]
    return min(found, key=lambda limits: limits.remaining, default=None)


def _limits(headers: Mapping[str, str], prefix: str, now: datetime) -> Limits | None:
    try:
        limit, remaining, reset = (
            int(headers[f"{prefix}-{name}"]) for name in ("limit", "remaining", "reset")
        )
        resets_at = datetime.fromtimestamp(reset, UTC) + _ahead(headers, now)
    except (KeyError, ValueError, OverflowError, OSError):
        return None
    return Limits(limit, max(0, remaining), resets_at)


def _ahead(headers: Mapping[str, str], now: datetime) -> timedelta:
    """How far our clock is ahead of X's, by the date of its answer: a second too much rather than
    too little, for dates are cut to the second and answers take their time.
    """
    try:
        ahead = now - parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError, TypeError):
        return timedelta()
    return ahead if abs(ahead) <= _CLOCKS_DIFFER_MAX else timedelta()


def describe_problem(status: int, body: bytes) -> str:
    """For people."""
    return _Problem(status, body).detail


def is_about_credits(status: int, body: bytes) -> bool:
    """Whether nothing helps but to pay."""
    return _Problem(status, body).is_about_credits()


class _Problem:
    """The parts of a problem that tell what to do, whatever else the body holds."""

    def __init__(self, status: int, body: bytes) -> None:
        document = _decode(body)
        self.kind = _text(document, "type").rstrip("/").rpartition("/")[2]
        self.title = _text(document, "title")
        self.status = status
        self.codes: set[int] = set()
        words = [_text(document, "detail")]
        for error in _errors(document):
            if isinstance(code := error.get("code"), int):
                self.codes.add(code)
            words += [_text(error, "detail"), _text(error, "message")]
        said = "; ".join(dict.fromkeys(filter(None, words))) or self.title or "no reason given"
        self.detail = f"{status}: {said}"[:DETAIL_LENGTH_MAX]

    def is_about_credits(self) -> bool:
        is_named = self.kind in _USAGE_KINDS or self.title in _USAGE_TITLES
        return is_named or self.status == HTTPStatus.PAYMENT_REQUIRED

    def is_about_rate(self) -> bool:
        return self.status == HTTPStatus.TOO_MANY_REQUESTS or bool(self.codes & _RATE_CODES)

    def is_about_duplicate(self) -> bool:
        return _DUPLICATE_CODE in self.codes or "duplicate content" in self.detail.lower()


def _decode(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _errors(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    errors = document.get("errors")
    if isinstance(errors, list):
        yield from (error for error in errors if isinstance(error, dict))


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def _created_id(body: bytes, id_name: str) -> str | None:
    data = _decode(body).get("data")
    return (_text(data, id_name) or None) if isinstance(data, dict) else None
