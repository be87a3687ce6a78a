"""Requests a minute of a key's family, and wrong keys of an address."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.cli.roles import ApiServer, open_socket
from app.cli.roles import address as where
from app.config import Settings
from app.kit.clock import now
from app.kit.db import Sessions
from app.main import create_app
from app.partners import keys
from app.partners.limits import KEYS_REMEMBERED_MAX, Limits, address
from app.partners.roles import Role
from tests.conftest import Stage
from tests.support import MakeKey

LIMITS = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")


class Clock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"rate_limit_per_minute": 6, "wrong_keys_per_minute": 3})


@pytest.fixture
def clock(
    client: httpx.AsyncClient, stage: tuple[Stage, str], settings: Settings, sessions: Sessions
) -> Clock:
    """Of the limits of the application that `client` speaks to."""
    clock = Clock()
    app = create_app(settings, sessions)
    app.state.limits = Limits(settings, clock_ns=clock)
    stage[0].app = app
    return clock


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def told(answer: httpx.Response) -> list[str | None]:
    return [answer.headers.get(name) for name in LIMITS]


@pytest.mark.usefixtures("clock")
class TestAKeyWithALimit:
    async def test_is_told_it_by_every_answer_and_refused_beyond_it(
        self, client: httpx.AsyncClient, clock: Clock, make_key: MakeKey
    ) -> None:
        headers = bearer(await make_key("operator"))
        batch = {**headers, "Content-Type": "application/x-ndjson"}
        answers = [
            await client.get("/v1/partners", headers=headers),
            await client.get("/v1/partners?limit=0", headers=headers),
            await client.get("/v1/partners/nobody", headers=headers),
            await client.post("/v1/partners", headers=headers, json={}),
            await client.post("/v1/transactions/batch", headers=batch, content=b"{}\n"),
            await client.post("/v1/posts", headers=batch, content=b""),
            await client.get("/v1/partners", headers=headers),
        ]
        assert [answer.status_code for answer in answers] == [200, 422, 404, 422, 200, 200, 429]
        assert [told(answer) for answer in answers] == [
            ["6", str(left), str(reset)]
            for left, reset in zip((5, 4, 3, 2, 1, 0, 0), (10, 20, 30, 40, 50, 60, 60), strict=True)
        ]
        assert answers[-1].headers["retry-after"] == "10"
        assert answers[-1].json()["code"] == "too_many_requests"
        clock.now_ns += 10_000_000_000
        assert (await client.get("/v1/partners", headers=headers)).status_code == 200

    async def test_is_told_it_where_its_role_may_not(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        answer = await client.get("/v1/partners", headers=bearer(await make_key("analyst")))
        assert (answer.status_code, told(answer)) == (403, ["6", "5", "10"])

    async def test_shares_it_with_what_it_was_rotated_to(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        old = bearer(await make_key("operator"))
        current = (await client.get("/v1/api-keys/current", headers=old)).json()
        assert current["requests_per_minute"] == 6
        made = await client.post(f"/v1/api-keys/{current['id']}/rotate", headers=old)
        new = bearer(made.json()["key"])
        left = [
            (await client.get("/v1/api-keys/current", headers=one)).headers[LIMITS[1]]
            for one in (new, old)
        ]
        assert left == ["3", "2"]

    async def test_has_its_own_when_the_operator_gives_it_one(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        operator = bearer(await make_key("operator"))
        body = {"role": "processor", "rate_limit_per_minute": 2}
        made = (await client.post("/v1/api-keys", headers=operator, json=body)).json()
        url, processor = f"/v1/api-keys/{made['id']}", bearer(made["key"])
        seen = [await client.get("/v1/api-keys/current", headers=processor) for _ in range(3)]
        assert [answer.status_code for answer in seen] == [200, 200, 429]
        changed = await client.patch(url, headers=operator, json={"rate_limit_per_minute": None})
        assert changed.json()["rate_limit_per_minute"] is None
        answer = await client.get("/v1/api-keys/current", headers=processor)
        assert (answer.json()["requests_per_minute"], told(answer)) == (None, [None] * 3)

    @pytest.mark.parametrize("limit", [0, -1, 1_000_001, 1.5, "many"])
    async def test_has_one_that_makes_sense(
        self, client: httpx.AsyncClient, make_key: MakeKey, limit: Any
    ) -> None:
        body = {"role": "issuer", "rate_limit_per_minute": limit}
        headers = bearer(await make_key("operator"))
        assert (await client.post("/v1/api-keys", headers=headers, json=body)).status_code == 422


@pytest.mark.parametrize(
    ("role", "own", "limit"),
    [
        ("operator", None, 6),
        ("partner", None, 6),
        ("analyst", None, 6),
        ("issuer", None, None),
        ("processor", None, None),
        ("issuer", 9, 9),
        ("partner", 9, 9),
    ],
)
def test_each_role_has_its_limit(
    settings: Settings, role: Role, own: int | None, limit: int | None
) -> None:
    assert Limits(settings).limit_of(role, own) == limit
    unlimited = Limits(settings.model_copy(update={"rate_limit_per_minute": 0}))
    assert unlimited.limit_of(role, own) == own


@pytest.mark.usefixtures("clock")
class TestAnAddressThatTriesKeys:
    @pytest.fixture
    def attempt(self, client: httpx.AsyncClient) -> Callable[..., Any]:
        async def attempt(key: str, *, forwarded_for: str = "203.0.113.1") -> int:
            headers = {**bearer(key), "X-Forwarded-For": forwarded_for}
            return (await client.get("/v1/api-keys/current", headers=headers)).status_code

        return attempt

    async def test_waits_after_some_and_asks_the_database_no_more(
        self, attempt: Callable[..., Any], clock: Clock, statements: list[str]
    ) -> None:
        wrong = "tb_" + "A" * 40
        assert [await attempt(wrong) for _ in range(3)] == [401] * 3
        statements.clear()
        assert [await attempt(wrong) for _ in range(3)] == [429] * 3
        assert statements == []
        assert await attempt(wrong, forwarded_for="203.0.113.2") == 401
        clock.now_ns += 20_000_000_000
        assert [await attempt(wrong) for _ in range(2)] == [401, 429]

    async def test_does_not_shut_out_a_key_that_was_good_here(
        self, attempt: Callable[..., Any], make_key: MakeKey
    ) -> None:
        known, unknown = await make_key("issuer"), await make_key("issuer")
        assert await attempt(known) == 200
        for _ in range(3):
            await attempt("nonsense")
        assert (await attempt(known), await attempt(unknown)) == (200, 429)

    async def test_by_a_key_that_was_good_and_is_no_more_is_counted_too(
        self, attempt: Callable[..., Any], sessions: Sessions
    ) -> None:
        at = now()
        async with sessions.begin() as session:
            new = await keys.create_key(session, actor="test", role="issuer", now=at)
        assert await attempt(new.key) == 200
        async with sessions.begin() as session:
            await keys.revoke_key(session, actor="test", key_id=new.record.id, now=at)
        assert [await attempt(new.key) for _ in range(4)] == [401, 401, 401, 429]

    async def test_without_any_key_is_told_so_and_not_counted(
        self, client: httpx.AsyncClient
    ) -> None:
        answers = [await client.get("/v1/partners") for _ in range(5)]
        assert {answer.status_code for answer in answers} == {401}


async def test_who_is_no_proxy_of_ours_is_not_believed_whom_he_forwards(
    settings: Settings, sessions: Sessions
) -> None:
    stop = asyncio.Event()
    with open_socket("127.0.0.1", 0) as listening:
        server = ApiServer(
            create_app(settings, sessions), lifespan="off", trusted_proxies="203.0.113.0/24"
        )
        running = asyncio.create_task(server.run_until(stop, listening))
        await server.is_ready.wait()
        async with httpx.AsyncClient(base_url=where(listening)) as client:
            told = [
                await client.get(
                    "/v1/partners",
                    headers={**bearer("wrong"), "X-Forwarded-For": f"203.0.113.{number}"},
                )
                for number in range(4)
            ]
        stop.set()
        await running
    assert [answer.status_code for answer in told] == [401, 401, 401, 429]


def test_an_address_of_ipv6_is_its_network() -> None:
    assert address("2001:db8:1:2:3::4") == address("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert address("2001:db8:1:3::4") != address("2001:db8:1:2::4")
    assert address("::ffff:203.0.113.1") == address("203.0.113.1") == "203.0.113.1"
    assert (address(None), address("testclient")) == ("", "testclient")


def test_keys_that_were_good_find_no_end_of_memory(settings: Settings) -> None:
    limits = Limits(settings)
    for number in range(KEYS_REMEMBERED_MAX + 5):
        limits.was_good(str(number).encode())
    held = limits._good_keys  # noqa: SLF001 - its bound is what is tested
    assert (len(held), b"4" in held, b"5" in held) == (KEYS_REMEMBERED_MAX, False, True)
