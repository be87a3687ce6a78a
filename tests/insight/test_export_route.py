"""GET /v1/redemptions/export: a whole file or a broken connection, and never in anybody's way."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from app.config import Settings
from app.insight import attribution
from app.insight.exporting import Exports, TooManyExports
from app.kit.db import Sessions
from app.kit.ids import new_id
from app.main import create_app
from app.partners import service as partners
from app.posts.enrol import Enroller
from tests.conftest import Stage
from tests.many import write_redemptions
from tests.programme import NOW, make_members, make_offer, make_post, make_shop, pay
from tests.support import MakeKey, until

ROUTE = "/v1/redemptions/export"
OF_THE_POST = {"posted_at", "minutes_from_post"}
COPYING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
    "AND state = 'active' AND query LIKE 'COPY%'"
)
STALLED = f"{COPYING} AND wait_event = 'ClientWrite'"

Headers = dict[str, str]
AsRole = Callable[..., Awaitable[Headers]]


@pytest.fixture
def as_role(make_key: MakeKey, sessions: Sessions) -> AsRole:
    async def headers(role: str, partner: str | None = None) -> Headers:
        partner_id = None
        if partner is not None:
            async with sessions.begin() as session:
                partner_id = (await partners.ensure_partner(session, ref=partner)).id
        return {"Authorization": f"Bearer {await make_key(role, partner_id)}"}

    return headers


@pytest.fixture
async def sold(sessions: Sessions, settings: Settings) -> None:
    """Three sales of a café, one of a rival."""
    await make_shop(sessions, "counter")
    await make_shop(sessions, "other", partner="rival")
    await make_offer(sessions, "Tea")
    await make_offer(sessions, "Cola", partner="rival")
    accounts = await make_members(sessions, 4)
    posts = [make_post(account, "tea") for account in accounts[:3]]
    posts.append(make_post(accounts[3], "cola"))
    await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)
    for account in accounts[:3]:
        await pay(sessions, account, "clearing", 2_000)
    await pay(sessions, accounts[3], "clearing", 700, acceptor_id="other")
    await attribution.flush(sessions)


@pytest.fixture
async def long(sessions: Sessions) -> None:
    """More than the sockets between us hold: 24 MB, in 400 rows."""
    await write_redemptions(sessions, 400)
    async with sessions.begin() as session:
        await session.execute(text("UPDATE sales SET hashtag = repeat('tag', 20000)"))


async def rows_of(client: httpx.AsyncClient, headers: Headers, **query: Any) -> list[Any]:
    answer = await client.get(ROUTE, params={"format": "ndjson", **query}, headers=headers)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def found(sessions: Sessions, query: str) -> list[Any]:
    async with sessions.begin() as session:
        return list(await session.scalars(text(query)))


@asynccontextmanager
async def begun(
    client: httpx.AsyncClient, headers: Headers, sessions: Sessions, file_format: str = "ndjson"
) -> AsyncIterator[httpx.Response]:
    """An export whose reader does not go on reading, and that waits for him."""
    query = {"format": file_format}
    async with client.stream("GET", ROUTE, params=query, headers=headers) as answer:
        assert answer.status_code == 200

        async def waits() -> bool:
            return bool(await found(sessions, STALLED))

        await until(waits)
        yield answer


@pytest.mark.usefixtures("sold")
class TestTheFile:
    async def test_says_what_the_list_says_and_more_of_the_post(
        self, client: httpx.AsyncClient, as_role: AsRole
    ) -> None:
        headers = await as_role("analyst")
        listed = (await client.get("/v1/redemptions", headers=headers)).json()["items"]
        exported = await rows_of(client, headers)
        assert len(listed) == len(exported) == 4
        for row, sale in zip(exported, listed, strict=True):
            assert row.keys() - sale.keys() == OF_THE_POST - {"minutes_from_post"}
            assert row["minutes_from_post"] == 5
            for one in (row, sale):
                one["purchased_at"] = datetime.fromisoformat(one["purchased_at"])
            assert {name: row[name] for name in sale} == sale

    async def test_is_named_and_typed(self, client: httpx.AsyncClient, as_role: AsRole) -> None:
        headers = await as_role("operator")
        for file_format, media_type in (
            ("csv", "text/csv; charset=utf-8; header=present"),
            ("ndjson", "application/x-ndjson"),
            ("parquet", "application/vnd.apache.parquet"),
        ):
            answer = await client.get(ROUTE, params={"format": file_format}, headers=headers)
            assert answer.headers["content-type"] == media_type
            name = answer.headers["content-disposition"]
            assert name.startswith('attachment; filename="redemptions-20')
            assert name.endswith(f'Z.{file_format}"')
            if file_format == "csv":
                assert len(list(csv.reader(io.StringIO(answer.text)))) == 5
            if file_format == "parquet":
                assert pq.read_table(io.BytesIO(answer.content)).num_rows == 4

    async def test_of_a_partner_holds_its_own_sales_and_nothing_of_a_post(
        self, client: httpx.AsyncClient, as_role: AsRole
    ) -> None:
        of_all = await rows_of(client, await as_role("analyst"))
        for partner, amounts in (("cafe", [2_000] * 3), ("rival", [700]), ("third", [])):
            for role in ("partner", "analyst"):
                rows = await rows_of(client, await as_role(role, partner))
                assert [row["spend_minor"] for row in rows] == amounts
                for row in rows:
                    assert of_all[0].keys() - row.keys() == OF_THE_POST

    async def test_is_narrowed_by_the_filters_of_the_list(
        self, client: httpx.AsyncClient, as_role: AsRole
    ) -> None:
        headers = await as_role("analyst")
        for query, rows in (
            ({"hashtag": "#TEA"}, 3),
            ({"hashtag": ["tea", "cola"], "partner": "rival"}, 1),
            ({"state": "returned"}, 0),
            ({"network": "x' OR 'x' = 'x"}, 0),
            ({"network": ["x", "$1', '\\"]}, 4),
            ({"purchased_since": NOW.isoformat()}, 4),
            ({"purchased_until": NOW.isoformat()}, 0),
        ):
            assert len(await rows_of(client, headers, **query)) == rows

    async def test_is_a_problem_when_it_cannot_begin(
        self, client: httpx.AsyncClient, as_role: AsRole
    ) -> None:
        headers = await as_role("analyst")
        for query, status in (({"offer": "none"}, 422), ({"format": "xlsx"}, 422)):
            answer = await client.get(ROUTE, params=query, headers=headers)
            assert answer.status_code == status
            assert answer.json()["code"] == "invalid"
        assert (await client.get(ROUTE)).status_code == 401
        answer = await client.get(ROUTE, headers=await as_role("processor"))
        assert answer.status_code == 403

    async def test_is_not_sent_where_its_end_could_not_be_told(
        self, client: httpx.AsyncClient, as_role: AsRole
    ) -> None:
        (name, value) = (await as_role("analyst")).popitem()
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(f"GET {ROUTE} HTTP/1.0\r\n{name}: {value}\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 505 ")


@pytest.mark.usefixtures("long")
class TestAFileThatIsLong:
    async def test_waits_for_its_reader_and_is_whole(
        self, client: httpx.AsyncClient, as_role: AsRole, sessions: Sessions
    ) -> None:
        async with begun(client, await as_role("analyst"), sessions) as answer:
            lines = [json.loads(line) async for line in answer.aiter_lines()]
        assert len({line["id"] for line in lines}) == 400

    @pytest.mark.parametrize("file_format", ["csv", "ndjson"])
    async def test_breaks_off_for_all_to_see_when_the_database_fails(
        self, client: httpx.AsyncClient, as_role: AsRole, sessions: Sessions, file_format: str
    ) -> None:
        headers = await as_role("analyst")
        async with begun(client, headers, sessions, file_format) as answer:
            (pid,) = await found(sessions, COPYING)
            assert await found(sessions, f"SELECT pg_terminate_backend({pid})") == [True]
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
                await answer.aread()
        assert len(await rows_of(client, headers)) == 400  # its place and its connection are back

    async def test_ends_its_query_when_the_reader_leaves(
        self, client: httpx.AsyncClient, as_role: AsRole, sessions: Sessions
    ) -> None:
        headers = await as_role("analyst")
        async with begun(client, headers, sessions):
            pass

        async def ended() -> bool:
            return not await found(sessions, COPYING)

        await until(ended)
        assert len(await rows_of(client, headers)) == 400

    async def test_is_one_at_a_time_for_each_caller(
        self, client: httpx.AsyncClient, as_role: AsRole, sessions: Sessions
    ) -> None:
        headers = await as_role("analyst")
        async with begun(client, headers, sessions):
            refused = await client.get(ROUTE, headers=headers)
            assert refused.status_code == 429
            assert refused.json()["code"] == "too_many_exports"
            assert int(refused.headers["retry-after"]) > 0
            assert len(await rows_of(client, await as_role("partner", "partner-1"))) == 40


@pytest.mark.usefixtures("long")
class TestExportsAtOnce:
    async def test_leave_room_for_everything_else(
        self,
        stage: tuple[Stage, str],
        settings: Settings,
        sessions: Sessions,
        client: httpx.AsyncClient,
        as_role: AsRole,
    ) -> None:
        stage[0].app = create_app(settings.model_copy(update={"exports_max": 1}), sessions)
        second = await as_role("analyst")
        async with begun(client, await as_role("analyst"), sessions):
            refused = await client.get(ROUTE, headers=second)
            assert refused.status_code == 429
            assert "retry-after" in refused.headers
            listed = await client.get("/v1/redemptions?limit=1", headers=second)
            assert listed.status_code == 200
        assert len(await rows_of(client, second)) == 400

    async def test_do_not_wait_for_a_reader_for_ever(
        self,
        stage: tuple[Stage, str],
        settings: Settings,
        sessions: Sessions,
        client: httpx.AsyncClient,
        as_role: AsRole,
    ) -> None:
        hasty = settings.model_copy(update={"export_seconds_max": 0.5})
        stage[0].app = create_app(hasty, sessions)
        headers = {**await as_role("analyst"), "Accept-Encoding": "identity"}
        async with client.stream("GET", ROUTE, params={"format": "csv"}, headers=headers) as answer:

            async def ended() -> bool:
                return not await found(sessions, COPYING)

            await until(ended)
            with pytest.raises(httpx.RemoteProtocolError):
                await answer.aread()

    async def test_never_have_the_last_connection(self, settings: Settings) -> None:
        exports = Exports(settings.model_copy(update={"pool_size": 2, "exports_max": 100}))
        async with exports.place(new_id()):
            with pytest.raises(TooManyExports):
                async with exports.place(new_id()):
                    pass
        async with exports.place(new_id()):
            pass
