from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from app.deps import NowDep, SessionsDep
from app.errors import Invalid
from app.kit import clock
from app.kit.db import Sessions
from app.kit.lines import Line
from app.openapi import JSON, NDJSON, lines, problems
from app.partners.auth import Principal, require
from app.redemptions.loader import outcome_of, take_lines
from app.redemptions.schemas import ANSWER, CLEARING, LINE_ANSWERS, TRANSACTION
from app.redemptions.service import record_committed
from app.redemptions.transactions import (
    MalformedTransaction,
    read_transaction,
    readable_id,
    refusal,
)

BATCH_LINES_MAX = 1_000  # to a transaction of the database

router = APIRouter(prefix="/v1", tags=["transactions"])

Processor = Annotated[Principal, Depends(require("processor", "issuer", "operator"))]


@router.post(
    "/transactions",
    response_class=Response,
    responses={200: {"content": {JSON: {"schema": ANSWER}}}, **problems(Invalid)},
    openapi_extra={"requestBody": {"required": True, "content": {JSON: {"schema": TRANSACTION}}}},
)
async def take_transaction(
    request: Request, sessions: SessionsDep, now: NowDep, _: Processor
) -> Response:
    """One card transaction, answered with what has become of its purchase. Sent again it changes
    nothing and is answered as the first time; of a card or a shop that is not of the programme it
    is `ignored` and not kept.
    """
    transaction = read_transaction(await request.body(), now=now)
    (answer,) = await record_committed(sessions, transactions=[transaction], now=now)
    if (refused := refusal(answer)) is not None:
        raise refused
    return Response(msgspec.json.encode(answer), media_type=JSON)


@router.post(
    "/transactions/batch",
    response_class=Response,
    responses={200: {"content": lines(LINE_ANSWERS, "a line for each, and the summary")}},
    openapi_extra={
        "requestBody": {"required": True, "content": lines(CLEARING, "transactions, one a line")}
    },
)
async def take_batch(
    request: Request, sessions: SessionsDep, now: NowDep, _: Processor
) -> StreamingResponse:
    """Card transactions, one JSON object a line. Answers a line for each with its number, as soon
    as its part of the batch is durable, and a summary as the last: without it the batch was not
    taken to its end, and may be sent again.
    """
    body = await request.body()
    lines = [
        Line(number, raw) for number, raw in enumerate(body.splitlines(), start=1) if raw.strip()
    ]
    parts = [lines[at : at + BATCH_LINES_MAX] for at in range(0, len(lines), BATCH_LINES_MAX)]
    counts: Counter[str] = Counter()
    decisions: Counter[str] = Counter()
    # before the answer begins, so that a database that is away is told by its status
    first = await _take(sessions, parts[0], now, counts, decisions) if parts else b""

    async def answers() -> AsyncIterator[bytes]:
        yield first
        for part in parts[1:]:
            yield await _take(sessions, part, clock.now(), counts, decisions)
        summary: dict[str, Any] = {"read": len(lines)}
        for status in ("applied", "ignored", "unmatched", "rejected"):
            summary[status] = counts[status]
        summary["decisions"] = dict(sorted(decisions.items()))
        yield msgspec.json.encode({"summary": summary}) + b"\n"

    return StreamingResponse(answers(), media_type=NDJSON)


async def _take(
    sessions: Sessions,
    lines: Sequence[Line],
    now: datetime,
    counts: Counter[str],
    decisions: Counter[str],
) -> bytes:
    told = []
    for line, found in zip(lines, await take_lines(sessions, lines, now=now), strict=True):
        if isinstance(found, MalformedTransaction):
            told.append(_malformed(line, found))
        else:
            told.append({"line": line.number, **msgspec.structs.asdict(found)})
            if found.status == "applied":
                decisions[outcome_of(found)] += 1
        counts[told[-1]["status"]] += 1
    return b"".join(msgspec.json.encode(one) + b"\n" for one in told)


def _malformed(line: Line, error: MalformedTransaction) -> dict[str, Any]:
    return {
        "line": line.number,
        "id": readable_id(line.raw),
        "status": "rejected",
        "reason": error.code,
        "detail": error.detail,
    }
