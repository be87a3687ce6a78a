"""`If-None-Match` on an offer."""

import httpx
import pytest
from sqlalchemy import text

from app.kit.db import Sessions
from tests.programme import make_offer
from tests.support import MakeKey


@pytest.fixture
async def operator(client: httpx.AsyncClient, make_key: MakeKey) -> httpx.AsyncClient:
    client.headers["Authorization"] = f"Bearer {await make_key('operator')}"
    return client


async def test_an_offer_that_has_not_changed_is_not_sent_again(
    operator: httpx.AsyncClient, sessions: Sessions
) -> None:
    path = f"/v1/offers/{await make_offer(sessions, 'tea')}"
    etag = (await operator.get(path)).headers["etag"]
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        answer = await operator.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    for known in ('"x"', "nonsense", ""):
        answer = await operator.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.json()["hashtag"]) == (200, "tea")


async def test_one_whose_coupons_were_loaded_is_sent_and_may_be_changed(
    operator: httpx.AsyncClient, sessions: Sessions
) -> None:
    path = f"/v1/offers/{await make_offer(sessions, 'tea', ends_at='2090-01-01T00:00:00Z')}"
    etag = (await operator.get(path)).headers["etag"]
    async with sessions.begin() as session:
        await session.execute(text("UPDATE offer_counters SET coupons_loaded = 1"))
    answer = await operator.get(path, headers={"If-None-Match": etag})
    assert (answer.status_code, answer.json()["coupons_loaded"]) == (200, 1)
    for status in (200, 412):  # what was read before the first change is old for the second
        changed = await operator.patch(
            path, json={"title": f"Tea {status}"}, headers={"If-Match": etag}
        )
        assert changed.status_code == status
    answer = await operator.get(path, headers={"If-None-Match": etag})
    assert answer.json()["title"] == "Tea 200"
