from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from stand_in import PROGRAMME, StandIn, StartX, serving

from app.config import Settings
from app.sandbox.main import SandboxServer, SandboxSettings


@pytest.fixture
async def start_x(settings: Settings) -> AsyncIterator[StartX]:
    """Starts stand-ins with any of their settings, and stops them at the end."""
    async with AsyncExitStack() as stack:

        async def start(**given: Any) -> StandIn:
            told = SandboxSettings(user_token="user", app_token="app", **given)
            address = await stack.enter_async_context(serving(SandboxServer(told, port=0)))
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=address))
            await client.post("/sandbox/people", json={"id": "1", "handle": "ann"})
            changed = {
                "x_base_url": address,
                "x_user_token": SecretStr("user"),
                "x_account_id": PROGRAMME,
            }
            return StandIn(settings.model_copy(update=changed), client)

        yield start
