"""Webhooks: events posted with a signature, and the check that the receiver knows the secret."""

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections import deque
from datetime import datetime
from typing import NamedTuple

import httpx

from app.sandbox.state import State

SIGNATURE_HEADER = "x-twitter-webhooks-signature"
_DROPPED_KEPT_MAX = 100


class Delivery(NamedTuple):
    webhook_id: str
    event_id: str
    body: bytes
    post_id: str | None = None


def signature(consumer_secret: str, message: bytes) -> str:
    """X's construction, the same for an event's raw body and for a `crc_token`."""
    digest = hmac.digest(consumer_secret.encode(), message, hashlib.sha256)
    return "sha256=" + base64.b64encode(digest).decode()


class Webhooks:
    """A fixed number of workers take events from one bounded queue, each seeing one event through
    to its end, so that as many are in flight at most.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._settings = state.settings
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue(state.settings.queue_events_max)
        self._in_flight = 0
        self._workers: list[asyncio.Task[None]] = []
        self._tls = httpx.create_ssl_context()
        self._sent: deque[tuple[datetime, Delivery]] = deque(maxlen=state.settings.queue_events_max)
        self.dropped: deque[dict[str, str]] = deque(maxlen=_DROPPED_KEPT_MAX)

    def start(self) -> None:
        count = self._settings.webhook_in_flight_max
        self._workers = [asyncio.create_task(self._work()) for _ in range(count)]

    async def stop(self) -> None:
        for worker in self._workers:
            worker.cancel()
        ends = await asyncio.gather(*self._workers, return_exceptions=True)
        for end in ends:
            if not isinstance(end, asyncio.CancelledError) and end is not None:
                raise end

    def pending(self) -> int:
        return self._queue.qsize() + self._in_flight

    async def send(self, delivery: Delivery) -> None:
        """Waits while the queue is full."""
        self._sent.append((self._state.now(), delivery))
        await self._queue.put(delivery)

    async def replay(self, webhook_id: str, from_date: datetime, to_date: datetime) -> None:
        """Sends again what was sent to this webhook in these minutes, whether or not it arrived."""
        for at, delivery in list(self._sent):
            if delivery.webhook_id == webhook_id and from_date <= at < to_date:
                await self._queue.put(delivery)

    async def passes_check(self, url: str) -> bool:
        """Whether the receiver answers a `crc_token` with its signature."""
        token = secrets.token_urlsafe(36)
        try:
            async with asyncio.timeout(self._settings.webhook_timeout_seconds):
                async with self._client() as client:
                    answer = await client.get(
                        httpx.URL(url).copy_merge_params({"crc_token": token})
                    )
            said = answer.json()["response_token"] if answer.status_code == httpx.codes.OK else ""
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, KeyError, TypeError):
            return False
        wanted = signature(self._settings.consumer_secret, token.encode())
        return isinstance(said, str) and hmac.compare_digest(said.encode(), wanted.encode())

    async def _work(self) -> None:
        # A client each: in one for all, every request would look through all connections.
        async with self._client() as client:
            while True:
                delivery = await self._queue.get()
                self._in_flight += 1
                try:
                    await self._deliver(client, delivery)
                finally:
                    self._in_flight -= 1

    def _client(self) -> httpx.AsyncClient:
        """No proxy stands between here and this machine; time is limited by the caller."""
        return httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=None)  # noqa: S113

    async def _deliver(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        failure = await self._attempt(client, delivery)
        for seconds in self._settings.webhook_retries_after_seconds:
            if failure is None:
                break
            await asyncio.sleep(seconds)
            failure = await self._attempt(client, delivery)
        channel = self._state.channels["webhook"]
        if failure is None:
            channel.delivered += 1
            if delivery.post_id:
                self._state.charge_read(delivery.post_id)
        else:
            channel.dropped += 1
            self.dropped.append(
                {
                    "event_uuid": delivery.event_id,
                    "webhook_id": delivery.webhook_id,
                    "reason": failure,
                }
            )

    async def _attempt(self, client: httpx.AsyncClient, delivery: Delivery) -> str | None:
        """Why it failed; None when it did not."""
        webhook = self._state.webhooks.get(delivery.webhook_id)
        if webhook is None or not webhook.valid:
            return "no valid webhook of this id"
        headers = {
            "content-type": "application/json",
            SIGNATURE_HEADER: signature(self._settings.consumer_secret, delivery.body),
        }
        try:
            async with asyncio.timeout(self._settings.webhook_timeout_seconds):
                answer = await client.post(webhook.url, content=delivery.body, headers=headers)
        except TimeoutError:
            return f"no answer within {self._settings.webhook_timeout_seconds:g} s"
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}"
        return None if answer.status_code == httpx.codes.OK else f"status {answer.status_code}"
