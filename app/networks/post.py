from datetime import datetime

from msgspec import Struct


class Post(Struct, frozen=True, gc=False):
    """What any network's post comes down to. Its text is not among it: nothing after the decoder
    needs it, so nothing can store it.

    `root_id` is the id of the first version, the same over all edits. `posted_at` is in UTC.
    `tags` are as written, without the sign, in the text's order, none twice by `tag_key`. What is
    known of the author is None where the network does not tell, and on a post without tags, where
    nobody asks.
    """

    network: str
    id: str
    root_id: str
    author_id: str
    posted_at: datetime
    tags: tuple[str, ...]
    mentions_programme: bool
    is_repost: bool
    lang: str | None = None
    author_handle: str | None = None
    author_created_at: datetime | None = None
    author_followers: int | None = None
    author_default_picture: bool | None = None


class NotAPost(Struct, frozen=True, gc=False):
    """A well-formed message that is no post and is ignored: a keep-alive, a like, an error."""

    kind: str


class MalformedPost(ValueError):
    """`reason` is one sentence that names the field and repeats nothing of the post's own text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
