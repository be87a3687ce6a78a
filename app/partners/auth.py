"""Who calls: `Authorization: Bearer tb_…` becomes a Principal."""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple, cast
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.deps import NowDep, SessionsDep, get_sessions
from app.errors import Forbidden, NotAuthenticated, TooManyRequests
from app.kit import clock
from app.kit.db import Sessions
from app.partners import queries
from app.partners.keys import KEY_CHARACTERS, KEY_PREFIX, hash_key
from app.partners.limits import Limits
from app.partners.roles import Role

_KEY = re.compile(rf"{KEY_PREFIX}[A-Za-z0-9]{{{KEY_CHARACTERS}}}")
_TOUCH_EVERY = timedelta(minutes=1)
_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    bearerFormat="tb_ and 40 characters",
    description="An API key of a role. The operator makes them; each is shown once.",
)


class Principal(NamedTuple):
    """`partner_id` is set for a partner and for an analyst who is bound to one. Keys that were made
    from each other by rotation are one family; `rate_limit_per_minute` is their own, if they have
    one.
    """

    key_id: UUID
    role: Role
    partner_id: UUID | None
    family_id: UUID
    rate_limit_per_minute: int | None

    @property
    def actor(self) -> str:
        """As the audit log names it."""
        return f"key:{self.key_id}"


async def authenticate(sessions: Sessions, *, key: str, now: datetime) -> Principal:
    """In a transaction of its own, so that a long request holds no lock on its key and a failed one
    still counts as use. Raises NotAuthenticated, which does not tell why.
    """
    refusal = NotAuthenticated("an API key is needed, and this one is not valid")
    if not _KEY.fullmatch(key):
        raise refusal
    async with sessions.begin() as session:
        record = await queries.key_by_hash(session, hash_key(key))
        if record is None or record.revoked_at is not None:
            raise refusal
        if record.expires_at is not None and record.expires_at <= now:
            raise refusal
        if record.last_used_at is None or record.last_used_at <= now - _TOUCH_EVERY:
            await queries.touch_key(session, record.id, now=now)
    return Principal(
        record.id,
        cast("Role", record.role),
        record.partner_id,
        record.family_id,
        record.rate_limit_per_minute,
    )


def get_limits(request: Request) -> Limits:
    return cast("Limits", request.app.state.limits)


LimitsDep = Annotated[Limits, Depends(get_limits)]


async def get_principal(
    request: Request,
    sessions: SessionsDep,
    limits: LimitsDep,
    now: NowDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """Asked once a request. Raises NotAuthenticated, and TooManyRequests for a key or an address
    that came too often.
    """
    known: Principal | None = getattr(request.state, "principal", None)
    if known is None:
        known = request.state.principal = await _identify(
            request, sessions, limits, now, credentials
        )
    return known


async def identify(request: Request) -> None:
    """As `get_principal`, before the framework has read the body: whoever is nobody has none of his
    parsed.
    """
    await get_principal(
        request, get_sessions(request), get_limits(request), clock.now(), await _bearer(request)
    )


async def _identify(
    request: Request,
    sessions: Sessions,
    limits: Limits,
    now: datetime,
    credentials: HTTPAuthorizationCredentials | None,
) -> Principal:
    if credentials is None:
        raise NotAuthenticated("an API key is needed: Authorization: Bearer tb_…")
    host = request.client.host if request.client else None
    hashed = hash_key(credentials.credentials)
    limits.check_address(host, hashed)
    try:
        principal = await authenticate(sessions, key=credentials.credentials, now=now)
    except NotAuthenticated:
        limits.was_wrong(host, hashed)
        raise
    limits.was_good(hashed)
    limit = limits.limit_of(principal.role, principal.rate_limit_per_minute)
    if limit is not None:
        allowance = limits.take(principal.family_id, per_minute=limit)
        request.state.allowance = allowance  # which RateLimitHeaders tells
        if not allowance.is_allowed:
            raise TooManyRequests(
                f"this key may make {limit:,} requests a minute",
                retry_seconds=allowance.retry_seconds,
            )
    return principal


PrincipalDep = Annotated[Principal, Depends(get_principal)]


def require(*roles: Role) -> Callable[[Principal], Awaitable[Principal]]:
    """A dependency: the principal if it has one of the roles, else Forbidden."""

    async def allowed(principal: PrincipalDep) -> Principal:
        if principal.role not in roles:
            raise Forbidden(f"for {' and '.join(roles)}: this key's role is {principal.role}")
        return principal

    allowed.roles = roles  # type: ignore[attr-defined] # the OpenAPI document says who may call
    return allowed


OperatorDep = Annotated[Principal, Depends(require("operator"))]
