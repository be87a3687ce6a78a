import pytest
from pydantic import SecretStr

from app.config import Settings
from app.kit.sealing import new_key
from tests.notifications.receiving import LOOPBACK

SECRET_KEY = new_key()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Of a programme whose partners have webhooks, and receivers on this machine."""
    told = {"secret_keys": SecretStr(SECRET_KEY), "webhooks_allow": LOOPBACK}
    return settings.model_copy(update=told)
