from pathlib import Path
from typing import Any

import pytest
from running_x import ACCOUNT, USER, Listen, X, running_x

from app.sandbox.main import SandboxSettings, create_sandbox


async def timeline(x: X) -> Any:
    fields = {"tweet.fields": "created_at,referenced_tweets,conversation_id"}
    answer = await x.client.get(f"/2/users/{ACCOUNT}/tweets", headers=USER, params=fields)
    return answer.json()


class TestRestart:
    async def test_it_shows_the_same_timeline(self, tmp_path: Path) -> None:
        data_file = tmp_path / "new folder" / "x.ndjson"
        async with running_x(data_file=data_file) as x:
            await x.people("ann")
            post_id = await x.post("1", "@TagbackDemo #Coffee")
            await x.create("Loaded", post_id)
            before = await timeline(x)
            page = (await x.client.get("/")).text
        async with running_x(data_file=data_file) as x:
            assert await timeline(x) == before
            assert (await x.client.get("/")).text == page
            assert (await x.create("Loaded", post_id)).json()["detail"].endswith("content.")
            later = (await x.create("Loaded again", post_id)).json()["data"]["id"]
        assert int(later) > int(before["meta"]["newest_id"])

    async def test_ids_rise_though_the_clock_went_back(self, tmp_path: Path) -> None:
        data_file = tmp_path / "x.ndjson"
        async with running_x(data_file=data_file, clock=lambda: 1_800_000_000.0) as x:
            before = (await x.create("one")).json()["data"]["id"]
        async with running_x(data_file=data_file, clock=lambda: 1_700_000_000.0) as x:
            after = (await x.create("two")).json()["data"]["id"]
        assert int(after) > int(before)

    async def test_webhooks_and_subscriptions_stay(self, tmp_path: Path, listen: Listen) -> None:
        receiver = await listen()
        data_file = tmp_path / "x.ndjson"
        async with running_x(data_file=data_file) as x:
            await x.people("ann")
            webhook = (await x.register(receiver.url)).json()["data"]
            await x.subscribe(webhook["id"])
        async with running_x(data_file=data_file) as x:
            await x.post("1", "@TagbackDemo #Coffee")
            assert (await x.events("webhook"))["delivered"] == 1


class TestCrash:
    async def test_a_torn_last_line_is_ignored_and_the_next_starts_clean(
        self, tmp_path: Path
    ) -> None:
        data_file = tmp_path / "x.ndjson"
        async with running_x(data_file=data_file) as x:
            for text in ("one", "two"):
                await x.create(text)
        data_file.write_bytes(data_file.read_bytes()[:-20])
        for number, text in enumerate(("three", "four"), start=2):
            async with running_x(data_file=data_file) as x:
                await x.create(text)
                assert (await timeline(x))["meta"]["result_count"] == number
        async with running_x(data_file=data_file) as x:
            texts = [post["text"] for post in (await timeline(x))["data"]]
        assert texts == ["four", "three", "one"]

    def test_a_bad_line_before_the_last_is_named(self, tmp_path: Path) -> None:
        data_file = tmp_path / "x.ndjson"
        data_file.write_text('{"post": 5}\n{}\n')
        with pytest.raises(ValueError, match=r"x\.ndjson, line 1"):
            create_sandbox(SandboxSettings(data_file=data_file))
