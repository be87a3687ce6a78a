"""Card transactions by the line, from a file or a request: what can be read of a batch is recorded
in one transaction, and a bad line stops none of its neighbours.
"""

import re
from collections.abc import Sequence
from datetime import datetime

from app.kit import clock
from app.kit.db import Sessions
from app.kit.lines import Line, LineResult
from app.redemptions.service import record_committed
from app.redemptions.transactions import (
    Answer,
    MalformedTransaction,
    Transaction,
    read_transaction,
    refusal,
)

# every cell of a CSV file is text
_AMOUNT_AS_TEXT = re.compile(rb'("amount_minor"\s*:\s*)"0*(\d+)"')


async def load(sessions: Sessions, lines: list[Line]) -> list[LineResult]:
    """For `tagback import transactions`."""
    as_json = [line._replace(raw=_AMOUNT_AS_TEXT.sub(rb"\1\2", line.raw)) for line in lines]
    return [_result(found) for found in await take_lines(sessions, as_json, now=clock.now())]


async def take_lines(
    sessions: Sessions, lines: Sequence[Line], *, now: datetime
) -> list[Answer | MalformedTransaction]:
    """One for each line, in order."""
    read = [_read(line, now) for line in lines]
    transactions = [found for found in read if isinstance(found, Transaction)]
    if not transactions:
        return [found for found in read if isinstance(found, MalformedTransaction)]
    answers = iter(await record_committed(sessions, transactions=transactions, now=now))
    return [next(answers) if isinstance(found, Transaction) else found for found in read]


def _read(line: Line, now: datetime) -> Transaction | MalformedTransaction:
    try:
        return read_transaction(line.raw, now=now)
    except MalformedTransaction as error:
        return error


def _result(found: Answer | MalformedTransaction) -> LineResult:
    if isinstance(found, MalformedTransaction):
        return LineResult("rejected", reason=found.detail)
    if (refused := refusal(found)) is not None:
        return LineResult("rejected", reason=refused.detail)
    if found.status == "ignored":
        return LineResult("ignored")
    return LineResult("accepted", (outcome_of(found),))


def outcome_of(answer: Answer) -> str:
    """How a transaction that was taken is counted."""
    return "unmatched" if answer.status == "unmatched" else answer.decision or "no_coupon"
