"""`tagback import posts`, as a process of its own: each shape goes in, no line stops another."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from app.database import Database
from app.kit.db import Sessions
from tests.programme import make_members, make_offer

ALWAYS = {"starts_at": "2006-01-01T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"}


@pytest.fixture
def environment(database: Database, tmp_path: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("TAGBACK_")},
        "TAGBACK_DATABASE_URL": database.url,
        "TAGBACK_DATABASE_OWNER_URL": database.owner_url,
        "TAGBACK_DATA_DIR": str(tmp_path),
    }


def tagback(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def import_posts(file: Path, environment: dict[str, str]) -> dict[str, Any]:
    done = tagback("import", "posts", str(file), "--json", environment=environment)
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def rejects(file: Path) -> dict[int, str]:
    path = Path(f"{file}.rejects.ndjson")
    entries = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return {entry["line"]: entry["reason"] for entry in entries}


def stream_line(post_id: int, author: str = "77", tag: str = "tea") -> dict[str, Any]:
    return {
        "data": {
            "id": str(post_id),
            "author_id": author,
            "created_at": "2026-07-01T12:00:00.000Z",
            "text": f"#{tag}",
            "edit_history_tweet_ids": [str(post_id)],
            "entities": {"hashtags": [{"start": 0, "end": 1 + len(tag), "tag": tag}]},
        }
    }


class TestTheSamples:
    def test_posts_are_accepted_and_other_events_ignored(
        self, shared: Path, environment: dict[str, str], tmp_path: Path
    ) -> None:
        samples = shared / "x" / "samples"
        documents = json.loads((samples / "xaa_docs_event_payloads.json").read_text())
        events = list(documents.values())
        names = (
            "xaa_2026_post.mention.create",
            "xaa_2026_dm.received",
            "stream_2022_with_author_expansion",
            "stream_2022_hashtags_no_author",
        )
        events += [json.loads((samples / f"{name}.json").read_text()) for name in names]
        file = tmp_path / "samples.ndjson"
        file.write_text("".join(json.dumps(event) + "\n" for event in events))
        summary = import_posts(file, environment)
        is_post = [
            str(event["data"].get("event_type", "post.")).startswith("post.")
            and event["data"].get("event_type") != "post.delete"
            for event in events
        ]
        assert summary["read"] == len(events)
        # the documentation's bare envelope carries no post; the 2022 line without author is the one
        # that is rejected
        assert (summary["accepted"], summary["rejected"]) == (sum(is_post) - 2, 1)
        assert summary["ignored"] == len(events) - summary["accepted"] - 1
        (reason,) = rejects(file).values()
        assert "author" in reason


class TestBadLines:
    def test_are_named_with_their_reason_while_their_neighbours_are_taken(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        good = [json.dumps(stream_line(1_900_000_000_000_000_000 + n)).encode() for n in range(7)]
        long = stream_line(1_900_000_000_000_000_100)
        long["data"]["text"] = "x" * 5_000_000
        nul = stream_line(1_900_000_000_000_000_101, author="7")
        nul["data"]["text"] = "a\x00b"
        bad = [
            good[0][: len(good[0]) // 2],
            json.dumps(long).encode(),
            json.dumps(stream_line(1_900_000_000_000_000_102, tag="café"), ensure_ascii=False)
            .encode("latin-1"),
            json.dumps(nul).encode(),
            good[0].replace(b"#tea", b"\\ud800"),
            b"[1, 2]",
        ]  # fmt: skip
        lines = [line for pair in zip(good, bad, strict=False) for line in pair] + good[6:]
        file = tmp_path / "mixed.ndjson"
        file.write_bytes(b"\n".join(lines) + b"\n")
        summary = import_posts(file, environment)
        assert (summary["read"], summary["accepted"], summary["rejected"]) == (13, 7, 6)
        assert sorted(rejects(file)) == [2, 4, 6, 8, 10, 12]
        assert all(rejects(file).values())


async def test_a_post_can_be_explained(
    environment: dict[str, str], tmp_path: Path, sessions: Sessions
) -> None:
    await make_offer(sessions, "Tea", **ALWAYS)
    (author,) = await make_members(sessions, 1)
    file = tmp_path / "posts.ndjson"
    file.write_text(json.dumps(stream_line(1_900_000_000_000_000_001, author)))
    assert import_posts(file, environment)["outcomes"] == {"loaded": 1}
    shown = tagback("explain", "post", "1900000000000000001", environment=environment)
    assert shown.stdout.startswith("Done! ")
    assert "not_linked" in shown.stdout
    unknown = tagback("explain", "post", "5", environment=environment)
    assert "has not reached us" in " ".join(unknown.stdout.split())


POSTS = 12_000
MEMBERS = 1_500
CAP = 1_000


@pytest.fixture
def own_server() -> Iterator[dict[str, str]]:
    """A data folder of its own, whose server the test may kill; its durability is switched on."""
    folder = Path(tempfile.mkdtemp(prefix="tagback-kill-"))
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TAGBACK_")}
    yield {**plain, "TAGBACK_DATA_DIR": str(folder)}
    with suppress(FileNotFoundError, psutil.NoSuchProcess):  # the test may have killed it
        server = psutil.Process(postmaster(folder))
        server.send_signal(signal.SIGINT)
        server.wait(30)
    shutil.rmtree(folder)


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])


async def count(environment: dict[str, str], rows: str) -> int:
    connection = await asyncpg.connect(
        host=f"{environment['TAGBACK_DATA_DIR']}/postgres", user="postgres", database="tagback"
    )
    try:
        found: int = await connection.fetchval(f"SELECT count(*) FROM {rows}")
        return found
    finally:
        await connection.close()


class TestKilled:
    async def test_import_then_postgresql_and_again_loses_nothing_and_does_nothing_twice(
        self, own_server: dict[str, str], tmp_path: Path
    ) -> None:
        for kind, lines in (("offers", two_offers()), ("members", member_lines())):
            file = tmp_path / f"{kind}.ndjson"
            file.write_text("\n".join(map(json.dumps, lines)))
            done = tagback("import", kind, str(file), "--json", environment=own_server)
            assert json.loads(done.stdout.splitlines()[-1])["rejected"] == 0, done.stdout
        posts = tmp_path / "posts.ndjson"
        posts.write_text("\n".join(json.dumps(line) for line in post_lines()))

        importing = begin_import(posts, own_server)
        await posts_reach(own_server, 1_000)
        importing.kill()
        importing.communicate()
        assert await count(own_server, "posts") < POSTS

        importing = begin_import(posts, own_server)
        await posts_reach(own_server, 3_000)
        os.kill(postmaster(Path(own_server["TAGBACK_DATA_DIR"])), signal.SIGKILL)
        _, errors = importing.communicate(timeout=60)
        assert importing.returncode == 1
        assert errors.decode().count("\n") == 1, errors.decode()
        assert "the database does not answer" in errors.decode()

        assert import_posts(posts, own_server)["read"] == POSTS
        verified = tagback("ledger", "verify", environment=own_server)
        assert verified.returncode == 0, verified.stdout
        assert import_posts(posts, own_server)["outcomes"] == {"duplicate": POSTS}
        serving = begin_import(posts, own_server)  # holds the server for the counts
        await posts_reach(own_server, POSTS)
        assert await count(own_server, "coupons JOIN offers o ON o.id = offer_id "
                                       "WHERE o.ref = 'tea'") == MEMBERS  # fmt: skip
        assert await count(own_server, "coupons JOIN offers o ON o.id = offer_id "
                                       "WHERE o.ref = 'cake'") == CAP  # fmt: skip
        serving.kill()
        serving.communicate()


def two_offers() -> list[dict[str, Any]]:
    offer = {
        "partner": "cafe", "title": "An offer", "time_zone": "UTC", "currency": "USD",
        "reward": {"fixed_minor": 100}, **ALWAYS,
    }  # fmt: skip
    return [
        {**offer, "offer_ref": "tea", "hashtag": "tea"},
        {**offer, "offer_ref": "cake", "hashtag": "cake", "coupons_max": CAP},
    ]


def member_lines() -> list[dict[str, Any]]:
    return [
        {
            "member_ref": f"m{number}",
            "account": {"network": "x", "id": str(10_000 + number)},
            "card": {"card_ref": f"card-{number}"},
            "consented_at": "2026-01-01T00:00:00Z",
        }
        for number in range(MEMBERS)
    ]


def post_lines() -> Iterator[dict[str, Any]]:
    for number in range(POSTS):
        author = str(10_000 + number % MEMBERS)
        tag = ("tea", "cake")[number // MEMBERS % 2]
        yield stream_line(1_900_000_000_000_000_000 + number, author, tag)


def begin_import(file: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "app.cli", "import", "posts", str(file), "--batch", "200"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


async def posts_reach(environment: dict[str, str], number: int) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(OSError, asyncpg.PostgresError):  # while the server is only starting
                if await count(environment, "posts") >= number:
                    return
            await asyncio.sleep(0.02)
