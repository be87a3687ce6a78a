"""Which offer a tag means, from memory: every published offer by its tag, with one number that
tells whether it still stands.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from app.offers.terms import Terms

ENDED_STILL_NAMED = timedelta(days=30)


class Catalogue(NamedTuple):
    version: int
    by_tag: Mapping[str, tuple[Terms, ...]]


def build(version: int, offers: Iterable[Terms]) -> Catalogue:
    by_tag: dict[str, list[Terms]] = {}
    for terms in offers:
        by_tag.setdefault(terms.tag_key, []).append(terms)
    return Catalogue(version, {tag: tuple(named) for tag, named in by_tag.items()})


def named_by(tag_key: str, posted_at: datetime, catalogue: Catalogue) -> Terms | None:
    """The offer whose window holds the post's time; else the one that ended last within 30 days;
    else the next one to start; else none.
    """
    named = catalogue.by_tag.get(tag_key)
    if named is None:
        return None
    for terms in named:
        if terms.starts_at <= posted_at < terms.ends_at:
            return terms
    over = [t for t in named if timedelta() <= posted_at - t.ends_at <= ENDED_STILL_NAMED]
    if over:
        return max(over, key=lambda terms: terms.ends_at)
    coming = [t for t in named if t.starts_at > posted_at]
    return min(coming, key=lambda terms: terms.starts_at, default=None)


def tags_between(catalogue: Catalogue, since: datetime, until: datetime) -> set[str]:
    """As written, of the offers that run at any time in between. Who posts for one that is paused
    is not looked for.
    """
    return {
        terms.hashtag
        for named in catalogue.by_tag.values()
        for terms in named
        if terms.state != "paused" and terms.starts_at < until and terms.ends_at > since
    }
