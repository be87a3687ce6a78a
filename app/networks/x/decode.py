import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import TypeVar

import structlog
from msgspec import DecodeError, Raw, ValidationError
from msgspec.json import Decoder
from prometheus_client import Counter

from app.kit.hashtags import Hashtag as ExtractedHashtag
from app.kit.hashtags import extract_hashtags, tag_key
from app.networks import X
from app.networks.post import Event, MalformedPost, NotAPost, Post, Received, StreamEnded
from app.networks.stop import asks_to_stop
from app.networks.x.archive import ArchivedTweet, in_terms_of_v2
from app.networks.x.notices import HEEDED, read_notice
from app.networks.x.shapes import (
    Activity,
    Author,
    Data,
    Entities,
    Hashtag,
    Includes,
    Line,
    Note,
    Page,
    PostFields,
    Problem,
    Problems,
    Reference,
    User,
    unescaped,
)

LINE_BYTES_MAX = 1_048_576
TAGS_MAX = 64
TAG_CHARS_MAX = 280
YEAR_MIN, YEAR_MAX = 2006, 2099

POST_EVENTS = frozenset(
    (
        "post.create",
        "post.mention.create",
        "post.quote.create",
        "post.reply.create",
        "post.repost.create",
    )
)
# What a stream of API v1.1 sends between tweets and its archives keep: `{"delete":{…}}`.
STREAM_NOTICES = frozenset(
    (
        "delete",
        "disconnect",
        "event",
        "friends",
        "limit",
        "scrub_geo",
        "status_withheld",
        "user_withheld",
        "warning",
    )
)
REPOSTS = frozenset(("reposted", "retweeted"))
_DISCONNECT = "operational-disconnect"

# From this id on (4 November 2010) an id tells its time: milliseconds after the epoch, above the
# lowest 22 bits.
SNOWFLAKE_ID_MIN = 29_700_859_247
SNOWFLAKE_EPOCH = datetime(2010, 11, 4, 1, 42, 54, 657_000, tzinfo=UTC)

_line = Decoder(Line).decode
_activity = Decoder(Activity).decode
_data = Decoder(Data).decode
_page = Decoder(Page).decode
_includes = Decoder(Includes | None).decode
_user = Decoder(User).decode
_by_field = Decoder(dict[str, Raw]).decode
_problem = Decoder(Problem).decode
_problems = Decoder(Problems).decode
# Not strict, because archives write numbers as numbers or as strings.
_archived_tweet = Decoder(ArchivedTweet, strict=False).decode

KEEP_ALIVE = NotAPost("keep-alive")

_is_handle = re.compile(r"[A-Za-z0-9_]{1,50}").fullmatch
_Shape = TypeVar("_Shape")
_UNREADABLE = (DecodeError, UnicodeDecodeError, RecursionError)

_rejected = Counter("tagback_lines_rejected", "Messages and posts that could not be read.")
log = structlog.get_logger(__name__)


