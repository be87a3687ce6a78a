"""The fields of X's messages that Tagback reads, under X's names. Unknown fields are skipped."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Raw, Struct, field

Id = Annotated[str, Meta(min_length=1, max_length=20)]
Language = Annotated[str, Meta(max_length=35)]
Kind = Annotated[str, Meta(min_length=1, max_length=100)]
Followers = Annotated[int, Meta(ge=0, le=2**31 - 1)]
NOTHING = Raw()


class Hashtag(Struct, gc=False):
    tag: str
    start: int = 0


class Mention(Struct, gc=False):
    id: str | None = None
    username: str | None = None


class Entities(Struct, gc=False):
    hashtags: list[Hashtag] | None = None
    mentions: list[Mention] | None = None


class Note(Struct, gc=False):
    """The whole of a post of over 280 characters, whose own `text` is cut."""

    text: str | None = None
    entities: Entities | None = None


class Reference(Struct, gc=False):
    type: str


class PostFields(Struct, gc=False):
    """A post of API v2. Where there are two names, the second is that of OpenAPI 2.167."""

    id: Id | None = None
    author_id: Id | None = None
    created_at: datetime | None = None
    text: str | None = None
    edit_history_tweet_ids: list[Id] | None = None
    edit_history_post_ids: list[Id] | None = None
    entities: Entities | None = None
    lang: Language | None = None
    referenced_tweets: list[Reference] | None = None
    referenced_posts: list[Reference] | None = None
    note_tweet: Note | None = None
    note_post: Note | None = None


class Data(PostFields, gc=False):
    """A stream line's post, or an activity event with the post in `payload`."""

    event_type: Kind | None = None
    payload: PostFields | None = None
    includes: Raw = NOTHING


class Line(Struct, gc=False):
    """`includes` waits undecoded until something asks for the author."""

    data: Data | None = None
    includes: Raw = NOTHING


class UserMetrics(Struct, gc=False):
    followers_count: Followers | None = None


class User(Struct, gc=False):
    id: str
    username: str | None = None
    created_at: datetime | None = None
    profile_image_url: str | None = None
    public_metrics: UserMetrics | None = None


class Includes(Struct, gc=False):
    """Each user is looked at by itself."""

    users: list[Raw] | None = None


class ActivityData(Struct, gc=False):
    event_type: Kind | None = None
    payload: Raw = NOTHING


class Activity(Struct, gc=False):
    """An activity event of any type, whose payload may have any shape."""

    data: ActivityData


class Problem(Struct, gc=False):
    """`code` is all that API v1.1 gives."""

    title: Kind | None = None
    disconnect_type: Kind | None = None
    code: int | None = None


class Problems(Struct, gc=False):
    errors: list[Problem]


class PageMeta(Struct, gc=False):
    next_token: str | None = None


class Page(Struct, gc=False):
    """A page of posts that were asked for; each is looked at by itself."""

    data: list[Raw] = []
    includes: Raw = NOTHING
    meta: PageMeta = field(default_factory=PageMeta)


class Author(Struct, gc=False):
    """What a message tells of a post's author."""

    handle: str | None = None
    created_at: datetime | None = None
    followers: int | None = None
    default_picture: bool | None = None


def unescaped(text: str) -> str:
    """X escapes these three and no others. Without this, the `;` of `&amp;#x` would let a tag begin
    where `&#x`, which the author wrote, holds none.
    """
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
