"""What stands before every route of X: who may call it, and how often."""

from dataclasses import dataclass
from hmac import compare_digest
from typing import Literal

from fastapi import Depends, Request
from fastapi.params import Depends as DependsType

from app.sandbox.oauth import SCOPES, find_grant
from app.sandbox.problems import XProblem, forbidden, rate_limited
from app.sandbox.profiles import WINDOWS_A_DAY
from app.sandbox.request_faults import meet, route_of
from app.sandbox.state import RateWindow, State
from app.sandbox.web import get_sandbox

_CONTEXTS = {
    "app": "OAuth 2.0 Application-Only",
    "user": "OAuth 2.0 User Context",
}

CallerKind = Literal["app", "user"]


@dataclass(frozen=True)
class Caller:
    """`user_id`: None when it is the app itself."""

    user_id: str | None = None
    scopes: frozenset[str] = frozenset()

    @property
    def kind(self) -> CallerKind:
        return "app" if self.user_id is None else "user"


def caller_of(request: Request) -> Caller:
    """Behind a gate."""
    caller: Caller = request.state.caller
    return caller


def user_of(request: Request) -> str:
    """The id of the person whose token it is, behind a gate for users."""
    user_id = caller_of(request).user_id
    if user_id is None:
        raise RuntimeError("no gate for users stands before this route")
    return user_id


def gate(accepts: CallerKind | Literal["either"], *scopes: str) -> list[DependsType]:
    """What a route depends on: it names the caller, counts the call, and leaves the rate-limit
    headers for the answer. A user's token must have been granted the `scopes`.
    """

    async def check(request: Request) -> None:
        sandbox = get_sandbox(request)
        state = sandbox.state
        caller = _caller(state, request.headers.get("authorization", ""))
        if accepts not in ("either", caller.kind):
            raise XProblem(
                403,
                "Unsupported Authentication",
                f"Authenticating with {_CONTEXTS[caller.kind]} is forbidden for this endpoint."
                f"  Supported authentication types are [{_CONTEXTS[accepts]}].",
                kind="unsupported-authentication",
            )
        if caller.user_id and not caller.scopes.issuperset(scopes):
            raise forbidden("Forbidden")
        request.state.caller = caller
        request.state.rate_headers = {}
        headers = request.state.rate_headers
        if not _within_limits(state, route_of(request), caller, headers):
            raise rate_limited()
        await meet(sandbox.faults, request)

    return [Depends(check)]


def open_to_all() -> list[DependsType]:
    """In place of a gate, where X asks for no token and counts nothing."""

    async def check(request: Request) -> None:
        request.state.rate_headers = {}
        await meet(get_sandbox(request).faults, request)

    return [Depends(check)]


def _within_limits(state: State, route: str, caller: Caller, headers: dict[str, str]) -> bool:
    """Each window counts the call, whether or not another is full."""
    limit = state.profile.requests[route]
    if caller.user_id:
        limit = state.profile.requests_as_user.get(route, limit)
    window_seconds = state.settings.window_seconds
    key = (route, caller.user_id or "app", "x-rate-limit")
    allowed = _count(state, key, limit, window_seconds, headers)
    if a_day := state.profile.requests_a_day.get(route):
        key = (route, "all", "x-app-limit-24hour")
        allowed &= _count(state, key, a_day, window_seconds * WINDOWS_A_DAY, headers)
    return allowed


def _caller(state: State, authorization: str) -> Caller:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer":
        if compare_digest(token.encode(), state.settings.user_token.encode()):
            return Caller(state.settings.account_id, SCOPES)
        if compare_digest(token.encode(), state.settings.app_token.encode()):
            return Caller()
        if grant := find_grant(state, token):
            return Caller(grant.user_id, frozenset(grant.scopes))
    raise XProblem(401, "Unauthorized", "Unauthorized")


def _count(
    state: State,
    key: tuple[str, str, str],
    limit: int,
    seconds: int,
    headers: dict[str, str],
) -> bool:
    prefix = key[-1]
    now = state.clock()
    window = state.rate_windows.get(key)
    if window is None or now >= window.resets_at:
        window = state.rate_windows[key] = RateWindow(resets_at=int(now) + seconds)
    allowed = window.used < limit
    window.used += allowed
    headers[f"{prefix}-limit"] = str(limit)
    headers[f"{prefix}-remaining"] = str(limit - window.used)
    headers[f"{prefix}-reset"] = str(window.resets_at)
    return allowed
