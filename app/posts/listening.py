"""The listener role: what happens on X, heard and stored as it happens, and what was missed asked
for again. One process listens at a time; others stand by.

Posts that mention the programme come by webhook, which the API receives, or by the activity stream;
posts that have no more than an offer's tag by the filtered stream. For each way there is a cursor,
and a pass that closes gaps.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal

import httpx
import structlog

from app.config import Settings, SettingsError
from app.kit.db import DATABASE_ERRORS, Sessions
from app.kit.stopping import pause
from app.networks import accounts
from app.networks.accounts import Identity
from app.networks.lease import work_while_held
from app.networks.x.activity import Activity
from app.networks.x.calls import open_app
from app.networks.x.decode import XDecoder
from app.networks.x.gaps import Found, PastPosts
from app.networks.x.stream import ACTIVITY, FILTERED, Stream
from app.networks.x.stream_rules import StreamRules
from app.posts import webhook
from app.posts.catching_up import CatchUp, Read
from app.posts.following import Following
from app.posts.intake import Intake
from app.posts.pace import Pace
from app.posts.rule_keeping import RuleKeeper
from app.posts.subscribing import Subscribing

LEASE = "x:listener"
# cursors, and the sources of what comes by itself
MENTIONS, TAGGED = "x:mentions", "x:tagged"
SOURCES = {ACTIVITY.name: "x:activity", FILTERED.name: "x:stream"}
DRAIN_SECONDS_MAX = 5.0

Job = Coroutine[Any, Any, None]

log = structlog.get_logger(__name__)


async def run(
    sessions: Sessions, settings: Settings, stop: asyncio.Event, *, pace: Pace | None = None
) -> None:
    mentions_by = way_of_mentions(settings)
    if settings.x_app_token is None:
        reason = "TAGBACK_X_APP_TOKEN is not set"
    elif mentions_by == "off" and not settings.x_hashtag_stream:
        reason = "TAGBACK_X_MENTIONS_BY is off and TAGBACK_X_HASHTAG_STREAM is not set"
    else:
        work = partial(_listen, sessions, settings, pace or Pace())
        await work_while_held(sessions, LEASE, work, seconds=settings.x_lease_seconds, stop=stop)
        return
    log.info("listener_idle", reason=reason)
    await stop.wait()


def way_of_mentions(settings: Settings) -> Literal["webhook", "stream", "off"]:
    """By webhook where X can reach us and we can tell that it is X. Raises SettingsError."""
    chosen = settings.x_mentions_by
    if chosen == "webhook":
        if settings.public_url is None or settings.x_consumer_secret is None:
            raise SettingsError(
                "TAGBACK_X_MENTIONS_BY=webhook needs TAGBACK_PUBLIC_URL and "
                "TAGBACK_X_CONSUMER_SECRET"
            )
        return "webhook"
    if chosen != "auto":
        return chosen
    is_set_up = settings.public_url is not None and settings.x_consumer_secret is not None
    return "webhook" if is_set_up else "stream"


def webhook_url(settings: Settings) -> str:
    return str(settings.public_url).rstrip("/") + webhook.PATH


async def _listen(sessions: Sessions, settings: Settings, pace: Pace, over: asyncio.Event) -> None:
    who = await _who(sessions, settings, pace, over)
    if over.is_set():
        return
    log.info("listening", mentions_by=way_of_mentions(settings), tags=settings.x_hashtag_stream)
    async with open_app(settings) as client:
        listener = _Listener(sessions, settings, pace, client, who)
        await listener.listen(over)


async def _who(sessions: Sessions, settings: Settings, pace: Pace, over: asyncio.Event) -> Identity:
    """Waits for an account to be connected where mentions of it are to be heard."""
    is_waiting = False
    while True:
        try:
            async with sessions.begin() as session:
                who = await accounts.identity(session, settings=settings)
        except DATABASE_ERRORS as error:
            log.warning("listener_waits", error=type(error).__name__)
            who = Identity(None, settings.x_handle)
        if who.account_id or way_of_mentions(settings) == "off" or over.is_set():
            return who
        if not is_waiting:
            log.warning("listener_waits", reason="no account is connected")
        is_waiting = True
        await pause(over, seconds=pace.account_every_seconds)


class _Listener:
    """One time of listening, from taking the lease to losing it."""

    def __init__(
        self,
        sessions: Sessions,
        settings: Settings,
        pace: Pace,
        client: httpx.AsyncClient,
        who: Identity,
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._pace = pace
        self._client = client
        self._decoder = XDecoder(who.account_id, who.handle)
        self._past = PastPosts(
            client,
            self._decoder,
            account_id=who.account_id,
            handle=who.handle,
            try_again_seconds=pace.page_again_seconds,
        )
        self._account_id = who.account_id
        self._intakes: list[Intake] = []

    async def listen(self, over: asyncio.Event) -> None:
        jobs: list[Job] = []
        if self._account_id is not None:
            jobs += self._mention_jobs(self._account_id, over)
        if self._settings.x_hashtag_stream:
            jobs += self._tag_jobs(over)
        storing = [asyncio.create_task(intake.work()) for intake in self._intakes]
        working = [asyncio.create_task(job) for job in [*jobs, _wait(over)]]
        try:
            await asyncio.wait({*working, *storing}, return_when=asyncio.FIRST_COMPLETED)
            await _cancel(working)
            await self._drain(storing)
        finally:
            await _cancel([*working, *storing])

    async def _drain(self, storing: Sequence[asyncio.Task[None]]) -> None:
        """What was read is not thrown away: closing the gap would have to bring it again."""
        drained = [asyncio.create_task(intake.flushed()) for intake in self._intakes]
        if drained:
            everything = asyncio.ensure_future(asyncio.gather(*drained))
            waited_for: set[asyncio.Future[Any]] = {everything, *storing}
            await asyncio.wait(
                waited_for, timeout=DRAIN_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED
            )
            everything.cancel()

    def _mention_jobs(self, account_id: str, over: asyncio.Event) -> list[Job]:
        by = way_of_mentions(self._settings)
        if by == "off":
            return []
        catch_up = self._catch_up(self._past.mentions, MENTIONS)
        subscribing = Subscribing(
            self._sessions,
            self._settings,
            Activity(self._client),
            account_id=account_id,
            webhook_url=webhook_url(self._settings) if by == "webhook" else None,
            catch_up=catch_up,
            cursor=MENTIONS,
            pace=self._pace,
        )
        if by == "webhook":
            every = self._pace.gaps_every_seconds
            return [subscribing.work(), catch_up.work(every_seconds=every)]
        return [subscribing.work(), *self._follow(ACTIVITY, catch_up, over)]

    def _tag_jobs(self, over: asyncio.Event) -> list[Job]:
        rules = StreamRules(self._client, rules_max=self._settings.x_stream_rules_max)
        keeper = RuleKeeper(self._sessions, rules, pace=self._pace)

        async def read(since: datetime, until: datetime) -> Found:
            return await self._past.tagged(await keeper.tags(since, until), since, until)

        following = self._follow(FILTERED, self._catch_up(read, TAGGED), over, keeper.any_rule)
        return [keeper.work(), *following]

    def _catch_up(self, read: Read, source: str) -> CatchUp:
        return CatchUp(self._sessions, self._settings, read, source=source, pace=self._pace)

    def _follow(
        self,
        stream: Stream,
        catch_up: CatchUp,
        over: asyncio.Event,
        may_connect: Callable[[], Awaitable[object]] | None = None,
    ) -> list[Job]:
        intake = Intake(
            self._sessions,
            self._settings,
            source=SOURCES[stream.name],
            read_price_microusd=self._settings.x_price_post_read_microusd,
        )
        self._intakes.append(intake)
        following = Following(
            self._client,
            stream,
            self._decoder,
            intake=intake,
            catch_up=catch_up,
            pace=self._pace,
            may_connect=may_connect,
        )
        return [following.read(over), following.keep_cursor(), catch_up.work(every_seconds=None)]


async def _wait(over: asyncio.Event) -> None:
    await over.wait()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Raises what one of them has failed with."""
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
