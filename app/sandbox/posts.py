"""Making posts in X's v2 shape, with the field names of recorded traffic, which are those from
before OpenAPI 2.167 (`edit_history_tweet_ids`, `note_tweet`, `referenced_tweets`).
"""

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from app.kit.hashtags import extract_hashtags
from app.kit.weighted_length import WEIGHTED_LENGTH_MAX, weighted_length
from app.sandbox.records import Person, Post
from app.sandbox.state import State

XId = Annotated[str, Meta(pattern="^[0-9]{1,19}$")]

_REPOST_SHOWN_MAX = 140
_EDITS_MAX = 5
_METRICS = ("retweet", "reply", "like", "quote", "bookmark", "impression")
# The rule of twitter-text: no letter, digit or sign before; no letter, second sign or :// after.
_MENTION = re.compile(
    r"(?<![A-Za-z0-9_!#$%&*@＠])[@＠]([A-Za-z0-9_]{1,20})(?![A-Za-z0-9_@＠À-ÖØ-öø-ÿ]|://)"  # noqa: RUF001 - the wide sign is meant
)


class NewPost(Struct, forbid_unknown_fields=True, kw_only=True):
    """A post to be made. `long_text` is the whole of a post over 280, of which `text` is the part
    shown: cut here when not given, as is a `text` over 280 that comes alone. `created_at` carries
    an offset; not given, it is now.
    """

    author_id: XId
    text: str = ""
    id: XId | None = None
    created_at: Annotated[datetime, Meta(tz=True)] | None = None
    lang: str = "en"
    edit_of: XId | None = None
    repost_of: XId | None = None
    quote_of: XId | None = None
    reply_to: XId | None = None
    long_text: str | None = None


def make_post(state: State, new: NewPost) -> Post:
    """Raises ValueError, with the reason, for what cannot be a post here."""
    author = state.people.get(new.author_id)
    if author is None:
        raise ValueError(f"author_id {new.author_id} is nobody here: POST /sandbox/people first")
    reposted = _known_post(state, "repost_of", new.repost_of)
    quoted = _known_post(state, "quote_of", new.quote_of)
    parent = _known_post(state, "reply_to", new.reply_to)
    is_long = weighted_length(new.text) > WEIGHTED_LENGTH_MAX
    whole = new.long_text or (new.text if is_long else None)
    text = _cut(whole, WEIGHTED_LENGTH_MAX) if whole and (is_long or not new.text) else new.text
    if reposted:
        text = _cut(f"RT @{_handle(state, reposted)}: {reposted.text}", _REPOST_SHOWN_MAX)
    if not text.strip():
        raise ValueError("text is empty")
    post_id = new.id or state.new_id(new.created_at)
    history = (*_earlier_versions(state, new), post_id)
    created_at = (new.created_at or state.now()).astimezone(UTC)
    # X puts the handle of the person answered in front of a reply, and a link behind a quote.
    front = _front(text, author, state.people[parent.author_id]) if parent else ""
    link = f" https://t.co/{int(quoted.id) % 10**10:010}" if quoted else ""
    shown, entities, mentioned = _with_entities(state, front + text + link)
    if quoted:
        entities["urls"] = [_link_to(link[1:], len(shown), _handle(state, quoted), quoted.id)]
    v2 = {
        "id": post_id,
        "text": shown,
        "author_id": author.id,
        "conversation_id": show_post(parent)["conversation_id"] if parent else history[0],
        "created_at": rfc3339(created_at),
        "display_text_range": [len(front), len(shown) - len(link)],
        "edit_controls": {
            "edits_remaining": max(0, _EDITS_MAX + 1 - len(history)),
            "is_edit_eligible": not (reposted or parent),
            "editable_until": rfc3339(created_at + timedelta(hours=1)),
        },
        "edit_history_tweet_ids": history,
        "lang": new.lang,
        "paid_partnership": False,
        "possibly_sensitive": False,
        "public_metrics": {f"{name}_count": 0 for name in _METRICS},
        "reply_settings": "everyone",
    }
    if entities:
        v2["entities"] = entities
    if whole:
        note, note_entities, more = _with_entities(state, whole)
        v2["note_tweet"] = {"text": note, "entities": note_entities}
        mentioned = tuple(dict.fromkeys(mentioned + more))
    if parent:
        v2["in_reply_to_user_id"] = parent.author_id
    references = (("retweeted", reposted), ("quoted", quoted), ("replied_to", parent))
    if any(other for _, other in references):
        v2["referenced_tweets"] = [{"type": kind, "id": p.id} for kind, p in references if p]
    return Post(
        id=post_id,
        author_id=author.id,
        text=text if reposted else whole or text,
        created_at=created_at,
        history=history,
        mentioned=mentioned,
        lang=new.lang,
        reply_to=new.reply_to,
        quote_of=new.quote_of,
        repost_of=new.repost_of,
        v2=Raw(msgspec.json.encode(v2)),
    )


