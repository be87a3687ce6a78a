"""Signing in with X: OAuth 2.0, authorization code with PKCE (S256)."""

import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import lru_cache
from ssl import SSLContext
from typing import NamedTuple

import httpx
import msgspec
from authlib.common.security import generate_token
from authlib.deprecate import AuthlibDeprecationWarning
from authlib.integrations.base_client import OAuthError

from app.config import Settings, SettingsError

with warnings.catch_warnings():
    # that httpx2 has come does not help whoever runs a command
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.httpx_client import AsyncOAuth2Client

# What a person who links his handle is asked for: who he is, once. X gives users/me to both alone.
LINK_SCOPES = ("tweet.read", "users.read")
# What the programme's own account needs: it posts, answers messages, and stays signed in.
ACCOUNT_SCOPES = (
    "tweet.read",
    "tweet.write",
    "users.read",
    "dm.read",
    "dm.write",
    "offline.access",
)
_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_TOKEN_PATH = "/2/oauth2/token"  # noqa: S105 - a path
_REVOKE_PATH = "/2/oauth2/revoke"


class SignInRefusedError(Exception):
    """X does not take the code or the token: a later try with the same one fails too. `reason` is
    X's word for it, such as `invalid_grant`, which is also how it says that a code has waited for
    more than 30 seconds.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"X refused: {reason}")
        self.reason = reason


class SignInUnavailableError(Exception):
    """X could not be asked, or answered nonsense. Whether a token was used up is not known."""


class Begun(NamedTuple):
    """`state` and `verifier` are secrets until the person has come back."""

    url: str
    state: str
    verifier: str


class Tokens(NamedTuple):
    access_token: str
    refresh_token: str | None
    scopes: tuple[str, ...]
    expires_at: datetime

    def __repr__(self) -> str:
        return f"Tokens(scopes={self.scopes}, expires_at={self.expires_at})"


class Person(NamedTuple):
    """Who a token is of. The id stays; the handle may change."""

    id: str
    handle: str


class _Me(msgspec.Struct):
    id: str
    username: str


class _Answer(msgspec.Struct):
    data: _Me


_me = msgspec.json.Decoder(_Answer)


class SignIn:
    """`client` brings the client's id and secret and the base URL; see `open_sign_in`."""

    def __init__(self, client: AsyncOAuth2Client, *, authorize_url: str) -> None:
        self._client = client
        self._authorize_url = authorize_url

    def begin(self, *, redirect_uri: str, scopes: Sequence[str]) -> Begun:
        """Where to send the person. The redirect must be registered with X to the letter."""
        verifier = generate_token(64)
        url, state = self._client.create_authorization_url(
            self._authorize_url,
            redirect_uri=redirect_uri,
            scope=" ".join(scopes),
            code_verifier=verifier,
        )
        return Begun(url, state, verifier)

    async def exchange(
        self, code: str, *, verifier: str, redirect_uri: str, now: datetime
    ) -> Tokens:
        """To be done at once: a code lives for 30 seconds. Raises SignInRefusedError and
        SignInUnavailableError.
        """
        return await self._fetch(
            now,
            grant_type="authorization_code",
            code=code,
            code_verifier=verifier,
            redirect_uri=redirect_uri,
        )

    async def refresh(self, refresh_token: str, *, now: datetime) -> Tokens:
        """New tokens; the old refresh token is dead from then on. Raises as `exchange`."""
        return await self._fetch(now, grant_type="refresh_token", refresh_token=refresh_token)

    async def revoke(self, token: str) -> None:
        """Of the app's access what this token is of. Raises as `exchange`."""
        try:
            answer = await self._client.revoke_token(_REVOKE_PATH, token=token)
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status < httpx.codes.INTERNAL_SERVER_ERROR:
                raise SignInRefusedError(f"revoke answered {status}") from error
            raise SignInUnavailableError(f"revoke answered {status}") from error
        except httpx.HTTPError as error:
            raise SignInUnavailableError(type(error).__name__) from error

    async def _fetch(self, now: datetime, **request: str) -> Tokens:
        try:
            answer = await self._client.fetch_token(_TOKEN_PATH, **request)
        except OAuthError as error:
            raise SignInRefusedError(str(error.error)) from error
        except (httpx.HTTPError, ValueError) as error:
            raise SignInUnavailableError(type(error).__name__) from error
        try:
            return Tokens(
                access_token=answer["access_token"],
                refresh_token=answer.get("refresh_token"),
                scopes=tuple(answer.get("scope", "").split()),
                expires_at=now + timedelta(seconds=int(answer["expires_in"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SignInUnavailableError("an answer without a token") from error

    async def whoami(self, access_token: str) -> Person:
        """Raises SignInRefusedError when the token is not taken, SignInUnavailableError else."""
        try:
            answer = await self._client.request(
                "GET",
                "/2/users/me",
                withhold_token=True,
                headers={"authorization": f"Bearer {access_token}"},
            )
        except httpx.HTTPError as error:
            raise SignInUnavailableError(type(error).__name__) from error
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise SignInRefusedError(f"users/me answered {answer.status_code}")
        try:
            answer.raise_for_status()
            me = _me.decode(answer.content).data
        except (httpx.HTTPError, ValueError) as error:
            raise SignInUnavailableError(f"users/me answered {answer.status_code}") from error
        return Person(me.id, me.username)


@lru_cache(maxsize=1)
def _certificates() -> SSLContext:
    """Read once: that takes long enough to keep others waiting."""
    return httpx.create_ssl_context()


@asynccontextmanager
async def open_sign_in(settings: Settings) -> AsyncIterator[SignIn]:
    """Raises SettingsError that names what it needs."""
    if settings.x_client_id is None:
        raise SettingsError("signing in with X needs TAGBACK_X_CLIENT_ID")
    secret = settings.x_client_secret
    async with AsyncOAuth2Client(
        client_id=settings.x_client_id,
        client_secret=None if secret is None else secret.get_secret_value(),
        # a client without a secret names itself in the body
        token_endpoint_auth_method="none" if secret is None else "client_secret_basic",
        code_challenge_method="S256",
        base_url=str(settings.x_base_url),
        timeout=_TIMEOUT,
        verify=_certificates(),
    ) as client:
        yield SignIn(client, authorize_url=settings.x_authorize_url)
