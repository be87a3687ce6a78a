"""A walk sees what was there when it began exactly once, what arrives meanwhile at most once."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.db import Sessions
from app.members import service as members
from app.members.schemas import MemberLine
from app.partners import keys
from app.partners import service as partners
from tests.programme import member_line
from tests.support import MakeKey

THERE = 40
LIMIT = 7
WRITERS = 3

Make = Callable[[AsyncSession, str], Awaitable[str]]


async def make_partner(session: AsyncSession, name: str) -> str:
    return str((await partners.create_partner(session, actor="t", ref=name, name=name)).id)


async def make_key_of(session: AsyncSession, _name: str) -> str:
    return str(
        (await keys.create_key(session, actor="t", role="analyst", now=datetime.now(UTC))).record.id
    )


async def make_member(session: AsyncSession, name: str) -> str:
    line = MemberLine.model_validate({**member_line(name), "member_ref": name})
    return str(
        (await members.enrol_member(session, row=line, actor="t", now=datetime.now(UTC))).member.id
    )


@pytest.mark.parametrize(
    ("path", "table", "make"),
    [
        ("/v1/partners", "partners", make_partner),
        ("/v1/api-keys", "api_keys", make_key_of),
        ("/v1/members", "members", make_member),
    ],
    ids=["partners", "keys", "members"],
)
async def test_a_walk_among_writers(
    client: httpx.AsyncClient,
    sessions: Sessions,
    make_key: MakeKey,
    path: str,
    table: str,
    make: Make,
) -> None:
    client.headers["Authorization"] = f"Bearer {await make_key('operator')}"
    for number in range(THERE):
        async with sessions.begin() as session:
            await make(session, f"there{number}")
    async with sessions() as session:
        there = {str(one) for one in await session.scalars(text(f"SELECT id FROM {table}"))}
    is_over = asyncio.Event()
    writers = [asyncio.create_task(write(sessions, make, one, is_over)) for one in range(WRITERS)]
    seen: Counter[str] = Counter()
    cursor = ""
    async with sessions() as slow:
        # its id is older than the cursor by the time it is committed
        late = await make(slow, "late")
        while True:
            page = (await client.get(f"{path}?limit={LIMIT}{cursor}")).json()
            seen.update(one["id"] for one in page["items"])
            if sum(seen.values()) > THERE // 2:
                await slow.commit()
            if page["next_cursor"] is None or len(seen) > 50 * THERE:
                break
            cursor = f"&cursor={page['next_cursor']}"
    is_over.set()
    written = {one for ids in await asyncio.gather(*writers) for one in ids}
    assert set(seen.values()) == {1}
    assert there <= seen.keys() <= there | written | {late}
    assert written
    again = (await client.get(f"{path}?limit=1000")).json()
    assert {one["id"] for one in again["items"]} == there | written | {late}


async def write(sessions: Sessions, make: Make, writer: int, is_over: asyncio.Event) -> list[str]:
    made = []
    while not is_over.is_set() and len(made) < THERE:
        async with sessions.begin() as session:
            made.append(await make(session, f"w{writer}-{len(made)}"))
    return made
