import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from app.sandbox.events import Event, deletion_event, filtered_line, mention_event
from app.sandbox.faults import ANY_PUSH, PUSHED, WEBHOOK_KINDS, Fault, Faults
from app.sandbox.records import Entry, Post, Subscription
from app.sandbox.rules import matching_rules
from app.sandbox.state import State
from app.sandbox.streams import Line, Streams
from app.sandbox.webhooks import Delivery, Webhooks

Place = Literal["filtered_stream", "activity_stream", "webhook"]
Send = Callable[[], Awaitable[None]]


@dataclass(eq=False)
class Held:
    """Something held back, past the next `lines` that go to the same place."""

    place: Place
    lines: int
    send: Send


@dataclass(frozen=True)
class Sandbox:
    state: State
    streams: Streams
    webhooks: Webhooks
    faults: Faults
    held: list[Held] = field(default_factory=list)
    timers: set[asyncio.Task[None]] = field(default_factory=set)

    async def publish(self, post: Post) -> None:
        """A post goes to the filtered stream when a rule matches it, and to whoever subscribed to
        the mentions of a person it mentions. Waits for room, so that whoever makes posts is slowed
        to what the listeners take.
        """
        if self.faults.take(ANY_PUSH, kinds={"lose"}):
            return
        if rules := matching_rules(self.state, post):

            async def send() -> None:
                await self.streams.send(
                    "filtered_stream",
                    lambda chosen: Line(filtered_line(self.state, post, rules, chosen), post.id),
                )

            await self._push("filtered_stream", send)
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
            await self._send_delivery(Delivery(webhook_id, event.id, body))
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
                await self._send_delivery(delivery)
            else:
                await self._send_line(Line(body + b"\r\n", event.post_id))

    async def _send_delivery(self, delivery: Delivery) -> None:
        await self._push("webhook", lambda: self.webhooks.send(delivery))

    async def _send_line(self, line: Line) -> None:
        await self._push(
            "activity_stream", lambda: self.streams.send("activity_stream", lambda _: line)
        )

    async def _push(self, place: Place, send: Send) -> None:
        kinds = WEBHOOK_KINDS if place == "webhook" else PUSHED
        fault = self.faults.take(place, kinds=kinds)
        # What is lost on any push is lost on all: that has been decided for a post as a whole.
        fault = fault or self.faults.take(ANY_PUSH, kinds=kinds - {"lose"})
        match fault.kind if fault else None:
            case "lose":
                return
            case "reorder" if fault:
                self._hold(place, send, fault)
                return
            case "duplicate":
                await send()
            case None:
                pass
            case _ if fault and place != "webhook":
                self.streams.strike(place, fault)
        await send()
        await self._pass_held(place)

    def _hold(self, place: Place, send: Send, fault: Fault) -> None:
        """Let go after as many others, or at the latest after as many seconds."""
        held = Held(place, fault.lines, send)
        self.held.append(held)

        async def let_go_later() -> None:
            await asyncio.sleep(fault.seconds)
            await self._let_go(held)

        timer = asyncio.create_task(let_go_later())
        self.timers.add(timer)
        timer.add_done_callback(self.timers.discard)

    async def _pass_held(self, place: Place) -> None:
        for held in [held for held in self.held if held.place == place]:
            held.lines -= 1
            if not held.lines:
                await self._let_go(held)

    async def _let_go(self, held: Held) -> None:
        if held in self.held:
            self.held.remove(held)
            await held.send()
