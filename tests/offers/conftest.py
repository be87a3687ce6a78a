from uuid import UUID

import httpx
import pytest

from app.kit.db import Sessions
from app.partners import service as partners
from tests.offers.over_http import Call, caller
from tests.support import MakeKey


@pytest.fixture
async def cafe(sessions: Sessions) -> UUID:
    async with sessions.begin() as session:
        return (await partners.ensure_partner(session, ref="cafe", name="Café")).id


@pytest.fixture
async def partner(client: httpx.AsyncClient, make_key: MakeKey, cafe: UUID) -> Call:
    return caller(client, await make_key("partner", cafe))


@pytest.fixture
async def operator(client: httpx.AsyncClient, make_key: MakeKey) -> Call:
    return caller(client, await make_key("operator"))
