"""What goes over the wire when something happens."""

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from app.sandbox.posts import show_person, show_post
from app.sandbox.records import Message, Post, Rule, Subscription
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


def deletion_event(state: State, post: Post) -> Event:
    person = show_person(state.people[post.author_id])
    return Event(
        type="post.delete",
        id=state.new_id(),
        payload={"id": post.id, "author_id": post.author_id},
        includes={"users": [{"data": person}]},
    )


def message_event(
    state: State, message: Message, event_type: Literal["dm.received", "dm.sent"]
) -> Event:
    """In the shape of version 1.1, which X still gives it."""
    people = (message.sender_id, message.recipient_id)
    created = {
        "type": "message_create",
        "id": message.id,
        "created_timestamp": str(int(message.created_at.timestamp() * 1000)),
        "message_create": {
            "target": {"recipient_id": message.recipient_id},
            "sender_id": message.sender_id,
            "message_data": {
                "text": message.text,
                "entities": {"hashtags": [], "symbols": [], "user_mentions": [], "urls": []},
            },
        },
    }
    payload = {
        "direct_message_events": [created],
        "users": {
            person_id: {"data": show_person(state.people[person_id])} for person_id in people
        },
    }
    return Event(type=event_type, id=state.new_id(), payload=payload)


def filtered_line(state: State, post: Post, rules: list[Rule], selection: Selection) -> bytes:
    matching = [{"id": rule.id, **({"tag": rule.tag} if rule.tag else {})} for rule in rules]
    line = {**selection.one(state, post), "matching_rules": matching}
    return msgspec.json.encode(line) + b"\r\n"
