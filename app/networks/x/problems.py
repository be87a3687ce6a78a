"""What an answer of X to a new post means. Pure.

X answers with problem+json (`type`, `title`, `detail`), on some routes still with version 1's
`errors` of `code` and `message`. A problem's type is known by its last path segment: X serves it
under two hosts. Observed bodies: see the tests.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
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

# The quarter of an hour's limit of the user, and the day's of the user and of the app.
_LIMIT_HEADERS = ("x-rate-limit", "x-user-limit-24hour", "x-app-limit-24hour")
_ACCESS_KINDS = {"client-forbidden", "unsupported-authentication", "oauth1-permissions"}
# Version 1: could not authenticate, suspended, invalid or expired token, bad timestamp, app may
# not write, account locked.
_ACCESS_CODES = {32, 64, 89, 135, 261, 326}
_DUPLICATE_CODE = 187
_TRY_AGAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}
_RATE_CODES = {88, 185}  # the window's limit; the day's limit of posts


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> SendResult:
    """`headers`: looked up in lower case."""
    limits = read_limits(headers)
    if status in (HTTPStatus.OK, HTTPStatus.CREATED):
        post_id = _created_id(body)
        if post_id is None:
            return Unknown(f"answered {status} without the id of a post", limits=limits)
        return Sent(post_id, limits=limits)
    if status in (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT):
        # A gateway does not know what became of the request behind it.
        return Unknown(f"{status} from a gateway", limits=limits)
    problem = _Problem(status, body)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRY_AGAIN:
        return Temporary(problem.detail, limits=limits)
    return _refusal(status, problem, limits)


def _refusal(status: int, problem: "_Problem", limits: Limits | None) -> SendResult:
    detail = problem.detail
    result: SendResult = Refused(detail, limits=limits)
    if status == HTTPStatus.UNAUTHORIZED:
        result = AccessRefused(f"token refused: {detail}", limits=limits)
    elif status == HTTPStatus.PAYMENT_REQUIRED or problem.is_about_usage():
        result = OutOfCredits(detail, limits=limits)
    elif status == HTTPStatus.TOO_MANY_REQUESTS or problem.codes & _RATE_CODES:
        is_told = limits is not None and limits.remaining == 0
        result = RateLimited(limits.resets_at if limits and is_told else None, limits=limits)
    elif problem.is_about_duplicate():
        result = Duplicate(limits=limits)
    elif problem.kind in _ACCESS_KINDS or problem.codes & _ACCESS_CODES:
        result = AccessRefused(detail, limits=limits)
    elif status == HTTPStatus.FORBIDDEN:
        result = NotAllowed(detail, limits=limits)
    return result


def read_limits(headers: Mapping[str, str]) -> Limits | None:
    """None where X sends no whole set of its limit headers, as it sometimes does not."""
    found = []
    for prefix in _LIMIT_HEADERS:
        try:
            limit, remaining, reset = (
                int(headers[f"{prefix}-{name}"]) for name in ("limit", "remaining", "reset")
            )
            resets_at = datetime.fromtimestamp(reset, UTC)
        except (KeyError, ValueError, OverflowError, OSError):
            continue
        found.append(Limits(limit, max(0, remaining), resets_at))
    return min(
        found, key=lambda limits: (limits.remaining, -limits.resets_at.timestamp()), default=None
    )


class _Problem:
    """The parts of a problem that tell what to do, whatever else the body holds."""

    def __init__(self, status: int, body: bytes) -> None:
        document = _decode(body)
        self.kind = _text(document, "type").rstrip("/").rpartition("/")[2]
        self.title = _text(document, "title")
        self.codes: set[int] = set()
        words = [_text(document, "detail")]
        for error in _errors(document):
            if isinstance(code := error.get("code"), int):
                self.codes.add(code)
            words += [_text(error, "detail"), _text(error, "message")]
        said = "; ".join(dict.fromkeys(filter(None, words))) or self.title or "no reason given"
        self.detail = f"{status}: {said}"[:DETAIL_LENGTH_MAX]

    def is_about_usage(self) -> bool:
        return self.kind == "usage-capped" or self.title == "UsageCapExceeded"

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


def _created_id(body: bytes) -> str | None:
    data = _decode(body).get("data")
    return (_text(data, "id") or None) if isinstance(data, dict) else None
