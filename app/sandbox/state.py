from bisect import bisect_left, insort
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import get_args

from app.sandbox.journal import Journal
from app.sandbox.problems import ProblemHost
from app.sandbox.profiles import PRICES_MICRO_USD, PROFILES
from app.sandbox.records import (
    AccessToken,
    Code,
    Entry,
    Grant,
    Message,
    Person,
    Post,
    Rule,
    Subscription,
    Webhook,
)
from app.sandbox.settings import SandboxSettings

_SNOWFLAKE_EPOCH_MS = 1_288_834_974_657
_PROBLEM_HOSTS: tuple[ProblemHost, ...] = get_args(ProblemHost)
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class Channel:
    """Events by what became of them; `unheard`: nobody was connected to a stream."""

    delivered: int = 0
    dropped: int = 0
    unheard: int = 0


@dataclass
class RateWindow:
    resets_at: int
    used: int = 0


class State:
    """Everything X would know, in memory. What the data file replays is changed through `record`
    alone; counts, codes and access tokens do not outlive the process.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        self.profile = PROFILES[settings.profile]
        self.people: dict[str, Person] = {}
        self.ids_by_handle: dict[str, str] = {}
        self.posts: dict[str, Post] = {}
        self.posts_by_id: list[Post] = []
        self.mentions: defaultdict[str, list[Post]] = defaultdict(list)
        self.own: list[Post] = []
        self.own_texts: set[str] = set()
        self.replies_to: defaultdict[str, list[Post]] = defaultdict(list)
        self.replies = 0
        self.messages: deque[Message] = deque(maxlen=settings.queue_events_max)
        self.wrote_to: set[tuple[str, str]] = set()
        self.edits: dict[str, tuple[str, ...]] = {}
        self.webhooks: dict[str, Webhook] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.rules: dict[str, Rule] = {}
        self.rules_leaving: list[tuple[Rule, float]] = []
        self.grants: dict[str, Grant] = {}
        self.grant_ids_by_refresh: dict[str, str] = {}
        self.codes: dict[str, Code] = {}
        self.access_tokens: dict[str, AccessToken] = {}
        self.usage: Counter[str] = Counter()
        self.channels = {
            "webhook": Channel(),
            "activity_stream": Channel(),
            "filtered_stream": Channel(),
        }
        self._posts_charged: set[str] = set()
        self._charged_on: date | None = None
        self.rate_windows: dict[tuple[str, str, str], RateWindow] = {}
        self._problems_told = 0
        self._ids_made = 0
        self._newest_id = 0
        self.ahead_seconds = 0
        self._journal = Journal(settings.data_file) if settings.data_file else None
        for entry in self._journal.read() if self._journal else ():
            self._apply(entry)
        self.rules_leaving.clear()
        account = self.new_person(settings.handle, id=settings.account_id)
        self._apply(Entry(person=account))

    def clock(self) -> float:
        """Unix seconds, as far ahead as the stand-in was told to be."""
        return self.settings.clock() + self.ahead_seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def new_id(self, at: datetime | None = None) -> str:
        """A snowflake: 42 bits of milliseconds, 22 bits of sequence. Ids of the present rise."""
        self._ids_made += 1
        number = id_at(at or self.now()) | self._ids_made & 0x3FFFFF
        if at is None:
            number = max(number, self._newest_id + 1)
        while str(number) in self.posts:
            number += 1
        if at is None:
            self._newest_id = number
        return str(number)

    def new_person(self, handle: str, *, id: str | None = None) -> Person:  # noqa: A002 - X's name
        name = self.settings.name if id == self.settings.account_id else handle
        return Person(
            id=id or self.new_id(),
            handle=handle,
            name=name,
            created_at=_LONG_AGO,
            followers=100,
            default_picture=False,
        )

    def record(self, entry: Entry) -> None:
        if self._journal:
            self._journal.append(entry)
        self._apply(entry)

    def _apply(self, entry: Entry) -> None:
        if person := entry.person:
            if before := self.people.get(person.id):
                self.ids_by_handle.pop(before.handle.lower(), None)
            self.people[person.id] = person
            self.ids_by_handle[person.handle.lower()] = person.id
        if entry.post:
            self._apply_post(entry.post)
        if deleted := self.posts.get(entry.post_deleted or ""):
            self._apply_deletion(deleted)
        if message := entry.message:
            self.messages.append(message)
            self.wrote_to.add((message.sender_id, message.recipient_id))
        self._apply_listening(entry)
        self._apply_rule(entry)
        self._apply_grant(entry)

    def _apply_listening(self, entry: Entry) -> None:
        if webhook := entry.webhook:
            self.webhooks[webhook.id] = webhook
        if subscription := entry.subscription:
            self.subscriptions[subscription.id] = subscription
        if entry.unsubscribed:
            self.subscriptions.pop(entry.unsubscribed, None)
        if gone := entry.webhook_deleted:
            self.webhooks.pop(gone, None)
            for subscription in list(self.subscriptions.values()):
                if subscription.webhook_id == gone:
                    del self.subscriptions[subscription.id]

    def _apply_rule(self, entry: Entry) -> None:
        if rule := entry.rule:
            self.rules[rule.id] = rule
        if entry.rule_deleted in self.rules:
            now = self.clock()
            leaves_at = now + self.settings.rules_effective_seconds
            self.rules_leaving = [left for left in self.rules_leaving if left[1] > now]
            self.rules_leaving.append((self.rules.pop(entry.rule_deleted), leaves_at))

    def _apply_grant(self, entry: Entry) -> None:
        """A grant that is known already comes with its next refresh token: the last one is dead."""
        changed = entry.grant.id if entry.grant else entry.grant_ended
        if before := self.grants.pop(changed or "", None):
            self.grant_ids_by_refresh.pop(before.refresh_digest or "", None)
        if grant := entry.grant:
            self.grants[grant.id] = grant
            if grant.refresh_digest:
                self.grant_ids_by_refresh[grant.refresh_digest] = grant.id

    def _apply_post(self, post: Post) -> None:
        self.posts[post.id] = post
        insort(self.posts_by_id, post, key=post_number)
        for person_id in post.mentioned:
            insort(self.mentions[person_id], post, key=post_number)
        if len(post.history) > 1:
            self.edits[post.history[0]] = post.history
        if post.author_id == self.settings.account_id:
            insort(self.own, post, key=post_number)
            self.own_texts.add(post.text)
            self._newest_id = max(self._newest_id, int(post.id))
            if post.reply_to:
                self.replies_to[post.reply_to].append(post)
                self.replies += 1
        if len(self.posts) > self.settings.posts_kept_max:
            self._forget(next(iter(self.posts.values())))

    def _apply_deletion(self, post: Post) -> None:
        self._forget(post)
        if post.author_id == self.settings.account_id:
            _remove(self.own, post)
            self.own_texts.discard(post.text)
            self.replies -= post.reply_to is not None
        siblings = self.replies_to.get(post.reply_to or "", [])
        if post in siblings:
            siblings.remove(post)

    def _forget(self, post: Post) -> None:
        del self.posts[post.id]
        _remove(self.posts_by_id, post)
        for person_id in post.mentioned:
            _remove(self.mentions[person_id], post)
        self.replies_to.pop(post.id, None)

    def problem_host(self) -> str:
        """Of the problem that is told next."""
        host = self.settings.problem_host
        if host == "alternating":
            self._problems_told += 1
            host = _PROBLEM_HOSTS[self._problems_told % len(_PROBLEM_HOSTS)]
        return host

    def charge_read(self, post_id: str, kind: str = "post_read") -> None:
        """A post is charged once a day (UTC), however often and whichever way it is read."""
        today = self.now().date()
        if today != self._charged_on:
            self._posts_charged.clear()
            self._charged_on = today
        if post_id not in self._posts_charged:
            self._posts_charged.add(post_id)
            self.usage[kind] += 1

    def summons(self, post: Post, account: str) -> bool:
        """Whether this account may answer the post under the rule for self-serve."""
        quoted = self.posts.get(post.quote_of or "")
        return account in (post.author_id, *post.mentioned) or (
            quoted is not None and quoted.author_id == account
        )

    def usage_micro_usd(self) -> Mapping[str, int]:
        return {kind: count * PRICES_MICRO_USD[kind] for kind, count in sorted(self.usage.items())}

    def close(self) -> None:
        if self._journal:
            self._journal.close()


def id_at(moment: datetime) -> int:
    """The least id of this millisecond."""
    milliseconds = int(moment.timestamp() * 1000)
    return max(0, milliseconds - _SNOWFLAKE_EPOCH_MS) << 22


def post_number(post: Post) -> int:
    return int(post.id)


def _remove(posts: list[Post], post: Post) -> None:
    """From a list in the order of ids."""
    at = bisect_left(posts, int(post.id), key=post_number)
    if at < len(posts) and posts[at].id == post.id:
        del posts[at]
