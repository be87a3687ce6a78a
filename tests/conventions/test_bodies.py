"""What a request's body and an answer's may be: packed, hostile, too large."""

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import Response, StreamingResponse
from pydantic import SecretStr

from app.config import Settings
from app.kit.bodies import BadText, read_json
from app.kit.db import Sessions
from app.kit.sealing import new_key
from app.main import ROUTERS, create_app
from tests.support import MakeKey

LIMIT = 100_000
PARTNER = b'{"ref": "cafe", "name": "Caf\xc3\xa9"}'
JSON = {"Content-Type": "application/json"}
PACKED = {**JSON, "Content-Encoding": "gzip"}
PARQUET = "application/vnd.apache.parquet"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"body_bytes_max": LIMIT, "secret_keys": SecretStr(new_key())}
    )


@pytest.fixture
async def operator(client: httpx.AsyncClient, make_key: MakeKey) -> httpx.AsyncClient:
    client.headers["Authorization"] = f"Bearer {await make_key('operator')}"
    return client


async def in_pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


class TestAPackedRequest:
    @pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
    async def test_is_read(self, operator: httpx.AsyncClient, encoding: str) -> None:
        headers = {**JSON, "Content-Encoding": encoding}
        answer = await operator.post(
            "/v1/partners", content=gzip.compress(PARTNER), headers=headers
        )
        assert (answer.status_code, answer.json()["name"]) == (201, "Café")

    async def test_may_come_in_pieces_and_be_several_files(
        self, operator: httpx.AsyncClient
    ) -> None:
        packed = gzip.compress(PARTNER[:7]) + gzip.compress(PARTNER[7:])
        answer = await operator.post("/v1/partners", content=in_pieces(packed, 1), headers=PACKED)
        assert (answer.status_code, answer.json()["name"]) == (201, "Café")

    async def test_is_read_of_lines_too(self, client: httpx.AsyncClient, make_key: MakeKey) -> None:
        headers = {**PACKED, "Authorization": f"Bearer {await make_key('processor')}"}
        content = gzip.compress(b"{}\n{}\n")
        answer = await client.post("/v1/transactions/batch", content=content, headers=headers)
        assert json.loads(answer.text.splitlines()[-1])["summary"]["rejected"] == 2

    @pytest.mark.parametrize(
        ("content", "status", "code"),
        [
            (b"no gzip", 400, "body_encoding"),
            (gzip.compress(PARTNER)[:-9], 400, "body_encoding"),
            (gzip.compress(PARTNER) + b"more", 400, "body_encoding"),
            (gzip.compress(PARTNER)[:-8] + bytes(8), 400, "body_encoding"),
            (gzip.compress(b" " * (LIMIT + 1)), 413, "body_too_large"),
            (zlib.compress(PARTNER), 400, "body_encoding"),
        ],
        ids=["none", "short", "trailing", "checksum", "large", "zlib"],
    )
    async def test_that_is_broken_or_too_large_is_refused(
        self, operator: httpx.AsyncClient, content: bytes, status: int, code: str
    ) -> None:
        for body in (content, in_pieces(content, 10)):
            answer = await operator.post("/v1/partners", content=body, headers=PACKED)
            assert (answer.status_code, answer.json()["code"]) == (status, code)

    async def test_of_just_the_bound_is_read(self, operator: httpx.AsyncClient) -> None:
        content = gzip.compress(PARTNER.ljust(LIMIT))
        answer = await operator.post("/v1/partners", content=content, headers=PACKED)
        assert answer.status_code == 201

    @pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip"])
    async def test_in_another_way_is_refused(
        self, operator: httpx.AsyncClient, encoding: str
    ) -> None:
        headers = {**JSON, "Content-Encoding": encoding}
        answer = await operator.post("/v1/partners", content=PARTNER, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "content_encoding")
        assert answer.headers["accept-encoding"] == "gzip"

    async def test_that_is_a_bomb_is_never_held(self, operator: httpx.AsyncClient) -> None:
        bomb = gzip.compress(bytes(64 * 1024 * 1024), compresslevel=1)
        tracemalloc.start()
        answer = await operator.post("/v1/partners", content=bomb[:LIMIT], headers=PACKED)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert peak_bytes < 8 * 1024 * 1024


