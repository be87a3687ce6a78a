"""What stands before every route of X: who may call it, how often, and how X says no."""

from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qs

import msgspec
from fastapi import Depends, Request, Response
from fastapi.params import Depends as DependsType

from app.sandbox.delivery import Sandbox
from app.sandbox.oauth import SCOPES, find_grant
from app.sandbox.profiles import WINDOWS_A_DAY
from app.sandbox.state import RateWindow, State

PROBLEMS = "https://api.twitter.com/2/problems/"
_BODY_BYTES_MAX = 1_000_000

_CONTEXTS = {
    "app": "OAuth 2.0 Application-Only",
    "user": "OAuth 2.0 User Context",
}

CallerKind = Literal["app", "user"]
T = TypeVar("T")


@dataclass(frozen=True)
class Caller:
    """`user_id`: None when it is the app itself."""

    user_id: str | None = None
    scopes: frozenset[str] = frozenset()

    @property
    def kind(self) -> CallerKind:
        return "app" if self.user_id is None else "user"


class XProblem(Exception):
    """An answer of X that is not a success: problem+json.

    `kind` is the last path segment of X's problem type; None for about:blank.
    """

    def __init__(
        self, status: int, title: str, detail: str, *, kind: str | None = None, **more: object
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.body: dict[str, object] = {
            **more,
            "title": title,
            "detail": detail,
            "type": PROBLEMS + kind if kind else "about:blank",
            "status": status,
        }


def forbidden(detail: str) -> XProblem:
    return XProblem(403, "Forbidden", detail)


def invalid(message: str, **parameters: str) -> XProblem:
    return XProblem(
        400,
        "Invalid Request",
        "One or more parameters to your request was invalid.",
        kind="invalid-request",
        errors=[{"message": message, "parameters": {k: [v] for k, v in parameters.items()}}],
    )


def not_found(parameter: str, value: str, kind: str) -> XProblem:
    return XProblem(
        404,
        "Not Found Error",
        f"Could not find {kind} with {parameter}: [{value}].",
        kind="resource-not-found",
        parameter=parameter,
        value=value,
        resource_id=value,
        resource_type=kind,
    )


def get_sandbox(request: Request) -> Sandbox:
    sandbox: Sandbox = request.app.state.sandbox
    return sandbox


SandboxDep = Annotated[Sandbox, Depends(get_sandbox)]


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
        state = get_sandbox(request).state
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
        route = f"{request.method} {request.scope['route'].path}"
        if not _within_limits(state, route, caller, request.state.rate_headers):
            raise XProblem(429, "Too Many Requests", "Too Many Requests")

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
    now = state.settings.clock()
    window = state.rate_windows.get(key)
    if window is None or now >= window.resets_at:
        window = state.rate_windows[key] = RateWindow(resets_at=int(now) + seconds)
    allowed = window.used < limit
    window.used += allowed
    headers[f"{prefix}-limit"] = str(limit)
    headers[f"{prefix}-remaining"] = str(limit - window.used)
    headers[f"{prefix}-reset"] = str(window.resets_at)
    return allowed


async def read_form(request: Request) -> dict[str, str]:
    """Of a field that comes twice, the first."""
    body = (await _read_body(request)).decode(errors="replace")
    return {name: values[0] for name, values in parse_qs(body).items()}


async def read_json(request: Request, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(await _read_body(request), type=shape)
    except ValueError as error:
        raise invalid(str(error)) from error


async def _read_body(request: Request) -> bytearray:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_BYTES_MAX:
            raise XProblem(413, "Payload Too Large", f"More than {_BODY_BYTES_MAX} bytes.")
    return body


def answer(request: Request, body: Mapping[str, Any], *, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(body),
        status,
        getattr(request.state, "rate_headers", {}),
        media_type="application/json; charset=utf-8",
    )


async def answer_problem(request: Request, problem: XProblem) -> Response:
    return Response(
        msgspec.json.encode(problem.body),
        problem.status,
        getattr(request.state, "rate_headers", {}),
        media_type="application/problem+json",
    )
