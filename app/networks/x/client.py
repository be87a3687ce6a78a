"""X as the programme's account: posts, writes direct messages, and looks its own posts up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from html import unescape
from http import HTTPStatus
from typing import Any

import httpx
import msgspec

from app.config import Settings, SettingsError
from app.kit import clock
from app.networks import X
from app.networks.accounts import (
    AccountAuth,
    AccountRefusedError,
    AccountUnavailableError,
    ProgrammeAccount,
    given_account,
)
from app.networks.sender import (
    LOOKUP_POSTS_MAX,
    MESSAGES_IN_FLIGHT_MAX,
    AccessRefused,
    Found,
    LookupFailed,
    NotFoundOut,
    OutOfCredits,
    SendResult,
    Temporary,
    Unknown,
)
from app.networks.x.calls import CallError, ask
from app.networks.x.decode import SNOWFLAKE_EPOCH
from app.networks.x.problems import read_answer

_PAGE_POSTS = 100
_NEVER_LEFT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_KEEP_ALIVE_SECONDS = 60.0
_CLOCKS_DIFFER_BY = timedelta(minutes=5)


class _OwnPost(msgspec.Struct):
    id: str
    text: str = ""


class _Meta(msgspec.Struct):
    next_token: str | None = None


class _OwnPosts(msgspec.Struct):
    data: list[_OwnPost] = []
    meta: _Meta = msgspec.field(default_factory=_Meta)


_posts_decoder = msgspec.json.Decoder(_OwnPosts)


class XSender:
    """`client` brings the base URL and the account's token; see `open_sender`."""

    network = X

    def __init__(self, client: httpx.AsyncClient, account: ProgrammeAccount) -> None:
        self._client = client
        self._account = account

    async def send(self, text: str, in_reply_to: str | None) -> SendResult:
        body: dict[str, Any] = {"text": text}
        if in_reply_to is not None:
            body["reply"] = {"in_reply_to_tweet_id": in_reply_to}
        return await self._create("/2/tweets", body, id_name="id")

    async def send_message(self, text: str, to: str) -> SendResult:
        path = f"/2/dm_conversations/with/{to}/messages"
        result = await self._create(path, {"text": text}, id_name="dm_event_id")
        if isinstance(result, Temporary) and result.reached:
            return Unknown(result.detail, limits=result.limits, day_limits=result.day_limits)
        return result

    async def _create(self, path: str, body: dict[str, Any], *, id_name: str) -> SendResult:
        try:
            answer = await self._client.post(
                path,
                content=msgspec.json.encode(body),
                headers={"content-type": "application/json"},
            )
        except AccountRefusedError as error:
            return AccessRefused(error.detail)
        except AccountUnavailableError as error:
            return Temporary(str(error), reached=False)
        except _NEVER_LEFT as error:
            return Temporary(f"not reached: {type(error).__name__}", reached=False)
        except httpx.RequestError as error:
            return Unknown(f"no answer: {type(error).__name__}")
        return read_answer(
            answer.status_code,
            answer.headers,
            answer.content,
            now=clock.now(),
            id_name=id_name,
        )

    async def find_own(self, text: str, since: datetime) -> Found:
        """Looks at the newest, from five minutes before `since`."""
        reads = 0
        try:
            path = f"/2/users/{await self._account.id()}/tweets"
            query: dict[str, Any] = {"max_results": _PAGE_POSTS, "since_id": _id_at(since)}
            for _ in range(LOOKUP_POSTS_MAX // _PAGE_POSTS):
                page = await ask(self._client, "GET", path, _posts_decoder, params=query)
                reads += len(page.data)
                for post in page.data:
                    # X escapes, and puts the handle of the one who is answered in front.
                    if unescape(post.text).endswith(text):
                        return Found(post.id, reads)
                if page.meta.next_token is None:
                    break
                query["pagination_token"] = page.meta.next_token
        except (AccountRefusedError, AccountUnavailableError, CallError) as error:
            return Found(None, reads, _not_found_out(error))
        return Found(None, reads)


def _not_found_out(
    error: AccountRefusedError | AccountUnavailableError | CallError,
) -> NotFoundOut:
    match error:
        case AccountRefusedError():
            return AccessRefused(error.detail)
        case AccountUnavailableError():
            return LookupFailed(str(error))
        case CallError(is_about_credits=True):
            return OutOfCredits(error.detail)
        case CallError(status=HTTPStatus.UNAUTHORIZED):
            return AccessRefused(f"token refused: {error.detail}")
        case CallError():
            return LookupFailed(error.detail, error.resets_at)


def _id_at(moment: datetime) -> str:
    since = moment - _CLOCKS_DIFFER_BY - SNOWFLAKE_EPOCH
    return str(max(0, since // timedelta(milliseconds=1)) << 22)


@asynccontextmanager
async def open_sender(
    settings: Settings, account: ProgrammeAccount | None = None
) -> AsyncIterator[XSender]:
    """A sender with connections of its own, kept alive between sends. It acts as `account`, else
    as the one that settings give. Raises SettingsError that names what it needs.
    """
    account = account or given_account(settings)
    if account is None:
        raise SettingsError(
            "replies on X need TAGBACK_X_USER_TOKEN and TAGBACK_X_ACCOUNT_ID: the token and the "
            "id of the programme's account"
        )
    connections = settings.replies_in_flight_max + MESSAGES_IN_FLIGHT_MAX
    async with httpx.AsyncClient(
        base_url=str(settings.x_base_url),
        auth=AccountAuth(account),
        timeout=_TIMEOUT,
        limits=httpx.Limits(
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=_KEEP_ALIVE_SECONDS,
        ),
    ) as client:
        yield XSender(client, account)
