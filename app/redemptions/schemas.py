"""The transactions' part of the document, from the types that are read and written."""

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec

from app.redemptions.transactions import Answer, Transaction

Schema = dict[str, Any]


def _schema(of: type, examples: Sequence[Schema]) -> Schema:
    (found,) = msgspec.json.schema_components((of,))[1].values()
    found["description"] = inspect.cleandoc(found["description"])
    return {**found, "examples": list(examples)}


_AUTHORIZATION: Schema = {
    "id": "tx-1001",
    "type": "authorization",
    "purchase_id": "p-501",
    "card_ref": "card-7f3a",
    "acquirer_id": "ACQ-1",
    "acceptor_id": "88230017",
    "amount_minor": 1250,
    "currency": "USD",
    "occurred_at": "2026-07-15T11:15:00Z",
}
_ANSWER: Schema = {
    "id": "tx-1002",
    "status": "applied",
    "decision": "earned",
    "reason": None,
    "purchase_id": "p-501",
    "coupon_id": "0198f0c2-7d10-7000-8000-000000000005",
    "offer_id": "0198f0c2-7d10-7000-8000-000000000003",
    "reward_minor": 500,
    "currency": "USD",
}

TRANSACTION = _schema(Transaction, [_AUTHORIZATION])
CLEARING = TRANSACTION | {"examples": [{**_AUTHORIZATION, "id": "tx-1002", "type": "clearing"}]}
ANSWER = _schema(Answer, [_ANSWER])
ANSWER["required"] = list(ANSWER["properties"])

_LINE: Schema = {"type": "integer", "minimum": 1, "description": "its number"}
_TAKEN: Schema = {
    "type": "object",
    "required": ["line", *ANSWER["required"]],
    "properties": {"line": _LINE, **ANSWER["properties"]},
    "additionalProperties": False,
}
_MALFORMED: Schema = {
    "type": "object",
    "required": ["line", "id", "status", "reason", "detail"],
    "properties": {
        "line": _LINE,
        "id": {"type": "null"},
        "status": {"const": "rejected"},
        "reason": {"type": "string"},
        "detail": {"type": "string"},
    },
    "additionalProperties": False,
}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_SUMMARY: Schema = {
    "type": "object",
    "required": ["summary"],
    "properties": {
        "summary": {
            "type": "object",
            "required": ["read", "applied", "ignored", "unmatched", "rejected", "decisions"],
            "properties": {"decisions": {"type": "object", "additionalProperties": _COUNT}},
            "additionalProperties": _COUNT,
        }
    },
    "additionalProperties": False,
}
LINE_ANSWERS: Schema = {
    "oneOf": [_TAKEN, _MALFORMED, _SUMMARY],
    "examples": [
        {"line": 1, **_ANSWER},
        {
            "summary": {
                "read": 1,
                "applied": 1,
                "ignored": 0,
                "unmatched": 0,
                "rejected": 0,
                "decisions": {"earned": 1},
            }
        },
    ],
}