class XDecoder:
    """Reads X's messages, each recognised by its shape: activity events, lines of an API v2 stream,
    tweets of API v1.1. `account_id` and `handle` are those of the programme's own account.
    """

    def __init__(self, account_id: str | None, handle: str | None) -> None:
        own_handle = (handle or "").removeprefix("@").lower()
        self._ids = frozenset((account_id,) if account_id else ())
        self._handles = frozenset((own_handle,) if own_handle else ())
        # As X does: "a@handle", "@handle_more" and "@handle@other.example" are not mentions.
        self._mention_in = re.compile(
            rf"(?<![a-z0-9_!#$%&*@\uff20])[@\uff20]{re.escape(own_handle)}"
            r"(?![a-z0-9_@\uff20\u00c0-\u024f]|://)",
            re.IGNORECASE | re.ASCII,
        ).search

    def decode(self, line: bytes) -> Received:
        """Raises `MalformedPost`, and nothing else, for what is neither a post nor another message
        that X is known to send.
        """
        if len(line) > LINE_BYTES_MAX:
            raise MalformedPost(f"The line is longer than {LINE_BYTES_MAX} bytes.")
        try:
            if not line.isascii():
                line.decode()  # msgspec does not look into the strings that it skips
            received = _line(line)
        except _UNREADABLE as error:
            return _other_than_a_post(line, error)
        data = received.data
        if data is None:
            return self._without_data(line)
        if data.event_type is None:
            return self._post(data, received.includes)
        if data.event_type not in POST_EVENTS:
            return _other_event(line, data.event_type)
        if data.payload is None:
            raise MalformedPost("data.payload is missing.")
        if data.payload.id is None and not _read(_by_field, _read(_activity, line).data.payload):
            return NotAPost(f"{data.event_type}:empty")
        return self._post(
            data.payload, data.includes, is_repost=data.event_type == "post.repost.create"
        )

    def decode_page(self, body: bytes) -> tuple[list[Post], str | None]:
        """The posts of an answer to a question, and the token of the page after it. A post in it
        that cannot be read is left out. Raises `MalformedPost` for what is no page.
        """
        page = _read(_page, body)
        authors = _authors(page.includes)
        posts = []
        for item in page.data:
            try:
                fields = _read(_data, item)
                posts.append(self._post(fields, authors.get(fields.author_id or "", Author())))
            except MalformedPost as error:
                reject(error)
        return posts, page.meta.next_token

    def _without_data(self, line: bytes) -> Post | StreamEnded | NotAPost:
        shape = _read(_by_field, line)
        if "errors" in shape:
            first = next(iter(_read(_problems, line).errors), Problem())
            return _problem_message(first)
        if "tweet" in shape:
            return self._post(*in_terms_of_v2(_read(_archived_tweet, shape["tweet"])))
        if "id_str" in shape or ("id" in shape and ("text" in shape or "full_text" in shape)):
            return self._post(*in_terms_of_v2(_read(_archived_tweet, line)))
        if len(shape) == 1 and STREAM_NOTICES.issuperset(shape):
            return NotAPost(next(iter(shape)))
        if "title" in shape and "type" in shape:
            return _problem_message(_read(_problem, line))
        raise MalformedPost("The line has the shape of no message that X sends.")

    def _post(self, fields: PostFields, author: Raw | Author, *, is_repost: bool = False) -> Post:
        """Every live line passes here and it costs as much as reading the JSON did: so a post
        without tags, as most are, is spared what only tags need, and one that does not mention the
        programme what only a word to it needs.
        """
        post_id, author_id, posted_at = fields.id, fields.author_id, fields.created_at
        if post_id is None or author_id is None:
            raise MalformedPost(f"{'id' if post_id is None else 'author_id'} is missing.")
        versions = fields.edit_history_tweet_ids or fields.edit_history_post_ids
        root_id = versions[0] if versions else post_id
        ids = post_id + author_id if root_id == post_id else post_id + author_id + root_id
        if not ids.encode().isdigit():  # of bytes: it takes only ASCII digits, and half the time
            raise MalformedPost("id, author_id or edit_history_tweet_ids is not made of digits.")
        if posted_at is None or posted_at.tzinfo is not UTC:
            posted_at = _time_in(post_id) if posted_at is None else _in_utc(posted_at)
        if not YEAR_MIN <= posted_at.year <= YEAR_MAX:
            raise MalformedPost(f"created_at is not between {YEAR_MIN} and {YEAR_MAX}.")

        entities, text, lang = fields.entities, fields.text or "", fields.lang
        note = fields.note_tweet or fields.note_post
        if note is not None and note.text is not None:
            text = note.text
        if "\0" in text or (lang is not None and "\0" in lang):
            raise MalformedPost("text or lang holds a NUL.")
        references = fields.referenced_tweets or fields.referenced_posts
        is_repost = is_repost or (references is not None and _is_repost(references))
        # what the programme itself posts asks for nothing: an announcement names its offer
        is_own = author_id in self._ids
        mentioned = False
        if not is_own and (entities is None or entities.mentions or note is not None):
            mentioned = self._is_mentioned(text, entities, note)
        stops = mentioned and not is_repost and asks_to_stop(unescaped(text))

        can_have_tags = not is_own and (
            "#" in text
            or "\uff03" in text
            or note is not None
            or (entities is not None and entities.hashtags)
        )
        tags = _tags(text, entities, note) if can_have_tags else ()
        if not tags:
            post = (
                X,
                post_id,
                root_id,
                author_id,
                posted_at,
                tags,
                mentioned,
                is_repost,
                lang,
            )
            return Post(*post, asks_to_stop=True) if stops else Post(*post)
        if isinstance(author, Raw):
            author = _author(author, author_id)
        return Post(
            X,
            post_id,
            root_id,
            author_id,
            posted_at,
            tags,
            mentioned,
            is_repost,
            lang,
            author_handle=_handle(author.handle),
            author_created_at=_joined(author.created_at),
            author_followers=author.followers,
            author_default_picture=author.default_picture,
            asks_to_stop=stops,
        )

    def _is_mentioned(self, text: str, entities: Entities | None, note: Note | None) -> bool:
        in_note = None if note is None else note.entities
        if entities is None and in_note is None:
            return bool(self._handles and self._mention_in(unescaped(text)))
        for found in (entities, in_note):
            for mention in (found and found.mentions) or ():
                if mention.id in self._ids or (mention.username or "").lower() in self._handles:
                    return True
        return False


def reject(error: MalformedPost) -> None:
    _rejected.inc()
    log.warning("line_rejected", reason=error.reason)


def _problem_message(problem: Problem) -> StreamEnded | NotAPost:
    if problem.disconnect_type is not None or problem.title == _DISCONNECT:
        return StreamEnded(problem.disconnect_type or _DISCONNECT)
    return NotAPost(f"error:{problem.title or problem.code or 'unknown'}")


