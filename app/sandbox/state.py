from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from app.sandbox.journal import Journal
from app.sandbox.profiles import PRICES_MICRO_USD, PROFILES
from app.sandbox.records import Entry, Person, Post, Subscription, Webhook
from app.sandbox.settings import SandboxSettings

_SNOWFLAKE_EPOCH_MS = 1_288_834_974_657
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
    """Everything X would know, in memory. All but the usage and the channels' counts is changed
    through `record` alone, which is what the data file replays.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        self.profile = PROFILES[settings.profile]
        self.people: dict[str, Person] = {}
        self.ids_by_handle: dict[str, str] = {}
        self.posts: dict[str, Post] = {}
        self.own: list[Post] = []
        self.own_texts: set[str] = set()
        self.replies_to: defaultdict[str, list[Post]] = defaultdict(list)
        self.replies = 0
        self.edits: dict[str, tuple[str, ...]] = {}
        self.webhooks: dict[str, Webhook] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.usage: Counter[str] = Counter()
        self.channels = {
            "webhook": Channel(),
            "activity_stream": Channel(),
            "filtered_stream": Channel(),
        }
        self.rate_windows: dict[tuple[str, str, str], RateWindow] = {}
        self._ids_made = 0
        self._newest_id = 0
        self._journal = Journal(settings.data_file) if settings.data_file else None
        for entry in self._journal.read() if self._journal else ():
            self._apply(entry)
        account = self.new_person(settings.handle, id=settings.account_id)
        self._apply(Entry(person=account))

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.settings.clock(), UTC)

    def new_id(self, at: datetime | None = None) -> str:
        """A snowflake: 42 bits of milliseconds, 22 bits of sequence. Ids of the present rise."""
        milliseconds = int((at or self.now()).timestamp() * 1000)
        self._ids_made += 1
        number = max(0, milliseconds - _SNOWFLAKE_EPOCH_MS) << 22 | self._ids_made & 0x3FFFFF
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

    def _apply_post(self, post: Post) -> None:
        self.posts[post.id] = post
        if len(post.history) > 1:
            self.edits[post.history[0]] = post.history
        if post.author_id == self.settings.account_id:
            insort(self.own, post, key=lambda own: int(own.id))
            self.own_texts.add(post.text)
            self._newest_id = max(self._newest_id, int(post.id))
            if post.reply_to:
                self.replies_to[post.reply_to].append(post)
                self.replies += 1
        if len(self.posts) > self.settings.posts_kept_max:
            oldest = next(iter(self.posts))
            del self.posts[oldest]
            self.replies_to.pop(oldest, None)

    def summons(self, post: Post) -> bool:
        """Whether the programme's account may answer this post under the rule for self-serve."""
        account = self.settings.account_id
        quoted = self.posts.get(post.quote_of or "")
        return account in (post.author_id, *post.mentioned) or (
            quoted is not None and quoted.author_id == account
        )

    def usage_micro_usd(self) -> Mapping[str, int]:
        return {kind: count * PRICES_MICRO_USD[kind] for kind, count in sorted(self.usage.items())}

    def close(self) -> None:
        if self._journal:
            self._journal.close()
