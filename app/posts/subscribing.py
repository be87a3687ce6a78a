"""What X is asked to tell us of, and where to: kept in step while we listen."""

import asyncio
from datetime import timedelta

import structlog

from app.config import Settings
from app.kit import clock
from app.kit.db import DATABASE_ERRORS, Sessions
from app.members import service as members
from app.networks.x.activity import MENTION, Activity, wanted_subscriptions
from app.networks.x.calls import CallError
from app.posts import queries
from app.posts.catching_up import CatchUp
from app.posts.pace import Pace

NETWORK = "x"
_REPLAYED = timedelta(hours=24) - timedelta(minutes=1)

log = structlog.get_logger(__name__)


class Subscribing:
    """`webhook_url`: None where the events come by stream."""

    def __init__(
        self,
        sessions: Sessions,
        settings: Settings,
        activity: Activity,
        *,
        account_id: str,
        webhook_url: str | None,
        catch_up: CatchUp,
        cursor: str,
        pace: Pace,
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._activity = activity
        self._account_id = account_id
        self._webhook_url = webhook_url
        self._catch_up = catch_up
        self._cursor = cursor
        self._pace = pace
        self._may_replay = True
        self._is_first = True

    async def work(self) -> None:
        """At start and every so often, until it is cancelled: a webhook that X gives up is brought
        back, and deletions by who has linked since are heard of.
        """
        failures = 0
        while True:
            try:
                await self._reconcile()
            except CallError as error:
                failures += 1
                log.warning("subscriptions_wait", reason=error.detail)
            except DATABASE_ERRORS as error:
                failures += 1
                log.warning("subscriptions_wait", reason=type(error).__name__)
            else:
                failures = 0
            every = self._pace.subscriptions_every_seconds
            await asyncio.sleep(self._pace.retry(failures) if failures else every)

    async def _reconcile(self) -> None:
        async with self._sessions.begin() as session:
            authors = await members.newest_accounts(
                session, network=NETWORK, most=self._settings.x_deletions_followed_max
            )
        webhook = None
        if self._webhook_url is not None:
            webhook = await self._activity.ensure_webhook(self._webhook_url)
        made = await self._activity.reconcile(
            wanted_subscriptions(
                self._account_id, authors, webhook_id=None if webhook is None else webhook.id
            )
        )
        was_down = webhook is not None and (webhook.was_down or self._is_first)
        if was_down or any(one.event_type == MENTION for one in made):
            self._catch_up.want()
        if webhook is not None and was_down:
            await self._replay(webhook.id)
        self._is_first = False

    async def _replay(self, webhook_id: str) -> None:
        """What mentions do not bring: messages, deletions and revocations of the time when nobody
        listened.
        """
        if not self._may_replay:
            return
        now = clock.now()
        async with self._sessions.begin() as session:
            cursor = await queries.read_cursor(session, source=self._cursor)
        if cursor is not None:
            overlap = timedelta(minutes=self._settings.x_gap_minutes)
            since = max(cursor - overlap, now - _REPLAYED)
            self._may_replay = await self._activity.replay(
                webhook_id, since=since, until=now + timedelta(minutes=1)
            )
