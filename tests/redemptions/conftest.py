"""Fixtures of the tests on purchases."""

import pytest

from app.kit.db import Sessions
from tests.till import Till


@pytest.fixture
async def till(sessions: Sessions) -> Till:
    return await Till.open(sessions)
