"""The rules of the filtered stream at X: read, and brought in step with what is wanted."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import httpx
import msgspec
import structlog

from app.kit.hashtags import tag_key
from app.networks.x.calls import ask
from app.networks.x.rules import NewRule, Plan, Rule, expression, plan, tags_of

_PATH = "/2/tweets/search/stream/rules"
_AT_ONCE_MAX = 100
_PAGE_RULES = 1_000
_NO_ROOM = "/rule-cap"

log = structlog.get_logger(__name__)


class _Rule(msgspec.Struct):
    id: str
    value: str
    tag: str | None = None


class _Meta(msgspec.Struct):
    next_token: str | None = None


class _Rules(msgspec.Struct):
    data: list[_Rule] = []
    meta: _Meta = msgspec.field(default_factory=_Meta)


class _Error(msgspec.Struct):
    title: str = ""
    type: str = ""
    detail: str = ""


class _Made(msgspec.Struct):
    value: str


class _Changed(msgspec.Struct):
    """What was made, and why something was not, in no order."""

    data: list[_Made] = []
    errors: list[_Error] = []


class Standing(NamedTuple):
    """`rules`: how many X has. `has_new`: there are new ones, which it takes about 20 s to heed.
    `refused`: keys of tags that it takes into no rule. `is_whole`: all others are in one.
    """

    rules: int
    has_new: bool
    refused: frozenset[str]
    is_whole: bool


_rules = msgspec.json.Decoder(_Rules)
_changed = msgspec.json.Decoder(_Changed)


class StreamRules:
    """All raise CallError."""

    def __init__(self, client: httpx.AsyncClient, *, rules_max: int) -> None:
        self._client = client
        self._rules_max = rules_max

    async def reconcile(self, tags: Collection[str]) -> Standing:
        """What is new is added before what it replaces is deleted, so that no tag is unheard
        meanwhile, unless X has no room for both. Where X refuses a rule, the one that it was to
        replace stays, and the others' tags go without those that X does not take.
        """
        present = await self.read()
        wanted = plan(present, tags, rules_max=self._rules_max)
        refused, has_new = await self._carry_out(present, wanted)
        bad: frozenset[str] = frozenset()
        if refused:
            bad = await self._tags_refused(refused, present)
            present = await self.read()
            others = {tag for tag in tags if tag_key(tag) not in bad}
            wanted = plan(present, others, rules_max=self._rules_max)
            refused, has_more = await self._carry_out(present, wanted)
            has_new |= has_more
        if wanted.left_out:
            log.error("stream_rules_full", tags=wanted.left_out, rules_max=self._rules_max)
        if bad:
            log.error("stream_tags_refused", tags=sorted(bad))
        if has_new or wanted.delete:
            present = await self.read()
            log.info("stream_rules_changed", rules=len(present))
        is_whole = not refused and not wanted.left_out
        return Standing(len(present), has_new, bad, is_whole)

    async def _carry_out(self, present: Sequence[Rule], wanted: Plan) -> tuple[list[NewRule], bool]:
        """The rules that X refuses, and whether it has taken any."""
        has_room = len(present) + len(wanted.add) <= self._rules_max
        if not has_room:
            await self._delete(wanted.delete)
        refused, _ = await self._add(wanted.add)
        has_new = len(refused) < len(wanted.add)
        if has_room:
            slots = {rule.tag for rule in refused}
            values = {rule.value for rule in refused}
            kept = {rule.id for rule in present if rule.tag in slots or rule.value in values}
            await self._delete([rule_id for rule_id in wanted.delete if rule_id not in kept])
            # what X has already, under another tag, it refuses too
            refused = [one for one in refused if all(one.value != rule.value for rule in present)]
        return refused, has_new

    async def _tags_refused(
        self, refused: Sequence[NewRule], present: Sequence[Rule]
    ) -> frozenset[str]:
        """X says it of a rule only: so each of their new tags is tried as one, which is not made.
        None when X has no room for any.
        """
        heard = {tag for rule in present for tag in tags_of(rule.value) or ()}
        new = {tag for rule in refused for tag in tags_of(rule.value) or ()} - heard
        alone = [NewRule(expression([tag]), tag) for tag in sorted(new)]
        found, errors = await self._add(alone, dry_run=True)
        if any(error.type.endswith(_NO_ROOM) for error in errors):
            return frozenset()
        return frozenset(tag_key(rule.tag) for rule in found)

    async def read(self) -> list[Rule]:
        found: list[Rule] = []
        params: dict[str, str | int] = {"max_results": _PAGE_RULES}
        while True:
            page = await ask(self._client, "GET", _PATH, _rules, params=params)
            found += [Rule(rule.id, rule.value, rule.tag) for rule in page.data]
            if page.meta.next_token is None:
                return found
            params["pagination_token"] = page.meta.next_token

    async def _add(
        self, rules: Sequence[NewRule], *, dry_run: bool = False
    ) -> tuple[list[NewRule], list[_Error]]:
        """Those that are refused, and X's reasons."""
        refused: list[NewRule] = []
        reasons: list[_Error] = []
        for start in range(0, len(rules), _AT_ONCE_MAX):
            chunk = rules[start : start + _AT_ONCE_MAX]
            add = [rule._asdict() for rule in chunk]
            changed = await self._change({"add": add}, dry_run=dry_run)
            if changed.errors:
                made = {rule.value for rule in changed.data}
                refused += [rule for rule in chunk if rule.value not in made]
                reasons += changed.errors
        return refused, reasons

    async def _delete(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _AT_ONCE_MAX):
            await self._change({"delete": {"ids": ids[start : start + _AT_ONCE_MAX]}})

    async def _change(self, change: object, *, dry_run: bool = False) -> _Changed:
        params = {"dry_run": "true"} if dry_run else None
        changed = await ask(self._client, "POST", _PATH, _changed, params=params, body=change)
        for error in changed.errors:
            log.error("stream_rule_refused", reason=error.title, detail=error.detail)
        return changed
