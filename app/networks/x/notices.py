"""What X tells beside posts and Tagback heeds: a post removed, direct messages, access revoked. The
payloads of three activity events, under X's names.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from app.networks import X
from app.networks.post import AccessRevoked, Event, MalformedPost, Message, Messages, PostRemoved
from app.networks.stop import asks_to_stop
from app.networks.x.shapes import unescaped

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

IdDigits = Annotated[str, Meta(pattern=r"\A[0-9]{1,20}\Z")]
Milliseconds = Annotated[str, Meta(pattern=r"\A[0-9]{1,14}\Z")]


class Removed(Struct, gc=False):
    id: IdDigits


class MessageData(Struct, gc=False):
    text: str = ""


class MessageCreate(Struct, gc=False):
    sender_id: IdDigits
    message_data: MessageData


class DirectMessage(Struct, gc=False):
    """Of API v1.1's shape. Only `message_create` has a sender and a text."""

    type: str
    id: IdDigits
    created_timestamp: Milliseconds
    message_create: MessageCreate | None = None


class DirectMessages(Struct, gc=False):
    direct_message_events: list[DirectMessage]


class Revoked(Struct, gc=False):
    user_id: IdDigits
    date_time: datetime


_removed = Decoder(Removed).decode
_messages = Decoder(DirectMessages).decode
_revoked = Decoder(Revoked).decode


def _post_removed(payload: Raw) -> PostRemoved:
    return PostRemoved(X, _removed(payload).id)


def _messages_received(payload: Raw) -> Messages:
    messages = []
    for event in _messages(payload).direct_message_events:
        created = event.message_create
        if event.type != "message_create" or created is None:
            continue
        messages.append(
            Message(
                id=event.id,
                sender_id=created.sender_id,
                sent_at=_EPOCH + timedelta(milliseconds=int(event.created_timestamp)),
                asks_to_stop=asks_to_stop(unescaped(created.message_data.text)),
            )
        )
    return Messages(X, tuple(messages))


def _access_revoked(payload: Raw) -> AccessRevoked:
    revoked = _revoked(payload)
    if revoked.date_time.tzinfo is None:
        raise MalformedPost("payload.date_time has no time zone.")
    return AccessRevoked(X, revoked.user_id, revoked.date_time.astimezone(UTC))


HEEDED: Mapping[str, Callable[[Raw], Event]] = {
    "post.delete": _post_removed,
    "dm.received": _messages_received,
    "oauth.revoke": _access_revoked,
}


def read_notice(kind: str, payload: Raw) -> Event:
    """`kind` is one of HEEDED. Raises what msgspec raises, and MalformedPost."""
    return HEEDED[kind](payload)