def _is_repost(references: list[Reference]) -> bool:
    return any(reference.type in REPOSTS for reference in references)


def _tags(text: str, entities: Entities | None, note: Note | None) -> tuple[str, ...]:
    """The tags as X found them, else as its rules find them: default fields hold no entities, and
    those of a text that is cut may lack what only its note holds.
    """
    hashtags = None
    if note is not None and note.entities is not None:
        hashtags = note.entities.hashtags
    if hashtags is None and entities is not None and (note is None or note.text is None):
        hashtags = entities.hashtags
    if hashtags is None:
        return _kept(extract_hashtags(unescaped(text)))
    if len(hashtags) > 1:
        hashtags.sort(key=attrgetter("start"))
    return _kept(hashtags)


def _kept(hashtags: Iterable[Hashtag | ExtractedHashtag]) -> tuple[str, ...]:
    by_key: dict[str, str] = {}
    for hashtag in hashtags:
        tag = hashtag.tag
        if "\0" in tag:
            raise MalformedPost("entities.hashtags holds a NUL.")
        if 0 < len(tag) <= TAG_CHARS_MAX and len(by_key) < TAGS_MAX:
            by_key.setdefault(tag_key(tag), tag)
    return tuple(by_key.values())


def _author(includes: Raw, author_id: str) -> Author:
    for user in _users(includes):
        if user.id == author_id:
            return _told_of(user)
    return Author()


def _authors(includes: Raw) -> dict[str, Author]:
    return {user.id: _told_of(user) for user in _users(includes)}


def _users(includes: Raw) -> Iterable[User]:
    """Those that can be read: a post is not refused for what is told of its author, nor a whole
    page for one of them.
    """
    try:
        included = _includes(includes) if includes else None
    except _UNREADABLE as error:
        log.warning("authors_unknown", reason=_refusal(error).reason)
        return
    for user in (included and included.users) or ():
        try:
            yield _user(user)
        except _UNREADABLE as error:
            log.warning("author_unknown", reason=_refusal(error).reason)


def _told_of(user: User) -> Author:
    picture, metrics = user.profile_image_url, user.public_metrics
    return Author(
        handle=user.username,
        created_at=user.created_at,
        followers=None if metrics is None else metrics.followers_count,
        default_picture=None if picture is None else "/default_profile_images/" in picture,
    )


def _handle(written: str | None) -> str | None:
    """None for what could not stand in a reply as `@handle`."""
    return written if written is not None and _is_handle(written) else None


def _joined(time: datetime | None) -> datetime | None:
    """X has accounts from 1970; a post is not refused for the age of its author."""
    if time is None or time.tzinfo is None or not YEAR_MIN <= time.year <= YEAR_MAX:
        return None
    return time.astimezone(UTC)


def _time_in(post_id: str) -> datetime:
    if int(post_id) < SNOWFLAKE_ID_MIN:
        raise MalformedPost("created_at is missing, and an id as old as this tells no time.")
    return SNOWFLAKE_EPOCH + timedelta(milliseconds=int(post_id) >> 22)


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise MalformedPost("created_at has no time zone.")
    with suppress(OverflowError):  # of the first and last hours that a datetime can hold
        return time.astimezone(UTC)
    return time


def _other_event(line: bytes, kind: str) -> Event | NotAPost:
    if kind not in HEEDED:
        return NotAPost(kind)
    try:
        return read_notice(kind, _activity(line).data.payload)
    except _UNREADABLE as error:
        raise _refusal(error) from error


def _other_than_a_post(line: bytes, error: Exception) -> Event | NotAPost:
    """A line that does not decode can be a keep-alive, or an event whose payload has other types
    under a post's names.
    """
    if not line.strip():
        return KEEP_ALIVE
    kind = None
    if isinstance(error, ValidationError):
        with suppress(DecodeError, RecursionError):
            kind = _activity(line).data.event_type
    if kind is not None and kind not in POST_EVENTS:
        return _other_event(line, kind)
    raise _refusal(error) from error


def _read(decoder: Callable[[bytes | Raw], _Shape], message: bytes | Raw) -> _Shape:
    try:
        return decoder(message)
    except _UNREADABLE as error:
        raise _refusal(error) from error


def _refusal(error: Exception) -> MalformedPost:
    if isinstance(error, UnicodeDecodeError):
        return MalformedPost("The line is not UTF-8.")
    if isinstance(error, RecursionError):
        return MalformedPost("The line nests too deeply.")
    if isinstance(error, ValidationError):
        what, _, where = str(error).partition(" - at `$")
        return MalformedPost(f"{where.strip('.`') or 'The line'} is not valid: {what}.")
    return MalformedPost(f"The line is not JSON: {error}.")