class TestAnAnswer:
    async def test_is_packed_for_whoever_asks_where_it_is_worth_it(
        self, operator: httpx.AsyncClient
    ) -> None:
        for number in range(20):
            await operator.post("/v1/partners", json={"ref": f"cafe{number}", "name": "Café"})
        for limit, accepted, encoding in (
            (20, "gzip", "gzip"),
            (20, "identity", None),
            (1, "gzip", None),
        ):
            answer = await operator.get(
                f"/v1/partners?limit={limit}", headers={"Accept-Encoding": accepted}
            )
            assert answer.headers.get("content-encoding") == encoding
            assert (limit == 1) or answer.headers["vary"] == "Accept-Encoding"
            assert len(answer.json()["items"]) == limit

    async def test_in_lines_is_packed_without_holding_any_back(
        self, stage: Any, settings: Settings, sessions: Sessions
    ) -> None:
        app = create_app(settings, sessions)
        is_read = asyncio.Event()

        async def lines() -> AsyncIterator[bytes]:
            yield b'{"line": 1}\n'
            await is_read.wait()
            yield b'{"line": 2}\n'

        @app.get("/lines")
        async def answer_lines() -> Response:
            return StreamingResponse(lines(), media_type="application/x-ndjson")

        stage[0].app = app
        async with (
            httpx.AsyncClient(base_url=stage[1], timeout=5) as client,
            client.stream("GET", "/lines") as answer,
        ):
            assert answer.headers["content-encoding"] == "gzip"
            told = answer.aiter_lines()
            assert await anext(told) == '{"line": 1}'
            is_read.set()
            assert await anext(told) == '{"line": 2}'

    @pytest.mark.parametrize("media_type", [PARQUET, "text/html"])
    async def test_of_some_kinds_is_never_packed(
        self, stage: Any, settings: Settings, sessions: Sessions, media_type: str
    ) -> None:
        app = create_app(settings, sessions)

        @app.get("/large")
        async def answer_much() -> Response:
            return Response(bytes(10_000), media_type=media_type)

        stage[0].app = app
        async with httpx.AsyncClient(base_url=stage[1]) as client:
            answer = await client.get("/large")
        assert "content-encoding" not in answer.headers


def escaped(text: str) -> bytes:
    return b'{"ref": "%s", "name": "Cafe"}' % text.encode()


HOSTILE = {
    "nested": b"[" * 50_000,
    "nested-objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "nested-field": b'{"ref": ' + b"[" * 40_000 + b"]" * 40_000 + b"}",
    "huge-integer": b'{"ref": 1' + b"0" * 10_000 + b"}",
    "large-integers": b'{"limit": %d, "amount_minor": %d}' % (10**400, -(10**40)),
    "not-a-number": b'{"ref": NaN}',
    "infinity": b'{"ref": 1e999, "amount_minor": -Infinity}',
    "twice": b'{"ref": "a", "ref": "b", "name": "c"}',
    "not-utf-8": b'{"ref": "\xff\xfe"}',
    "utf-16": '{"ref": "a"}'.encode("utf-16"),
    "half-a-pair": escaped("\\ud800"),
    "half-in-a-name": b'{"\\udc00": 1}',
    "nul": escaped("a\\u0000b"),
    "raw-nul": escaped("a\x00b"),
    "nothing": b"",
    "null": b"null",
    "list": b"[1]",
    "text": b'"text"',
    "cut": b'{"ref": "a',
}
ID = "0197e5a0-0000-7000-8000-000000000000"
ON_EVERY_ROUTE = ("nested", "large-integers", "twice", "not-utf-8", "half-a-pair", "nul")
OF_LINES = ("/v1/posts", "/v1/transactions/batch")  # each of which is answered by itself


@cache
def operations() -> list[tuple[str, str, dict[str, Any]]]:
    app = FastAPI()
    for router in ROUTERS:
        app.include_router(router)
    return [
        (method, path, operation)
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
        if path.startswith("/v1")
    ]


def filled(path: str, value: str = ID) -> str:
    while "{" in path:
        path = path[: path.index("{")] + value + path[path.index("}") + 1 :]
    return path


