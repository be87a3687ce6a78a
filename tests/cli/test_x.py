"""`tagback x`, as an operator types it, against the stand-in."""

import asyncio
import json
import socket
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from pydantic import AnyHttpUrl, SecretStr
from sqlalchemy import text
from typer.testing import CliRunner

from app.cli import make_app
from app.cli.x_status import Line, look
from app.config import Settings
from app.kit.clock import now
from app.kit.db import Sessions
from app.kit.ids import new_id
from app.kit.sealing import new_key
from app.networks import lease_queries
from app.networks.x.activity import Activity, wanted_subscriptions
from app.networks.x.calls import open_app
from app.posts.listening import LEASE
from app.replies import sending
from tests.between import Fault, standing_between
from tests.signing_in import account_row, allow, connect_at, connectable
from tests.stand_in import PROGRAMME, StandIn, StartX
from tests.support import Tagback

Variables = dict[str, str]


def variables_of(x: StandIn, **more: str) -> Variables:
    """What an operator has set for that X."""
    settings = connectable(x)
    assert settings.secret_keys is not None
    return {
        "TAGBACK_X_BASE_URL": str(settings.x_base_url),
        "TAGBACK_X_CLIENT_ID": "sandbox-client-id",
        "TAGBACK_X_CLIENT_SECRET": "sandbox-client-secret",
        "TAGBACK_SECRET_KEYS": settings.secret_keys.get_secret_value(),
        **more,
    }


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


class TestHelp:
    @pytest.mark.parametrize("command", ["connect", "disconnect", "status", "cost", "new-key"])
    def test_teaches_by_example(self, command: str) -> None:
        ran = CliRunner().invoke(make_app("x"), ["x", command, "--help"])
        assert f"tagback x {command}" in ran.output.split("Example")[1]


class TestNewKey:
    async def test_is_one_that_seals(self, tagback: Tagback) -> None:
        ran = await tagback("x", "new-key")
        Fernet(ran.out.strip())


