"""What X does not have: making people and posts, and seeing what became of them."""

from bisect import bisect_right
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response
from msgspec import Meta, Struct, to_builtins

from app.sandbox.delivery import Sandbox
from app.sandbox.events import Event
from app.sandbox.oauth import revoke_all
from app.sandbox.people import NewPerson, make_person
from app.sandbox.posts import NewPost, XId, make_post, rfc3339
from app.sandbox.problems import XProblem, not_found
from app.sandbox.records import Entry, Post
from app.sandbox.web import SandboxDep, read_json
from app.sandbox.x_messages import send_message

router = APIRouter(prefix="/sandbox")

LINE_BYTES_MAX = 20_000_000  # a list of people is one line
_REJECTIONS_SHOWN_MAX = 100


class NewMessage(Struct, forbid_unknown_fields=True):
    sender_id: XId
    text: Annotated[str, Meta(min_length=1)]


class Move(Struct, forbid_unknown_fields=True):
    advance_seconds: Annotated[int, Meta(ge=1, le=366 * 24 * 3_600)]


class Outcome(Struct):
    """What became of the lines of a request; of the rejections, the first hundred say why."""

    accepted: int = 0
    repeated: int = 0
    rejected: int = 0
    ids: list[str] = []
    rejections: list[dict[str, Any]] = []

    def reject(self, line: int, error: ValueError) -> None:
        self.rejected += 1
        reason = str(error)
        if "trailing characters" in reason:
            reason += "; one object a line: curl keeps line ends with --data-binary, not with -d"
        if len(self.rejections) < _REJECTIONS_SHOWN_MAX:
            self.rejections.append({"line": line, "reason": reason})


@router.post("/people")
async def make_people(request: Request, sandbox: SandboxDep) -> Response:
    """NDJSON; a line may be a list, so that one JSON list will do."""
    outcome = Outcome()
    async for number, line in _lines(request):
        try:
            people = msgspec.json.decode(line, type=NewPerson | list[NewPerson])
            for new in people if isinstance(people, list) else [people]:
                outcome.ids.append(make_person(sandbox.state, new))
                outcome.accepted += 1
        except ValueError as error:
            outcome.reject(number, error)
    return _answer(outcome)


@router.post("/posts")
async def make_posts(request: Request, sandbox: SandboxDep) -> Response:
    """A post whose id is known is delivered again as it was, as X does with duplicates."""
    outcome = Outcome()
    async for number, line in _lines(request):
        try:
            new = msgspec.json.decode(line, type=NewPost)
            post = sandbox.state.posts.get(new.id or "")
            if post:
                outcome.repeated += 1
            else:
                post = make_post(sandbox.state, new)
                sandbox.state.record(Entry(post=post))
                outcome.accepted += 1
        except ValueError as error:
            outcome.reject(number, error)
            continue
        outcome.ids.append(post.id)
        await sandbox.publish(post)
    return _answer(outcome)


@router.delete("/posts/{post_id}")
async def delete_post(sandbox: SandboxDep, post_id: str) -> Response:
    """Its author takes it back."""
    post = sandbox.state.posts.get(post_id)
    if post is None:
        raise not_found("id", post_id, "tweet")
    await sandbox.delete(post)
    return show_json({"deleted": True})


@router.post("/messages")
async def write_message(request: Request, sandbox: SandboxDep) -> Response:
    """A person sends the programme's account a direct message, and may be answered from then on."""
    new = await read_json(request, NewMessage)
    if new.sender_id not in sandbox.state.people:
        raise not_found("sender_id", new.sender_id, "user")
    account_id = sandbox.state.settings.account_id
    message = await send_message(sandbox, new.sender_id, account_id, new.text)
    return show_json({"id": message.id})


