"""Subscriptions to what happens on X, and the webhook that hears of it: brought in step with what
is wanted. What others have made in the same app is left alone.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

import httpx
import msgspec
import structlog

from app.networks.x.calls import CallError, ask, call

TAG = "tagback"
MENTION = "post.mention.create"
_SUBSCRIPTIONS = "/2/activity/subscriptions"
_WEBHOOKS = "/2/webhooks"
_PAGE = 1_000

log = structlog.get_logger(__name__)


class Wanted(NamedTuple):
    """One kind of event, about one account, pushed to a webhook or else given to the stream."""

    event_type: str
    user_id: str
    webhook_id: str | None


class Subscription(NamedTuple):
    id: str
    to: Wanted
    tag: str | None


class Plan(NamedTuple):
    make: list[Wanted]
    remove: list[str]


class Reconciled(NamedTuple):
    """What was missing, and is made; why X does not tell of mentions, if it does not."""

    made: list[Wanted]
    no_mentions: CallError | None


class _Filter(msgspec.Struct):
    user_id: str | None = None


class _Subscription(msgspec.Struct):
    subscription_id: str
    event_type: str
    filter: _Filter = msgspec.field(default_factory=_Filter)
    tag: str | None = None
    webhook_id: str | None = None


class _Meta(msgspec.Struct):
    next_token: str | None = None


class _Subscriptions(msgspec.Struct):
    data: list[_Subscription] = []
    meta: _Meta = msgspec.field(default_factory=_Meta)


class Registered(msgspec.Struct):
    """A webhook that X has."""

    id: str
    url: str = ""
    valid: bool = True


class _Webhooks(msgspec.Struct):
    data: list[Registered] = []


class _Made(msgspec.Struct):
    """X's two documents differ on whether there is a `data` around it."""

    data: Registered | None = None
    id: str | None = None


class Webhook(NamedTuple):
    """`was_down`: X pushed nothing to it before we asked it to look again, or it is new."""

    id: str
    was_down: bool


_subscriptions = msgspec.json.Decoder(_Subscriptions)
_webhooks = msgspec.json.Decoder(_Webhooks)
_made = msgspec.json.Decoder(_Made)


def wanted_subscriptions(
    account_id: str, authors: Collection[str], *, webhook_id: str | None, mentions: bool
) -> list[Wanted]:
    """Posts that mention the account, messages to it, and posts that these authors delete: X tells
    of deletions by whose they are. That access was revoked it tells unasked.
    """
    return [
        *([Wanted(MENTION, account_id, webhook_id)] if mentions else ()),
        Wanted("dm.received", account_id, webhook_id),
        *(Wanted("post.delete", author, webhook_id) for author in authors),
    ]


def plan(present: Sequence[Subscription], wanted: Sequence[Wanted]) -> Plan:
    """X has one subscription of a kind, whoever made it: one of somebody else's does as well."""
    known = {subscription.to for subscription in present}
    needed = set(wanted)
    return Plan(
        make=[one for one in wanted if one not in known],
        remove=[one.id for one in present if one.tag == TAG and one.to not in needed],
    )


class Activity:
    """All raise CallError."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._refused: set[Wanted] = set()

    async def reconcile(self, wanted: Sequence[Wanted]) -> Reconciled:
        """What X refuses is told to the operator, once, and stops nothing but more of its kind: of
        too many each would be refused. But without mentions nothing is heard, so these are asked
        for again each time.
        """
        asked = [one for one in wanted if one not in self._refused or one.event_type == MENTION]
        todo = plan(await self.read(), asked)
        for subscription_id in todo.remove:
            await call(self._client, "DELETE", f"{_SUBSCRIPTIONS}/{subscription_id}")
        made: list[Wanted] = []
        refused: dict[str, CallError] = {}
        for one in todo.make:
            if one.event_type in refused:
                continue
            try:
                await call(self._client, "POST", _SUBSCRIPTIONS, body=_request(one))
                made.append(one)
            except CallError as error:
                if not error.is_refusal:
                    raise
                refused[one.event_type] = error
                self._tell_refused(one, error)
        if made or todo.remove:
            log.info("subscriptions_changed", made=len(made), removed=len(todo.remove))
        return Reconciled(made, refused.get(MENTION))

    def _tell_refused(self, wanted: Wanted, error: CallError) -> None:
        if wanted not in self._refused:
            tell = log.error if wanted.event_type == MENTION else log.warning
            tell("subscription_refused", event_type=wanted.event_type, reason=error.detail)
        self._refused.add(wanted)

    async def read(self) -> list[Subscription]:
        found: list[Subscription] = []
        params: dict[str, str | int] = {"max_results": _PAGE}
        while True:
            page = await ask(self._client, "GET", _SUBSCRIPTIONS, _subscriptions, params=params)
            for one in page.data:
                to = Wanted(one.event_type, one.filter.user_id or "", one.webhook_id)
                found.append(Subscription(one.subscription_id, to, one.tag))
            if page.meta.next_token is None:
                return found
            params["pagination_token"] = page.meta.next_token

    async def webhooks(self) -> list[Registered]:
        return (await ask(self._client, "GET", _WEBHOOKS, _webhooks)).data

    async def ensure_webhook(self, url: str) -> Webhook:
        """X looks whether somebody answers there who knows the secret, so the API must be up."""
        for webhook in await self.webhooks():
            if webhook.url != url:
                continue
            if not webhook.valid:
                await call(self._client, "PUT", f"{_WEBHOOKS}/{webhook.id}")
                log.info("webhook_validated", url=url)
            return Webhook(webhook.id, was_down=not webhook.valid)
        made = await ask(self._client, "POST", _WEBHOOKS, _made, body={"url": url})
        webhook_id = made.id if made.data is None else made.data.id
        if webhook_id is None:
            raise CallError(f"POST {_WEBHOOKS}: an answer without an id")
        log.info("webhook_registered", url=url)
        return Webhook(webhook_id, was_down=True)

    async def replay(self, webhook_id: str, *, since: datetime, until: datetime) -> bool:
        """Asks X to push again what it has tried to push in these minutes; False where the app may
        not, as only an enterprise one may.
        """
        body = {
            "webhook_id": webhook_id,
            "from_date": since.strftime("%Y%m%d%H%M"),
            "to_date": until.strftime("%Y%m%d%H%M"),
        }
        try:
            await call(self._client, "POST", f"{_WEBHOOKS}/replay", body=body)
        except CallError as error:
            if not error.is_refusal:
                raise
            log.info("webhook_replay_refused", reason=error.detail)
            return False
        log.info("webhook_replayed", since=since.isoformat(), until=until.isoformat())
        return True


def _request(wanted: Wanted) -> dict[str, object]:
    about = {"user_id": wanted.user_id}
    body: dict[str, object] = {"event_type": wanted.event_type, "filter": about, "tag": TAG}
    if wanted.webhook_id is not None:
        body["webhook_id"] = wanted.webhook_id
    return body
