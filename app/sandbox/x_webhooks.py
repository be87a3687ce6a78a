"""X's routes for webhooks."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from msgspec import Meta, Struct
from msgspec.structs import replace
from starlette.background import BackgroundTask

from app.sandbox.gate import SandboxDep, answer, gate, invalid, read_json
from app.sandbox.hosts import on_this_machine
from app.sandbox.posts import XId, rfc3339
from app.sandbox.records import Entry, Webhook
from app.sandbox.state import State

router = APIRouter()

CRC_FAILED = "CrcValidationFailed: the URL did not answer the CRC check with a valid response_token"
REPLAYED_SINCE = timedelta(days=1)

Minute = Annotated[str, Meta(pattern="^[0-9]{12}$")]


class NewWebhook(Struct):
    url: Annotated[str, Meta(min_length=1, max_length=200)]


class NewReplay(Struct):
    webhook_id: XId
    from_date: Minute
    to_date: Minute


@router.post("/2/webhooks", dependencies=gate("either"))
async def create_webhook(request: Request, sandbox: SandboxDep) -> Response:
    """Where X wants https and no port, an address of this machine may have http and a port."""
    state = sandbox.state
    url = (await read_json(request, NewWebhook)).url
    if not webhook_url_allowed(url):
        raise invalid("UrlValidationFailed: https without a port, or an address of this machine")
    if any(webhook.url == url for webhook in state.webhooks.values()):
        raise invalid("DuplicateUrlFailed: a webhook is already registered for this URL")
    if len(state.webhooks) >= state.profile.webhooks_max:
        raise invalid(f"WebhookLimitExceeded: the limit is {state.profile.webhooks_max}")
    if not await sandbox.webhooks.passes_check(url):
        raise invalid(CRC_FAILED)
    webhook = Webhook(id=state.new_id(), url=url, created_at=state.now(), valid=True)
    state.record(Entry(webhook=webhook))
    return answer(request, {"data": show_webhook(webhook)})


@router.get("/2/webhooks", dependencies=gate("app"))
async def list_webhooks(request: Request, sandbox: SandboxDep) -> Response:
    shown = [show_webhook(webhook) for webhook in sandbox.state.webhooks.values()]
    body: dict[str, Any] = {"meta": {"result_count": len(shown)}}
    return answer(request, body | ({"data": shown} if shown else {}))


@router.put("/2/webhooks/{webhook_id}", dependencies=gate("either"))
async def validate_webhook(request: Request, sandbox: SandboxDep, webhook_id: str) -> Response:
    webhook = known_webhook(sandbox.state, webhook_id)
    valid = await sandbox.webhooks.passes_check(webhook.url)
    sandbox.state.record(Entry(webhook=replace(webhook, valid=valid)))
    if not valid:
        raise invalid(CRC_FAILED)
    return answer(request, {"data": {"valid": True}})


@router.delete("/2/webhooks/{webhook_id}", dependencies=gate("either"))
async def delete_webhook(request: Request, sandbox: SandboxDep, webhook_id: str) -> Response:
    """Its subscriptions go with it."""
    sandbox.state.record(Entry(webhook_deleted=known_webhook(sandbox.state, webhook_id).id))
    return answer(request, {"data": {"deleted": True}})


@router.post("/2/webhooks/replay", dependencies=gate("app"))
async def replay(request: Request, sandbox: SandboxDep) -> Response:
    """From the first minute, up to the last, which is not included; the job starts at once."""
    state = sandbox.state
    wanted = await read_json(request, NewReplay)
    webhook = known_webhook(state, wanted.webhook_id)
    from_date, to_date = _minute(wanted.from_date), _minute(wanted.to_date)
    now = state.now()
    if not now - REPLAYED_SINCE - timedelta(minutes=1) <= from_date < to_date:
        raise invalid("InvalidReplayWindow: from_date is before to_date, and of the last 24 hours")
    data = {"job_id": state.new_id(), "created_at": rfc3339(now)}
    response = answer(request, {"data": data})
    response.background = BackgroundTask(sandbox.webhooks.replay, webhook.id, from_date, to_date)
    return response


def webhook_url_allowed(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not host:
        return False
    return on_this_machine(host) or (parts.scheme == "https" and port is None)


def show_webhook(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "valid": webhook.valid,
        "created_at": rfc3339(webhook.created_at),
    }


def known_webhook(state: State, webhook_id: str) -> Webhook:
    if webhook_id not in state.webhooks:
        raise invalid("WebhookIdInvalid: there is no webhook of this id")
    return state.webhooks[webhook_id]


def _minute(written: str) -> datetime:
    try:
        return datetime.strptime(written, "%Y%m%d%H%M").replace(tzinfo=UTC)
    except ValueError as error:
        raise invalid(f"{written} is no moment: yyyymmddhhmm is meant") from error
