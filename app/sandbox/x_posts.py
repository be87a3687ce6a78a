"""X's routes for posts and users."""

from base64 import b32hexdecode, b32hexencode
from bisect import bisect_left, bisect_right
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from msgspec import Meta, Struct

from app.kit.urls import URL
from app.kit.weighted_length import WEIGHTED_LENGTH_MAX, weighted_length
from app.sandbox.events import Selection
from app.sandbox.gate import (
    SandboxDep,
    XProblem,
    answer,
    forbidden,
    gate,
    invalid,
    not_found,
    read_json,
)
from app.sandbox.posts import NewPost, XId, make_post, show_person, show_post
from app.sandbox.records import Entry, Post
from app.sandbox.state import State

router = APIRouter()

_ID_MAX = 10**19
_NOT_OFFERED = ("exclude", "until_id", "start_time", "end_time")

TOO_LONG = "You are not permitted to perform this action."
GONE = "You attempted to reply to a Tweet that is deleted or not visible to you."
NOT_SUMMONED = (
    "Reply to this conversation is not allowed because you have not been mentioned or otherwise"
    " engaged by the author of the post you are replying to."
)
DUPLICATE = "You are not allowed to create a Tweet with duplicate content."


class ReplyTo(Struct, forbid_unknown_fields=True):
    in_reply_to_tweet_id: XId


class CreatePost(Struct, forbid_unknown_fields=True):
    """The part of X's request that a programme needs; its other fields are refused."""

    text: Annotated[str, Meta(min_length=1)]
    reply: ReplyTo | None = None


@router.post("/2/tweets", dependencies=gate("user"))
async def create_post(request: Request, sandbox: SandboxDep) -> Response:
    wanted = await read_json(request, CreatePost)
    state = sandbox.state
    if problem := refusal(state, wanted):
        raise problem
    reply_to = wanted.reply.in_reply_to_tweet_id if wanted.reply else None
    new = NewPost(author_id=state.settings.account_id, text=wanted.text.strip(), reply_to=reply_to)
    post = make_post(state, new)
    state.usage[price_kind(state, post)] += 1
    state.record(Entry(post=post))
    data = {"id": post.id, "text": post.text, "edit_history_tweet_ids": post.history}
    return answer(request, {"data": data}, status=201)


def refusal(state: State, wanted: CreatePost) -> XProblem | None:
    """Why X would not create this post, worded as X words it."""
    text = wanted.text.strip()
    if not text:
        return invalid("$.text: is empty")
    if weighted_length(text) > WEIGHTED_LENGTH_MAX:
        return forbidden(TOO_LONG)
    if wanted.reply:
        target = state.posts.get(wanted.reply.in_reply_to_tweet_id)
        if target is None:
            return forbidden(GONE)
        if state.profile.summoned_only and not state.summons(target):
            return forbidden(NOT_SUMMONED)
    return forbidden(DUPLICATE) if text in state.own_texts else None


def price_kind(state: State, post: Post) -> str:
    """The price of a summoned reply with a URL is not stated: the dearer one is taken."""
    if URL.search(post.text):
        return "post_with_url"
    target = state.posts.get(post.reply_to or "")
    return "summoned_reply" if target and state.summons(target) else "post_create"


@router.get("/2/users/me", dependencies=gate("user"))
async def me(request: Request, sandbox: SandboxDep) -> Response:
    state = sandbox.state
    state.usage["user_read"] += 1
    person = state.people[state.settings.account_id]
    selection = Selection.of(request.query_params)
    return answer(request, {"data": selection.user(show_person(person))})


@router.get("/2/users/{user_id}/tweets", dependencies=gate("either"))
async def posts_of(
    request: Request,
    sandbox: SandboxDep,
    user_id: str,
    max_results: Annotated[int, Query(ge=5, le=100)] = 10,
    since_id: Annotated[int, Query(ge=0)] = 0,
    pagination_token: str | None = None,
) -> Response:
    """Newest first."""
    state = sandbox.state
    for name in _NOT_OFFERED:
        if name in request.query_params:
            raise invalid(f"$.{name}: this stand-in does not offer it")
    if user_id not in state.people:
        raise not_found("id", user_id, "user")
    owned = user_id == state.settings.account_id
    posts = state.own if owned else _posts_by(state, user_id)
    end = bisect_left(posts, _below(pagination_token), key=_number)
    start = max(end - max_results, bisect_right(posts, since_id, key=_number))
    page = posts[start:end][::-1]
    state.usage["owned_read" if owned else "post_read"] += len(page)
    if not page:
        return answer(request, {"meta": {"result_count": 0}})
    meta = {"result_count": len(page), "newest_id": page[0].id, "oldest_id": page[-1].id}
    if start > bisect_right(posts, since_id, key=_number):
        meta["next_token"] = b32hexencode(page[-1].id.encode()).decode().rstrip("=").lower()
    selection = Selection.of(request.query_params)
    data = [selection.post(show_post(post)) for post in page]
    return answer(request, {"data": data, "meta": meta})


def _number(post: Post) -> int:
    return int(post.id)


def _posts_by(state: State, user_id: str) -> list[Post]:
    return sorted((p for p in state.posts.values() if p.author_id == user_id), key=_number)


def _below(token: str | None) -> int:
    """The id before which a page ends."""
    if token is None:
        return _ID_MAX
    try:
        return int(b32hexdecode(token.upper() + "=" * (-len(token) % 8)))
    except ValueError as error:
        raise invalid("$.pagination_token: is not one of ours") from error
