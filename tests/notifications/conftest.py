from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from app.config import Settings
from app.kit.db import Sessions
from app.kit.sealing import new_key
from tests.notifications.receiving import LOOPBACK, Post, Receiver, post_office, receiving

KEY = new_key()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Of a programme whose partners' receivers are on this machine."""
    told = {"secret_keys": SecretStr(KEY), "webhooks_allow": LOOPBACK}
    return settings.model_copy(update=told)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def post(sessions: Sessions, settings: Settings) -> AsyncIterator[Post]:
    async with post_office(sessions, settings) as post:
        yield post
