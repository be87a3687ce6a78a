"""The programme's own account on a network: connected once, its tokens sealed in the database and
renewed by whichever process needs one first.

A refresh token is good for one use. So a renewal is claimed, and the claim committed, before the
network is asked, and the new tokens are committed before anybody uses them. Whoever finds it
claimed goes on with a token that is still good, or waits.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import httpx
import structlog
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.kit import clock
from app.kit.db import DATABASE_ERRORS, Sessions
from app.kit.sealing import Sealer, SealError
from app.networks import X
from app.networks import account_queries as queries
from app.networks.models import NetworkAccount
from app.networks.x.oauth import (
    Person,
    SignIn,
    SignInRefusedError,
    SignInUnavailableError,
    Tokens,
    open_sign_in,
)
from app.secret_keys import can_seal, sealer_of

CONNECT = "run `tagback x connect`"
RENEW_BEFORE = timedelta(minutes=5)
# A claim outlives the request by far, and a worker's stop.
CLAIM_SECONDS = 30.0
REQUEST_SECONDS_MAX = 15.0
WAIT_SECONDS_MAX = 20.0
# So long one goes on as an account in whose place another may have been connected.
KNOWN_SECONDS = 3.0
_LOOK_SECONDS = 0.1
_STORE_AGAIN_SECONDS = 0.5
# The app is not known by the id and the secret it gave: the refresh token was not looked at.
_ABOUT_THE_APP = {"invalid_client", "unauthorized_client"}
_NOT_OFFLINE = "it cannot be renewed without the scope offline.access"

log = structlog.get_logger()


class AccountRefusedError(Exception):
    """Nobody can act as the account until the operator has done what `detail` says."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class AccountUnavailableError(Exception):
    """A token could not be had now; a later try may succeed."""


class ProgrammeAccount(Protocol):
    """Both raise AccountRefusedError and AccountUnavailableError."""

    async def id(self) -> str: ...

    async def access_token(self, *, refused: str | None = None) -> str:
        """`refused`: the token that the network has just not taken."""


