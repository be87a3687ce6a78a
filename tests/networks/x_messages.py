"""Messages as X writes them, and what the decoder makes of them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.networks.post import MalformedPost, NotAPost, Post
from app.networks.x.decode import XDecoder

PROGRAMME_ID = "222222222"
DECODER = XDecoder(PROGRAMME_ID, "MyBot")

POST_ID = "1900000000000000001"
POSTED_AT = datetime(2026, 7, 7, 13, 17, 1, tzinfo=UTC)


def line_of(message: object) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode()


def decoded(message: object) -> Post:
    post = DECODER.decode(line_of(message))
    assert isinstance(post, Post)
    return post


def ignored(message: object) -> str:
    other = DECODER.decode(line_of(message))
    assert isinstance(other, NotAPost)
    return other.kind


def refused(line: bytes) -> str:
    with pytest.raises(MalformedPost) as caught:
        DECODER.decode(line)
    return caught.value.reason


def fields(**changes: Any) -> dict[str, Any]:
    """A post of API v2; None takes a field away."""
    post = {
        "id": POST_ID,
        "author_id": "111",
        "created_at": "2026-07-07T13:17:01.000Z",
        "edit_history_tweet_ids": [POST_ID],
        "lang": "en",
        "text": "hello",
    } | changes
    return {name: value for name, value in post.items() if value is not None}


def streamed(includes: Any = None, **changes: Any) -> dict[str, Any]:
    rules = [{"id": "1", "tag": "#FromARule"}]
    return {"data": fields(**changes), "includes": includes or {}, "matching_rules": rules}


def event(event_type: str, payload: object, **more: Any) -> dict[str, Any]:
    return {"data": {"event_uuid": "1", "event_type": event_type, "payload": payload} | more}


def tagged(*tags: str) -> list[dict[str, Any]]:
    return [{"start": 10 * index, "end": 0, "tag": tag} for index, tag in enumerate(tags)]


USER: dict[str, Any] = {
    "id": "111",
    "username": "someone",
    "created_at": "2007-08-21T05:11:32.000Z",
    "profile_image_url": "https://pbs.twimg.com/profile_images/1/a_normal.jpg",
    "public_metrics": {"followers_count": 216},
}


def tweet(**changes: Any) -> dict[str, Any]:
    """A tweet of API v1.1; None takes a field away."""
    whole = {
        "created_at": "Wed Oct 10 20:19:24 +0000 2018",
        "id": 1050118621198921728,
        "id_str": "1050118621198921728",
        "text": "To make room &amp; save #Coffee",
        "lang": "en",
        "entities": {
            "hashtags": [{"text": "Coffee", "indices": [22, 29]}],
            "user_mentions": [],
        },
        "user": {
            "id": 6253282,
            "id_str": "6253282",
            "screen_name": "someone",
            "followers_count": 21,
            "created_at": "Wed May 23 06:01:13 +0000 2007",
            "default_profile_image": False,
        },
        "retweeted_status": None,
    } | changes
    return {name: value for name, value in whole.items() if value is not None}
