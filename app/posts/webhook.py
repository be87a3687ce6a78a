"""What X pushes: verified, decoded, and durable before it is acknowledged."""

from app.config import Settings
from app.errors import Forbidden, Unavailable
from app.kit.db import Sessions
from app.networks.post import MalformedPost, NotAPost
from app.networks.x.decode import XDecoder
from app.networks.x.signature import crc_response, signature_is_valid
from app.posts.group import PostGroup

SOURCE = "x:webhook"


class XPosts:
    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._secret = settings.x_consumer_secret
        self._decoder = XDecoder(settings.x_account_id, settings.x_handle)
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
        send it again. Raises Forbidden without a good signature, Unavailable when it is not
        durable in time.
        """
        if not signature_is_valid(body, signature, self._get_secret()):
            raise Forbidden("the signature does not fit the body", code="signature")
        try:
            found = self._decoder.decode(body)
        except MalformedPost as error:
            return {"status": "rejected", "reason": error.reason}
        if isinstance(found, NotAPost):
            return {"status": "ignored"}
        (enrolled,) = await self._group.submit([found])
        if enrolled.rejected is not None:
            return {"status": "rejected", "reason": enrolled.rejected}
        return {"status": "accepted"}

    def _get_secret(self) -> str:
        if self._secret is None:
            raise Unavailable("TAGBACK_X_CONSUMER_SECRET is not set")
        return self._secret.get_secret_value()
