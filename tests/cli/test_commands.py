import asyncio
import re
import signal
import socket
import statistics
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from app.cli import make_app
from app.kit.db import Sessions
from app.partners import service as partners
from tests.support import Tagback


class TestHelp:
    async def test_comes_at_once(self, tagback: Tagback) -> None:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            ran = await tagback("--help")
            times.append(time.perf_counter() - started)
            assert ran.status == 0
            assert "import" in ran.out
        assert statistics.median(times) < 1.0  # half of that on a machine at rest

    @pytest.mark.parametrize(
        "command",
        [
            ["serve"],
            ["import"],
            ["keys", "create"],
            ["keys", "revoke"],
            ["db", "check"],
            ["ledger", "adjust"],
            ["offers", "dry-run"],
            ["ledger", "invoice"],
        ],
    )
    def test_teaches_by_example(self, command: list[str]) -> None:
        ran = CliRunner().invoke(make_app(command[0]), [*command, "--help"])
        assert f"Example: tagback {' '.join(command)}" in ran.output


class TestSettings:
    async def test_that_are_malformed_are_named_and_not_shown(self, tagback: Tagback) -> None:
        ran = await tagback("keys", "list", TAGBACK_PORT="s3cret", TAGBACK_POOL_SIZE="0")
        assert ran.status == 1
        assert len(ran.err.splitlines()) == 1
        assert "TAGBACK_PORT" in ran.err
        assert "TAGBACK_POOL_SIZE" in ran.err
        assert "s3cret" not in ran.err

    async def test_of_a_database_that_is_not_there_end_in_one_line(self, tagback: Tagback) -> None:
        gone = "postgresql://nobody@127.0.0.1:1/none"
        ran = await tagback(
            "keys", "list", TAGBACK_DATABASE_URL=gone, TAGBACK_DATABASE_OWNER_URL=gone
        )
        assert ran.status == 1
        assert len(ran.err.splitlines()) == 1


class TestKeys:
    async def test_are_created_listed_and_revoked(self, tagback: Tagback) -> None:
        made = await tagback("keys", "create", "--role", "operator", "--expires-days", "1")
        assert made.status == 0, made.err
        key = made.out.splitlines()[-1]
        assert re.fullmatch(r"tb_[A-Za-z0-9]{40}", key)
        listed = await tagback("keys", "list")
        assert key not in listed.out
        assert key[:8] in listed.out
        key_id = listed.out.split()[0]
        assert (await tagback("keys", "revoke", key_id)).status == 0
        assert "revoked" in (await tagback("keys", "list")).out

    async def test_of_a_partner_name_the_partner(
        self, tagback: Tagback, sessions: Sessions
    ) -> None:
        ran = await tagback("keys", "create", "--role", "partner", "--partner", "cafe")
        assert (ran.status, ran.err) == (1, "tagback: no partner cafe\n")
        async with sessions.begin() as session:
            await partners.ensure_partner(session, ref="cafe")
        ran = await tagback("keys", "create", "--role", "partner", "--partner", "cafe")
        assert ran.status == 0


class TestDb:
    async def test_tells_the_revision_and_upgrades_once(self, tagback: Tagback) -> None:
        assert "this release needs" in (await tagback("db", "status")).out
        assert "already" in (await tagback("db", "upgrade")).out

    async def test_check_needs_no_database_of_the_users(
        self, tagback: Tagback, environment: dict[str, str]
    ) -> None:
        del environment["TAGBACK_DATABASE_URL"]
        ran = await tagback("db", "check", TAGBACK_DATA_DIR="/nowhere/at/all")
        assert ran.status == 0, ran.err
        assert ran.out.splitlines()[-1] == "migrations and models agree"

    async def test_check_uses_the_configured_server_and_leaves_nothing(
        self, tagback: Tagback, server: Any
    ) -> None:
        url = server.url("postgres", "postgres")
        names = "SELECT datname FROM pg_database WHERE datname LIKE 'tagback_check%'"
        ran = await tagback("db", "check", TAGBACK_DATABASE_URL=url, TAGBACK_DATABASE_OWNER_URL=url)
        assert ran.status == 0, ran.err
        async with server.administration.connect() as connection:
            assert (await connection.exec_driver_sql(names)).all() == []

    async def test_check_says_when_the_login_may_not_create_a_database(
        self, tagback: Tagback
    ) -> None:
        ran = await tagback("db", "check")
        assert ran.status == 1
        assert "cannot create a database" in ran.err


class TestServe:
    async def test_answers_until_it_is_told_to_stop(
        self, tagback_path: Path, environment: dict[str, str], tmp_path: Path
    ) -> None:
        process = await asyncio.create_subprocess_exec(
            tagback_path,
            "serve",
            "--roles",
            "api",
            "--port",
            "0",
            env=environment,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        ready = (await process.stdout.readline()).decode()
        address = ready.split()[-1]
        async with httpx.AsyncClient(base_url=address) as client:
            assert (await client.get("/readyz")).is_success
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        assert time.monotonic() - started < 5

    async def test_says_that_the_port_is_taken(self, tagback: Tagback) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            ran = await tagback("serve", "--roles", "api", "--port", port)
        assert ran.status == 1
        assert len(ran.err.splitlines()) == 1
        assert port in ran.err

    async def test_lists_the_roles_to_whoever_asks_for_another(self, tagback: Tagback) -> None:
        ran = await tagback("serve", "--roles", "api,cook")
        assert ran.status == 1
        assert "'cook'" in ran.err
