from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from pydantic import AnyHttpUrl, SecretStr

from app.config import Settings
from app.kit.db import Sessions
from app.main import create_app
from tests.hand_offs import SECRET
from tests.stand_in import StandIn, StartX
from tests.web.browser import Browser, NewBrowser


class Clock:
    """The stand-in's: a test moves it."""

    seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def x(start_x: StartX, clock: Clock) -> StandIn:
    """Where Ann is known, and whoever else signs in."""
    return await start_x(clock=clock)


@pytest.fixture
def linking_settings(x: StandIn, stage: tuple[Any, str]) -> Settings:
    """All that linking needs."""
    given = {
        "public_url": AnyHttpUrl(stage[1]),
        "handoff_secret": SecretStr(SECRET),
        "x_client_id": "sandbox-client-id",
        "x_client_secret": SecretStr("sandbox-client-secret"),
        "x_handle": "TagbackDemo",
    }
    return x.settings.model_copy(update=given)


@pytest.fixture
async def new_browser(
    stage: tuple[Any, str], linking_settings: Settings, sessions: Sessions, x: StandIn
) -> AsyncIterator[NewBrowser]:
    """Browsers that know nothing of each other, at a service with these settings."""
    stage[0].app = create_app(linking_settings, sessions)
    async with AsyncExitStack() as stack:

        async def make(language: str = "en", **settings: Any) -> Browser:
            if settings:
                changed = linking_settings.model_copy(update=settings)
                stage[0].app = create_app(changed, sessions)
            client = httpx.AsyncClient(
                base_url=stage[1],
                headers={"accept-language": language},
                verify=False,  # to read certificates would take longer than the test
            )
            return Browser(await stack.enter_async_context(client), x.client)

        yield make


@pytest.fixture
async def browser(new_browser: NewBrowser) -> Browser:
    return await new_browser()
