"""Questions and orders to X with the app's own token, and how they fail."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar

import httpx
import msgspec

from app.config import Settings, SettingsError
from app.kit import clock
from app.networks.x.problems import describe_problem, is_about_credits, read_limits

Answer = TypeVar("Answer")

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
# What a later try may get done.
_NOT_FOR_GOOD = {
    HTTPStatus.UNAUTHORIZED,  # another token may be set
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
}


class CallError(Exception):
    """`status` is None where no answer came. `resets_at`: when X takes such calls again, if it says
    so. `is_about_credits`: when somebody has paid, under whatever status.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        resets_at: datetime | None = None,
        is_about_credits: bool = False,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.resets_at = resets_at
        self.is_about_credits = is_about_credits

    @property
    def is_refusal(self) -> bool:
        """X does not do this for us, however often it is asked."""
        status = self.status
        return (
            status is not None
            and HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
            and status not in _NOT_FOR_GOOD
            and not self.is_about_credits
        )


@asynccontextmanager
async def open_app(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """X as the app itself. Raises SettingsError that names what it needs."""
    if settings.x_app_token is None:
        raise SettingsError("listening on X needs TAGBACK_X_APP_TOKEN")
    headers = {"authorization": f"Bearer {settings.x_app_token.get_secret_value()}"}
    async with httpx.AsyncClient(
        base_url=str(settings.x_base_url), headers=headers, timeout=_TIMEOUT
    ) as client:
        yield client


async def ask(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    decoder: msgspec.json.Decoder[Answer],
    *,
    params: Mapping[str, Any] | None = None,
    body: object = None,
) -> Answer:
    """The answer, read. Raises CallError."""
    answer = await call(client, method, path, params=params, body=body)
    try:
        return decoder.decode(answer)
    except ValueError as error:
        raise CallError(f"{method} {path}: an answer that cannot be read") from error


async def call(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    *,
    params: Mapping[str, Any] | None = None,
    body: object = None,
) -> bytes:
    """The body of the answer. Raises CallError for every other end."""
    content = None if body is None else msgspec.json.encode(body)
    headers = {} if body is None else {"content-type": "application/json"}
    try:
        answer = await client.request(method, path, params=params, content=content, headers=headers)
    except httpx.HTTPError as error:
        raise CallError(f"{method} {path}: {type(error).__name__}") from error
    if answer.is_success:
        return answer.content
    limits = read_limits(answer.headers, clock.now())
    is_told = limits is not None and limits.remaining == 0
    raise CallError(
        f"{method} {path}: {describe_problem(answer.status_code, answer.content)}",
        status=answer.status_code,
        resets_at=limits.resets_at if limits is not None and is_told else None,
        is_about_credits=is_about_credits(answer.status_code, answer.content),
    )
