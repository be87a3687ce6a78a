"""`Idempotency-Key`: one effect and one answer, however often a request is sent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from app.cli import jobs
from app.config import Settings
from app.database import Database
from app.kit import clock
from app.kit.db import Sessions
from app.main import create_app
from app.partners import idempotency
from app.partners import service as partners
from tests.kills.processes import Service
from tests.support import MakeKey, until

TWINS = 50
HOLD = 77
KEY_OF_OPERATOR = {"role": "issuer"}


def named(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


@pytest.fixture
async def operator(client: httpx.AsyncClient, make_key: MakeKey) -> httpx.AsyncClient:
    client.headers["Authorization"] = f"Bearer {await make_key('operator')}"
    return client


def offer_body() -> dict[str, Any]:
    return {
        "offer_ref": "spring",
        "title": "Spring",
        "hashtag": "spring",
        "starts_at": "2026-01-01T00:00:00Z",
        "ends_at": "2090-01-01T00:00:00Z",
        "time_zone": "UTC",
        "currency": "USD",
        "reward": {"fixed_minor": 500},
    }


async def age(sessions: Sessions, interval: str) -> None:
    async with sessions.begin() as session:
        await session.execute(
            text(f"UPDATE idempotency_keys SET claimed_at = claimed_at - interval '{interval}'")
        )


async def are_waiting(sessions: Sessions, number: int) -> bool:
    async with sessions() as session:
        found = await session.scalar(
            text(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )
    return int(found or 0) >= number


async def count(sessions: Sessions, table: str) -> int:
    async with sessions() as session:
        return int(await session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


class TestARequestSentAgain:
    async def test_is_answered_as_the_first_time(
        self, operator: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        before = await count(sessions, "api_keys")
        first = await operator.post("/v1/api-keys", json=KEY_OF_OPERATOR, headers=named("a b"))
        again = await operator.post("/v1/api-keys", json=KEY_OF_OPERATOR, headers=named('"a b"'))
        assert first.status_code == again.status_code == 201
        assert first.content == again.content
        assert first.json()["key"].startswith("tb_")
        assert "idempotency-replayed" not in first.headers
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["content-type"] == first.headers["content-type"]
        assert await count(sessions, "api_keys") == before + 1

    async def test_does_nothing_in_fifty_twins_at_once(
        self, operator: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        before = await count(sessions, "api_keys")
        answers = await asyncio.gather(
            *(
                operator.post(
                    "/v1/api-keys", json=KEY_OF_OPERATOR, headers=named("twins"), timeout=60
                )
                for _ in range(TWINS)
            )
        )
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert await count(sessions, "api_keys") == before + 1

    async def test_leaves_others_the_pool_while_its_twins_wait(
        self, operator: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        async with sessions.begin() as session:
            await session.execute(text("LOCK TABLE partners IN EXCLUSIVE MODE"))
            twins = [
                asyncio.create_task(
                    operator.post(
                        "/v1/partners",
                        json={"ref": "cafe", "name": "Café"},
                        headers=named("slow"),
                        timeout=60,
                    )
                )
                for _ in range(TWINS)
            ]
            await until(lambda: are_waiting(sessions, 1))
            for _ in range(3):  # more would wait for good if the twins held the pool
                assert (await operator.get("/v1/api-keys", timeout=5)).is_success
        assert {(await twin).status_code for twin in twins} == {201}
        assert await count(sessions, "partners") == 1

    async def test_waits_for_a_twin_in_another_process(
        self, operator: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        """The table is locked by what the twin has claimed, not by what this process knows."""
        async with sessions.begin() as session:
            await session.execute(text("LOCK TABLE partners IN EXCLUSIVE MODE"))
            body = {"ref": "cafe", "name": "Café"}
            first = asyncio.create_task(
                operator.post("/v1/partners", json=body, headers=named("far"))
            )
            await until(lambda: are_waiting(sessions, 1))
            idempotency._turns.clear()  # noqa: SLF001 - as another process knows of no turn
            second = asyncio.create_task(
                operator.post("/v1/partners", json=body, headers=named("far"))
            )
            await until(lambda: are_waiting(sessions, 2))
        assert (await first).content == (await second).content
        assert await count(sessions, "partners") == 1

    async def test_with_another_body_is_refused(self, operator: httpx.AsyncClient) -> None:
        first = {"ref": "cafe", "name": "Café"}
        await operator.post("/v1/partners", json=first, headers=named("k"))
        for path, body in (
            ("/v1/partners", {"ref": "cafe", "name": "Coffee"}),
            ("/v1/partners?x=1", first),
            ("/v1/api-keys", {"role": "issuer"}),
        ):
            answer = await operator.post(path, json=body, headers=named("k"))
            assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")

    async def test_that_was_refused_may_be_corrected(self, operator: httpx.AsyncClient) -> None:
        for body, status in (
            ({"ref": "cafe"}, 422),
            ({"ref": "cafe", "name": "A"}, 201),
        ):
            answer = await operator.post("/v1/partners", json=body, headers=named("k"))
            assert answer.status_code == status, answer.text
        conflict = {"ref": "cafe", "name": "B"}
        assert (
            await operator.post("/v1/partners", json=conflict, headers=named("k2"))
        ).status_code == 409
        answer = await operator.post(
            "/v1/partners", json={"ref": "bar", "name": "B"}, headers=named("k2")
        )
        assert answer.status_code == 201

    async def test_by_another_caller_is_another_request(
        self, operator: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        first = await operator.post("/v1/api-keys", json=KEY_OF_OPERATOR, headers=named("k"))
        other = {"Authorization": f"Bearer {await make_key('operator')}", **named("k")}
        second = await operator.post("/v1/api-keys", json=KEY_OF_OPERATOR, headers=other)
        assert first.json()["id"] != second.json()["id"]

    async def test_by_a_caller_who_may_no_longer_is_refused(
        self, operator: httpx.AsyncClient, sessions: Sessions, make_key: MakeKey
    ) -> None:
        key = await make_key("operator")
        headers = {"Authorization": f"Bearer {key}", **named("k")}
        await operator.post("/v1/api-keys", json=KEY_OF_OPERATOR, headers=headers)
        async with sessions.begin() as session:
            await session.execute(
                text("UPDATE api_keys SET revoked_at = now() WHERE hash = :hash"),
                {"hash": partners.hash_key(key)},
            )
        answer = await operator.post("/v1/api-keys", json=KEY_OF_OPERATOR, headers=headers)
        assert answer.status_code == 401

    async def test_keeps_its_headers(
        self, client: httpx.AsyncClient, sessions: Sessions, make_key: MakeKey
    ) -> None:
        """A partner's request is confined to its role when the answer is kept."""
        async with sessions.begin() as session:
            cafe = await partners.ensure_partner(session, ref="cafe")
        client.headers["Authorization"] = f"Bearer {await make_key('partner', cafe.id)}"
        body = offer_body()
        first = await client.post("/v1/offers", json=body, headers=named("k"))
        again = await client.post("/v1/offers", json=body, headers=named("k"))
        assert first.status_code == again.status_code == 201, first.text
        assert first.json() == again.json()
        assert first.headers["etag"] == again.headers["etag"]
        # without the key it is known by its own name, as it stands
        assert (await client.post("/v1/offers", json=body)).status_code == 200

    async def test_after_a_day_is_a_new_one(
        self, operator: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        body = KEY_OF_OPERATOR
        first = await operator.post("/v1/api-keys", json=body, headers=named("k"))
        await age(sessions, "23 hours 59 minutes")
        kept = await operator.post("/v1/api-keys", json=body, headers=named("k"))
        assert kept.json() == first.json()
        await age(sessions, "1 minute")
        new = await operator.post("/v1/api-keys", json=body, headers=named("k"))
        assert new.json()["id"] != first.json()["id"]

    async def test_that_made_nothing_makes_nothing_for_a_day(
        self, operator: httpx.AsyncClient
    ) -> None:
        for replayed in (None, "true"):
            answer = await operator.post("/v1/credit-batches", headers=named("k"))
            assert (answer.status_code, answer.content) == (204, b"")
            assert answer.headers.get("idempotency-replayed") == replayed


class TestAKey:
    @pytest.mark.parametrize(
        "value",
        ["", "x" * 256, "caf\u00e9", "a\tb", '"', '""', '"open', '"a"b"'],
        ids=["empty", "long", "latin", "tab", "quote", "nothing", "open", "within"],
    )
    async def test_that_is_malformed_is_refused(
        self, operator: httpx.AsyncClient, sessions: Sessions, value: str
    ) -> None:
        headers = {b"Idempotency-Key": value.encode("latin-1")}
        before = await count(sessions, "api_keys")
        answer = await operator.post("/v1/api-keys", json=KEY_OF_OPERATOR, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
        assert answer.json()["errors"][0]["in"] == "header"
        assert answer.json()["errors"][0]["pointer"] == "/Idempotency-Key"
        assert await count(sessions, "api_keys") == before

    async def test_may_have_255_characters(self, operator: httpx.AsyncClient) -> None:
        answer = await operator.post("/v1/api-keys", json=KEY_OF_OPERATOR, headers=named("~" * 255))
        assert answer.status_code == 201


class TestWhatIsKept:
    async def test_is_readable_by_nobody(
        self, operator: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        made = await operator.post("/v1/api-keys", json=KEY_OF_OPERATOR, headers=named("my-name"))
        async with sessions() as session:
            (row,) = await session.execute(text("SELECT * FROM idempotency_keys"))
        stored = b"".join(value for value in row if isinstance(value, bytes))
        for secret in (made.json()["key"].encode(), b"my-name", b"issuer"):
            assert secret not in stored

    async def test_is_forgotten_after_a_day(
        self, operator: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        await operator.post("/v1/api-keys", json=KEY_OF_OPERATOR, headers=named("old"))
        await age(sessions, "24 hours")
        await operator.post("/v1/api-keys", json=KEY_OF_OPERATOR, headers=named("new"))
        assert await jobs.run_job(sessions, "answers", now=clock.now()) == 1
        assert await count(sessions, "idempotency_keys") == 1


class TestAProcessThatIsKilled:
    async def test_between_effect_and_answer_leaves_both_or_neither(
        self,
        client: httpx.AsyncClient,
        operator: httpx.AsyncClient,
        sessions: Sessions,
        database: Database,
        environment: dict[str, str],
    ) -> None:
        """One request has come as far as its commit, which is done after the kill; of another the
        commit never comes.
        """
        body = {"role": "analyst"}
        service = Service(environment)
        await service.start()
        try:
            async with held_commits(sessions, database):
                lost = [
                    asyncio.create_task(
                        operator.post(
                            f"{service.address}/v1/api-keys", json=body, headers=named(name)
                        )
                    )
                    for name in ("late", "never")
                ]
                await until(lambda: are_waiting(sessions, 2))
                await service.kill()
                assert all(
                    isinstance(found, httpx.HTTPError)
                    for found in await asyncio.gather(*lost, return_exceptions=True)
                )
                await end_one_that_waits(sessions)
            await until(lambda: is_idle(sessions))
        finally:
            await service.kill()
        committed = await count(sessions, "idempotency_keys")
        assert committed == await analysts(sessions) == 1
        replayed = set()
        for name in ("late", "never"):
            answers = [
                await client.post("/v1/api-keys", json=body, headers=named(name)) for _ in range(2)
            ]
            assert {answer.status_code for answer in answers} == {201}
            assert len({answer.content for answer in answers}) == 1
            replayed.add(answers[0].headers.get("idempotency-replayed"))
        assert replayed == {None, "true"}
        assert await analysts(sessions) == 2


@contextlib.asynccontextmanager
async def held_commits(sessions: Sessions, database: Database) -> AsyncIterator[None]:
    """Whoever has kept an answer waits at its commit until this ends."""
    engine = create_async_engine(database.owner_url)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN PERFORM pg_advisory_xact_lock_shared({HOLD}); RETURN NULL; END $$"
            )
        )
        await connection.execute(
            text(
                "CREATE CONSTRAINT TRIGGER hold AFTER UPDATE ON idempotency_keys "
                "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold()"
            )
        )
    await engine.dispose()
    async with sessions.begin() as session:
        await session.execute(text(f"SELECT pg_advisory_xact_lock({HOLD})"))
        yield


async def end_one_that_waits(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock' LIMIT 1"
            )
        )


async def is_idle(sessions: Sessions) -> bool:
    async with sessions() as session:
        busy = await session.scalar(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND state <> 'idle' AND pid <> pg_backend_pid()"
            )
        )
    return busy == 0


async def analysts(sessions: Sessions) -> int:
    return await count(sessions, "api_keys WHERE role = 'analyst'")


def test_every_post_that_creates_takes_a_key(settings: Settings, sessions: Sessions) -> None:
    """Batches of events have ids of their own, and are not answered 201."""
    made = 0
    for path, operations in create_app(settings, sessions).openapi()["paths"].items():
        if "201" in operations.get("post", {}).get("responses", {}):
            parameters = operations["post"].get("parameters", [])
            assert "Idempotency-Key" in [one["name"] for one in parameters], path
            made += 1
    assert made >= 11
