"""What X was seen to do and its OpenAPI documents do not know, in one list."""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

HOSTS_OF_PROBLEMS = ("https://api.twitter.com", "https://api.x.com")  # both are seen

# What is X's and in neither document: signing in. Its answers are RFC 6749's.
UNDOCUMENTED = {
    ("GET", "/i/oauth2/authorize"),
    ("POST", "/i/oauth2/authorize"),
    ("POST", "/2/oauth2/token"),
    ("POST", "/2/oauth2/revoke"),
}

# Gateways in front of X answer these, with what body they like.
GATEWAY_STATUSES = {502, 503, 504}

# What X was recorded to say and the documents do not know: see `samples` of the reference material.
# Each is added to what stands at that place, in the edition that has it.
OBSERVED: Mapping[tuple[str, ...], Schema | list[Schema]] = {
    ("TweetCreateResponse", "properties", "data", "properties"): {
        "edit_history_tweet_ids": {"type": "array", "items": {"type": "string"}},
    },
    ("User", "properties", "public_metrics", "properties"): {"media_count": {"type": "integer"}},
    ("Expansions", "properties", "users"): {  # each in a `data` of its own with post.delete
        "items": {
            "anyOf": [
                {"$ref": "#/components/schemas/User"},
                {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"$ref": "#/components/schemas/User"}},
                },
            ]
        }
    },
    ("UsageCapExceededProblem", "properties"): {
        "account_id": {"type": "string"},
        "product_name": {"type": "string"},
    },
    ("ClientForbiddenProblem", "properties"): {
        "client_id": {"type": "string"},
        "required_enrollment": {"type": "string"},
    },
    ("ActivityStreamingResponsePayload", "oneOf"): [
        {  # dm.received, in the shape of version 1.1
            "type": "object",
            "required": ["direct_message_events", "users"],
            "properties": {
                "direct_message_events": {"type": "array", "items": {"type": "object"}},
                "users": {"type": "object"},
            },
        },
        {  # oauth.revoke
            "type": "object",
            "required": ["date_time", "user_id", "app_id"],
            "properties": {
                "date_time": {"type": "string", "format": "date-time"},
                "user_id": {"type": "string"},
                "app_id": {"type": "string"},
            },
        },
    ],
}
OBSERVED_PROBLEMS: Mapping[str, Schema] = {
    "credits": {
        "type": "object",
        "required": ["title", "detail", "type"],
        "properties": {
            "account_id": {"type": "integer"},
            "title": {"const": "CreditsDepleted"},
            "detail": {"type": "string"},
            "type": {"type": "string"},
            "status": {"type": "integer"},
        },
    },
}
# The style of version 1, still seen with 429 and code 88: the documents' `Error` in a list.
OBSERVED_ERRORS: Schema = {
    "type": "object",
    "required": ["errors"],
    "properties": {
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
            },
        }
    },
}