def show_post(post: Post) -> dict[str, Any]:
    """The post in v2 shape, every field."""
    shown: dict[str, Any] = msgspec.json.decode(post.v2)
    return shown


def show_person(person: Person) -> dict[str, Any]:
    """A user in v2 shape, every field."""
    default = "https://abs.twimg.com/sticky/default_profile_images/default_profile_normal.png"
    own = f"https://pbs.twimg.com/profile_images/{person.id}/picture_normal.jpg"
    return {
        "id": person.id,
        "name": person.name,
        "username": person.handle,
        "created_at": rfc3339(person.created_at),
        "description": "",
        "protected": False,
        "verified": False,
        "profile_image_url": default if person.default_picture else own,
        "public_metrics": {
            "followers_count": person.followers,
            "following_count": 0,
            "tweet_count": 0,
            "listed_count": 0,
            "like_count": 0,
            "media_count": 0,
        },
    }


def rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _known_post(state: State, field: str, post_id: str | None) -> Post | None:
    if post_id is None:
        return None
    if post_id not in state.posts:
        raise ValueError(f"{field} {post_id} is no post here")
    return state.posts[post_id]


def _earlier_versions(state: State, new: NewPost) -> tuple[str, ...]:
    before = _known_post(state, "edit_of", new.edit_of)
    if before is None:
        return ()
    if before.author_id != new.author_id:
        raise ValueError(f"edit_of {before.id} is a post of another author")
    return state.edits.get(before.history[0], before.history)


def _handle(state: State, post: Post) -> str:
    return state.people[post.author_id].handle


def _cut(text: str, length_max: int) -> str:
    if len(text) <= length_max:
        return text
    head = text[: length_max - 1]
    words, _, _ = head.rpartition(" ")  # a cut inside a hashtag would make another hashtag
    return (words or head) + "…"


def _front(text: str, author: Person, answered: Person) -> str:
    first = _MENTION.match(text)
    if author.id == answered.id or (first and first[1].lower() == answered.handle.lower()):
        return ""
    return f"@{answered.handle} "


def _link_to(link: str, end: int, handle: str, post_id: str) -> dict[str, Any]:
    target = f"x.com/{handle}/status/{post_id}"
    return {
        "start": end - len(link),
        "end": end,
        "url": link,
        "expanded_url": f"https://{target}",
        "display_url": target[:25] + "…",
    }


def _with_entities(
    state: State, text: str
) -> tuple[str, dict[str, list[dict[str, Any]]], tuple[str, ...]]:
    """The text as X shows it (HTML-escaped), its entities with indices into that, and the ids of
    the people it mentions. A handle that is nobody's is no mention.
    """

    def place(start: int, end: int) -> dict[str, Any]:
        return {
            "start": len(html.escape(text[:start], quote=False)),
            "end": len(html.escape(text[:end], quote=False)),
        }

    entities: dict[str, list[dict[str, Any]]] = {}
    if hashtags := extract_hashtags(text):
        entities["hashtags"] = [{**place(h.start, h.end), "tag": h.tag} for h in hashtags]
    mentions = [
        {**place(*found.span()), "username": state.people[person_id].handle, "id": person_id}
        for found in _MENTION.finditer(text)
        if (person_id := state.ids_by_handle.get(found[1].lower()))
    ]
    if mentions:
        entities["mentions"] = mentions
    mentioned = tuple(dict.fromkeys(m["id"] for m in mentions))
    return html.escape(text, quote=False), entities, mentioned