class AccountAuth(httpx.Auth):
    """Sends as the account. What is answered 401 is sent once more if there is another token."""

    def __init__(self, account: ProgrammeAccount) -> None:
        self._account = account

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        token = await self._account.access_token()
        request.headers["authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return
        another = await self._account.access_token(refused=token)
        if another != token:
            request.headers["authorization"] = f"Bearer {another}"
            yield request


# what is connected


async def connect(
    session: AsyncSession, *, person: Person, tokens: Tokens, sealer: Sealer, now: datetime
) -> None:
    """In place of whatever was connected before."""
    refresh_token = tokens.refresh_token
    await queries.upsert(
        session,
        network=X,
        account_id=person.id,
        handle=person.handle,
        scopes=tokens.scopes,
        access_token=sealer.seal(tokens.access_token),
        refresh_token=None if refresh_token is None else sealer.seal(refresh_token),
        expires_at=tokens.expires_at,
        now=now,
    )


async def find(session: AsyncSession, *, network: str = X) -> NetworkAccount | None:
    return await queries.get(session, network)


class Identity(NamedTuple):
    account_id: str | None
    handle: str | None


async def identity(session: AsyncSession, *, settings: Settings) -> Identity:
    """Who we are on X: as settings say, else as what is connected is called."""
    if settings.x_account_id is not None:
        return Identity(settings.x_account_id, settings.x_handle)
    account = await queries.get(session, X)
    if account is None:
        return Identity(None, settings.x_handle)
    return Identity(account.account_id, account.handle)


async def disconnect(session: AsyncSession, *, sealer: Sealer, network: str = X) -> list[str]:
    """Forgets the account, and answers the tokens of it that the network still has to be told of.
    None where they were sealed with another key.
    """
    account = await queries.get(session, network)
    if account is None:
        return []
    await queries.remove(session, network)
    with contextlib.suppress(SealError):
        sealed = (account.refresh_token, account.access_token)
        return [sealer.open(token) for token in sealed if token is not None]
    return []


async def mark_problem(session: AsyncSession, *, network: str, problem: str) -> None:
    """Why the account works no more, for whoever connects it again. The first reason stays."""
    if await queries.set_problem(session, network=network, problem=problem):
        log.error("account_unusable", network=network, problem=problem)


# tokens


class GivenAccount:
    """By settings: somebody else keeps the token and renews it."""

    def __init__(self, account_id: str, token: SecretStr) -> None:
        self._id = account_id
        self._token = token

    async def id(self) -> str:
        return self._id

    async def access_token(self, *, refused: str | None = None) -> str:
        del refused  # there is no other
        return self._token.get_secret_value()


class _Known(NamedTuple):
    """What this process remembers, so that a request does not begin with a query."""

    account_id: str
    access_token: SecretStr
    renew_from: datetime
    expires_at: datetime
    read_at: float

    @property
    def is_recent(self) -> bool:
        return time.monotonic() - self.read_at < KNOWN_SECONDS

    def is_good(self, refused: str | None, now: datetime) -> bool:
        return self.access_token.get_secret_value() != refused and now < self.expires_at

    def is_fresh(self, refused: str | None, now: datetime) -> bool:
        return self.is_good(refused, now) and now < self.renew_from


class ConnectedAccount:
    """By `tagback x connect`. One instance serves a whole process; see `open_account`."""

    def __init__(self, sessions: Sessions, sign_in: SignIn, sealer: Sealer) -> None:
        self._sessions = sessions
        self._sign_in = sign_in
        self._sealer = sealer
        self._known: _Known | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def id(self) -> str:
        return (await self._current(None)).account_id

    async def access_token(self, *, refused: str | None = None) -> str:
        return (await self._current(refused)).access_token.get_secret_value()

    async def close(self) -> None:
        """A renewal that is under way ends and is stored: its tokens are nowhere else."""
        if self._renewing is not None:
            await asyncio.gather(self._renewing, return_exceptions=True)

    async def _current(self, refused: str | None) -> _Known:
        known = self._remembered(refused)
        if known is not None and known.is_recent:
            return known
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX), self._one_at_a_time:
                known = self._remembered(refused)
                if known is None or not known.is_recent:  # nobody has looked meanwhile
                    known = self._known = await self._wait_for_one(refused)
                return known
        except AccountRefusedError:
            self._known = None
            raise
        except DATABASE_ERRORS as error:  # a timeout is one of them
            if known := self._remembered(refused):
                return known
            if isinstance(error, TimeoutError):
                raise AccountUnavailableError("the account's token is not renewed yet") from None
            raise AccountUnavailableError(f"the database: {type(error).__name__}") from error

    def _remembered(self, refused: str | None) -> _Known | None:
        known = self._known
        return known if known is not None and known.is_fresh(refused, clock.now()) else None

    async def _wait_for_one(self, refused: str | None) -> _Known:
        while True:
            account = await self._read()
            known, now = self._opened(account), clock.now()
            if known.is_fresh(refused, now):
                return known
            if account.refresh_token is None:
                if known.is_good(refused, now):
                    return known
                await self._mark(account, f"the sign-in is over, and {_NOT_OFFLINE}: {CONNECT}")
                continue
            try:
                is_renewed = await self._is_renewed_here(account, account.refresh_token, now)
            except AccountUnavailableError:
                if known.is_good(refused, now):
                    return known
                raise
            if not is_renewed:
                if known.is_good(refused, now):
                    return known  # while another process renews it
                await asyncio.sleep(_LOOK_SECONDS)

    async def _read(self) -> NetworkAccount:
        async with self._sessions() as session:
            account = await queries.get(session, X)
        if account is None:
            raise AccountRefusedError(f"no account is connected: {CONNECT}")
        if account.problem is not None:
            raise AccountRefusedError(account.problem)
        return account

    def _opened(self, account: NetworkAccount) -> _Known:
        try:
            token = SecretStr(self._sealer.open(account.access_token))
        except SealError:
            raise AccountRefusedError(
                "the account's tokens were sealed with a key that is not among "
                f"TAGBACK_SECRET_KEYS any more: set it again, or {CONNECT}"
            ) from None
        life = account.expires_at - account.updated_at
        renew_from = account.expires_at - min(RENEW_BEFORE, life / 4)
        return _Known(account.account_id, token, renew_from, account.expires_at, time.monotonic())

    async def _is_renewed_here(
        self, account: NetworkAccount, refresh_token: bytes, now: datetime
    ) -> bool:
        """False when another process is at it. A caller that is cancelled does not end it."""
        if self._renewing is None:
            async with self._sessions.begin() as session:
                is_claimed = await queries.claim_renewal(
                    session,
                    network=X,
                    refresh_token=refresh_token,
                    now=now,
                    until=now + timedelta(seconds=CLAIM_SECONDS),
                )
            if not is_claimed:
                return False
            self._renewing = asyncio.create_task(self._renew(account, refresh_token))
        renewing = self._renewing
        try:
            await asyncio.shield(renewing)
        finally:
            if renewing.done():
                self._renewing = None
        return True

    async def _renew(self, account: NetworkAccount, sealed: bytes) -> None:
        """The claim is ours. Where X has not answered it is left to run out, so that nobody asks
        again before: whether the token was used up is not known.
        """
        try:
            async with asyncio.timeout(REQUEST_SECONDS_MAX):
                token = self._sealer.open(sealed)
                tokens = await self._sign_in.refresh(token, now=clock.now())
        except SignInRefusedError as error:
            await self._refused(account, sealed, error.reason)
        except (SignInUnavailableError, TimeoutError) as error:
            log.warning("account_not_renewed", network=X, error=str(error))
            raise AccountUnavailableError("X did not renew the account's token") from error
        else:
            await self._store(tokens, instead_of=sealed)

    async def _refused(self, account: NetworkAccount, sealed: bytes, reason: str) -> None:
        if reason in _ABOUT_THE_APP:
            async with self._sessions.begin() as session:
                await queries.give_up_renewal(session, network=X, refresh_token=sealed)
            raise AccountRefusedError(
                f"X does not know the app ({reason}): check TAGBACK_X_CLIENT_ID and "
                "TAGBACK_X_CLIENT_SECRET, then `tagback replies resume`"
            )
        await self._mark(
            account,
            f"X does not renew the sign-in ({reason}): the access was taken away, or a process "
            f"ended while it renewed it; {CONNECT}",
        )

    async def _mark(self, account: NetworkAccount, problem: str) -> None:
        async with self._sessions.begin() as session:
            is_news = await queries.set_problem(
                session, network=X, problem=problem, access_token=account.access_token
            )
        if is_news:
            log.error("account_unusable", network=X, problem=problem)

    async def _store(self, tokens: Tokens, *, instead_of: bytes) -> None:
        """Until it is done, for these tokens are nowhere else."""
        access_token = self._sealer.seal(tokens.access_token)
        # who gives no new refresh token lets the old one go on
        renewed = tokens.refresh_token
        refresh_token = instead_of if renewed is None else self._sealer.seal(renewed)
        while True:
            try:
                async with self._sessions.begin() as session:
                    await queries.write_renewed(
                        session,
                        network=X,
                        instead_of=instead_of,
                        access_token=access_token,
                        refresh_token=refresh_token,
                        scopes=tokens.scopes,
                        expires_at=tokens.expires_at,
                        now=clock.now(),
                    )
            except DATABASE_ERRORS as error:
                log.warning("account_not_stored", network=X, error=type(error).__name__)
                await asyncio.sleep(_STORE_AGAIN_SECONDS)
            else:
                log.info("account_renewed", network=X)
                return


def is_configured(settings: Settings) -> bool:
    """Whether there is, or may any time be, an account to act as."""
    is_given = settings.x_user_token is not None and settings.x_account_id is not None
    return is_given or (can_seal(settings) and settings.x_client_id is not None)


def given_account(settings: Settings) -> GivenAccount | None:
    if settings.x_user_token is None or settings.x_account_id is None:
        return None
    return GivenAccount(settings.x_account_id, settings.x_user_token)


@asynccontextmanager
async def open_account(settings: Settings, sessions: Sessions) -> AsyncIterator[ProgrammeAccount]:
    """The one that settings give, else the one that is connected, now or later. Raises
    SettingsError that names what it needs.
    """
    if given := given_account(settings):
        yield given
        return
    sealer = sealer_of(settings)
    async with open_sign_in(settings) as sign_in:
        account = ConnectedAccount(sessions, sign_in, sealer)
        try:
            yield account
        finally:
            await account.close()
