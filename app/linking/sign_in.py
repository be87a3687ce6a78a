"""Signing in with X to show whose account it is: there, and back again within seconds. In
transactions of its own, for X is asked between them.
"""

from datetime import datetime
from typing import NamedTuple

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings, SettingsError
from app.errors import Conflict, Unavailable
from app.kit.db import Sessions
from app.kit.months import Month
from app.linking import service
from app.networks import X, accounts
from app.networks import queries as networks
from app.networks.x.oauth import (
    LINK_SCOPES,
    Person,
    SignInRefusedError,
    SignInUnavailableError,
    open_sign_in,
)

CALLBACK = "/link/callback"
_KIND = "user_read"  # what X charges for it
# OAuth's word for a code that is too old or was used, and X's
_CODE_REFUSED = ("invalid_grant", "invalid_request")

log = structlog.get_logger(__name__)


class Returned(NamedTuple):
    """What X has sent the browser back with."""

    state: str
    code: str | None
    error: str | None


def redirect_uri(settings: Settings) -> str:
    """As it must be registered with X, to the letter."""
    if settings.public_url is None:
        raise SettingsError("signing in with X needs TAGBACK_PUBLIC_URL")
    return str(settings.public_url).rstrip("/") + CALLBACK


async def begin(
    sessions: Sessions, settings: Settings, *, token: str | None, now: datetime
) -> tuple[str, str]:
    """Where to send the browser, and its session's token. Raises Conflict, Unavailable,
    SettingsError.
    """
    async with open_sign_in(settings) as x:
        begun = x.begin(redirect_uri=redirect_uri(settings), scopes=LINK_SCOPES)
    async with sessions.begin() as session:
        await _require_money(session, settings, now)
        token = await service.keep_begun(
            session, token=token, state=begun.state, verifier=begun.verifier, now=now
        )
    return begun.url, token


async def come_back(
    sessions: Sessions, settings: Settings, returned: Returned, *, token: str | None, now: datetime
) -> str:
    """The session's new token. Raises Invalid, Conflict and Unavailable, with a code that says
    why.
    """
    async with sessions.begin() as session:
        await _require_money(session, settings, now)
        verifier = await service.take_verifier(session, token=token, state=returned.state, now=now)
    if returned.error == "access_denied":
        raise Conflict("the person has declined at X", code="declined")
    if returned.error is not None or not returned.code:
        raise Conflict("X has refused to sign in", code="x_refused")
    person = await _ask_who(settings, returned.code, verifier, now)
    # paid for, whatever becomes of the session
    async with sessions.begin() as session:
        await networks.record_usage(
            session,
            network=X,
            kind=_KIND,
            units=1,
            price_microusd=settings.x_price_user_read_microusd,
            now=now,
        )
    async with sessions.begin() as session:
        own = await accounts.identity(session, settings=settings)
        if person.id == own.account_id:
            # it would be rewarded for its own announcements, and answer itself
            raise Conflict("the programme's own account", code="own_account")
        return await service.keep_proof(
            session, token=token, account_id=person.id, handle=person.handle, now=now
        )


async def _require_money(session: AsyncSession, settings: Settings, now: datetime) -> None:
    """Anybody may sign in again and again: that must not use up what confirmations need."""
    ceiling = settings.x_monthly_ceiling_microusd
    if ceiling is None:
        return
    month = Month.of(now)
    usage = await networks.usage_by_kind(session, network=X, month=month)
    spent = sum(one.micro_usd for one in usage if one.kind == _KIND)
    most = ceiling * settings.x_sign_ins_ceiling_percent // 100
    if spent + settings.x_price_user_read_microusd > most:
        raise Unavailable("the month's money for sign-ins is used up", code="x_unavailable")


async def _ask_who(settings: Settings, code: str, verifier: str, now: datetime) -> Person:
    """Once; the tokens go no further than this."""
    try:
        async with open_sign_in(settings) as x:
            tokens = await x.exchange(
                code, verifier=verifier, redirect_uri=redirect_uri(settings), now=now
            )
            return await x.whoami(tokens.access_token)
    except SignInRefusedError as error:
        log.warning("sign_in_refused", reason=error.reason)
        is_late = error.reason in _CODE_REFUSED
        raise Conflict(str(error), code="code_too_late" if is_late else "x_refused") from error
    except SignInUnavailableError as error:
        raise Unavailable(f"X does not answer: {error}", code="x_unavailable") from error
