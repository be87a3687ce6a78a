"""What goes over the wire when something happens."""

from dataclasses import dataclass
from typing import Any

import msgspec

from app.sandbox.posts import show_person, show_post
from app.sandbox.records import Post, Rule, Subscription
from app.sandbox.selection import Selection, in_new_names, referenced_by
from app.sandbox.state import State


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a person. `post_id`: the post that is charged as read."""

    type: str
    id: str
    payload: dict[str, Any]
    includes: dict[str, Any] | None = None
    post_id: str | None = None

    def encode(self, subscription: Subscription | None = None) -> bytes:
        """As it is sent for this subscription, or unasked."""
        tag = subscription.tag if subscription else None
        data = {
            "event_uuid": self.id,
            "filter": {"user_id": subscription.user_id} if subscription else {},
            "event_type": self.type,
            **({"tag": tag} if tag else {}),
            "payload": self.payload,
            **({"includes": self.includes} if self.includes else {}),
        }
        return msgspec.json.encode({"data": data})


def mention_event(state: State, post: Post) -> Event:
    """The same post gives the same event id, whenever it is delivered."""
    people = dict.fromkeys((post.author_id, *post.mentioned))
    payload = show_post(post)
    includes: dict[str, Any] = {
        "users": [show_person(state.people[person_id]) for person_id in people],
        "tweets": [payload, *(show_post(other) for other in referenced_by(state, post))],
    }
    if state.settings.field_names == "2.167":
        payload, includes = in_new_names(payload), in_new_names(includes)
    return Event(
        type="post.mention.create",
        id=post.id,
        payload=payload,
        includes=includes,
        post_id=post.id,
    )


def filtered_line(state: State, post: Post, rules: list[Rule], selection: Selection) -> bytes:
    matching = [{"id": rule.id, **({"tag": rule.tag} if rule.tag else {})} for rule in rules]
    line = {**selection.one(state, post), "matching_rules": matching}
    return msgspec.json.encode(line) + b"\r\n"
