"""What goes over the wire when a post is delivered."""

from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.datastructures import QueryParams

from app.sandbox.posts import show_person, show_post
from app.sandbox.records import Post, Subscription
from app.sandbox.state import State

_POST_FIELDS = frozenset({"id", "text", "edit_history_tweet_ids"})
_USER_FIELDS = frozenset({"id", "name", "username"})


@dataclass(frozen=True)
class Selection:
    """The fields that a caller asked for. Like X, which gives little that is not asked for."""

    post_fields: frozenset[str]
    user_fields: frozenset[str]
    expansions: frozenset[str]

    @classmethod
    def of(cls, query: QueryParams) -> "Selection":
        def asked(name: str) -> frozenset[str]:
            return frozenset(filter(None, query.get(name, "").split(",")))

        return cls(
            _POST_FIELDS | asked("tweet.fields"),
            _USER_FIELDS | asked("user.fields"),
            asked("expansions"),
        )

    def post(self, shown: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in shown.items() if name in self.post_fields}

    def user(self, shown: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in shown.items() if name in self.user_fields}


def activity_event(state: State, post: Post, subscription: Subscription) -> bytes:
    """The same post gives the same event id, whenever it is delivered."""
    authors = dict.fromkeys((post.author_id, *post.mentioned))
    return msgspec.json.encode(
        {
            "data": {
                "event_uuid": post.id,
                "filter": {"user_id": subscription.user_id},
                "event_type": subscription.event_type,
                **({"tag": subscription.tag} if subscription.tag else {}),
                "payload": post.v2,
                "includes": {
                    "users": [show_person(state.people[author]) for author in authors],
                    "tweets": [post.v2, *(other.v2 for other in _referenced(state, post))],
                },
            }
        }
    )


def filtered_line(state: State, post: Post, selection: Selection) -> bytes:
    line: dict[str, Any] = {"data": selection.post(show_post(post))}
    includes: dict[str, Any] = {}
    if "author_id" in selection.expansions:
        includes["users"] = [selection.user(show_person(state.people[post.author_id]))]
    referenced = _referenced(state, post)
    if referenced and "referenced_tweets.id" in selection.expansions:
        includes["tweets"] = [selection.post(show_post(other)) for other in referenced]
    if includes:
        line["includes"] = includes
    # There are no rules yet: every post matches this one.
    line["matching_rules"] = [{"id": "1", "tag": "everything"}]
    return msgspec.json.encode(line) + b"\r\n"


def _referenced(state: State, post: Post) -> list[Post]:
    ids = (post.repost_of, post.quote_of, post.reply_to)
    return [state.posts[i] for i in ids if i is not None and i in state.posts]
