"""The filtered stream's rules, kept in step with the offers that run."""

import asyncio
import time
from collections.abc import Collection
from datetime import datetime, timedelta

import structlog

from app.kit import clock
from app.kit.db import DATABASE_ERRORS, Sessions
from app.networks.x.calls import CallError
from app.networks.x.stream_rules import StreamRules
from app.offers import queries as offers
from app.offers.catalogue import Catalogue, build, tags_between
from app.posts.pace import Pace

# A rule is heeded some 20 s after it was made; a post may come some seconds after it was written.
BEFORE_AND_AFTER = timedelta(minutes=2)

log = structlog.get_logger(__name__)


class RuleKeeper:
    def __init__(self, sessions: Sessions, rules: StreamRules, *, pace: Pace) -> None:
        self._sessions = sessions
        self._rules = rules
        self._pace = pace
        self._catalogue: Catalogue | None = None
        self._any = asyncio.Event()

    async def any_rule(self) -> None:
        """Returns when there is one: without any, X refuses the stream."""
        await self._any.wait()

    async def tags(self, since: datetime, until: datetime) -> set[str]:
        async with self._sessions.begin() as session:
            version = await offers.catalogue_version(session)
            if self._catalogue is None or self._catalogue.version != version:
                self._catalogue = build(version, await offers.read_catalogue(session))
        return tags_between(self._catalogue, since, until)

    async def work(self) -> None:
        """Until it is cancelled. Asks the database every few seconds, X only when the tags have
        changed, and now and then whether somebody else has changed the rules.
        """
        told: Collection[str] | None = None
        checked = 0.0
        failures = 0
        while True:
            try:
                now = clock.now()
                tags = await self.tags(now - BEFORE_AND_AFTER, now + BEFORE_AND_AFTER)
                is_due = time.monotonic() - checked >= self._pace.rules_checked_every_seconds
                if tags != told or is_due:
                    await self._reconcile(tags)
                    told, checked = tags, time.monotonic()
            except CallError as error:
                failures += 1
                log.warning("stream_rules_wait", reason=error.detail)
            except DATABASE_ERRORS as error:
                failures += 1
                log.warning("stream_rules_wait", reason=type(error).__name__)
            else:
                failures = 0
            every = self._pace.rules_every_seconds
            await asyncio.sleep(max(every, self._pace.retry(failures)) if failures else every)

    async def _reconcile(self, tags: Collection[str]) -> None:
        if await self._rules.reconcile(tags):
            self._any.set()
        else:
            self._any.clear()
