"""What the routes for posts take and answer, for those who read the document: the decoder itself
reads bytes, and passes over what it does not know.
"""

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from app.kit.lines import LineStatus

_POST: dict[str, Any] = {
    "id": "1945000000000000001",
    "author_id": "2244994945",
    "created_at": "2026-07-15T09:30:00Z",
    "text": "Best espresso in town #CornerCoffee",
    "entities": {"hashtags": [{"tag": "CornerCoffee", "start": 22, "end": 35}]},
    "lang": "en",
}

POST_LINE: dict[str, Any] = {
    "type": "object",
    "description": "a line of X's API v2, an X activity event, or a tweet of v1.1: by its shape",
    "examples": [{"data": _POST}],
}
X_EVENT: dict[str, Any] = {
    "type": "object",
    "description": "an event of the X Activity API, signed by X",
    "examples": [
        {
            "data": {
                "event_type": "post.mention.create",
                "payload": _POST | {"id": "1945000000000000002"},
            }
        }
    ],
}
LINE_ANSWERS: dict[str, Any] = {
    "oneOf": [
        {
            "type": "object",
            "required": ["line", "status"],
            "additionalProperties": False,
            "properties": {
                "line": {"type": "integer", "minimum": 1, "description": "its number"},
                "status": {"enum": list(get_args(LineStatus))},
                "outcomes": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "for each offer that the post named",
                },
                "reason": {"type": "string", "description": "of a rejection"},
            },
        },
        {
            "type": "object",
            "required": ["summary"],
            "additionalProperties": False,
            "properties": {
                "summary": {
                    "type": "object",
                    "required": ["read", *get_args(LineStatus)],
                    "additionalProperties": {"type": "integer", "minimum": 0},
                }
            },
        },
    ],
    "examples": [
        {"line": 1, "status": "accepted", "outcomes": ["loaded"]},
        {"summary": {"read": 1, "accepted": 1, "ignored": 0, "rejected": 0}},
    ],
}


class ChallengeAnswer(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"response_token": "sha256=Zx9tGqkPZ0bqVwWl8zSg5D9rIuGm0d2cJ0T0qB0Yk3w="}]
        }
    )

    response_token: str = Field(description="the signature of the token")


class EventAnswer(BaseModel):
    """`ignored`: well-formed, and nothing to do with the programme."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "accepted"}]})

    status: Literal["accepted", "ignored", "rejected"]
    reason: str | None = Field(default=None, description="of a rejection")
