"""The rules of the filtered stream, and what they match."""

from functools import lru_cache

from app.kit.hashtags import extract_hashtags
from app.sandbox.records import Post, Rule
from app.sandbox.rule_language import Subject, parse_rule, words_of
from app.sandbox.state import State

_parsed = lru_cache(maxsize=50_000)(parse_rule)


def matching_rules(state: State, post: Post) -> list[Rule]:
    rules = effective_rules(state)
    if not rules:
        return []
    subject = subject_of(state, post)
    return [rule for rule in rules if _parsed(rule.value)(subject)]


def effective_rules(state: State) -> list[Rule]:
    """A rule is heeded some time after it was added, and for as long after it was deleted."""
    now = state.clock()
    since = now - state.settings.rules_effective_seconds
    known = [rule for rule in state.rules.values() if rule.created_at.timestamp() <= since]
    return known + [rule for rule, leaves_at in state.rules_leaving if now < leaves_at]


def subject_of(state: State, post: Post) -> Subject:
    """A rule sees the text of the quoted or reposted post as well: by that, posts arrive whose own
    text has nothing of the rule.
    """
    inner = (state.posts.get(other or "") for other in (post.quote_of, post.repost_of))
    seen = [post, *(other for other in inner if other)]
    text = "\n".join(one.text for one in seen)
    answered = state.posts.get(post.reply_to or "")
    kinds = {"retweet": post.repost_of, "quote": post.quote_of, "reply": post.reply_to}
    return Subject(
        words=words_of(text),
        tags=frozenset(found.tag.casefold() for found in extract_hashtags(text)),
        mentions=frozenset(
            state.people[person_id].handle.lower() for one in seen for person_id in one.mentioned
        ),
        author=_names(state, post.author_id),
        answered=_names(state, answered.author_id) if answered else frozenset(),
        lang=post.lang,
        kinds=frozenset(kind for kind, other in kinds.items() if other),
    )


def _names(state: State, person_id: str) -> frozenset[str]:
    return frozenset((person_id, state.people[person_id].handle.lower()))
