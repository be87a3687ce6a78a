"""What stands before every route of X: who may call it, how often, and how X says no."""

from collections.abc import Mapping
from hmac import compare_digest
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from fastapi import Depends, Request, Response
from fastapi.params import Depends as DependsType

from app.sandbox.delivery import Sandbox
from app.sandbox.profiles import DAY_SECONDS, QUARTER_HOUR_SECONDS
from app.sandbox.state import RateWindow, State

_PROBLEMS = "https://api.twitter.com/2/problems/"
_BODY_BYTES_MAX = 1_000_000

_CONTEXTS = {
    "app": "OAuth 2.0 Application-Only",
    "user": "OAuth 2.0 User Context",
}

Caller = Literal["app", "user"]
T = TypeVar("T")


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
            "type": _PROBLEMS + kind if kind else "about:blank",
            "status": status,
        }


def forbidden(detail: str) -> XProblem:
    return XProblem(403, "Forbidden", detail)


def invalid(message: str) -> XProblem:
    return XProblem(
        400,
        "Invalid Request",
        "One or more parameters to your request was invalid.",
        kind="invalid-request",
        errors=[{"message": message, "parameters": {}}],
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


def gate(accepts: Caller | Literal["either"]) -> list[DependsType]:
    """What a route depends on: it names the caller, counts the call, and leaves the rate-limit
    headers for the answer.
    """

    async def check(request: Request) -> None:
        state = get_sandbox(request).state
        caller = _caller(state, request.headers.get("authorization", ""))
        if accepts not in ("either", caller):
            raise XProblem(
                403,
                "Unsupported Authentication",
                f"Authenticating with {_CONTEXTS[caller]} is forbidden for this endpoint."
                f"  Supported authentication types are [{_CONTEXTS[accepts]}].",
                kind="unsupported-authentication",
            )
        route = f"{request.method} {request.scope['route'].path}"
        headers: dict[str, str] = {}
        request.state.rate_headers = headers
        windows = {"x-rate-limit": (state.profile.requests[route], QUARTER_HOUR_SECONDS)}
        if route == "POST /2/tweets":
            windows["x-app-limit-24hour"] = (state.profile.posts_per_day, DAY_SECONDS)
        allowed = [
            _count(state, (route, caller, prefix), limit, seconds, headers)
            for prefix, (limit, seconds) in windows.items()
        ]
        if not all(allowed):
            raise XProblem(429, "Too Many Requests", "Too Many Requests")

    return [Depends(check)]


def _caller(state: State, authorization: str) -> Caller:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer":
        if compare_digest(token.encode(), state.settings.user_token.encode()):
            return "user"
        if compare_digest(token.encode(), state.settings.app_token.encode()):
            return "app"
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


async def read_json(request: Request, shape: type[T]) -> T:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_BYTES_MAX:
            raise XProblem(413, "Payload Too Large", f"More than {_BODY_BYTES_MAX} bytes.")
    try:
        return msgspec.json.decode(body, type=shape)
    except ValueError as error:
        raise invalid(str(error)) from error


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
