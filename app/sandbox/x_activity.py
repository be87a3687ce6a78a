"""X's routes for listening: webhooks, activity subscriptions, streams.

Of the events that X knows only `post.mention.create` is made here; a subscription to another is
kept and stays silent. The filtered stream has no rules yet: it gives every post.
"""

from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from msgspec import Meta, Struct
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send

from app.sandbox.delivery import Sandbox
from app.sandbox.events import Selection
from app.sandbox.gate import (
    SandboxDep,
    XProblem,
    answer,
    gate,
    invalid,
    not_found,
    read_json,
)
from app.sandbox.posts import XId, rfc3339
from app.sandbox.records import Entry, Subscription, Webhook
from app.sandbox.state import State
from app.sandbox.streams import Connection, StreamName, Streams

router = APIRouter()

CRC_FAILED = "CrcValidationFailed: the URL did not answer the CRC check with a valid response_token"

EventType = Literal[
    "dm.received",
    "dm.sent",
    "follow.follow",
    "follow.unfollow",
    "like.create",
    "post.create",
    "post.delete",
    "post.mention.create",
    "post.quote.create",
    "post.reply.create",
    "post.repost.create",
    "profile.update.handle",
]


class NewWebhook(Struct):
    url: Annotated[str, Meta(min_length=1, max_length=200)]


class SubscriptionFilter(Struct, forbid_unknown_fields=True):
    user_id: XId


class NewSubscription(Struct, forbid_unknown_fields=True):
    event_type: EventType
    filter: SubscriptionFilter
    tag: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    webhook_id: XId | None = None


class StreamAnswer(StreamingResponse):
    """Frees the connection's place whichever way the answer ends, even before its first byte."""

    def __init__(self, streams: Streams, connection: Connection, headers: dict[str, str]) -> None:
        self._streams = streams
        self._connection = connection
        self._lines = streams.read(connection)
        super().__init__(self._lines, headers=headers, media_type="application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._lines.aclose()
            self._streams.close(self._connection)


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
    webhook = _known_webhook(sandbox.state, webhook_id)
    valid = await sandbox.webhooks.passes_check(webhook.url)
    sandbox.state.record(Entry(webhook=replace(webhook, valid=valid)))
    if not valid:
        raise invalid(CRC_FAILED)
    return answer(request, {"data": {"valid": True}})


@router.delete("/2/webhooks/{webhook_id}", dependencies=gate("either"))
async def delete_webhook(request: Request, sandbox: SandboxDep, webhook_id: str) -> Response:
    """Its subscriptions go with it."""
    sandbox.state.record(Entry(webhook_deleted=_known_webhook(sandbox.state, webhook_id).id))
    return answer(request, {"data": {"deleted": True}})


@router.post("/2/activity/subscriptions", dependencies=gate("either"))
async def subscribe(request: Request, sandbox: SandboxDep) -> Response:
    state = sandbox.state
    wanted = await read_json(request, NewSubscription)
    if wanted.webhook_id:
        _known_webhook(state, wanted.webhook_id)
    subscription = Subscription(
        id=state.new_id(),
        event_type=wanted.event_type,
        user_id=wanted.filter.user_id,
        tag=wanted.tag,
        webhook_id=wanted.webhook_id,
        created_at=state.now(),
    )
    if any(_same_events(subscription, other) for other in state.subscriptions.values()):
        raise invalid("DuplicateSubscriptionFailed: Subscription already exists")
    if len(state.subscriptions) >= state.profile.subscriptions_max:
        raise invalid(f"SubscriptionLimitExceeded: the limit is {state.profile.subscriptions_max}")
    state.record(Entry(subscription=subscription))
    data = {
        "subscription": show_subscription(subscription),
        "total_subscriptions_for_instance_id": len(state.subscriptions),
    }
    meta = {"total_subscriptions": len(state.subscriptions)}
    return answer(request, {"data": data, "meta": meta})


@router.get("/2/activity/subscriptions", dependencies=gate("either"))
async def list_subscriptions(request: Request, sandbox: SandboxDep) -> Response:
    """All on one page."""
    shown = [show_subscription(s) for s in sandbox.state.subscriptions.values()]
    return answer(request, {"data": shown, "meta": {"result_count": len(shown)}})


@router.delete("/2/activity/subscriptions/{subscription_id}", dependencies=gate("app"))
async def unsubscribe(request: Request, sandbox: SandboxDep, subscription_id: str) -> Response:
    state = sandbox.state
    if subscription_id not in state.subscriptions:
        raise not_found("subscription_id", subscription_id, "subscription")
    state.record(Entry(unsubscribed=subscription_id))
    meta = {"total_subscriptions": len(state.subscriptions)}
    return answer(request, {"data": {"deleted": True}, "meta": meta})


@router.get("/2/activity/stream", dependencies=gate("app"))
async def activity_stream(request: Request, sandbox: SandboxDep) -> Response:
    connections_max = sandbox.state.profile.activity_connections_max
    return _open(request, sandbox, "activity_stream", connections_max)


@router.get("/2/tweets/search/stream", dependencies=gate("app"))
async def filtered_stream(request: Request, sandbox: SandboxDep) -> Response:
    connections_max = sandbox.state.profile.filtered_connections_max
    return _open(request, sandbox, "filtered_stream", connections_max)


@router.delete("/2/connections/all", dependencies=gate("app"))
async def hang_up_all(request: Request, sandbox: SandboxDep) -> Response:
    ended = sandbox.streams.hang_up_all("ForceDisconnect")
    results = [{"uuid": connection.id, "success": True} for connection in ended]
    data = {"successful_kills": len(ended), "failed_kills": 0, "results": results}
    return answer(request, {"data": data})


def _open(request: Request, sandbox: Sandbox, stream: StreamName, connections_max: int) -> Response:
    if len(sandbox.streams.connected(stream)) >= connections_max:
        raise XProblem(
            429,
            "ConnectionException",
            "This stream is currently at the maximum allowed connection limit.",
            kind="streaming-connection",
            connection_issue="TooManyConnections",
        )
    connection = sandbox.streams.open(stream, Selection.of(request.query_params))
    return StreamAnswer(sandbox.streams, connection, request.state.rate_headers)


def webhook_url_allowed(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not host:
        return False
    return _on_this_machine(host) or (parts.scheme == "https" and port is None)


def _on_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def show_webhook(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "valid": webhook.valid,
        "created_at": rfc3339(webhook.created_at),
    }


def show_subscription(subscription: Subscription) -> dict[str, Any]:
    optional = {"tag": subscription.tag, "webhook_id": subscription.webhook_id}
    return {
        "subscription_id": subscription.id,
        "event_type": subscription.event_type,
        "filter": {"user_id": subscription.user_id},
        "created_at": rfc3339(subscription.created_at),
        "updated_at": rfc3339(subscription.created_at),
        **{name: value for name, value in optional.items() if value},
    }


def _known_webhook(state: State, webhook_id: str) -> Webhook:
    if webhook_id not in state.webhooks:
        raise invalid("WebhookIdInvalid: there is no webhook of this id")
    return state.webhooks[webhook_id]


def _same_events(a: Subscription, b: Subscription) -> bool:
    return (a.event_type, a.user_id, a.webhook_id) == (b.event_type, b.user_id, b.webhook_id)