@router.get("/messages")
async def list_messages(
    sandbox: SandboxDep,
    cursor: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> Response:
    """Oldest first. `cursor`: the id of the last message already seen."""
    found = [message for message in sandbox.state.messages if int(message.id) > cursor]
    items = [{**to_builtins(one), "created_at": rfc3339(one.created_at)} for one in found[:limit]]
    return show_json({"items": items, "next_cursor": items[-1]["id"] if found[limit:] else None})


@router.delete("/people/{person_id}/grants")
async def disconnect(sandbox: SandboxDep, person_id: str) -> Response:
    """The person takes back all that he has allowed the app, as in X's settings."""
    state = sandbox.state
    if person_id not in state.people:
        raise not_found("id", person_id, "user")
    ended = revoke_all(state, person_id)
    if ended:
        payload = {
            "date_time": state.now().isoformat(timespec="seconds"),
            "user_id": person_id,
            "app_id": state.settings.app_id,
        }
        event = Event(type="oauth.revoke", id=state.new_id(), payload=payload)
        await sandbox.notify_unasked(event)
    return show_json({"ended": ended})


@router.post("/clock")
async def move_clock(request: Request, sandbox: SandboxDep) -> Response:
    """X's time goes forward: what is posted from now on is of the new time, windows and tokens run
    out. A restart takes it back.
    """
    move = await read_json(request, Move)
    sandbox.state.ahead_seconds += move.advance_seconds
    ahead_seconds = sandbox.state.ahead_seconds
    return show_json({"now": rfc3339(sandbox.state.now()), "offset_seconds": ahead_seconds})


@router.get("/state")
async def show_state(sandbox: SandboxDep) -> Response:
    return show_json(describe(sandbox))


@router.get("/replies")
async def list_replies(
    sandbox: SandboxDep,
    cursor: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> Response:
    """Oldest first. `cursor`: the id of the last reply already seen."""
    own = sandbox.state.own
    page: list[Post] = []
    for index in range(bisect_right(own, cursor, key=lambda post: int(post.id)), len(own)):
        if own[index].reply_to:
            page.append(own[index])
        if len(page) > limit:
            break
    items = [
        {
            "id": post.id,
            "in_reply_to_id": post.reply_to,
            "text": post.text,
            "created_at": rfc3339(post.created_at),
        }
        for post in page[:limit]
    ]
    return show_json({"items": items, "next_cursor": items[-1]["id"] if page[limit:] else None})


def describe(sandbox: Sandbox) -> dict[str, Any]:
    state = sandbox.state
    micro_usd = state.usage_micro_usd()
    pending = {
        "webhook": sandbox.webhooks.pending(),
        "activity_stream": sandbox.streams.pending("activity_stream"),
        "filtered_stream": sandbox.streams.pending("filtered_stream"),
    }
    return {
        "profile": state.settings.profile,
        "account": {"id": state.settings.account_id, "handle": state.settings.handle},
        "people": len(state.people),
        "posts": len(state.posts),
        "replies": state.replies,
        "messages": len(state.messages),
        "events": {
            name: {
                "delivered": channel.delivered,
                "pending": pending[name],
                "dropped": channel.dropped,
                "unheard": channel.unheard,
            }
            for name, channel in state.channels.items()
        },
        "dropped_last": list(sandbox.webhooks.dropped),
        "usage": {
            "counts": dict(sorted(state.usage.items())),
            "micro_usd": micro_usd,
            "total_micro_usd": sum(micro_usd.values()),
        },
        "connections": {
            name: len(sandbox.streams.connected(name))
            for name in ("activity_stream", "filtered_stream")
        },
        "webhooks": [to_builtins(webhook) for webhook in state.webhooks.values()],
        "faults": {
            "armed": len(sandbox.faults.armed),
            "fired": dict(sorted(sandbox.faults.fired.items())),
        },
        "subscriptions": len(state.subscriptions),
        "rules": len(state.rules),
        "grants": len(state.grants),
    }


async def _lines(request: Request) -> AsyncIterator[tuple[int, bytes]]:
    """Lines with their numbers from 1, given while the body still arrives: it may be any length."""
    rest = b""
    number = 0
    async for chunk in request.stream():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            raise XProblem(413, "Payload Too Large", f"A line over {LINE_BYTES_MAX} bytes.")
        for line in lines:
            number += 1
            if line.strip():
                yield number, line
    if rest.strip():
        yield number + 1, rest


def _answer(outcome: Outcome) -> Response:
    failed = outcome.rejected and not outcome.ids
    return show_json(to_builtins(outcome), status=400 if failed else 200)


def show_json(body: dict[str, Any], *, status: int = 200) -> Response:
    indented = msgspec.json.format(msgspec.json.encode(body), indent=1)
    return Response(indented + b"\n", status, media_type="application/json")
