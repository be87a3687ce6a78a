import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from app import main
from app.config import Settings
from app.database import ENGINE, Database
from app.deps import SessionDep
from app.errors import Conflict
from app.kit.db import Sessions, make_engine, make_sessions
from tests.support import MakeKey

LIMIT = 2_048
PROBLEM = "application/problem+json"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"body_bytes_max": LIMIT})


@pytest.fixture
async def probe(
    stage: Any, settings: Settings, sessions: Sessions
) -> AsyncIterator[httpx.AsyncClient]:
    """The service with a few more routes, to see from outside what all routes share."""
    router = APIRouter()

    @router.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    @router.post("/unread")
    async def unread() -> str:
        return "not read"

    @router.post("/write")
    async def write(session: SessionDep, *, fails: bool = False) -> None:
        await session.execute(
            text("INSERT INTO partners (id, ref, name) VALUES (gen_random_uuid(), 'a', 'a')")
        )
        if fails:
            raise Conflict("after all not", code="of_its_own")

    @router.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the secret is tiger-lily")

    app = main.create_app(settings, sessions)
    app.include_router(router)
    stage[0].app = app
    async with httpx.AsyncClient(base_url=stage[1]) as client:
        yield client


async def partners(sessions: Sessions) -> int:
    async with sessions() as session:
        return int(await session.scalar(text("SELECT count(*) FROM partners")) or 0)


async def set_revision(database: Database, revision: str) -> None:
    engine = create_async_engine(database.owner_url)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision}
        )
    await engine.dispose()


class TestProblems:
    async def test_of_the_domain_have_their_status_and_code(self, probe: httpx.AsyncClient) -> None:
        answer = await probe.post("/write?fails=true")
        assert answer.status_code == 409
        assert answer.headers["content-type"] == PROBLEM
        assert answer.json() == {
            "type": "/problems#of_its_own",
            "title": "Conflict",
            "status": 409,
            "code": "of_its_own",
            "detail": "after all not",
        }

    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [("GET", "/nowhere", 404, "not_found"), ("PUT", "/healthz", 405, "method_not_allowed")],
    )
    async def test_of_routing_look_the_same(
        self, client: httpx.AsyncClient, method: str, path: str, status: int, code: str
    ) -> None:
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == PROBLEM

    async def test_of_a_method_name_all_that_the_path_has(self, client: httpx.AsyncClient) -> None:
        answer = await client.put("/v1/partners")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")

    async def test_a_name_is_not_taken_for_an_id_of_other_methods(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        headers = {"Authorization": f"Bearer {await make_key('operator')}"}
        for method in ("PATCH", "DELETE"):
            answer = await client.request(method, "/v1/api-keys/current", headers=headers)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET")

    async def test_of_json_that_is_none_say_so(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        headers = {
            "Authorization": f"Bearer {await make_key('operator')}",
            "Content-Type": "application/json",
        }
        for body in (b'{"ref": ', b"[" * 1_500, b'{"ref": "\xff"}'):
            answer = await client.post("/v1/partners", headers=headers, content=body)
            assert answer.status_code in (400, 422)
            assert answer.headers["content-type"] == PROBLEM

    async def test_of_json_that_was_not_sent_as_json_say_so(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        headers = {
            "Authorization": f"Bearer {await make_key('operator')}",
            "Content-Type": "application/x-www-form-urlencoded",  # as curl does, untold
        }
        body = '{"ref": "cafe", "name": "Café"}'
        answer = await client.post("/v1/partners", headers=headers, content=body)
        assert answer.status_code == 422
        assert answer.json()["detail"].endswith("is Content-Type application/json?")

    async def test_that_nobody_foresaw_have_an_id_that_is_in_the_log(
        self, probe: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
    ) -> None:
        answer = await probe.get("/broken")
        assert answer.status_code == 500
        assert answer.json()["code"] == "internal_error"
        assert "tiger-lily" not in answer.text
        entries = [line for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
        entry = json.loads(entries[-1])
        assert entry["error_id"] == answer.json()["error_id"]
        assert entry["route"] == "/broken"
        assert "RuntimeError" in entry["exception"]
        assert (await probe.get("/healthz")).is_success


class TestATransaction:
    async def test_is_committed_before_the_answer(
        self, probe: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        assert (await probe.post("/write")).is_success
        assert await partners(sessions) == 1

    async def test_is_undone_by_an_error(
        self, probe: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        await probe.post("/write?fails=true")
        assert await partners(sessions) == 0


class TestABody:
    async def chunks(self, size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 512):
            yield b"x" * 512
        yield b"x" * (size % 512)

    async def test_may_have_as_many_bytes_as_the_setting_says(
        self, probe: httpx.AsyncClient
    ) -> None:
        for content in (b"x" * LIMIT, self.chunks(LIMIT)):
            assert (await probe.post("/length", content=content)).json() == LIMIT

    async def test_with_one_more_is_refused(self, probe: httpx.AsyncClient) -> None:
        for content in (b"x" * (LIMIT + 1), self.chunks(LIMIT + 1), self.chunks(LIMIT * 99)):
            answer = await probe.post("/length", content=content)
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
            assert answer.headers["content-type"] == PROBLEM

    async def test_is_refused_by_its_announced_length_even_if_nobody_reads_it(
        self, probe: httpx.AsyncClient
    ) -> None:
        answer = await probe.post("/unread", content=b"x" * (LIMIT + 1))
        assert answer.status_code == 413


class TestOperation:
    async def test_healthz_asks_nobody(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("/healthz")).json() == {"status": "alive"}

    async def test_readyz_is_ready_on_this_releases_schema(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/readyz")
        assert answer.json()["status"] == "ready"

    async def test_readyz_is_503_on_another_schema(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        await set_revision(database, "0001")
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")

    async def test_readyz_is_200_on_the_schema_of_a_later_release(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        await set_revision(database, "9999")
        assert (await client.get("/readyz")).status_code == 200

    async def test_readyz_is_503_when_the_database_is_gone(
        self, stage: Any, settings: Settings
    ) -> None:
        engine = make_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none", role=ENGINE)
        stage[0].app = main.create_app(settings, make_sessions(engine))
        async with httpx.AsyncClient(base_url=stage[1]) as client:
            answer = await client.get("/readyz")
            assert (answer.status_code, answer.json()["code"]) == (503, "database")
            assert (await client.get("/healthz")).is_success

    async def test_metrics_are_prometheus_text(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        assert "python_info" in answer.text

    async def test_the_api_describes_itself(self, client: httpx.AsyncClient) -> None:
        document = (await client.get("/openapi.json")).json()
        assert document["openapi"].startswith("3.1")
        assert {"/v1/partners", "/v1/members", "/v1/merchants"} <= set(document["paths"])
        assert PROBLEM in document["components"]["responses"]["NotFound"]["content"]
