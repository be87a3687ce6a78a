from dataclasses import dataclass

from app.sandbox.events import activity_event, filtered_line
from app.sandbox.records import Post, Subscription
from app.sandbox.state import State
from app.sandbox.streams import Streams
from app.sandbox.webhooks import Delivery, Webhooks


@dataclass(frozen=True)
class Sandbox:
    state: State
    streams: Streams
    webhooks: Webhooks

    async def publish(self, post: Post) -> None:
        """Every post goes to the filtered stream; a mention of a subscribed account goes to the
        subscription's webhook, or to the activity stream when it names none. Waits for room, so
        that whoever makes posts is slowed to what the listeners take.
        """
        await self.streams.send(
            "filtered_stream", lambda selection: filtered_line(self.state, post, selection)
        )
        for subscription in list(self.state.subscriptions.values()):
            mention = subscription.event_type == "post.mention.create"
            if mention and subscription.user_id in post.mentioned:
                await self._notify(subscription, post)

    async def _notify(self, subscription: Subscription, post: Post) -> None:
        event = activity_event(self.state, post, subscription)
        if subscription.webhook_id:
            await self.webhooks.send(Delivery(subscription.webhook_id, post.id, event))
        else:
            await self.streams.send("activity_stream", lambda _: event + b"\r\n")
