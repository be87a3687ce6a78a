"""Faults on demand."""

from typing import Any

from fastapi import APIRouter, Request, Response
from msgspec import to_builtins

from app.sandbox.control import show_json
from app.sandbox.faults import Fault
from app.sandbox.problems import not_found
from app.sandbox.web import SandboxDep, read_json

router = APIRouter(prefix="/sandbox/faults")

_ONE_OR_MANY: Any = Fault | list[Fault]


@router.post("")
async def arm(request: Request, sandbox: SandboxDep) -> Response:
    """One, or a list of them: `{"kind": "drop", "on": "filtered_stream", "after": 10}`."""
    given = await read_json(request, _ONE_OR_MANY)
    faults = given if isinstance(given, list) else [given]
    return show_json({"ids": [sandbox.faults.arm(fault) for fault in faults]})


@router.get("")
async def list_armed(sandbox: SandboxDep) -> Response:
    """Those that wait; `fired` counts by kind those that have struck, from the start."""
    items: list[dict[str, Any]] = [
        {"id": armed.id, "seen": armed.seen, "fired": armed.fired, **to_builtins(armed.fault)}
        for armed in sandbox.faults.armed.values()
    ]
    return show_json({"items": items, "fired": dict(sorted(sandbox.faults.fired.items()))})


@router.delete("")
async def disarm_all(sandbox: SandboxDep) -> Response:
    count = len(sandbox.faults.armed)
    sandbox.faults.armed.clear()
    return show_json({"cleared": count})


@router.delete("/{fault_id}")
async def disarm(sandbox: SandboxDep, fault_id: str) -> Response:
    if sandbox.faults.armed.pop(fault_id, None) is None:
        raise not_found("id", fault_id, "fault")
    return show_json({"cleared": 1})
