"""How X says no."""

from collections.abc import Mapping
from typing import Literal

ProblemHost = Literal["api.twitter.com", "api.x.com"]

PROBLEMS = "https://api.twitter.com/2/problems/"


class Refusal(Exception):
    """An answer that is not a success. `body`: JSON, or a text as it is."""

    def __init__(self, status: int, body: Mapping[str, object] | str, media_type: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body
        self.media_type = media_type


class XProblem(Refusal):
    """Problem+json. `kind` is the last path segment of X's problem type; None for about:blank."""

    body: Mapping[str, object]

    def __init__(
        self, status: int, title: str, detail: str, *, kind: str | None = None, **more: object
    ) -> None:
        body = {
            **more,
            "title": title,
            "detail": detail,
            "type": PROBLEMS + kind if kind else "about:blank",
            "status": status,
        }
        super().__init__(status, body, "application/problem+json")


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


def rate_limited() -> XProblem:
    return XProblem(429, "Too Many Requests", "Too Many Requests")


def version_1(status: int, code: int, message: str) -> Refusal:
    """As X's first version says no, which is still seen."""
    return Refusal(status, {"errors": [{"code": code, "message": message}]}, "application/json")


def from_gateway(status: int, title: str) -> Refusal:
    """A gateway in front of X has its own body, and no limits to tell of."""
    return Refusal(status, f"<html><h1>{status} {title}</h1></html>", "text/html")
