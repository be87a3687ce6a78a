"""The rules of the filtered stream at X: read, and brought in step with what is wanted."""

from collections.abc import Collection, Sequence

import httpx
import msgspec
import structlog

from app.networks.x.calls import ask
from app.networks.x.rules import NewRule, Rule, plan

_PATH = "/2/tweets/search/stream/rules"
_AT_ONCE_MAX = 100
_PAGE_RULES = 1_000

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
    value: str = ""


class _Changed(msgspec.Struct):
    errors: list[_Error] = []


_rules = msgspec.json.Decoder(_Rules)
_changed = msgspec.json.Decoder(_Changed)


class StreamRules:
    """All raise CallError."""

    def __init__(self, client: httpx.AsyncClient, *, rules_max: int) -> None:
        self._client = client
        self._rules_max = rules_max

    async def reconcile(self, tags: Collection[str]) -> int:
        """Answers how many rules there are now. X takes about 20 s to heed a change. What is new is
        added before what it replaces is deleted, so that no tag is unheard meanwhile, unless X has
        no room for both.
        """
        present = await self.read()
        wanted = plan(present, tags, rules_max=self._rules_max)
        if wanted.left_out:
            log.error("stream_rules_full", tags=wanted.left_out, rules_max=self._rules_max)
        has_room = len(present) + len(wanted.add) <= self._rules_max
        if not has_room:
            await self._delete(wanted.delete)
        await self._add(wanted.add)
        if has_room:
            await self._delete(wanted.delete)
        if wanted.add or wanted.delete:
            log.info("stream_rules_changed", added=len(wanted.add), deleted=len(wanted.delete))
        return len(present) + len(wanted.add) - len(wanted.delete)

    async def read(self) -> list[Rule]:
        found: list[Rule] = []
        params: dict[str, str | int] = {"max_results": _PAGE_RULES}
        while True:
            page = await ask(self._client, "GET", _PATH, _rules, params=params)
            found += [Rule(rule.id, rule.value, rule.tag) for rule in page.data]
            if page.meta.next_token is None:
                return found
            params["pagination_token"] = page.meta.next_token

    async def _add(self, rules: Sequence[NewRule]) -> None:
        for start in range(0, len(rules), _AT_ONCE_MAX):
            add = [rule._asdict() for rule in rules[start : start + _AT_ONCE_MAX]]
            await self._change({"add": add})

    async def _delete(self, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), _AT_ONCE_MAX):
            await self._change({"delete": {"ids": ids[start : start + _AT_ONCE_MAX]}})

    async def _change(self, change: object) -> None:
        changed = await ask(self._client, "POST", _PATH, _changed, body=change)
        for error in changed.errors:
            log.error("stream_rule_refused", reason=error.title, rule=error.value)
