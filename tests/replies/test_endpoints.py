import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from outbox import NOW, queue, reply
from sqlalchemy import text

from app.config import Settings
from app.kit import clock
from app.kit.db import Sessions
from app.kit.ids import new_id
from app.replies import sending

Bearer = dict[str, str]
MakeKey = Callable[..., Awaitable[str]]


@pytest.fixture
async def operator(make_key: MakeKey) -> Bearer:
    return {"authorization": f"Bearer {await make_key('operator')}"}


async def can_claim(sessions: Sessions, settings: Settings) -> bool:
    async with sessions() as session:
        claim = await sending.claim(
            session, network="x", channel="post", settings=settings, now=NOW, most=1
        )
    return bool(claim.replies)


class TestPauseAndResume:
    async def test_stop_and_start_all_replies(
        self,
        client: httpx.AsyncClient,
        operator: Bearer,
        sessions: Sessions,
        settings: Settings,
    ) -> None:
        await queue(sessions, reply())
        answer = await client.post("/v1/replies/pause", headers=operator)
        assert answer.status_code == 204, answer.text
        assert not await can_claim(sessions, settings)
        answer = await client.post("/v1/replies/resume", headers=operator, json={})
        assert answer.status_code == 204, answer.text
        assert await can_claim(sessions, settings)

    @pytest.mark.parametrize("what", ["pause", "resume"])
    async def test_know_no_offer_that_does_not_exist(
        self, client: httpx.AsyncClient, operator: Bearer, what: str
    ) -> None:
        body = {"offer_id": str(new_id())}
        answer = await client.post(f"/v1/replies/{what}", headers=operator, json=body)
        assert answer.status_code == 404

    async def test_a_misspelt_scope_does_not_pause_everything(
        self, client: httpx.AsyncClient, operator: Bearer, sessions: Sessions, settings: Settings
    ) -> None:
        await queue(sessions, reply())
        body = {"offer": str(new_id())}
        answer = await client.post("/v1/replies/pause", headers=operator, json=body)
        assert answer.status_code == 422
        assert await can_claim(sessions, settings)

    @pytest.mark.parametrize("role", ["issuer", "processor", "analyst"])
    async def test_are_the_operators(
        self, client: httpx.AsyncClient, make_key: MakeKey, role: str
    ) -> None:
        bearer = {"authorization": f"Bearer {await make_key(role)}"}
        for what in ("pause", "resume"):
            answer = await client.post(f"/v1/replies/{what}", headers=bearer)
            assert answer.status_code == 403
        assert (await client.get("/v1/replies", headers=bearer)).status_code == 403
        assert (await client.get("/v1/replies")).status_code == 401


class TestList:
    async def test_pages_through_all_replies_in_order(
        self, client: httpx.AsyncClient, operator: Bearer, sessions: Sessions
    ) -> None:
        queued = [reply() for _ in range(5)]
        await queue(sessions, *queued)
        seen: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/v1/replies", headers=operator, params=query)).json()
            seen += page["items"]
            cursor = page["next_cursor"]
        assert [one["id"] for one in seen] == sorted(str(one.id) for one in queued)
        first = next(one for one in queued if str(one.id) == seen[0]["id"])
        assert seen[0]["in_reply_to_id"] == first.post_id
        assert seen[0]["text"] == first.text

    async def test_can_be_of_one_state(
        self, client: httpx.AsyncClient, operator: Bearer, sessions: Sessions
    ) -> None:
        done = reply(state="sent")
        await queue(sessions, reply(), done)
        query = {"state": "sent"}
        page = (await client.get("/v1/replies", headers=operator, params=query)).json()
        assert [UUID(one["id"]) for one in page["items"]] == [done.id]
        wrong = await client.get("/v1/replies", headers=operator, params={"state": "lost"})
        assert wrong.status_code == 422


class TestCommandLine:
    async def tagback(self, settings: Settings, *arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from app.cli import main; main()",
            "replies",
            *arguments,
            env={**os.environ, "TAGBACK_DATABASE_URL": str(settings.database_url)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def test_pauses_shows_and_resumes(self, settings: Settings, sessions: Sessions) -> None:
        assert await self.tagback(settings, "status") == (0, "no replies yet\n", "")
        await queue(sessions, reply(at=clock.now()), reply(at=clock.now(), kind="refusal"))
        code, out, _ = await self.tagback(settings, "pause")
        assert (code, out) == (0, "paused all replies; 2 in all wait to be sent\n")
        _, shown, _ = await self.tagback(settings, "status")
        assert "confirmations: 1 queued\nrefusals: 1 queued\npaused since " in shown
        code, out, _ = await self.tagback(settings, "resume")
        assert (code, out) == (0, "resumed all replies; 2 in all wait to be sent\n")
        async with sessions() as session:
            actors = await session.scalars(text("SELECT actor FROM audit_entries"))
            assert list(actors) == ["command line", "command line"]

    async def test_says_so_when_there_is_no_such_offer(self, settings: Settings) -> None:
        code, out, err = await self.tagback(settings, "pause", "--offer", str(new_id()))
        assert (code, out) == (1, "")
        assert err.startswith("tagback: ")
        assert err.count("\n") == 1
