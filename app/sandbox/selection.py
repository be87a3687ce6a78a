"""The fields that a caller asked for. Like X, which gives little that is not asked for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from app.sandbox.posts import show_person, show_post
from app.sandbox.records import Post
from app.sandbox.state import State

_POST_FIELDS = frozenset({"id", "text", "edit_history_tweet_ids"})
_USER_FIELDS = frozenset({"id", "name", "username"})
_NEW_NAMES = {
    "edit_history_tweet_ids": "edit_history_post_ids",
    "note_tweet": "note_post",
    "referenced_tweets": "referenced_posts",
    "retweet_count": "repost_count",
    "tweet_count": "post_count",
    "tweets": "posts",
}
_OLD_NAMES = {new: old for old, new in _NEW_NAMES.items()}
# Expansions that bring the field of the post along that names what is included.
_EXPANDED = {
    "author_id": "author_id",
    "in_reply_to_user_id": "in_reply_to_user_id",
    "edit_history_tweet_ids": "edit_history_tweet_ids",
    "referenced_tweets": "referenced_tweets",
    "referenced_tweets.id": "referenced_tweets",
    "referenced_tweets.id.author_id": "referenced_tweets",
}


@dataclass(frozen=True)
class Selection:
    """Fields by their old names, whatever names the answer has."""

    post_fields: frozenset[str]
    user_fields: frozenset[str]
    expansions: frozenset[str]
    new_names: bool

    @classmethod
    def of(cls, request: Request, state: State) -> "Selection":
        query = request.query_params

        def asked(name: str) -> frozenset[str]:
            given = filter(None, query.get(name, "").split(","))
            return frozenset(_OLD_NAMES.get(field, field) for field in given)

        expansions = asked("expansions")
        return cls(
            _POST_FIELDS
            | asked("tweet.fields")
            | asked("post.fields")
            | {field for name, field in _EXPANDED.items() if name in expansions},
            _USER_FIELDS | asked("user.fields"),
            expansions,
            "post.fields" in query or state.settings.field_names == "2.167",
        )

    def user(self, shown: dict[str, Any]) -> dict[str, Any]:
        return self._named(self._user(shown))

    def one(self, state: State, post: Post) -> dict[str, Any]:
        """`data`, and `includes` when something is."""
        return self._named({"data": self._post(post), **self._includes(state, [post])})

    def many(self, state: State, posts: list[Post]) -> dict[str, Any]:
        if not posts:
            return {}
        data = [self._post(post) for post in posts]
        return self._named({"data": data, **self._includes(state, posts)})

    def _post(self, post: Post) -> dict[str, Any]:
        return {n: value for n, value in show_post(post).items() if n in self.post_fields}

    def _user(self, shown: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in shown.items() if name in self.user_fields}

    def _includes(self, state: State, posts: list[Post]) -> dict[str, Any]:
        people: dict[str, None] = {}
        others: dict[str, Post] = {}
        for post in posts:
            referenced = referenced_by(state, post)
            if "author_id" in self.expansions:
                people[post.author_id] = None
            if "entities.mentions.username" in self.expansions:
                people |= dict.fromkeys(post.mentioned)
            if "in_reply_to_user_id" in self.expansions and post.reply_to in state.posts:
                people[state.posts[post.reply_to].author_id] = None
            if "referenced_tweets.id.author_id" in self.expansions:
                people |= dict.fromkeys(other.author_id for other in referenced)
            if any(name.startswith("referenced_tweets") for name in self.expansions):
                others |= {other.id: other for other in referenced}
        includes: dict[str, Any] = {}
        if people:
            includes["users"] = self._users(state, people)
        if others:
            includes["tweets"] = [self._post(other) for other in others.values()]
        return {"includes": includes} if includes else {}

    def _users(self, state: State, people: Iterable[str]) -> list[dict[str, Any]]:
        return [self._user(show_person(state.people[person_id])) for person_id in people]

    def _named(self, shown: dict[str, Any]) -> dict[str, Any]:
        renamed: dict[str, Any] = in_new_names(shown) if self.new_names else shown
        return renamed


def in_new_names(shown: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(shown, list):
        return [in_new_names(one) for one in shown]
    if isinstance(shown, dict):
        return {_NEW_NAMES.get(name, name): in_new_names(value) for name, value in shown.items()}
    return shown


def referenced_by(state: State, post: Post) -> list[Post]:
    ids = (post.repost_of, post.quote_of, post.reply_to)
    return [state.posts[i] for i in ids if i is not None and i in state.posts]
