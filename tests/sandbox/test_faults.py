"""What goes wrong on demand, in the streams, at the webhook and in requests."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_x import ACCOUNT, APP, USER, Listen, Start, X

from app.sandbox.faults import Fault, parse_fault

STREAM = "/2/activity/stream"
RATE_HEADERS = ("x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset")


@pytest.fixture
async def x(start: Start) -> X:
    x = await start(profile="enterprise", search_delay_seconds=0)
    await x.people("ann")
    await x.subscribe()
    return x


async def arm(x: X, kind: str, on: str | None = None, **more: Any) -> None:
    fault = {"kind": kind, **({"on": on} if on else {}), **more}
    answer = await x.client.post("/sandbox/faults", json=fault)
    assert answer.status_code == 200, answer.text


async def fired(x: X) -> dict[str, int]:
    counts: dict[str, int] = (await x.state())["faults"]["fired"]
    return counts


async def events(answer: httpx.Response) -> AsyncIterator[str]:
    async for line in answer.aiter_lines():
        if line:
            said = json.loads(line)
            yield said["data"]["event_uuid"] if "data" in said else said["errors"][0]


async def post(x: X, count: int = 1) -> list[str]:
    return [await x.post("1", f"@TagbackDemo #Tea {n}") for n in range(count)]


class TestStream:
    async def test_a_dropped_connection_ends_in_the_middle_and_the_line_is_lost(self, x: X) -> None:
        await arm(x, "drop", "activity_stream", after=1)
        async with x.client.stream("GET", STREAM, headers=APP) as answer:
            heard = events(answer)
            [first] = await post(x)
            assert await anext(heard) == first
            await post(x)
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(heard)
        assert await fired(x) == {"drop": 1}
        assert (await x.state())["connections"]["activity_stream"] == 0
        async with x.client.stream("GET", STREAM, headers=APP) as answer:
            [later] = await post(x)
            assert await anext(events(answer)) == later

    async def test_a_stall_has_no_sign_of_life_either(self, start: Start) -> None:
        x = await start(keep_alive_seconds=0.02)
        await x.people("ann")
        await x.subscribe()
        await arm(x, "stall", seconds=0.5)
        loop = asyncio.get_running_loop()
        async with x.client.stream("GET", STREAM, headers=APP) as answer:
            chunks = answer.aiter_bytes()
            await anext(chunks)
            await post(x)
            since = loop.time()
            while (chunk := await anext(chunks)) == b"\r\n":
                since = loop.time()  # what was under way when the stall began
        assert b"event_uuid" in chunk
        assert loop.time() - since > 0.2
        assert await fired(x) == {"stall": 1}

    async def test_a_stalled_stream_can_be_stopped(self, x: X) -> None:
        await arm(x, "stall", seconds=3_600)
        async with asyncio.timeout(5), x.client.stream("GET", STREAM, headers=APP) as answer:
            await post(x)
            await x.client.delete("/2/connections/all", headers=APP)
            *_, error = [event async for event in events(answer)]
        assert error["disconnect_type"] == "ForceDisconnect"  # type: ignore[index]

    async def test_a_duplicate_comes_twice(self, x: X) -> None:
        await arm(x, "duplicate", times=2)
        async with x.client.stream("GET", STREAM, headers=APP) as answer:
            first, second, third = await post(x, 3)
            heard = events(answer)
            seen = [await anext(heard) for _ in range(5)]
        assert seen == [first, first, second, second, third]

    async def test_a_line_is_held_back_past_the_next_ones(self, x: X) -> None:
        await arm(x, "reorder", lines=2, seconds=60)
        async with x.client.stream("GET", STREAM, headers=APP) as answer:
            first, second, third = await post(x, 3)
            heard = events(answer)
            assert [await anext(heard) for _ in range(3)] == [second, third, first]

    async def test_but_not_for_ever(self, x: X) -> None:
        await arm(x, "reorder", lines=2, seconds=0.05)
        async with x.client.stream("GET", STREAM, headers=APP) as answer:
            [first] = await post(x)
            assert await anext(events(answer)) == first

    async def test_a_line_may_come_in_pieces(self, x: X) -> None:
        await arm(x, "split")
        async with x.client.stream("GET", STREAM, headers=APP) as answer:
            [post_id] = await post(x)
            read: list[bytes] = []
            async for chunk in answer.aiter_bytes():
                read.append(chunk)
                if chunk.endswith(b"\n"):
                    break
        assert max(map(len, read)) <= 7
        assert json.loads(b"".join(read))["data"]["event_uuid"] == post_id

    @pytest.mark.parametrize("disconnect_type", ["SlowReader", "InternalError"])
    async def test_x_may_hang_up_and_say_why(self, x: X, disconnect_type: str) -> None:
        await arm(x, "disconnect", disconnect_type=disconnect_type)
        async with x.client.stream("GET", STREAM, headers=APP) as answer:
            await post(x)
            [error] = [event async for event in events(answer)]
        assert error["disconnect_type"] == disconnect_type  # type: ignore[index]

    async def test_a_connection_may_be_refused(self, x: X) -> None:
        await arm(x, "unavailable", "GET /2/activity/stream")
        assert (await x.client.get(STREAM, headers=APP)).status_code == 503
        async with x.client.stream("GET", STREAM, headers=APP) as answer:
            assert answer.status_code == 200


class TestLoss:
    async def test_a_lost_post_is_found_by_looking_back_alone(self, x: X, listen: Listen) -> None:
        receiver = await listen()
        webhook_id = (await x.register(receiver.url)).json()["data"]["id"]
        await x.subscribe(webhook_id)
        await x.rules("#Tea")
        await arm(x, "lose")
        stream = "/2/tweets/search/stream"
        async with (
            x.client.stream("GET", stream, headers=APP) as filtered,
            x.client.stream("GET", STREAM, headers=APP) as activity,
        ):
            lost, heard = await post(x, 2)
            line = json.loads(await anext(filtered.aiter_lines()))
            assert line["data"]["id"] == heard
            assert await anext(events(activity)) == heard
        await x.events("webhook")
        assert [json.loads(b)["data"]["event_uuid"] for _, b in receiver.received] == [heard]
        found = await x.client.get(f"/2/users/{ACCOUNT}/mentions", headers=APP)
        assert [one["id"] for one in found.json()["data"]] == [heard, lost]
        assert await fired(x) == {"lose": 1}

    async def test_a_webhook_loses_repeats_and_mixes_up(self, start: Start, listen: Listen) -> None:
        x, receiver = await start(webhook_in_flight_max=1), await listen()
        await x.people("ann")
        await x.subscribe((await x.register(receiver.url)).json()["data"]["id"])
        await arm(x, "lose", "webhook")
        await arm(x, "duplicate", "webhook", after=1)
        await arm(x, "reorder", "webhook", after=2, lines=1, seconds=60)
        made = []
        for _ in range(5):
            made += await post(x)
            await x.events("webhook")
        _, second, third, fourth, fifth = made
        seen = [json.loads(body)["data"]["event_uuid"] for _, body in receiver.received]
        assert seen == [second, second, fourth, third, fifth]


class TestRequest:
    async def create(self, x: X) -> httpx.Response:
        return await x.create("Loaded")

    async def test_bodies_are_those_that_were_seen(self, x: X, shared: Path) -> None:
        observed = json.loads((shared / "x/samples/errors_observed.json").read_text())
        for kind, status, name in (
            ("credits_depleted", 402, "402_credits_depleted"),
            ("usage_capped", 429, "429_usage_capped"),
            ("client_forbidden", 403, "403_client_not_enrolled"),
            ("duplicate_content", 403, "403_duplicate_content"),
        ):
            seen = observed[name]["body"]
            await arm(x, kind, "POST /2/tweets")
            answer = await self.create(x)
            body = answer.json()
            assert answer.status_code == body["status"] == status
            assert body.keys() == {*seen.keys(), "status"}
            for field in ("type", "title", "reason"):
                assert body.get(field) == seen.get(field)
            assert answer.headers["x-rate-limit-limit"]
        assert (await self.create(x)).status_code == 201

    async def test_forbidden_in_other_words(self, x: X) -> None:
        for kind, words in (
            ("not_summoned", "you have not been mentioned"),
            ("not_summoned_reworded", "You can only reply to or quote posts"),
            ("dm_not_permitted", "You do not have permission to DM"),
            ("forbidden", "Forbidden"),
        ):
            await arm(x, kind)
            answer = await self.create(x)
            assert answer.status_code == 403
            assert words in answer.json()["detail"]

    async def test_too_many_requests_with_and_without_headers(self, x: X) -> None:
        for kind in ("rate_limited", "rate_limited_bare", "rate_limited_v1"):
            await arm(x, kind)
        with_headers, bare, old = [await self.create(x) for _ in range(3)]
        assert {answer.status_code for answer in (with_headers, bare, old)} == {429}
        assert with_headers.headers["x-rate-limit-remaining"] == "0"
        assert with_headers.json() == bare.json()
        assert not any(name in bare.headers for name in RATE_HEADERS)
        assert old.json() == {"errors": [{"code": 88, "message": "Rate limit exceeded"}]}

    async def test_nothing_is_done_before(self, x: X) -> None:
        for kind, status in (
            ("unauthorized", 401),
            ("internal_error", 500),
            ("bad_gateway", 502),
            ("unavailable", 503),
            ("over_capacity_v1", 503),
            ("gateway_timeout", 504),
        ):
            await arm(x, kind)
            assert (await self.create(x)).status_code == status
        assert (await x.state())["posts"] == 0

    async def test_all_is_done_before(self, x: X) -> None:
        for posts, (kind, status) in enumerate(
            (("bad_gateway_after", 502), ("gateway_timeout_after", 504)), start=1
        ):
            await arm(x, kind)
            assert (await x.create(f"Loaded {posts}")).status_code == status
            assert (await x.state())["posts"] == posts
            again = await x.create(f"Loaded {posts}")
            assert "duplicate content" in again.json()["detail"]

    async def test_a_connection_cut_leaves_it_open(self, x: X) -> None:
        for kind, posts in (("cut", 0), ("cut_after", 1)):
            await arm(x, kind, "POST /2/tweets")
            with pytest.raises(httpx.TransportError):
                await self.create(x)
            assert (await x.state())["posts"] == posts
        assert await fired(x) == {"cut": 1, "cut_after": 1}

    async def test_an_answer_may_be_slow(self, x: X) -> None:
        for kind, posts in (("slow", 0), ("slow_after", 1)):
            await arm(x, kind, "POST /2/tweets", seconds=30)
            with pytest.raises(httpx.ReadTimeout):
                await x.client.post("/2/tweets", json={"text": "a"}, headers=USER, timeout=0.3)
            assert (await x.state())["posts"] == posts

    async def test_only_where_it_is_meant(self, x: X) -> None:
        await arm(x, "unavailable", "GET /2/users/{user_id}/mentions")
        assert (await self.create(x)).status_code == 201
        path = f"/2/users/{ACCOUNT}/mentions"
        answers = [await x.client.get(path, headers=APP) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [503, 200]

    async def test_a_token_may_be_given_and_never_arrive(self, x: X) -> None:
        await arm(x, "cut_after", "POST /2/oauth2/revoke")
        form = {"token": "a", "client_id": "sandbox-client-id"}
        with pytest.raises(httpx.TransportError):
            await x.client.post("/2/oauth2/revoke", data=form)
        assert (await x.client.post("/2/oauth2/revoke", data=form)).status_code == 200


class TestArming:
    async def test_listed_and_cleared(self, x: X) -> None:
        faults = [{"kind": "drop"}, {"kind": "unavailable", "times": None, "after": 1}]
        armed = await x.client.post("/sandbox/faults", json=faults)
        first, second = armed.json()["ids"]
        statuses = [(await x.create(f"Post {n}")).status_code for n in range(3)]
        assert statuses == [201, 503, 503]
        listed = (await x.client.get("/sandbox/faults")).json()
        assert listed["fired"] == {"unavailable": 2}
        counts = {item["id"]: (item["seen"], item["fired"]) for item in listed["items"]}
        assert counts == {first: (0, 0), second: (3, 2)}
        assert (await x.client.delete(f"/sandbox/faults/{second}")).json() == {"cleared": 1}
        assert (await x.create("Post 3")).status_code == 201
        assert (await x.client.delete(f"/sandbox/faults/{second}")).status_code == 404
        assert (await x.client.delete("/sandbox/faults")).json() == {"cleared": 1}
        assert (await x.state())["faults"]["armed"] == 0

    async def test_by_chance_and_the_same_with_the_same_seed(self, start: Start) -> None:
        seen = []
        for seed in (7, 7, 8):
            fault = Fault(kind="unavailable", times=None, probability=0.5, seed=seed)
            x = await start(profile="enterprise", faults=(fault,))
            seen.append([(await x.create(f"Post {n}")).status_code for n in range(40)])
        assert seen[0] == seen[1] != seen[2]
        assert 5 < seen[0].count(503) < 35

    async def test_what_is_no_fault_is_refused(self, x: X) -> None:
        for fault in (
            {"kind": "earthquake"},
            {"kind": "drop", "on": "POST /2/tweets"},
            {"kind": "drop", "on": "webhook"},
            {"kind": "unavailable", "on": "GET /2/users/me/mentions"},
            {"kind": "drop", "times": 0},
            {"kind": "drop", "probability": 2},
            {"kind": "disconnect", "disconnect_type": "Boredom"},
            {"kind": "drop", "often": True},
        ):
            answer = await x.client.post("/sandbox/faults", json=fault)
            assert answer.status_code == 400, fault

    def test_as_the_command_line_has_it(self) -> None:
        assert parse_fault("drop") == Fault(kind="drop")
        written = "bad_gateway_after@POST /2/tweets, times=forever,probability=0.02,seed=3"
        assert parse_fault(written) == Fault(
            kind="bad_gateway_after", on="POST /2/tweets", times=None, probability=0.02, seed=3
        )
        for wrong in ("earthquake", "drop@webhook", "drop,3", "drop,times=often"):
            with pytest.raises(ValueError, match=wrong.partition(",")[0]):
                parse_fault(wrong)


class TestHosts:
    async def test_problems_are_under_either_host_or_both_by_turns(self, start: Start) -> None:
        expected = {
            "api.twitter.com": {"api.twitter.com"},
            "api.x.com": {"api.x.com"},
            "alternating": {"api.twitter.com", "api.x.com"},
        }
        for setting, hosts in expected.items():
            x = await start(problem_host=setting)
            answers = [await x.client.get("/2/users/77/tweets", headers=APP) for _ in range(2)]
            assert {httpx.URL(answer.json()["type"]).host for answer in answers} == hosts


class TestCompressedTime:
    async def test_a_window_may_be_short(self, start: Start) -> None:
        clock = [1_800_000_000.0]
        x = await start(clock=lambda: clock[0], window_seconds=3)
        answers = [await x.create(f"Post {n}") for n in range(101)]
        assert [answer.status_code for answer in answers[-2:]] == [201, 429]
        assert answers[0].headers["x-rate-limit-reset"] == "1800000003"
        assert answers[0].headers["x-app-limit-24hour-reset"] == str(1_800_000_000 + 96 * 3)
        clock[0] += 3
        assert (await x.create("Post 101")).status_code == 201
