from datetime import datetime

from msgspec import Struct


class Post(Struct, frozen=True, gc=False):
    """What any network's post comes down to. Its text is not among it: nothing after the decoder
    needs it, so nothing can store it.

    `root_id` is the id of the first version, the same over all edits. `posted_at` is in UTC.
    `tags` are as written, without the sign, in the text's order, none twice by `tag_key`. What is
    known of the author is None where the network does not tell, and on a post without tags, where
    nobody asks. `asks_to_stop`: it mentions the programme and says "stop" and nothing else.
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
    asks_to_stop: bool = False


class PostRemoved(Struct, frozen=True, gc=False):
    """A post is gone from the network: what is kept of it has to go too."""

    network: str
    post_id: str


class Message(Struct, frozen=True, gc=False):
    """A direct message to the programme's account. Like a post's, its text is not among it."""

    id: str
    sender_id: str
    sent_at: datetime
    asks_to_stop: bool


class Messages(Struct, frozen=True, gc=False):
    network: str
    messages: tuple[Message, ...]


class AccessRevoked(Struct, frozen=True, gc=False):
    """The holder of an account has taken back what he allowed the programme's app."""

    network: str
    account_id: str
    revoked_at: datetime


Event = PostRemoved | Messages | AccessRevoked


class StreamEnded(Struct, frozen=True, gc=False):
    """The network's last message on a connection, with its word for why."""

    reason: str


class NotAPost(Struct, frozen=True, gc=False):
    """A well-formed message that is no post and is ignored: a keep-alive, a like, an error."""

    kind: str


Received = Post | PostRemoved | Messages | AccessRevoked | StreamEnded | NotAPost


class MalformedPost(ValueError):
    """`reason` is one sentence that names the field and repeats nothing of the post's own text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
