"""Which offers a post names: pure, and quick for the many that name none."""

from collections.abc import Iterable
from typing import NamedTuple

from app.kit.hashtags import tag_key
from app.networks.post import Post
from app.offers.catalogue import Catalogue, named_by
from app.offers.terms import Terms


class Naming(NamedTuple):
    post: Post
    offers: tuple[Terms, ...]  # in the text's order, none twice


def name_offers(post: Post, catalogue: Catalogue) -> tuple[Terms, ...]:
    if not post.tags:
        return ()
    named: dict[object, Terms] = {}
    for tag in post.tags:
        terms = named_by(tag_key(tag), post.posted_at, catalogue)
        if terms is not None:
            named.setdefault(terms.offer_id, terms)
    return tuple(named.values())


def first_come_first(posts: Iterable[Post], catalogue: Catalogue) -> list[Naming]:
    """The posts that name an offer, the earliest first: within a batch they are served by the
    time of the post.
    """
    namings = [Naming(post, offers) for post in posts if (offers := name_offers(post, catalogue))]
    namings.sort(key=lambda naming: (naming.post.posted_at, naming.post.id))
    return namings
