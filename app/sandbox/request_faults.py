"""Faults of requests: before their effect, or after it, when only the answer is spoilt."""

from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from typing import get_args

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from app.sandbox.faults import ANY_REQUEST, Fault, Faults, RequestKind
from app.sandbox.problems import (
    Refusal,
    XProblem,
    forbidden,
    from_gateway,
    rate_limited,
    version_1,
)

_AFTER = frozenset(kind for kind in get_args(RequestKind) if kind.endswith("_after"))
_BEFORE = frozenset(get_args(RequestKind)) - _AFTER

NOT_SUMMONED = (
    "Reply to this conversation is not allowed because you have not been mentioned or otherwise"
    " engaged by the author of the post you are replying to."
)
NOT_SUMMONED_REWORDED = (
    "You can only reply to or quote posts where you are mentioned or are the author."
)
DUPLICATE = "You are not allowed to create a Tweet with duplicate content."
DM_NOT_PERMITTED = "You do not have permission to DM one or more participants."


def _credits_depleted() -> Refusal:
    return XProblem(
        402,
        "CreditsDepleted",
        "Your enrolled account [2056915467785113600] does not have any credits to fulfill this"
        " request.",
        kind="credits",
        account_id=2_056_915_467_785_113_600,
    )


def _client_forbidden() -> Refusal:
    return XProblem(
        403,
        "Client Forbidden",
        "When authenticating requests to the Twitter API v2 endpoints, you must use keys and"
        " tokens from a Twitter developer App that is attached to a Project. You can create a"
        " project via the developer portal.",
        kind="client-forbidden",
        client_id="26924600",
        registration_url="https://developer.twitter.com/en/docs/projects/overview",
        required_enrollment="Appropriate Level of API Access",
        reason="client-not-enrolled",
    )


def _usage_capped() -> Refusal:
    return XProblem(
        429,
        "UsageCapExceeded",
        "Usage cap exceeded: Monthly product cap",
        kind="usage-capped",
        account_id="2056915467785113600",
        product_name="standard-basic",
        period="Monthly",
        scope="Product",
    )


# Bodies that X was seen to give.
_REFUSALS: Mapping[str, Callable[[], Refusal]] = {
    "unauthorized": lambda: XProblem(401, "Unauthorized", "Unauthorized"),
    "credits_depleted": _credits_depleted,
    "forbidden": lambda: forbidden("Forbidden"),
    "not_summoned": lambda: forbidden(NOT_SUMMONED),
    "not_summoned_reworded": lambda: forbidden(NOT_SUMMONED_REWORDED),
    "duplicate_content": lambda: forbidden(DUPLICATE),
    "duplicate_content_v1": lambda: version_1(403, 187, "Status is a duplicate."),
    "dm_not_permitted": lambda: forbidden(DM_NOT_PERMITTED),
    "client_forbidden": _client_forbidden,
    "rate_limited": rate_limited,
    "rate_limited_bare": rate_limited,
    "rate_limited_v1": lambda: version_1(429, 88, "Rate limit exceeded"),
    "usage_capped": _usage_capped,
    "internal_error": lambda: XProblem(500, "Internal Server Error", "Internal Server Error"),
    "bad_gateway": lambda: from_gateway(502, "Bad Gateway"),
    "unavailable": lambda: XProblem(503, "Service Unavailable", "Service Unavailable"),
    "over_capacity_v1": lambda: version_1(503, 130, "Over capacity"),
    "gateway_timeout": lambda: from_gateway(504, "Gateway Timeout"),
}


class CutError(Exception):
    """The connection is cut before anything is done."""


class CutResponse(Response):
    """No answer at all: the connection ends. What was done before stays done."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del send
        scope["state"]["cut"]()
        while (await receive())["type"] != "http.disconnect":
            pass
        if self.background:
            await self.background()


class LateResponse(Response):
    def __init__(self, response: Response, faults: Faults, seconds: float) -> None:
        super().__init__()
        self._response = response
        self._faults = faults
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._faults.wait(self._seconds)
        await self._response(scope, receive, send)
        if self.background:
            await self.background()


async def meet(faults: Faults, request: Request) -> None:
    """Raises what strikes before the effect."""
    fault = _take(faults, request, _BEFORE)
    if fault is None:
        return
    if fault.kind == "slow":
        await faults.wait(fault.seconds)
        return
    if fault.kind == "cut":
        raise CutError
    headers: dict[str, str] = request.state.rate_headers
    refusal = _REFUSALS[fault.kind]()
    if fault.kind == "rate_limited":
        headers["x-rate-limit-remaining"] = "0"  # the day has more
    elif fault.kind == "rate_limited_bare" or refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        headers.clear()
    raise refusal


def spoil(faults: Faults, request: Request, response: Response) -> Response:
    """What becomes of the answer when something has been done."""
    fault = _take(faults, request, _AFTER)
    if fault is None:
        return response
    if fault.kind == "cut_after":
        return CutResponse()
    if fault.kind == "slow_after":
        return LateResponse(response, faults, fault.seconds)
    refusal = _REFUSALS[fault.kind.removesuffix("_after")]()
    return Response(str(refusal.body), refusal.status, media_type=refusal.media_type)


def route_of(request: Request) -> str:
    return f"{request.method} {request.scope['route'].path}"


def _take(faults: Faults, request: Request, kinds: Collection[str]) -> Fault | None:
    return faults.take(route_of(request), kinds=kinds) or faults.take(ANY_REQUEST, kinds=kinds)
