"""The routes by which a listener sets up and clears up: connections, subscriptions, replay."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from running_x import ACCOUNT, APP, Listen, Start, X

STREAM = "/2/activity/stream"
SUBSCRIPTIONS = "/2/activity/subscriptions"


async def connections(x: X, **params: str) -> Any:
    answer = await x.client.get("/2/connections", params=params, headers=APP)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def hang_up(x: X, path: str, **body: Any) -> Any:
    answer = await x.client.request("DELETE", path, headers=APP, json=body or None)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


class TestConnections:
    async def test_shown_while_they_last_and_after(self, start: Start) -> None:
        x = await start(clock=lambda: 1_800_000_000.0)
        await x.rules("#Tea")
        asked = {"connection.fields": "client_ip,disconnected_at,disconnect_reason"}
        async with (
            x.client.stream("GET", STREAM, headers=APP),
            x.client.stream("GET", "/2/tweets/search/stream", headers=APP),
        ):
            both = await connections(x)
            [one] = (await connections(x, endpoints="filtered_stream", **asked))["data"]
            first = await connections(x, max_results="1")
            second = await connections(x, pagination_token=first["meta"]["next_token"])
            assert [c["endpoint_name"] for c in both["data"]] == [
                "activity_stream",
                "filtered_stream",
            ]
            assert first["data"] + second["data"] == both["data"]
            assert one == {
                "id": both["data"][1]["id"],
                "endpoint_name": "filtered_stream",
                "connected_at": "2027-01-15T08:00:00.000Z",
                "client_ip": "127.0.0.1",
            }
            await hang_up(x, "/2/connections/all")
        assert await connections(x) == {"meta": {"result_count": 0}}
        ended = (await connections(x, status="inactive", **asked))["data"]
        assert {c["disconnect_reason"] for c in ended} == {"ForceDisconnect"}
        assert {c["disconnected_at"] for c in ended} == {"2027-01-15T08:00:00.000Z"}

    async def test_ended_by_id_or_by_endpoint(self, start: Start) -> None:
        x = await start()
        await x.rules("#Tea")
        async with (
            x.client.stream("GET", STREAM, headers=APP),
            x.client.stream("GET", "/2/tweets/search/stream", headers=APP),
        ):
            [first, _] = [c["id"] for c in (await connections(x))["data"]]
            assert await hang_up(x, "/2/connections", uuids=[first, "unknown"]) == {
                "successful_kills": 1,
                "failed_kills": 1,
                "results": [
                    {"uuid": first, "success": True},
                    {"uuid": "unknown", "success": False, "error_message": "Connection not found"},
                ],
            }
            [left] = (await connections(x))["data"]
            assert left["endpoint_name"] == "filtered_stream"
            assert (await hang_up(x, "/2/connections/sample_stream"))["results"] == []
            data = await hang_up(x, "/2/connections/filtered_stream")
            assert data["results"] == [{"uuid": left["id"], "success": True}]
        answer = await x.client.delete("/2/connections/no_stream", headers=APP)
        assert answer.status_code == 400


class TestSubscriptions:
    async def test_one_moves_from_the_stream_to_a_webhook(
        self, start: Start, listen: Listen
    ) -> None:
        x, receiver = await start(), await listen()
        await x.people("ann")
        webhook_id = (await x.register(receiver.url)).json()["data"]["id"]
        path = f"{SUBSCRIPTIONS}/{await x.subscribe()}"
        changed = await x.client.put(path, json={"webhook_id": webhook_id}, headers=APP)
        subscription = changed.json()["data"]["subscription"]
        assert (subscription["webhook_id"], subscription["tag"]) == (webhook_id, "ours")
        await x.post("1", "@TagbackDemo #Tea")
        assert (await x.events("webhook"))["delivered"] == 1
        for body, status in (({"webhook_id": "77"}, 400), ({"event_type": "post.delete"}, 400)):
            answer = await x.client.put(path, json=body, headers=APP)
            assert answer.status_code == status
        answer = await x.client.put(f"{SUBSCRIPTIONS}/77", json={"tag": "a"}, headers=APP)
        assert answer.status_code == 404

    async def test_many_are_deleted_at_once(self, start: Start) -> None:
        x = await start()
        kept = await x.subscribe()
        body = {"event_type": "post.delete", "filter": {"user_id": ACCOUNT}}
        made = await x.client.post(SUBSCRIPTIONS, json=body, headers=APP)
        gone = made.json()["data"]["subscription"]["subscription_id"]
        answer = await x.client.delete(SUBSCRIPTIONS, params={"ids": f"{gone},77"}, headers=APP)
        assert answer.json()["data"] == [
            {"subscription_id": gone, "deleted": True},
            {"subscription_id": "77", "deleted": False},
        ]
        assert answer.json()["meta"] == {"total_subscriptions": 1}
        assert [error["subscription_id"] for error in answer.json()["errors"]] == ["77"]
        listed = (await x.client.get(SUBSCRIPTIONS, headers=APP)).json()["data"]
        assert [one["subscription_id"] for one in listed] == [kept]
        assert (await x.client.delete(SUBSCRIPTIONS, headers=APP)).status_code == 400


class TestReplay:
    async def test_the_events_of_the_minutes_asked_for_come_again(
        self, start: Start, listen: Listen
    ) -> None:
        clock = [datetime(2027, 1, 1, 12, tzinfo=UTC).timestamp()]
        x, receiver = await start(clock=lambda: clock[0]), await listen()
        await x.people("ann")
        webhook_id = (await x.register(receiver.url)).json()["data"]["id"]
        await x.subscribe(webhook_id)
        made = []
        for _ in range(4):
            made.append(await x.post("1", "@TagbackDemo #Tea"))
            clock[0] += 60
        await x.events("webhook")
        receiver.received.clear()
        body = {"webhook_id": webhook_id, "from_date": "202701011201", "to_date": "202701011203"}
        answer = await x.client.post("/2/webhooks/replay", json=body, headers=APP)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"].keys() == {"job_id", "created_at"}
        await x.events("webhook")
        again = [json.loads(event)["data"]["event_uuid"] for _, event in receiver.received]
        assert sorted(again) == made[1:3]
        assert (await x.state())["usage"]["counts"] == {"post_read": 4}

    async def test_only_the_last_day_of_a_known_webhook(self, start: Start, listen: Listen) -> None:
        x, receiver = await start(), await listen()
        webhook_id = (await x.register(receiver.url)).json()["data"]["id"]
        now = datetime.now(UTC)

        def minute(**ago: int) -> str:
            return f"{now - timedelta(**ago):%Y%m%d%H%M}"

        right = {"webhook_id": webhook_id, "from_date": minute(hours=2), "to_date": minute()}
        for wrong in (
            {"webhook_id": "77"},
            {"from_date": minute(hours=25)},
            {"to_date": minute(hours=2)},
            {"from_date": "2027-01-01"},
            {"from_date": "202713011201"},
        ):
            answer = await x.client.post("/2/webhooks/replay", json={**right, **wrong}, headers=APP)
            assert answer.status_code == 400, wrong
        answer = await x.client.post("/2/webhooks/replay", json=right, headers=APP)
        assert answer.status_code == 200
