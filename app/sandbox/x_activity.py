"""X's routes for subscriptions to what happens to a person.

Made here are `post.mention.create`, `post.delete`, `dm.received` and `dm.sent`; a subscription to
another event that X has is kept and stays silent. `oauth.revoke` comes without one.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from msgspec import Meta, Struct
from msgspec.structs import replace

from app.sandbox.gate import SandboxDep, answer, gate, invalid, not_found, read_json
from app.sandbox.posts import XId, rfc3339
from app.sandbox.records import Entry, Subscription
from app.sandbox.x_webhooks import known_webhook

router = APIRouter(prefix="/2/activity/subscriptions")

EventType = Literal[
    "block.block",
    "block.unblock",
    "broadcast.chat",
    "broadcast.end",
    "broadcast.start",
    "chat.conversation_join",
    "chat.received",
    "chat.sent",
    "dm.indicate_typing",
    "dm.read",
    "dm.received",
    "dm.sent",
    "follow.follow",
    "follow.unfollow",
    "like.create",
    "mute.mute",
    "mute.unmute",
    "news.new",
    "post.create",
    "post.delete",
    "post.mention.create",
    "post.quote.create",
    "post.reply.create",
    "post.repost.create",
    "profile.update.affiliate_badge",
    "profile.update.banner_picture",
    "profile.update.bio",
    "profile.update.geo",
    "profile.update.handle",
    "profile.update.profile_picture",
    "profile.update.screenname",
    "profile.update.url",
    "profile.update.verified_badge",
    "spaces.end",
    "spaces.start",
]
_IDS = "^[0-9]{1,19}(,[0-9]{1,19}){0,99}$"
Tag = Annotated[str, Meta(min_length=1, max_length=200)]


class SubscriptionFilter(Struct, forbid_unknown_fields=True):
    user_id: XId


class NewSubscription(Struct, forbid_unknown_fields=True):
    event_type: EventType
    filter: SubscriptionFilter
    tag: Tag | None = None
    webhook_id: XId | None = None


class ChangedSubscription(Struct, forbid_unknown_fields=True):
    tag: Tag | None = None
    webhook_id: XId | None = None


@router.post("", dependencies=gate("either"))
async def subscribe(request: Request, sandbox: SandboxDep) -> Response:
    state = sandbox.state
    wanted = await read_json(request, NewSubscription)
    if wanted.webhook_id:
        known_webhook(state, wanted.webhook_id)
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


@router.get("", dependencies=gate("either"))
async def list_subscriptions(request: Request, sandbox: SandboxDep) -> Response:
    """All on one page."""
    shown = [show_subscription(s) for s in sandbox.state.subscriptions.values()]
    return answer(request, {"data": shown, "meta": {"result_count": len(shown)}})


@router.delete("/{subscription_id}", dependencies=gate("app"))
async def unsubscribe(request: Request, sandbox: SandboxDep, subscription_id: str) -> Response:
    state = sandbox.state
    if subscription_id not in state.subscriptions:
        raise not_found("subscription_id", subscription_id, "subscription")
    state.record(Entry(unsubscribed=subscription_id))
    meta = {"total_subscriptions": len(state.subscriptions)}
    return answer(request, {"data": {"deleted": True}, "meta": meta})


@router.put("/{subscription_id}", dependencies=gate("app"))
async def change_subscription(
    request: Request, sandbox: SandboxDep, subscription_id: str
) -> Response:
    """Another tag, or another webhook: the events of a stream go to a webhook so."""
    state = sandbox.state
    before = state.subscriptions.get(subscription_id)
    if before is None:
        raise not_found("subscription_id", subscription_id, "subscription")
    wanted = await read_json(request, ChangedSubscription)
    if wanted.webhook_id:
        known_webhook(state, wanted.webhook_id)
    changed = replace(
        before,
        tag=wanted.tag or before.tag,
        webhook_id=wanted.webhook_id or before.webhook_id,
        updated_at=state.now(),
    )
    state.record(Entry(subscription=changed))
    data = {
        "subscription": show_subscription(changed),
        "total_subscriptions": len(state.subscriptions),
    }
    return answer(request, {"data": data})


@router.delete("", dependencies=gate("app"))
async def unsubscribe_all(
    request: Request, sandbox: SandboxDep, ids: Annotated[str, Query(pattern=_IDS)]
) -> Response:
    """As in OpenAPI 2.167, each id with what became of it."""
    state = sandbox.state
    wanted = list(dict.fromkeys(ids.split(",")))
    errors = [
        {
            "subscription_id": subscription_id,
            "reason": "not_found",
            "message": "Subscription not found",
        }
        for subscription_id in wanted
        if subscription_id not in state.subscriptions
    ]
    data = [{"subscription_id": i, "deleted": i in state.subscriptions} for i in wanted]
    for subscription_id in state.subscriptions.keys() & {*wanted}:
        state.record(Entry(unsubscribed=subscription_id))
    meta = {"total_subscriptions": len(state.subscriptions)}
    return answer(request, {"data": data, "meta": meta} | ({"errors": errors} if errors else {}))


def show_subscription(subscription: Subscription) -> dict[str, Any]:
    optional = {"tag": subscription.tag, "webhook_id": subscription.webhook_id}
    return {
        "subscription_id": subscription.id,
        "event_type": subscription.event_type,
        "filter": {"user_id": subscription.user_id},
        "created_at": rfc3339(subscription.created_at),
        "updated_at": rfc3339(subscription.updated_at or subscription.created_at),
        **{name: value for name, value in optional.items() if value},
    }


def _same_events(a: Subscription, b: Subscription) -> bool:
    return (a.event_type, a.user_id, a.webhook_id) == (b.event_type, b.user_id, b.webhook_id)
