"""The filtered stream's rules, kept in step with the offers that run."""

import asyncio
import time
from collections.abc import Collection
from datetime import datetime, timedelta

from app.kit import clock
from app.kit.db import Sessions
from app.kit.hashtags import tag_key
from app.networks.x.stream_rules import StreamRules
from app.offers import queries as offers
from app.offers.catalogue import Catalogue, build, tags_between
from app.posts.gap import Gap
from app.posts.pace import Pace
from app.posts.surely import surely

# A rule is heeded some 20 s after it was made; a post may come some seconds after it was written.
BEFORE_AND_AFTER = timedelta(minutes=2)
RULES = "rules"


class RuleKeeper:
    """Until the rules are in place, and X heeds them, the stream lacks what they are to bring."""

    def __init__(self, sessions: Sessions, rules: StreamRules, *, gap: Gap, pace: Pace) -> None:
        self._sessions = sessions
        self._rules = rules
        self._gap = gap
        self._gap.lack(RULES)
        self._pace = pace
        self._catalogue: Catalogue | None = None
        self._any = asyncio.Event()
        self._refused: frozenset[str] = frozenset()  # keys of tags
        self._told: Collection[str] | None = None
        self._is_whole = False
        self._checked = self._heeded_from = 0.0

    async def any_rule(self) -> None:
        """Returns when there is one: without any, X refuses the stream."""
        await self._any.wait()

    async def tags(self, since: datetime, until: datetime) -> set[str]:
        """Those that may be asked for: X refuses a search as it does a rule."""
        offered = await self._offered(since, until)
        return {tag for tag in offered if tag_key(tag) not in self._refused}

    async def work(self) -> None:
        """Until it is cancelled. Asks the database every few seconds, X only when the tags have
        changed, and now and then whether somebody else has changed the rules.
        """
        while True:
            await surely(
                self._keep, waits="stream_rules_wait", pace=self._pace, on_failure=self._changed
            )
            await asyncio.sleep(self._pace.rules_every_seconds)

    async def _keep(self) -> None:
        now = clock.now()
        tags = await self._offered(now - BEFORE_AND_AFTER, now + BEFORE_AND_AFTER)
        is_due = time.monotonic() - self._checked >= self._pace.rules_checked_every_seconds
        if tags != self._told or is_due:
            await self._reconcile(tags)
            self._told, self._checked = tags, time.monotonic()
        if self._is_whole and time.monotonic() >= self._heeded_from:
            self._gap.gain(RULES)

    async def _reconcile(self, tags: Collection[str]) -> None:
        found = await self._rules.reconcile(tags)
        self._refused, self._is_whole = found.refused, found.is_whole
        if found.has_new:
            self._changed()
        if not found.is_whole:
            self._gap.lack(RULES)
        if found.rules:
            self._any.set()
        else:
            self._any.clear()

    def _changed(self) -> None:
        """Or may have been: what of it was done before it failed is not known."""
        self._gap.lack(RULES)
        self._heeded_from = time.monotonic() + self._pace.rules_heeded_seconds

    async def _offered(self, since: datetime, until: datetime) -> set[str]:
        async with self._sessions.begin() as session:
            version = await offers.catalogue_version(session)
            if self._catalogue is None or self._catalogue.version != version:
                self._catalogue = build(version, await offers.read_catalogue(session))
        return tags_between(self._catalogue, since, until)