class TestConnect:
    async def test_waits_for_the_browser_to_come_back(
        self,
        start_x: StartX,
        sessions: Sessions,
        tagback_path: Path,
        environment: Variables,
        tmp_path: Path,
    ) -> None:
        x, port = await start_x(), free_port()
        process = await asyncio.create_subprocess_exec(
            tagback_path,
            *("x", "connect", "--port", port),
            cwd=tmp_path,
            env={**environment, **variables_of(x), "PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode().strip() for _ in range(5)]
        assert lines[-1].startswith("Waiting")
        async with httpx.AsyncClient() as browser:
            stray = f"http://127.0.0.1:{port}/callback?state=another&code=1"
            assert (await browser.get(stray)).status_code == 400
            back = await allow(x, lines[2])
            answer = await browser.get(back)
            assert answer.status_code == 200
            assert "Thank you" in answer.text
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert out.decode() == (
            "connected @TagbackDemo (1000000000000000001)\n"
            "it posts, answers messages and stays signed in\n"
        )
        kept = await account_row(sessions)
        assert (kept["account_id"], kept["handle"]) == ("1000000000000000001", "TagbackDemo")

    async def test_takes_the_address_that_is_pasted(
        self, start_x: StartX, tagback_path: Path, environment: Variables, tmp_path: Path
    ) -> None:
        x = await start_x()
        for decision, status in (("allow", 0), ("decline", 1)):
            process = await asyncio.create_subprocess_exec(
                tagback_path,
                *("x", "connect", "--paste"),
                cwd=tmp_path,
                env={**environment, **variables_of(x), "PYTHONUNBUFFERED": "1"},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            lines = [(await process.stdout.readline()).decode().strip() for _ in range(5)]
            back = await allow(x, lines[2], decision=decision)
            _, err = await process.communicate(f"{back}\n".encode())
            assert process.returncode == status, err
        assert err.decode() == "tagback: X gave no access: access_denied\n"

    async def test_refuses_what_another_sign_in_ended_at(
        self, start_x: StartX, tagback: Tagback
    ) -> None:
        x = await start_x()
        stray = b"http://127.0.0.1:8723/callback?state=another&code=1\n"
        ran = await tagback("x", "connect", "--paste", given=stray, **variables_of(x))
        assert (ran.status, ran.err) == (
            1,
            "tagback: that is not the address that this sign-in ended at\n",
        )

    async def test_says_what_is_not_set(self, tagback: Tagback) -> None:
        ran = await tagback("x", "connect")
        assert (ran.status, len(ran.err.splitlines())) == (1, 1)
        assert "TAGBACK_SECRET_KEYS" in ran.err


class TestDisconnect:
    async def test_gives_the_access_back(
        self, start_x: StartX, sessions: Sessions, tagback: Tagback
    ) -> None:
        x = await start_x()
        settings = await connect_at(x, sessions)
        assert settings.secret_keys is not None
        variables = variables_of(x, TAGBACK_SECRET_KEYS=settings.secret_keys.get_secret_value())
        ran = await tagback("x", "disconnect", **variables)
        assert (ran.status, ran.out) == (0, "disconnected @TagbackDemo\n")
        async with sessions() as session:
            assert await session.scalar(text("SELECT count(*) FROM network_accounts")) == 0
        ran = await tagback("x", "disconnect", **variables)
        assert ran.out == "no account was connected\n"

    async def test_says_when_x_was_not_told(
        self, start_x: StartX, sessions: Sessions, tagback: Tagback
    ) -> None:
        x = await start_x()
        await connect_at(x, sessions)
        ran = await tagback("x", "disconnect", **variables_of(x))
        assert "end it at x.com" in ran.out


class TestStatus:
    async def look(self, sessions: Sessions, settings: Settings, **more: Any) -> dict[str, Line]:
        lines = await look(sessions, settings.model_copy(update=more))
        return {line.name: line for line in lines}

    async def test_of_nothing_says_what_to_set(self, tagback: Tagback) -> None:
        ran = await tagback("x", "status")
        assert ran.status == 0
        states = [line.split("  ")[0] for line in ran.out.splitlines() if not line.startswith(" ")]
        assert set(states) == {"not set up"}
        assert "TAGBACK_X_CLIENT_ID" in ran.out
        assert "TAGBACK_X_APP_TOKEN" in ran.out

    async def test_of_what_works(self, start_x: StartX, sessions: Sessions) -> None:
        settings = await connect_at(await start_x(), sessions)
        lines = await self.look(
            sessions,
            settings,
            x_app_token=SecretStr("app"),
            x_monthly_ceiling_usd=Decimal(50),
            x_mentions_by="off",
        )
        assert lines["account"].told == "@TagbackDemo (1000000000000000001)"
        assert lines["money"].told.startswith("$0.01 in ")
        assert {line.name for line in lines.values() if line.state == "ok"} == {
            "account",
            "scopes",
            "token",
            "connections",
            "money",
        }

    @pytest.mark.parametrize(
        "given",
        [
            {
                "public_url": AnyHttpUrl("https://tagback.example"),
                "x_consumer_secret": SecretStr("s"),
                "x_mentions_by": "stream",
            },
            {"public_url": AnyHttpUrl("https://tagback.example"), "x_consumer_secret": None},
        ],
    )
    async def test_wants_a_webhook_where_the_listener_does(
        self, start_x: StartX, sessions: Sessions, given: dict[str, Any]
    ) -> None:
        x = await start_x()
        settings = await connect_at(x, sessions)
        wanted = wanted_subscriptions(PROGRAMME, [], webhook_id=None, mentions=True)
        told = {**given, "x_app_token": SecretStr("app")}
        async with open_app(settings.model_copy(update=told)) as client:
            await Activity(client).reconcile(wanted)
        async with sessions.begin() as session:
            await lease_queries.take(session, name=LEASE, holder=new_id(), seconds=60)
        lines = await self.look(sessions, settings, **told)
        assert lines["webhook"].told == "X tells by stream"
        assert lines["listener"].told == "one process listens"
        assert [line for line in lines.values() if line.state == "not ok"] == []

    async def test_notices_that_nobody_listens(self, start_x: StartX, sessions: Sessions) -> None:
        settings = await connect_at(await start_x(), sessions)
        async with sessions.begin() as session:  # of a process that was killed a while ago
            await lease_queries.take(session, name=LEASE, holder=new_id(), seconds=-1)
        line = (await self.look(sessions, settings, x_app_token=SecretStr("app")))["listener"]
        assert (line.state, line.todo) == ("not ok", "tagback serve --roles listener")

    async def test_names_what_a_webhook_needs(self, start_x: StartX, sessions: Sessions) -> None:
        settings = await connect_at(await start_x(), sessions)
        told = {"x_app_token": SecretStr("app"), "x_mentions_by": "webhook"}
        line = (await self.look(sessions, settings, **told))["webhook"]
        assert line.state == "not ok"
        assert "TAGBACK_PUBLIC_URL" in line.told

    async def test_finds_the_mentions_on_a_later_page(
        self, settings: Settings, sessions: Sessions
    ) -> None:
        async with standing_between(settings) as (x, between):
            settings = await connect_at(x, sessions, x_app_token=SecretStr("app"))
            async with open_app(settings) as client:
                wanted = wanted_subscriptions(PROGRAMME, [], webhook_id=None, mentions=True)
                await Activity(client).reconcile(wanted)
            one = {
                "subscription_id": "1",
                "event_type": "post.delete",
                "filter": {"user_id": "1"},
            }
            first = Fault(200, {"data": [one], "meta": {"next_token": "more"}})
            between.faults["GET /2/activity/subscriptions"] = [first]
            line = (await self.look(sessions, settings))["subscriptions"]
        assert line.told == "3, of this account: dm.received, post.mention.create"

    async def test_of_what_does_not_is_an_exit_status(
        self, start_x: StartX, sessions: Sessions, tagback: Tagback
    ) -> None:
        x = await start_x()
        settings = await connect_at(x, sessions, "tweet.read", "users.read")
        assert settings.secret_keys is not None
        variables = variables_of(
            x,
            TAGBACK_SECRET_KEYS=settings.secret_keys.get_secret_value(),
            TAGBACK_X_APP_TOKEN="app",
            TAGBACK_X_CONSUMER_SECRET="secret",
            TAGBACK_PUBLIC_URL="https://tagback.example",
            TAGBACK_X_HASHTAG_STREAM="true",
            TAGBACK_X_MONTHLY_CEILING_USD="0",
        )
        ran = await tagback("x", "status", "--json", **variables)
        assert (ran.status, ran.err) == (1, "")
        lines = {line["name"]: line for line in json.loads(ran.out)["lines"]}
        assert lines["account"]["state"] == "ok"
        assert "cannot post, cannot answer messages" in lines["scopes"]["told"]
        for name in ("scopes", "token", "subscriptions", "webhook", "rules", "listener", "money"):
            assert lines[name]["state"] == "not ok", lines[name]
            assert lines[name]["todo"]

    @pytest.mark.parametrize(
        ("wrong", "broken"),
        [
            (
                {"x_app_token": SecretStr("wrong")},
                {"subscriptions", "webhook", "rules", "connections"},
            ),
            ({"secret_keys": SecretStr(new_key())}, {"account", "subscriptions"}),
            ({"x_base_url": "http://127.0.0.1:9"}, {"account", "subscriptions", "connections"}),
        ],
    )
    async def test_names_what_is_wrong(
        self, start_x: StartX, sessions: Sessions, wrong: dict[str, Any], broken: set[str]
    ) -> None:
        settings = await connect_at(await start_x(), sessions)
        given = {"x_app_token": SecretStr("app"), **wrong}
        lines = await self.look(sessions, settings, **given)
        found = {line.name for line in lines.values() if line.state == "not ok"}
        assert broken <= found
        assert found <= broken | {"webhook", "rules", "listener"}

    async def test_of_sending_tells_why_nothing_is_sent(
        self, start_x: StartX, sessions: Sessions
    ) -> None:
        settings = (await start_x()).settings
        async with sessions.begin() as session:
            await sending.claim(
                session, network="x", channel="post", settings=settings, now=now(), most=1
            )
        assert (await self.look(sessions, settings))["posts"].told.startswith("100 more until ")
        async with sessions.begin() as session:
            await session.execute(text("UPDATE send_windows SET stopped_reason = 'no credits'"))
        lines = await self.look(sessions, settings)
        assert (lines["posts"].state, lines["posts"].told) == ("not ok", "stopped: no credits")
        assert lines["posts"].todo == "tagback replies resume"
