"""X's routes that look back: a person's posts, the posts that mention him, recent search."""

from base64 import b32hexdecode, b32hexencode
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime

from app.sandbox.gate import SandboxDep, answer, gate, invalid, not_found
from app.sandbox.posts import rfc3339
from app.sandbox.profiles import MENTIONS_MAX, RESULTS_MAX, SEARCH_DAYS
from app.sandbox.records import Post
from app.sandbox.rule_language import RuleError, parse_rule
from app.sandbox.rules import subject_of
from app.sandbox.selection import Selection
from app.sandbox.state import State, id_at, post_number

router = APIRouter()

_ID_MAX = 10**19
XIdNumber = Annotated[int, Query(ge=0, lt=_ID_MAX)]


@dataclass
class Span:
    """Which posts are asked for: `since_id` and `end_time` are left out, `start_time` is not."""

    since_id: XIdNumber | None = None
    until_id: XIdNumber | None = None
    start_time: AwareDatetime | None = None
    end_time: AwareDatetime | None = None
    pagination_token: str | None = None

    def of(self, posts: list[Post]) -> list[Post]:
        """Oldest first, as the list given is."""
        first = bisect_right(posts, self.since_id or 0, key=post_number)
        below = min(self.until_id or _ID_MAX, _below(self.pagination_token))
        found = posts[first : bisect_left(posts, below, key=post_number)]
        if self.start_time:
            found = [post for post in found if post.created_at >= self.start_time]
        if self.end_time:
            found = [post for post in found if post.created_at < self.end_time]
        return found


SpanQuery = Annotated[Span, Depends()]


@router.get("/2/users/{user_id}/tweets", dependencies=gate("either", "tweet.read", "users.read"))
async def posts_of(
    request: Request,
    sandbox: SandboxDep,
    user_id: str,
    span: SpanQuery,
    max_results: Annotated[int, Query(ge=5, le=RESULTS_MAX)] = 10,
) -> Response:
    """Newest first."""
    state = sandbox.state
    if "exclude" in request.query_params:
        raise invalid("$.exclude: this stand-in does not offer it")
    _check_user(state, user_id)
    owned = user_id == state.settings.account_id
    posts = state.own if owned else [p for p in state.posts_by_id if p.author_id == user_id]
    return _page(request, state, span.of(posts), max_results, owned=owned)


@router.get("/2/users/{user_id}/mentions", dependencies=gate("either", "tweet.read", "users.read"))
async def mentions_of(
    request: Request,
    sandbox: SandboxDep,
    user_id: str,
    span: SpanQuery,
    max_results: Annotated[int, Query(ge=5, le=RESULTS_MAX)] = 10,
) -> Response:
    """Newest first; no more than the last 800 can be reached."""
    state = sandbox.state
    _check_user(state, user_id)
    _check_recent(state, span)
    posts = span.of(state.mentions.get(user_id, [])[-MENTIONS_MAX:])
    owned = user_id == state.settings.account_id
    return _page(request, state, posts, max_results, owned=owned)


@router.get("/2/tweets/search/recent", dependencies=gate("either", "tweet.read", "users.read"))
async def search_recent(
    request: Request,
    sandbox: SandboxDep,
    span: SpanQuery,
    query: Annotated[str, Query(min_length=1)],
    max_results: Annotated[int, Query(ge=10, le=RESULTS_MAX)] = 10,
    next_token: str | None = None,
    sort_order: Literal["recency", "relevancy"] = "recency",
) -> Response:
    """Newest first, by either order."""
    del sort_order
    state = sandbox.state
    if len(query) > state.profile.query_length_max:
        raise invalid(f"$.query: is limited to {state.profile.query_length_max} characters")
    try:
        matches = parse_rule(query)
    except RuleError as error:
        raise invalid(f"There were errors processing your request: {error}", query=query) from error
    span.pagination_token = span.pagination_token or next_token
    _check_recent(state, span)
    span.start_time = span.start_time or state.now() - timedelta(days=SEARCH_DAYS)
    return _page(
        request,
        state,
        span.of(state.posts_by_id),
        max_results,
        wanted=lambda post: matches(subject_of(state, post)),
    )


def _page(
    request: Request,
    state: State,
    posts: list[Post],
    max_results: int,
    *,
    owned: bool = False,
    wanted: Callable[[Post], bool] = lambda _: True,
) -> Response:
    found: list[Post] = []
    for post in reversed(posts):
        if wanted(post):
            found.append(post)
        if len(found) > max_results:
            break
    page = found[:max_results]
    for post in page:
        state.charge_read(post.id, "owned_read" if owned else "post_read")
    meta: dict[str, Any] = {"result_count": len(page)}
    if page:
        meta |= {"newest_id": page[0].id, "oldest_id": page[-1].id}
    if len(found) > max_results:
        meta["next_token"] = b32hexencode(page[-1].id.encode()).decode().rstrip("=").lower()
    shown = Selection.of(request, state).many(state, page)
    return answer(request, {**shown, "meta": meta})


def _check_user(state: State, user_id: str) -> None:
    if user_id not in state.people:
        raise not_found("id", user_id, "user")


def _check_recent(state: State, span: Span) -> None:
    """Search knows seven days, and not the last half minute unless it is asked for an end."""
    now = state.now()
    first = now - timedelta(days=SEARCH_DAYS)
    if span.since_id is not None and span.since_id < id_at(first):
        raise invalid(
            f"'since_id' must be a tweet id created after [{rfc3339(first)}]. Please use a"
            f" 'since_id' that is larger than {id_at(first)}",
            since_id=str(span.since_id),
        )
    if span.start_time and span.start_time < first:
        raise invalid(
            f"Invalid 'start_time':'{rfc3339(span.start_time)}'. 'start_time' must be on or after"
            f" {rfc3339(first)}",
            start_time=rfc3339(span.start_time),
        )
    if span.end_time is None:
        span.end_time = _latest(state, now)


def _latest(state: State, now: datetime) -> datetime | None:
    """No end at all where no delay is wanted: a post's time may be written by its maker."""
    delay = state.settings.search_delay_seconds
    return now - timedelta(seconds=delay) if delay else None


def _below(token: str | None) -> int:
    """The id before which a page ends."""
    if token is None:
        return _ID_MAX
    try:
        return int(b32hexdecode(token.upper() + "=" * (-len(token) % 8)))
    except ValueError as error:
        raise invalid("$.pagination_token: is not one of ours") from error
