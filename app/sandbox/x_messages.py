"""X's route for direct messages."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from msgspec import Meta, Struct

from app.sandbox.delivery import Sandbox
from app.sandbox.events import message_event
from app.sandbox.gate import SandboxDep, answer, forbidden, gate, not_found, read_json, user_of
from app.sandbox.records import Entry, Message

router = APIRouter()

NOT_PERMITTED = "You do not have permission to DM one or more participants."
_TEXT_LENGTH_MAX = 10_000


class NewMessage(Struct, forbid_unknown_fields=True):
    """The part of X's request that a programme needs."""

    text: Annotated[str, Meta(min_length=1, max_length=_TEXT_LENGTH_MAX)]


@router.post(
    "/2/dm_conversations/with/{participant_id}/messages",
    dependencies=gate("user", "dm.write", "tweet.read", "users.read"),
)
async def create_message(request: Request, sandbox: SandboxDep, participant_id: str) -> Response:
    """To who has written to the sender before."""
    wanted = await read_json(request, NewMessage)
    state = sandbox.state
    sender_id = user_of(request)
    if participant_id not in state.people:
        raise not_found("participant_id", participant_id, "user")
    if (participant_id, sender_id) not in state.wrote_to:
        raise forbidden(NOT_PERMITTED)
    message = await send_message(sandbox, sender_id, participant_id, wanted.text)
    state.usage["dm"] += 1
    participants = sorted((sender_id, participant_id), key=int)
    data = {"dm_conversation_id": "-".join(participants), "dm_event_id": message.id}
    return answer(request, {"data": data}, status=201)


async def send_message(sandbox: Sandbox, sender_id: str, recipient_id: str, text: str) -> Message:
    """Whoever it is from: both sides are told."""
    state = sandbox.state
    message = Message(
        id=state.new_id(),
        sender_id=sender_id,
        recipient_id=recipient_id,
        text=text,
        created_at=state.now(),
    )
    state.record(Entry(message=message))
    await sandbox.notify(message_event(state, message, "dm.received"), recipient_id)
    await sandbox.notify(message_event(state, message, "dm.sent"), sender_id)
    return message
