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
    lang: str = "en"
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
    updated_at: datetime | None = None
    tag: str | None = None
    webhook_id: str | None = None


class Rule(Struct, kw_only=True, omit_defaults=True):
    """A rule of the filtered stream."""

    id: str
    value: str
    created_at: datetime
    tag: str | None = None


class Message(Struct, kw_only=True):
    """A direct message."""

    id: str
    sender_id: str
    recipient_id: str
    text: str
    created_at: datetime


class Grant(Struct, kw_only=True, omit_defaults=True):
    """What a person allowed the app. Of the refresh token that counts now only the SHA-256 is kept:
    in memory and in the data file alike.
    """

    id: str
    user_id: str
    scopes: tuple[str, ...]
    refresh_digest: str | None = None


class AccessToken(Struct, frozen=True):
    """Not kept in the data file."""

    grant_id: str
    expires_at: float


class Code(Struct, frozen=True, kw_only=True):
    """What a person has just allowed: used once, and not kept in the data file."""

    user_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    challenge: str
    expires_at: float


class Entry(Struct, kw_only=True, omit_defaults=True):
    """One change. Exactly one field is set."""

    person: Person | None = None
    post: Post | None = None
    post_deleted: str | None = None
    message: Message | None = None
    webhook: Webhook | None = None
    subscription: Subscription | None = None
    unsubscribed: str | None = None
    webhook_deleted: str | None = None
    rule: Rule | None = None
    rule_deleted: str | None = None
    grant: Grant | None = None
    grant_ended: str | None = None
