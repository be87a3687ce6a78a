"""The route that moves time: who may, how far, and where there is none."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import text

from app.config import Settings
from app.kit import clock
from app.kit.db import Sessions
from app.main import create_app
from app.testclock import service as testclock
from tests.support import MakeKey, Tagback

STAND_IN = "http://127.0.0.1:8100"
DAY_SECONDS = 86_400


@pytest.fixture
def settings(settings: Settings) -> Iterator[Settings]:
    yield settings.model_copy(update={"test_clock": True})
    clock.set_ahead(timedelta())


@pytest.fixture
async def operator(client: httpx.AsyncClient, make_key: MakeKey) -> httpx.AsyncClient:
    client.headers["Authorization"] = f"Bearer {await make_key('operator')}"
    return client


async def move(client: httpx.AsyncClient, **body: Any) -> tuple[int, Any]:
    answer = await client.post("/v1/test-clock", json=body)
    return answer.status_code, answer.json()


def is_about(shown: str, moment: datetime) -> bool:
    return abs(datetime.fromisoformat(shown) - moment) < timedelta(minutes=1)


class TestTheTestClock:
    async def test_shows_the_real_time_until_it_is_moved(self, operator: httpx.AsyncClient) -> None:
        shown = (await operator.get("/v1/test-clock")).json()
        assert shown["offset_seconds"] == 0
        assert is_about(shown["now"], datetime.now(UTC))

    async def test_moves_by_a_length_and_to_a_time(self, operator: httpx.AsyncClient) -> None:
        status, moved = await move(operator, advance_seconds=DAY_SECONDS)
        assert (status, moved["offset_seconds"]) == (200, DAY_SECONDS)
        wanted = datetime.now(UTC) + timedelta(days=3)
        status, moved = await move(operator, now=wanted.isoformat())
        assert status == 200
        assert timedelta() <= datetime.fromisoformat(moved["now"]) - wanted < timedelta(minutes=1)
        assert (await operator.get("/v1/test-clock")).json()["offset_seconds"] == 3 * DAY_SECONDS

    async def test_never_goes_back(self, operator: httpx.AsyncClient) -> None:
        await move(operator, advance_seconds=DAY_SECONDS)
        status, problem = await move(operator, now=datetime.now(UTC).isoformat())
        assert (status, problem["code"]) == (422, "time_has_passed")
        assert clock.ahead() == timedelta(days=1)

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"advance_seconds": 0},
            {"advance_seconds": -1},
            {"advance_seconds": 1.5},
            {"advance_seconds": 367 * DAY_SECONDS},
            {"now": "2090-01-01T00:00:00Z"},
            {"now": "tomorrow"},
            {"advance_seconds": 1, "now": "2090-01-01T00:00:00Z"},
        ],
        ids=str,
    )
    async def test_takes_no_other_move(
        self, operator: httpx.AsyncClient, body: dict[str, Any]
    ) -> None:
        status, _ = await move(operator, **body)
        assert (status, clock.ahead()) == (422, timedelta())

    async def test_stops_ten_years_ahead(
        self, operator: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        async with sessions.begin() as session:
            await testclock.move(session, advance_seconds=DAY_SECONDS)
            await session.execute(
                text("UPDATE test_clock SET ahead_seconds = :most"),
                {"most": testclock.AHEAD_SECONDS_MAX - 1},
            )
        status, problem = await move(operator, advance_seconds=2)
        assert (status, problem["code"]) == (422, "too_far_ahead")

    @pytest.mark.parametrize("role", ["issuer", "processor", "analyst"])
    async def test_is_the_operators(
        self, client: httpx.AsyncClient, make_key: MakeKey, role: str
    ) -> None:
        client.headers["Authorization"] = f"Bearer {await make_key(role)}"
        assert (await client.get("/v1/test-clock")).status_code == 403
        assert (await move(client, advance_seconds=1))[0] == 403

    async def test_lets_a_key_expire(self, operator: httpx.AsyncClient, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            await session.execute(text("UPDATE api_keys SET expires_at = now() + '1 day'"))
        assert (await move(operator, advance_seconds=2 * DAY_SECONDS))[0] == 200
        assert (await operator.get("/v1/test-clock")).status_code == 401

    async def test_is_moved_by_a_command_too(self, tagback: Tagback) -> None:
        on = {"TAGBACK_TEST_CLOCK": "1", "TAGBACK_X_BASE_URL": STAND_IN}
        ran = await tagback("clock", "advance", "30d", **on)
        assert (ran.status, ran.out.rstrip().endswith("30 days, 0:00:00 ahead")) == (0, True)


class TestWithoutTheSetting:
    async def test_there_is_no_such_route(
        self,
        client: httpx.AsyncClient,
        stage: tuple[Any, str],
        settings: Settings,
        sessions: Sessions,
        make_key: MakeKey,
    ) -> None:
        off = create_app(settings.model_copy(update={"test_clock": False}), sessions)
        stage[0].app = off
        client.headers["Authorization"] = f"Bearer {await make_key('operator')}"
        assert (await client.get("/v1/test-clock")).status_code == 404
        assert (await move(client, advance_seconds=1))[0] == 404
        assert "/v1/test-clock" not in off.openapi()["paths"]

    async def test_a_database_whose_time_was_moved_is_not_served(
        self, settings: Settings, sessions: Sessions
    ) -> None:
        off = settings.model_copy(update={"test_clock": False})
        await testclock.adopt(sessions, off)
        async with sessions.begin() as session:
            await testclock.move(session, advance_seconds=DAY_SECONDS)
        with pytest.raises(testclock.ClockMovedError, match="1 day, 0:00:00 ahead"):
            await testclock.adopt(sessions, off)
        await testclock.adopt(sessions, settings)
        assert clock.ahead() == timedelta(days=1)


class TestTheSetting:
    @pytest.mark.parametrize(
        "base_url",
        [None, "https://api.x.com", "https://api.x.com/", "https://API.X.com:443", "https://x.com",
         "https://api.twitter.com", "https://api.x.com."],
    )  # fmt: skip
    def test_is_refused_with_x_itself(self, settings: Settings, base_url: str | None) -> None:
        del settings  # it clears the environment
        given = {"test_clock": True} | ({} if base_url is None else {"x_base_url": base_url})
        with pytest.raises(ValidationError, match="at the X stand-in alone"):
            Settings.model_validate(given)

    @pytest.mark.parametrize("base_url", [STAND_IN, "https://notx.com", "https://x.com.example"])
    def test_is_taken_with_a_stand_in(self, settings: Settings, base_url: str) -> None:
        del settings
        assert Settings.model_validate({"test_clock": "1", "x_base_url": base_url}).test_clock

    async def test_is_named_at_start_when_it_is_refused(self, tagback: Tagback) -> None:
        ran = await tagback("serve", TAGBACK_TEST_CLOCK="1")
        assert ran.status == 1
        assert "TAGBACK_TEST_CLOCK: " in ran.err
        assert "TAGBACK_X_BASE_URL" in ran.err
