from dataclasses import dataclass

from app.sandbox.events import Event, deletion_event, filtered_line, mention_event
from app.sandbox.records import Entry, Post, Subscription
from app.sandbox.rules import matching_rules
from app.sandbox.state import State
from app.sandbox.streams import Line, Streams
from app.sandbox.webhooks import Delivery, Webhooks


@dataclass(frozen=True)
class Sandbox:
    state: State
    streams: Streams
    webhooks: Webhooks

    async def publish(self, post: Post) -> None:
        """A post goes to the filtered stream when a rule matches it, and to whoever subscribed to
        the mentions of a person it mentions. Waits for room, so that whoever makes posts is slowed
        to what the listeners take.
        """
        if rules := matching_rules(self.state, post):
            await self.streams.send(
                "filtered_stream",
                lambda selection: Line(filtered_line(self.state, post, rules, selection), post.id),
            )
        if subscribed := self._subscribed("post.mention.create", *post.mentioned):
            await self._send(mention_event(self.state, post), subscribed)

    async def delete(self, post: Post) -> None:
        """All its versions: an edit does not outlive the post it is of."""
        known = self.state.posts
        history = self.state.edits.get(post.history[0], post.history)
        for version in [known[post_id] for post_id in history if post_id in known]:
            event = deletion_event(self.state, version)
            self.state.record(Entry(post_deleted=version.id))
            await self.notify(event, version.author_id)

    async def notify(self, event: Event, *about: str) -> None:
        """Whoever subscribed to such events about one of these people."""
        await self._send(event, self._subscribed(event.type, *about))

    async def notify_unasked(self, event: Event) -> None:
        """What needs no subscription: to every webhook, and on the activity stream."""
        body = event.encode()
        for webhook_id in list(self.state.webhooks):
            await self.webhooks.send(Delivery(webhook_id, event.id, body))
        await self._send_line(Line(body + b"\r\n"))

    def _subscribed(self, event_type: str, *about: str) -> list[Subscription]:
        return [
            subscription
            for subscription in self.state.subscriptions.values()
            if subscription.event_type == event_type and subscription.user_id in about
        ]

    async def _send(self, event: Event, subscriptions: list[Subscription]) -> None:
        """To a subscription's webhook, or to the activity stream when it names none."""
        for subscription in subscriptions:
            body = event.encode(subscription)
            if subscription.webhook_id:
                delivery = Delivery(subscription.webhook_id, event.id, body, event.post_id)
                await self.webhooks.send(delivery)
            else:
                await self._send_line(Line(body + b"\r\n", event.post_id))

    async def _send_line(self, line: Line) -> None:
        await self.streams.send("activity_stream", lambda _: line)
