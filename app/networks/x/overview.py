"""What X has set up for the app, for an operator to look at. Nothing is changed, and none of it is
charged.
"""

from collections.abc import Mapping
from typing import TypeVar

import httpx
import msgspec

from app.config import Settings, SettingsError

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
_PAGE_RULES = 1_000
_PAGE_CONNECTIONS = 100


class OverviewError(Exception):
    """X did not answer, or not with what was asked for."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class _Filter(msgspec.Struct):
    user_id: str | None = None


class Subscription(msgspec.Struct):
    event_type: str
    filter: _Filter = msgspec.field(default_factory=_Filter)
    webhook_id: str | None = None


class Webhook(msgspec.Struct):
    id: str
    url: str
    valid: bool


class Rule(msgspec.Struct):
    value: str


class Connection(msgspec.Struct):
    endpoint_name: str = "stream"


class _Subscriptions(msgspec.Struct):
    data: list[Subscription] = []


class _Webhooks(msgspec.Struct):
    data: list[Webhook] = []


class _Rules(msgspec.Struct):
    data: list[Rule] = []


class _Connections(msgspec.Struct):
    data: list[Connection] = []


_Answer = TypeVar("_Answer")


class Overview:
    """As the app. Each question raises OverviewError."""

    def __init__(self, settings: Settings) -> None:
        token = settings.x_app_token
        if token is None:
            raise SettingsError("TAGBACK_X_APP_TOKEN is not set")
        self._client = httpx.AsyncClient(
            base_url=str(settings.x_base_url),
            headers={"authorization": f"Bearer {token.get_secret_value()}"},
            timeout=_TIMEOUT,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def subscriptions(self) -> list[Subscription]:
        return (await self._ask("/2/activity/subscriptions", _Subscriptions)).data

    async def webhooks(self) -> list[Webhook]:
        return (await self._ask("/2/webhooks", _Webhooks)).data

    async def rules(self) -> list[Rule]:
        """The first thousand."""
        params = {"max_results": str(_PAGE_RULES)}
        return (await self._ask("/2/tweets/search/stream/rules", _Rules, params)).data

    async def connections(self) -> list[Connection]:
        """Those that are open."""
        params = {"status": "active", "max_results": str(_PAGE_CONNECTIONS)}
        return (await self._ask("/2/connections", _Connections, params)).data

    async def _ask(
        self, path: str, shape: type[_Answer], params: Mapping[str, str] | None = None
    ) -> _Answer:
        try:
            answer = await self._client.get(path, params=params)
            answer.raise_for_status()
            return msgspec.json.decode(answer.content, type=shape)
        except httpx.HTTPStatusError as error:
            raise OverviewError(f"X answered {error.response.status_code}") from error
        except httpx.HTTPError as error:
            raise OverviewError(f"X did not answer: {type(error).__name__}") from error
        except ValueError as error:
            raise OverviewError("X answered something else") from error