class TestAHostileRequest:
    @pytest.mark.parametrize("kind", HOSTILE)
    async def test_is_the_callers_mistake(self, operator: httpx.AsyncClient, kind: str) -> None:
        answer = await operator.post("/v1/partners", content=HOSTILE[kind], headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")

    @pytest.mark.parametrize("kind", ON_EVERY_ROUTE)
    async def test_is_the_callers_mistake_on_every_route(
        self, operator: httpx.AsyncClient, kind: str
    ) -> None:
        tried = 0
        for method, path, operation in operations():
            if "requestBody" not in operation and path not in OF_LINES:
                continue
            tried += 1
            answer = await operator.request(
                method, filled(path), content=HOSTILE[kind], headers=JSON
            )
            told = (method, path, answer.status_code, answer.text)
            assert answer.status_code < 500, told
            if path not in OF_LINES:
                assert answer.status_code >= 400, told
                assert answer.headers["content-type"] == "application/problem+json"
        assert tried > 15

    @pytest.mark.parametrize("kind", ["half-a-pair", "half-in-a-name", "nul"])
    async def test_is_told_the_place(self, operator: httpx.AsyncClient, kind: str) -> None:
        answer = await operator.post("/v1/partners", content=HOSTILE[kind], headers=JSON)
        (found,) = answer.json()["errors"]
        assert found["pointer"] == ("" if kind == "half-in-a-name" else "/ref")

    async def test_whole_pairs_are_text(self, operator: httpx.AsyncClient) -> None:
        body = b'{"ref": "cafe", "name": "\\ud83c\\udf70 \\\\u0000"}'
        answer = await operator.post("/v1/partners", content=body, headers=JSON)
        assert answer.json()["name"] == "\U0001f370 \\u0000"

    async def test_of_nobody_is_not_even_read(self, client: httpx.AsyncClient) -> None:
        for headers in (JSON, {**JSON, "Authorization": "Bearer tb_" + "x" * 40}):
            for path in ("/v1/partners", "/v1/offers", "/v1/webhook-endpoints"):
                answer = await client.post(path, content=b"{no JSON", headers=headers)
                assert (path, answer.status_code) == (path, 401)

    def test_takes_no_more_room_for_being_deep(self) -> None:
        """A path for each of many values would be thousands of times the body."""
        depth, width = 900, 10_000
        bad = b"0," * width + b'"\\u0000"'
        body = b'{"a":' + b"[" * depth + bad + b"]" * depth + b"}"
        tracemalloc.start()
        with pytest.raises(BadText) as told:
            read_json(body)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert told.value.path == ("a", *[0] * (depth - 1), width)
        assert most < 50 * len(body)

    @pytest.mark.parametrize("value", ["%00", "x" * 3_000])
    async def test_in_its_address_too(self, operator: httpx.AsyncClient, value: str) -> None:
        for method, path, operation in operations():
            parameters = operation.get("parameters", [])
            query = "&".join(f"{one['name']}={value}" for one in parameters if one["in"] == "query")
            answer = await operator.request(method, f"{filled(path, value)}?{query}")
            assert answer.status_code < 500, (method, path, answer.text)

    @pytest.mark.parametrize(
        ("cursor", "header", "status", "code"),
        [
            ("x" * 7_000, "x" * 30_000, 422, "invalid"),
            ("x" * 9_000, "", 414, "uri_too_long"),
            ("", "x" * 33_000, 431, "headers_too_large"),
        ],
        ids=["much", "address", "headers"],
    )
    async def test_has_an_address_and_headers_within_reason(
        self, operator: httpx.AsyncClient, cursor: str, header: str, status: int, code: str
    ) -> None:
        answer = await operator.get(f"/v1/partners?cursor={cursor}", headers={"X-Much": header})
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    async def test_with_another_header_than_it_says_is_refused(
        self, operator: httpx.AsyncClient
    ) -> None:
        for header in ("Bearer", "Bearer \xff", "Basic dGVhOnRlYQ==", "Bearer tb_ tb_"):
            headers = {b"Authorization": header.encode("latin-1")}
            answer = await operator.get("/v1/partners", headers=headers)
            assert answer.status_code == 401
