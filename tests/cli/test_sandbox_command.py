"""`tagback sandbox`: what its flags and the service's variables tell the stand-in."""

import asyncio
import html
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args
from urllib.parse import parse_qs, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import OctKey

from app.sandbox.faults import PUSH_KINDS, REQUEST_KINDS, PushKind, RequestKind
from tests.support import Tagback

SECRET = "the secret of the issuer and of Tagback"


@asynccontextmanager
async def running(
    command: Path, *flags: str, folder: Path, variables: dict[str, str]
) -> AsyncIterator[httpx.AsyncClient]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TAGBACK_")}
    process = await asyncio.create_subprocess_exec(
        command, "sandbox", "--port", "0", *flags,
        cwd=folder, env={**kept, **variables}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    try:
        async with asyncio.timeout(30):
            said = (await process.stdout.readline()).decode()
        async with httpx.AsyncClient(base_url=said.split()[-1]) as client:
            yield client
    finally:
        process.terminate()
        await process.wait()


class TestFlags:
    async def test_the_stand_in_is_as_they_say(self, tagback_path: Path, tmp_path: Path) -> None:
        flags = (
            "--profile", "enterprise", "--problem-host", "api.x.com", "--window-seconds", "7",
            "--redirect-uri", "https://tagback.example/link/callback",
            "--fault", "unavailable@GET /2/users/me,times=forever", "--fault", "drop",
        )  # fmt: skip
        variables = {
            "TAGBACK_X_USER_TOKEN": "mine",
            "TAGBACK_X_CLIENT_ID": "my app",
            "TAGBACK_HANDOFF_SECRET": SECRET,
            "TAGBACK_PUBLIC_URL": "https://tagback.example",
        }
        async with running(tagback_path, *flags, folder=tmp_path, variables=variables) as x:
            state = (await x.get("/sandbox/state")).json()
            assert (state["profile"], state["faults"]["armed"]) == ("enterprise", 2)
            me = await x.get("/2/users/me", headers={"authorization": "Bearer mine"})
            assert me.status_code == 503
            headers = {"authorization": "Bearer mine"}
            nobody = await x.get("/2/users/77/tweets", headers=headers)
            assert nobody.json()["type"] == "https://api.x.com/2/problems/resource-not-found"
            assert int(nobody.headers["x-rate-limit-reset"]) - time.time() <= 7
            page = await x.get("/i/oauth2/authorize?client_id=my+app&redirect_uri=http://localhost")
            assert "client_id" not in page.text
            assert "redirect_uri" in page.text
            form = {"member_ref": "M1", "card_network": "visa", "last4": "4242"}
            made = (await x.post("/issuer", data=form)).text
            found = re.search(r'href="(https://tagback\.example/link\?[^"]+)"', made)
            assert found, made
            [token] = parse_qs(urlsplit(html.unescape(found[1])).query)["handoff"]
            key = OctKey.import_key(SECRET)
            assert jwt.decode(token, key, algorithms=["HS256"]).claims["sub"] == "M1"


class TestFaults:
    async def test_all_are_taught(self, tagback: Tagback) -> None:
        taught = await tagback("sandbox", "--fault", "list")
        assert taught.status == 0
        for kind in (*get_args(PushKind), *get_args(RequestKind)):
            assert f"  {kind} " in taught.out
        assert {*PUSH_KINDS, *REQUEST_KINDS} == {*get_args(PushKind), *get_args(RequestKind)}

    async def test_one_that_is_none_is_named(self, tagback: Tagback) -> None:
        ran = await tagback("sandbox", "--fault", "drop@POST /2/tweets")
        assert ran.status == 1
        assert "'drop@POST /2/tweets'" in ran.err
        assert "filtered_stream" in ran.err
