"""What goes over the wire when something happens."""

from typing import Any

import msgspec

from app.sandbox.posts import show_person
from app.sandbox.records import Post, Rule, Subscription
from app.sandbox.selection import Selection, referenced_by
from app.sandbox.state import State


def activity_event(
    subscription: Subscription,
    event_id: str,
    payload: dict[str, Any] | msgspec.Raw,
    includes: dict[str, Any] | None = None,
) -> bytes:
    about = {"user_id": subscription.user_id} if subscription.user_id else {}
    return msgspec.json.encode(
        {
            "data": {
                "event_uuid": event_id,
                "filter": about,
                "event_type": subscription.event_type,
                **({"tag": subscription.tag} if subscription.tag else {}),
                "payload": payload,
                **({"includes": includes} if includes else {}),
            }
        }
    )


def included_with(state: State, post: Post) -> dict[str, Any]:
    people = dict.fromkeys((post.author_id, *post.mentioned))
    return {
        "users": [show_person(state.people[person_id]) for person_id in people],
        "tweets": [post.v2, *(other.v2 for other in referenced_by(state, post))],
    }


def filtered_line(state: State, post: Post, rules: list[Rule], selection: Selection) -> bytes:
    matching = [{"id": rule.id, **({"tag": rule.tag} if rule.tag else {})} for rule in rules]
    line = {**selection.one(state, post), "matching_rules": matching}
    return msgspec.json.encode(line) + b"\r\n"
