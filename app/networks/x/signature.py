import base64
import hashlib
import hmac
import re

_is_token = re.compile(r"[A-Za-z0-9+/=_-]{16,128}", re.ASCII).fullmatch


def crc_response(token: str, consumer_secret: str) -> str:
    """The `response_token` for X's challenge `crc_token`.

    The answer is the very signature that X puts on an event whose body is the token: who may have
    any token answered may have any event signed. Hence only what looks like one of X's tokens is
    answered, which no JSON can; others raise ValueError.
    """
    if not _is_token(token):
        raise ValueError("crc_token is not 16 to 128 characters of A-Z a-z 0-9 + / = _ -")
    return _signature(token.encode(), consumer_secret)


def signature_is_valid(body: bytes, header: str | None, consumer_secret: str) -> bool:
    """`body` as received, byte for byte; `header` is that of `x-twitter-webhooks-signature`. Takes
    the same time wherever a forged signature goes wrong. A body of a token's form is never valid:
    its signature is there for the asking.
    """
    if header is None or not consumer_secret or _is_token(body.decode("latin-1")):
        return False
    # As bytes, for compare_digest refuses strings that are not ASCII.
    expected = _signature(body, consumer_secret)
    return hmac.compare_digest(expected.encode(), header.encode("utf-8", "replace"))


def _signature(message: bytes, consumer_secret: str) -> str:
    digest = hmac.digest(consumer_secret.encode(), message, hashlib.sha256)
    return "sha256=" + base64.b64encode(digest).decode()
