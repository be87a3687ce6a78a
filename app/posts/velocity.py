"""How fast an author posts, by the posts' own time and in whatever order they came."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from app.networks.post import Post


class Written(NamedTuple):
    """A post that named an offer. Their order is that in which a batch is decided."""

    posted_at: datetime
    post_id: str
    root_id: str


def by_author(written: Iterable[tuple[str, Written]]) -> dict[str, list[Written]]:
    """In order, none twice."""
    authors: dict[str, set[Written]] = {}
    for author_id, one in written:
        authors.setdefault(author_id, set()).add(one)
    return {author_id: sorted(found) for author_id, found in authors.items()}


def posts_lately(post: Post, written: Mapping[str, Sequence[Written]], *, window: timedelta) -> int:
    """How many posts the author wrote in the window that ends with this one, which is among them.
    The edits of a post are no further posts.
    """
    own = written[post.author_id]
    start = bisect_right(own, post.posted_at - window, key=lambda one: one.posted_at)
    end = bisect_right(own, Written(post.posted_at, post.id, post.root_id))
    return len({one.root_id for one in own[start:end]})
