"""The issuer's link: a JWT, signed with HS256, that says whose card it is. docs/linking.md tells an
issuer how to make one.
"""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta

import structlog
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import OctKey
from joserfc.jwt import JWTClaimsRegistry
from joserfc.util import urlsafe_b64decode
from pydantic import StrictInt, ValidationError

from app.errors import Invalid
from app.kit.fields import Country, ExternalId, ShortText, TimeZone, explain
from app.members.linking import Holder
from app.members.schemas import CardIn, KnownLocale, LastFour, WithoutCardNumbers

ISSUER = "issuer"
AUDIENCE = "tagback"
LIFE_MAX = timedelta(minutes=10)
CLOCKS_DIFFER_MAX = timedelta(seconds=60)
# how long a browser that has opened the link may take for the rest
KEPT = timedelta(minutes=15)
_CHARACTERS_MAX = 4_096

log = structlog.get_logger(__name__)


class Handoff(WithoutCardNumbers):
    """The claims, by their names in the token."""

    jti: ExternalId
    sub: ExternalId
    iat: StrictInt
    exp: StrictInt
    card_ref: ExternalId
    last4: LastFour  # by which the person knows that it is his card, and no stranger's
    card_network: ShortText | None = None
    locale: KnownLocale | None = None
    country: Country | None = None
    time_zone: TimeZone | None = None

    @property
    def card(self) -> CardIn:
        return CardIn(card_ref=self.card_ref, network=self.card_network, last4=self.last4)

    @property
    def holder(self) -> Holder:
        return Holder(self.sub, self.locale, self.time_zone, self.country)

    @property
    def made_at(self) -> datetime:
        return datetime.fromtimestamp(self.iat, UTC)

    @property
    def useful_until(self) -> datetime:
        """After this it is of no use even to who has opened it in time."""
        return datetime.fromtimestamp(self.exp, UTC) + CLOCKS_DIFFER_MAX + KEPT


class _RefusedError(Exception):
    """Why, for the operator's log: without a value."""


def read_handoff(token: str, *, secret: str, now: datetime) -> Handoff:
    """Raises Invalid, `handoff_expired` or `handoff_refused`; the log says why."""
    try:
        return _read(token, secret, now)
    except ExpiredTokenError:
        raise Invalid("the link has expired", code="handoff_expired") from None
    except JoseError as error:
        reason = type(error).__name__
    except ValidationError as error:
        reason = explain(error)
    except _RefusedError as error:
        reason = str(error)
    except (ValueError, RecursionError) as error:  # what is no token at all
        reason = type(error).__name__
    log.warning("handoff_refused", reason=reason)
    raise Invalid("the link is not one of the issuer's", code="handoff_refused") from None


def _read(token: str, secret: str, now: datetime) -> Handoff:
    if len(token) > _CHARACTERS_MAX:
        raise _RefusedError(f"more than {_CHARACTERS_MAX} characters")
    claims = jwt.decode(token, OctKey.import_key(secret), algorithms=["HS256"]).claims
    signature = token.rpartition(".")[2].encode()
    # the last character of a signature has bits to spare: one signature, one way to write it
    if urlsafe_b64encode(urlsafe_b64decode(signature)).rstrip(b"=") != signature:
        raise _RefusedError("a signature that is written in another way")
    JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=int(CLOCKS_DIFFER_MAX.total_seconds()),
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
    ).validate(claims)
    handoff = Handoff.model_validate(claims)
    if handoff.exp - handoff.iat > LIFE_MAX.total_seconds():
        raise _RefusedError(f"made for more than {LIFE_MAX}")
    return handoff
