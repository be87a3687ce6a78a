from dataclasses import dataclass
from typing import Any

from msgspec import Raw

from app.sandbox.events import activity_event, filtered_line, included_with
from app.sandbox.records import Post
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
        for person_id in post.mentioned:
            await self.notify(
                "post.mention.create",
                person_id,
                event_id=post.id,
                payload=post.v2,
                includes=included_with(self.state, post),
                post_id=post.id,
            )

    async def notify(
        self,
        event_type: str,
        about: str,
        *,
        event_id: str,
        payload: dict[str, Any] | Raw,
        includes: dict[str, Any] | None = None,
        post_id: str | None = None,
    ) -> None:
        """To each subscription to such events about this person: to its webhook, or to the activity
        stream when it names none. `post_id`: the post that is charged as read.
        """
        for subscription in list(self.state.subscriptions.values()):
            if subscription.event_type != event_type:
                continue
            if subscription.user_id not in (None, about):
                continue
            event = activity_event(subscription, event_id, payload, includes)
            if subscription.webhook_id:
                delivery = Delivery(subscription.webhook_id, event_id, event, post_id)
                await self.webhooks.send(delivery)
            else:
                await self._send_line(Line(event + b"\r\n", post_id))

    async def _send_line(self, line: Line) -> None:
        await self.streams.send("activity_stream", lambda _: line)
