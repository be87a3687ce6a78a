"""What X pushes: verified, decoded, and durable before it is acknowledged."""

import asyncio
import time
from datetime import datetime, timedelta

import structlog
from prometheus_client import Counter

from app.config import Settings
from app.errors import Forbidden, TagbackError, Unavailable
from app.kit import clock
from app.kit.db import DATABASE_ERRORS, Sessions
from app.networks import accounts
from app.networks.post import (
    AccessRevoked,
    Event,
    MalformedPost,
    Messages,
    NotAPost,
    Post,
    PostRemoved,
    StreamEnded,
)
from app.networks.x.decode import LINE_BYTES_MAX, XDecoder
from app.networks.x.signature import crc_response, signature_is_valid
from app.posts import events
from app.posts.group import PostGroup

SOURCE = "x:webhook"
PATH = "/webhooks/x"
BODY_BYTES_MAX = LINE_BYTES_MAX
# X sends again what it could not deliver in the last 24 hours, and nothing older.
EVENT_AGE_MAX = timedelta(hours=25)
# So long may events be read as if to the account that was connected before.
ACCOUNT_EVERY_SECONDS = 5.0
_TOLD_EVERY_SECONDS = 60.0

log = structlog.get_logger(__name__)

_results = Counter("tagback_webhook_events", "Events pushed, by what became of them.", ["result"])


class XPosts:
    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        *,
        account_every_seconds: float = ACCOUNT_EVERY_SECONDS,
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._account_every_seconds = account_every_seconds
        self._decoder: XDecoder | None = None
        self._decoder_until = 0.0
        self._told_until = 0.0
        self._group = PostGroup(
            sessions,
            settings,
            source=SOURCE,
            read_price_microusd=settings.x_price_post_read_microusd,
        )

    def answer_challenge(self, token: str) -> str:
        """Raises ValueError for a token that X would not send."""
        return crc_response(token, self._get_secret())

    async def receive(self, body: bytes, signature: str | None) -> dict[str, str]:
        """What became of one event. What cannot be read is acknowledged as rejected: X would only
        send it again. Raises Forbidden without a good signature and for an event that X would no
        longer send, Unavailable when it is not durable in time.
        """
        try:
            answer = await self._receive(body, signature)
        except TagbackError as error:
            _results.labels(error.code).inc()
            self._tell(error)
            raise
        _results.labels(answer["status"]).inc()
        return answer

    def _tell(self, error: TagbackError) -> None:
        """Once a minute: anybody may send what is refused, and a wrong secret refuses all."""
        if time.monotonic() >= self._told_until:
            self._told_until = time.monotonic() + _TOLD_EVERY_SECONDS
            log.warning(
                "webhook_refuses",
                reason=error.detail,
                check="TAGBACK_X_CONSUMER_SECRET" if error.code == "signature" else None,
            )

    async def _receive(self, body: bytes, signature: str | None) -> dict[str, str]:
        if not signature_is_valid(body, signature, self._get_secret()):
            raise Forbidden("the signature does not fit the body", code="signature")
        try:
            found = (await self._get_decoder()).decode(body)
        except MalformedPost as error:
            return {"status": "rejected", "reason": error.reason}
        if isinstance(found, NotAPost | StreamEnded):
            return {"status": "ignored"}
        now = clock.now()
        if any(now - at > EVENT_AGE_MAX for at in _times(found)):
            raise Forbidden("the event is older than X sends any again", code="event_too_old")
        if not isinstance(found, Post):
            await self._take(found, now=now)
            return {"status": "accepted"}
        (enrolled,) = await self._group.submit([found])
        if enrolled.rejected is not None:
            return {"status": "rejected", "reason": enrolled.rejected}
        return {"status": "accepted"}

    async def _take(self, event: Event, *, now: datetime) -> None:
        """They are few, so each has a transaction of its own."""
        try:
            async with (
                asyncio.timeout(self._settings.webhook_wait_seconds),
                self._sessions.begin() as session,
            ):
                await events.take(session, event, settings=self._settings, now=now)
        except DATABASE_ERRORS as error:  # a timeout is one of them
            raise Unavailable("the event could not be stored: send it again") from error

    async def _get_decoder(self) -> XDecoder:
        """Of the account that is connected now, or was a moment ago."""
        if self._decoder is None or time.monotonic() >= self._decoder_until:
            async with self._sessions.begin() as session:
                who = await accounts.identity(session, settings=self._settings)
            self._decoder = XDecoder(who.account_id, who.handle)
            known_for = self._account_every_seconds if who.account_id is not None else 0.0
            self._decoder_until = time.monotonic() + known_for
        return self._decoder

    def _get_secret(self) -> str:
        secret = self._settings.x_consumer_secret
        if secret is None:
            raise Unavailable("TAGBACK_X_CONSUMER_SECRET is not set")
        return secret.get_secret_value()


def count_too_large() -> None:
    _results.labels("body_too_large").inc()


def _times(found: Post | Event) -> list[datetime]:
    """When it happened, as far as it is told; a removal has no time, and does no harm again."""
    match found:
        case Post():
            return [found.posted_at]
        case Messages():
            return [message.sent_at for message in found.messages]
        case AccessRevoked():
            return [found.revoked_at]
        case PostRemoved():
            return []
