"""Reading what is asked, and answering."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qs

import msgspec
from fastapi import Depends, Request, Response

from app.sandbox.delivery import Sandbox
from app.sandbox.problems import PROBLEMS, Refusal, XProblem, invalid
from app.sandbox.request_faults import CutResponse, spoil

_BODY_BYTES_MAX = 1_000_000

T = TypeVar("T")


def get_sandbox(request: Request) -> Sandbox:
    sandbox: Sandbox = request.app.state.sandbox
    return sandbox


SandboxDep = Annotated[Sandbox, Depends(get_sandbox)]


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
    """A success, unless a fault spoils it."""
    response = Response(
        msgspec.json.encode(body),
        status,
        request.state.rate_headers,
        media_type="application/json; charset=utf-8",
    )
    return spoil(get_sandbox(request).faults, request, response)


async def answer_refusal(request: Request, refusal: Refusal) -> Response:
    body = refusal.body
    if isinstance(refusal, XProblem):
        host = get_sandbox(request).state.problem_host()
        kind = str(refusal.body["type"]).removeprefix(PROBLEMS)
        if kind != refusal.body["type"]:
            body = {**refusal.body, "type": f"https://{host}/2/problems/{kind}"}
    return Response(
        body if isinstance(body, str) else msgspec.json.encode(body),
        refusal.status,
        getattr(request.state, "rate_headers", {}),
        media_type=refusal.media_type,
    )


async def answer_nothing(_request: Request, _error: Exception) -> Response:
    """To who is cut off, or has gone before he had said it all."""
    return CutResponse()
