"""What X is asked to tell us of, and where to: kept in step while we listen."""

import asyncio
from datetime import timedelta
from functools import partial

from app.config import Settings
from app.kit import clock
from app.kit.db import Sessions
from app.members import service as members
from app.networks import X
from app.networks.x.activity import MENTION, Activity, Wanted, wanted_subscriptions
from app.posts import queries
from app.posts.gap import Gap
from app.posts.pace import Pace
from app.posts.surely import surely

# The cursor of what comes by webhook and is no mention: up to when X could surely push.
PUSHED = "x:pushed"
SUBSCRIPTIONS = "subscriptions"
_REPLAYED = timedelta(hours=24) - timedelta(minutes=1)


class Subscribing:
    """`webhook_url`: None where the events come by stream. `gap`: of the mentions; None where they
    are not heard.
    """

    def __init__(
        self,
        sessions: Sessions,
        settings: Settings,
        activity: Activity,
        *,
        account_id: str,
        webhook_url: str | None,
        gap: Gap | None,
        pace: Pace,
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._activity = activity
        self._account_id = account_id
        self._webhook_url = webhook_url
        self._hears_mentions = gap is not None
        self._gap = gap or Gap()
        self._gap.lack(SUBSCRIPTIONS)
        self._pace = pace
        self._owes_replay = True  # of the time before we listened
        self._may_replay = True

    async def work(self) -> None:
        """At start and every so often, until it is cancelled: a webhook that X gives up is brought
        back, and deletions by who has linked since are heard of.
        """
        while True:
            await surely(
                self._reconcile,
                waits="subscriptions_wait",
                pace=self._pace,
                on_failure=partial(self._gap.lack, SUBSCRIPTIONS),
            )
            await asyncio.sleep(self._pace.subscriptions_every_seconds)

    async def _reconcile(self) -> None:
        """What is owed to the time in which X could tell us nothing is owed until it is done,
        whatever fails in between.
        """
        began = clock.now()
        async with self._sessions.begin() as session:
            authors = await members.newest_accounts(
                session, network=X, most=self._settings.x_deletions_followed_max
            )
        webhook_id = None
        if self._webhook_url is not None:
            webhook = await self._activity.ensure_webhook(self._webhook_url)
            webhook_id = webhook.id
            if webhook.was_down:
                self._owes_replay = True
                self._gap.lack(SUBSCRIPTIONS)
        made, no_mentions = await self._activity.reconcile(self._wanted(authors, webhook_id))
        if any(one.event_type == MENTION for one in made):
            self._gap.want()
        if no_mentions is None:
            self._gap.gain(SUBSCRIPTIONS)
        if webhook_id is not None:
            if self._owes_replay and self._may_replay:
                await self._replay(webhook_id)
            self._owes_replay = False
            async with self._sessions.begin() as session:
                await queries.move_cursor(session, source=PUSHED, posted_at=began, now=clock.now())
        if no_mentions is not None:
            raise no_mentions

    def _wanted(self, authors: list[str], webhook_id: str | None) -> list[Wanted]:
        return wanted_subscriptions(
            self._account_id, authors, webhook_id=webhook_id, mentions=self._hears_mentions
        )

    async def _replay(self, webhook_id: str) -> None:
        """What mentions do not bring: messages, deletions and revocations of the time when nobody
        listened.
        """
        now = clock.now()
        async with self._sessions.begin() as session:
            cursor = await queries.read_cursor(session, source=PUSHED)
        if cursor is not None:
            overlap = timedelta(minutes=self._settings.x_gap_minutes)
            since = max(cursor - overlap, now - _REPLAYED)
            self._may_replay = await self._activity.replay(
                webhook_id, since=since, until=now + timedelta(minutes=1)
            )
