"""The listener role: what happens on X, heard and stored as it happens, and what was missed asked
for again. One process listens at a time; others stand by.

Posts that mention the programme come by webhook, which the API receives, or by the activity stream;
so do deletions and messages, mentions or not. Posts that have no more than an offer's tag come by
the filtered stream. For each way to posts there is a cursor, and a pass that closes gaps.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
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
from app.posts.gap import Gap
from app.posts.intake import Intake
from app.posts.pace import Pace
from app.posts.rule_keeping import RuleKeeper
from app.posts.subscribing import Subscribing
from app.posts.surely import surely

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
    way = way_of_events(settings)
    if settings.x_app_token is None:
        reason = "TAGBACK_X_APP_TOKEN is not set"
    elif way == "off":
        reason = "TAGBACK_X_MENTIONS_BY is off and TAGBACK_X_HASHTAG_STREAM is not set"
    else:
        work = partial(_listen, sessions, settings, pace or Pace())
        await work_while_held(sessions, LEASE, work, seconds=settings.x_lease_seconds, stop=stop)
        return
    log.info("listener_idle", reason=reason)
    await stop.wait()


def way_of_mentions(settings: Settings) -> Literal["webhook", "stream", "off"]:
    """Raises SettingsError."""
    return "off" if settings.x_mentions_by == "off" else way_of_events(settings)


def way_of_events(settings: Settings) -> Literal["webhook", "stream", "off"]:
    """How X tells of deletions, messages and, where they are wanted, mentions: by webhook where X
    can reach us and we can tell that it is X; off where nothing is heard at all. Raises
    SettingsError.
    """
    chosen = settings.x_mentions_by
    can_be_told = settings.public_url is not None and settings.x_consumer_secret is not None
    if chosen == "webhook" and not can_be_told:
        raise SettingsError(
            "TAGBACK_X_MENTIONS_BY=webhook needs TAGBACK_PUBLIC_URL and TAGBACK_X_CONSUMER_SECRET"
        )
    if chosen == "off" and not settings.x_hashtag_stream:
        return "off"
    if chosen in ("webhook", "stream"):
        return chosen
    return "webhook" if can_be_told else "stream"


def webhook_url(settings: Settings) -> str:
    return str(settings.public_url).rstrip("/") + webhook.PATH


async def _listen(sessions: Sessions, settings: Settings, pace: Pace, over: asyncio.Event) -> None:
    async with open_app(settings) as client:
        while not over.is_set():
            who = await _who(sessions, settings, pace, over)
            if who is None:
                return
            log.info(
                "listening",
                mentions_by=way_of_mentions(settings),
                tags=settings.x_hashtag_stream,
                as_account=who.account_id,
            )
            if who.account_id is None:
                log.warning("listener_waits", reason="no account is connected")
            await _Listener(sessions, settings, pace, client, who).listen(over)


async def _who(
    sessions: Sessions, settings: Settings, pace: Pace, over: asyncio.Event
) -> Identity | None:
    """None when it is over before the database has told."""
    while not over.is_set():
        try:
            return await _identity(sessions, settings)
        except DATABASE_ERRORS as error:
            log.warning("listener_waits", reason=type(error).__name__)
        await pause(over, seconds=pace.account_every_seconds)
    return None


async def _identity(sessions: Sessions, settings: Settings) -> Identity:
    async with sessions.begin() as session:
        return await accounts.identity(session, settings=settings)


class _Listener:
    """One time of listening as one account, or as none: from taking the lease to losing it, or
    until it is another account that is connected.
    """

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
        self._who = who
        self._intakes: list[Intake] = []

    async def listen(self, over: asyncio.Event) -> None:
        jobs: list[Job] = [self._is_another()]
        if self._who.account_id is not None:
            jobs += self._account_jobs(self._who.account_id, over)
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

    async def _is_another(self) -> None:
        """Returns when it is."""
        identity = partial(_identity, self._sessions, self._settings)
        who = self._who
        while who == self._who:
            await asyncio.sleep(self._pace.account_every_seconds)
            who = await surely(identity, waits="listener_waits", pace=self._pace)
        log.info("account_changed", before=self._who.account_id, now=who.account_id)

    def _account_jobs(self, account_id: str, over: asyncio.Event) -> list[Job]:
        """Where mentions are off, nothing of them is missed, and no gap is closed."""
        by = way_of_events(self._settings)
        gap, catch_up = Gap(), None
        if way_of_mentions(self._settings) != "off":
            catch_up = self._catch_up(self._past.mentions, gap, MENTIONS)
        subscribing = Subscribing(
            self._sessions,
            self._settings,
            Activity(self._client),
            account_id=account_id,
            webhook_url=webhook_url(self._settings) if by == "webhook" else None,
            gap=None if catch_up is None else gap,
            pace=self._pace,
        )
        jobs = [subscribing.work()]
        if by == "stream":
            jobs += self._follow(ACTIVITY, gap, catch_up, over)
        if catch_up is not None:
            jobs.append(catch_up.work(by_the_clock=by == "webhook"))
        return jobs

    def _tag_jobs(self, over: asyncio.Event) -> list[Job]:
        gap = Gap()
        rules = StreamRules(self._client, rules_max=self._settings.x_stream_rules_max)
        keeper = RuleKeeper(self._sessions, rules, gap=gap, pace=self._pace)

        async def read(since: datetime, until: datetime) -> AsyncGenerator[Found, None]:
            found = self._past.tagged(await keeper.tags(since, until), since, until)
            async with aclosing(found):
                async for part in found:
                    yield part

        catch_up = self._catch_up(read, gap, TAGGED)
        following = self._follow(FILTERED, gap, catch_up, over, keeper.any_rule)
        return [keeper.work(), *following, catch_up.work(by_the_clock=False)]

    def _catch_up(self, read: Read, gap: Gap, source: str) -> CatchUp:
        return CatchUp(
            self._sessions, self._settings, read, gap=gap, source=source, pace=self._pace
        )

    def _follow(
        self,
        stream: Stream,
        gap: Gap,
        catch_up: CatchUp | None,
        over: asyncio.Event,
        may_connect: Callable[[], Awaitable[object]] | None = None,
    ) -> list[Job]:
        intake = Intake(
            self._sessions,
            self._settings,
            source=SOURCES[stream.name],
            read_price_microusd=self._settings.x_price_post_read_microusd,
            pace=self._pace,
        )
        self._intakes.append(intake)
        following = Following(
            self._client,
            stream,
            self._decoder,
            intake=intake,
            gap=gap,
            pace=self._pace,
            may_connect=may_connect,
        )
        jobs = [following.read(over)]
        return jobs if catch_up is None else [*jobs, following.keep_cursor(catch_up)]


async def _wait(over: asyncio.Event) -> None:
    await over.wait()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Raises what one of them has failed with."""
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
