"""What the stand-in remembers, in the form in which the data file keeps it."""

from datetime import datetime

from msgspec import Raw, Struct


class Person(Struct, kw_only=True):
    id: str
    handle: str
    name: str
    created_at: datetime
    followers: int
    default_picture: bool


class Post(Struct, kw_only=True, omit_defaults=True):
    """`text` is as its author wrote it; `v2` is the post as X shows it, full, as JSON.

    `history`: ids from the first version to this one. `mentioned`: ids of the people mentioned.
    """

    id: str
    author_id: str
    text: str
    created_at: datetime
    history: tuple[str, ...]
    mentioned: tuple[str, ...] = ()
    reply_to: str | None = None
    quote_of: str | None = None
    repost_of: str | None = None
    v2: Raw


class Webhook(Struct, kw_only=True):
    id: str
    url: str
    created_at: datetime
    valid: bool


class Subscription(Struct, kw_only=True, omit_defaults=True):
    id: str
    event_type: str
    user_id: str
    created_at: datetime
    tag: str | None = None
    webhook_id: str | None = None


class Entry(Struct, kw_only=True, omit_defaults=True):
    """One change. Exactly one field is set."""

    person: Person | None = None
    post: Post | None = None
    webhook: Webhook | None = None
    subscription: Subscription | None = None
    unsubscribed: str | None = None
    webhook_deleted: str | None = None
