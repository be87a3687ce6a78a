"""Links as an issuer makes them."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc import jwt
from joserfc.jwk import OctKey

SECRET = "the secret of the issuer and of nobody else"


def claims(**other: Any) -> dict[str, Any]:
    """Of a link that is good now; None leaves a claim out."""
    now = datetime.now(UTC)
    given = {
        "iss": "issuer",
        "aud": "tagback",
        "iat": int(now.timestamp()),
        "exp": int((now + timedelta(minutes=5)).timestamp()),
        "jti": secrets.token_hex(8) + "-a",
        "sub": "m-ann",
        "card_ref": "c-ann",
        "card_network": "visa",
        "last4": "4242",
        **other,
    }
    return {name: value for name, value in given.items() if value is not None}


def make_link(*, secret: str = SECRET, algorithm: str = "HS256", **other: Any) -> str:
    return jwt.encode({"alg": algorithm}, claims(**other), OctKey.import_key(secret), [algorithm])
