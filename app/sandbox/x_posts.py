"""X's routes for posts and users."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from msgspec import Meta, Struct

from app.kit.urls import URL
from app.kit.weighted_length import WEIGHTED_LENGTH_MAX, weighted_length
from app.sandbox.gate import (
    SandboxDep,
    XProblem,
    answer,
    forbidden,
    gate,
    invalid,
    not_found,
    read_json,
    user_of,
)
from app.sandbox.posts import NewPost, XId, make_post, show_person
from app.sandbox.records import Entry, Post
from app.sandbox.selection import Selection
from app.sandbox.state import State

router = APIRouter()

TOO_LONG = "You are not permitted to perform this action."
GONE = "You attempted to reply to a Tweet that is deleted or not visible to you."
NOT_SUMMONED = (
    "Reply to this conversation is not allowed because you have not been mentioned or otherwise"
    " engaged by the author of the post you are replying to."
)
NOT_YOURS = "You are not authorized to delete this Tweet."
_IDS = "^[0-9]{1,19}(,[0-9]{1,19}){0,99}$"
DUPLICATE = "You are not allowed to create a Tweet with duplicate content."


class ReplyTo(Struct, forbid_unknown_fields=True):
    in_reply_to_tweet_id: XId


class CreatePost(Struct, forbid_unknown_fields=True):
    """The part of X's request that a programme needs; its other fields are refused."""

    text: Annotated[str, Meta(min_length=1)]
    reply: ReplyTo | None = None


@router.post("/2/tweets", dependencies=gate("user", "tweet.read", "tweet.write", "users.read"))
async def create_post(request: Request, sandbox: SandboxDep) -> Response:
    wanted = await read_json(request, CreatePost)
    state = sandbox.state
    author_id = user_of(request)
    if problem := refusal(state, wanted, author_id):
        raise problem
    reply_to = wanted.reply.in_reply_to_tweet_id if wanted.reply else None
    new = NewPost(author_id=author_id, text=wanted.text.strip(), reply_to=reply_to)
    post = make_post(state, new)
    state.usage[price_kind(state, post)] += 1
    state.record(Entry(post=post))
    data = {"id": post.id, "text": post.text, "edit_history_tweet_ids": post.history}
    return answer(request, {"data": data}, status=201)


@router.get("/2/tweets/{post_id}", dependencies=gate("either", "tweet.read", "users.read"))
async def show_one(request: Request, sandbox: SandboxDep, post_id: str) -> Response:
    state = sandbox.state
    post = state.posts.get(post_id)
    if post is None:
        return answer(request, {"errors": [_missing("id", post_id)]})
    state.charge_read(post.id)
    return answer(request, Selection.of(request, state).one(state, post))


@router.get("/2/tweets", dependencies=gate("either", "tweet.read", "users.read"))
async def show_many(
    request: Request, sandbox: SandboxDep, ids: Annotated[str, Query(pattern=_IDS)]
) -> Response:
    state = sandbox.state
    wanted = list(dict.fromkeys(ids.split(",")))
    posts = [state.posts[post_id] for post_id in wanted if post_id in state.posts]
    for post in posts:
        state.charge_read(post.id)
    errors = [_missing("ids", post_id) for post_id in wanted if post_id not in state.posts]
    shown = Selection.of(request, state).many(state, posts)
    return answer(request, shown | ({"errors": errors} if errors else {}))


@router.delete(
    "/2/tweets/{post_id}", dependencies=gate("user", "tweet.read", "tweet.write", "users.read")
)
async def delete_post(request: Request, sandbox: SandboxDep, post_id: str) -> Response:
    post = sandbox.state.posts.get(post_id)
    if post is None:
        raise not_found("id", post_id, "tweet")
    if post.author_id != user_of(request):
        raise forbidden(NOT_YOURS)
    await sandbox.delete(post)
    return answer(request, {"data": {"deleted": True}})


def _missing(parameter: str, post_id: str) -> dict[str, object]:
    """In an answer that is a success otherwise."""
    problem = not_found(parameter, post_id, "tweet").body
    return {name: value for name, value in problem.items() if name != "status"}


def refusal(state: State, wanted: CreatePost, author_id: str) -> XProblem | None:
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
        if state.profile.summoned_only and not state.summons(target, author_id):
            return forbidden(NOT_SUMMONED)
    return forbidden(DUPLICATE) if _has_posted(state, author_id, text) else None


def _has_posted(state: State, author_id: str, text: str) -> bool:
    if author_id == state.settings.account_id:
        return text in state.own_texts
    return any(p.author_id == author_id and p.text == text for p in state.posts_by_id)


def price_kind(state: State, post: Post) -> str:
    """The price of a summoned reply with a URL is not stated: the dearer one is taken."""
    if URL.search(post.text):
        return "post_with_url"
    target = state.posts.get(post.reply_to or "")
    return "summoned_reply" if target and state.summons(target, post.author_id) else "post_create"


@router.get("/2/users/me", dependencies=gate("user", "tweet.read", "users.read"))
async def me(request: Request, sandbox: SandboxDep) -> Response:
    state = sandbox.state
    state.usage["user_read"] += 1
    person = state.people[user_of(request)]
    selection = Selection.of(request, state)
    return answer(request, {"data": selection.user(show_person(person))})
