"""Tweets of API v1.1, as archives hold them, told in the terms of API v2."""

import re
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from app.networks.post import MalformedPost
from app.networks.x.shapes import (
    Author,
    Entities,
    Followers,
    Hashtag,
    Id,
    Language,
    Mention,
    Note,
    PostFields,
    Reference,
)

IdNumber = Annotated[int, Meta(ge=0, le=2**63 - 1)]

# Not strptime: it reads the names of months in the process's own language.
_TIME = re.compile(
    r"[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) (?P<day>[0-9]{2}) "
    r"(?P<hour>[0-9]{2}):(?P<min>[0-9]{2}):(?P<sec>[0-9]{2}) \+0000 (?P<year>[0-9]{4})"
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class ArchivedHashtag(Struct, gc=False):
    text: str
    indices: list[int] = []


class ArchivedMention(Struct, gc=False):
    id: IdNumber | None = None
    id_str: Id | None = None
    screen_name: str | None = None


class ArchivedEntities(Struct, gc=False):
    hashtags: list[ArchivedHashtag] | None = None
    user_mentions: list[ArchivedMention] | None = None


class ExtendedTweet(Struct, gc=False):
    """The whole of a tweet of over 140 characters, whose own `text` is cut."""

    full_text: str | None = None
    entities: ArchivedEntities | None = None


class ArchivedUser(Struct, gc=False):
    id: IdNumber | None = None
    id_str: Id | None = None
    screen_name: str | None = None
    created_at: str | None = None
    followers_count: Followers | None = None
    default_profile_image: bool | None = None


class Edits(Struct, gc=False):
    edit_tweet_ids: list[Id] = []
    initial_tweet_id: IdNumber | None = None


class EditControl(Struct, gc=False):
    """Of a first version only `initial` is present, of a later one only `edit`."""

    initial: Edits | None = None
    edit: Edits | None = None


class Retweeted(Struct, gc=False):
    """Nothing of the retweeted tweet is read, so that its tags cannot count."""


class ArchivedTweet(Struct, gc=False):
    """`edit_history` comes from the enterprise endpoints, `ext_edit_control` from the others."""

    id: IdNumber | None = None
    id_str: Id | None = None
    created_at: str | None = None
    text: str | None = None
    full_text: str | None = None
    entities: ArchivedEntities | None = None
    extended_tweet: ExtendedTweet | None = None
    user: ArchivedUser | None = None
    lang: Language | None = None
    retweeted_status: Retweeted | None = None
    edit_history: Edits | None = None
    ext_edit_control: EditControl | None = None


def in_terms_of_v2(tweet: ArchivedTweet) -> tuple[PostFields, Author]:
    """Raises `MalformedPost` where the author or a time is missing or not of v1.1's form."""
    user, extended = tweet.user, tweet.extended_tweet
    if user is None:
        raise MalformedPost("user is missing, and with it the author.")
    if tweet.created_at is None:
        raise MalformedPost("created_at is missing.")
    fields = PostFields(
        id=_id(tweet.id_str, tweet.id),
        author_id=_id(user.id_str, user.id),
        created_at=_time(tweet.created_at, field="created_at"),
        text=tweet.full_text if tweet.full_text is not None else tweet.text,
        edit_history_tweet_ids=_versions(tweet),
        entities=_entities(tweet.entities),
        lang=tweet.lang,
        referenced_tweets=[Reference("retweeted")] if tweet.retweeted_status else None,
        note_tweet=Note(extended.full_text, _entities(extended.entities)) if extended else None,
    )
    author = Author(
        handle=user.screen_name,
        created_at=_time(user.created_at, field="user.created_at") if user.created_at else None,
        followers=user.followers_count,
        default_picture=user.default_profile_image,
    )
    return fields, author


def _id(text: str | None, number: int | None) -> str | None:
    return str(number) if text is None and number is not None else text


def _versions(tweet: ArchivedTweet) -> list[str] | None:
    """The ids of the versions, of which the first is sure and the others may be left out."""
    control = tweet.ext_edit_control
    edits = tweet.edit_history or (control and (control.edit or control.initial))
    if not edits:
        return None
    first = _id(None, edits.initial_tweet_id)
    return [first] if first else edits.edit_tweet_ids


def _entities(entities: ArchivedEntities | None) -> Entities | None:
    if entities is None:
        return None
    hashtags = mentions = None
    if entities.hashtags is not None:
        hashtags = [Hashtag(tag.text, *tag.indices[:1]) for tag in entities.hashtags]
    if entities.user_mentions is not None:
        mentions = [
            Mention(_id(user.id_str, user.id), user.screen_name) for user in entities.user_mentions
        ]
    return Entities(hashtags, mentions)


def _time(written: str, *, field: str) -> datetime:
    found = _TIME.fullmatch(written)
    if found is None or found["month"] not in _MONTHS:
        raise MalformedPost(f"{field} is not of the form `Wed Oct 10 20:19:24 +0000 2018`.")
    day, hour, minute, second, year = map(int, found.group("day", "hour", "min", "sec", "year"))
    month = _MONTHS.index(found["month"]) + 1
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise MalformedPost(f"{field} is a time that does not exist.") from error
