"""Direct messages both ways, and posts that are taken back."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_x import ACCOUNT, APP, USER, Listen, Start, X, running_x

SUBSCRIPTIONS = "/2/activity/subscriptions"


@pytest.fixture
async def x(start: Start) -> X:
    x = await start(search_delay_seconds=0)
    await x.people("ann", "bob")
    return x


async def subscribe(x: X, event_type: str, user_id: str, **more: str) -> None:
    body = {"event_type": event_type, "filter": {"user_id": user_id}, "tag": "ours", **more}
    answer = await x.client.post(SUBSCRIPTIONS, json=body, headers=APP)
    assert answer.status_code == 200, answer.text


async def write(x: X, sender_id: str, text: str = "stop") -> str:
    answer = await x.client.post("/sandbox/messages", json={"sender_id": sender_id, "text": text})
    assert answer.status_code == 200, answer.text
    message_id: str = answer.json()["id"]
    return message_id


async def send(x: X, recipient_id: str, text: str = "Done") -> httpx.Response:
    path = f"/2/dm_conversations/with/{recipient_id}/messages"
    return await x.client.post(path, json={"text": text}, headers=USER)


class TestReceiving:
    async def test_it_comes_in_the_recorded_shape(self, x: X, listen: Listen, shared: Path) -> None:
        receiver = await listen()
        webhook_id = (await x.register(receiver.url)).json()["data"]["id"]
        await subscribe(x, "dm.received", ACCOUNT, webhook_id=webhook_id)
        message_id = await write(x, "1")
        await x.events("webhook")
        [(_, body)] = receiver.received
        event = json.loads(body)["data"]
        recorded = json.loads((shared / "x/samples/xaa_2026_dm.received.json").read_text())["data"]
        assert event.keys() == recorded.keys()
        assert event["payload"].keys() == recorded["payload"].keys()
        [message] = event["payload"]["direct_message_events"]
        [known] = recorded["payload"]["direct_message_events"]
        assert message.keys() == known.keys()
        assert message["message_create"].keys() == known["message_create"].keys()
        assert message["id"] == message_id
        assert message["message_create"]["sender_id"] == "1"
        assert message["message_create"]["target"] == {"recipient_id": ACCOUNT}
        assert message["message_create"]["message_data"]["text"] == "stop"
        assert event["payload"]["users"]["1"]["data"]["username"] == "ann"
        assert (await x.state())["usage"]["counts"] == {}

    async def test_only_somebody_can_write(self, x: X) -> None:
        for body, status in (
            ({"sender_id": "77", "text": "stop"}, 404),
            ({"sender_id": "1", "text": ""}, 400),
            ({"sender_id": "1"}, 400),
        ):
            assert (await x.client.post("/sandbox/messages", json=body)).status_code == status


class TestSending:
    async def test_only_to_who_wrote_first(self, x: X) -> None:
        await write(x, "1")
        answer = await send(x, "1")
        assert answer.status_code == 201
        data = answer.json()["data"]
        assert data["dm_conversation_id"] == f"1-{ACCOUNT}"
        refused = await send(x, "2")
        assert refused.status_code == 403
        assert refused.json()["detail"] == (
            "You do not have permission to DM one or more participants."
        )
        assert (await send(x, "77")).status_code == 404
        listed = (await x.client.get("/sandbox/messages")).json()
        texts = [(one["sender_id"], one["recipient_id"], one["text"]) for one in listed["items"]]
        assert texts == [("1", ACCOUNT, "stop"), (ACCOUNT, "1", "Done")]
        first = (await x.client.get("/sandbox/messages", params={"limit": 1})).json()
        rest = await x.client.get("/sandbox/messages", params={"cursor": first["next_cursor"]})
        assert first["items"] + rest.json()["items"] == listed["items"]
        assert (await x.state())["usage"]["micro_usd"] == {"dm": 15_000}

    async def test_self_serve_sends_15_in_a_quarter_of_an_hour(self, start: Start) -> None:
        x = await start(profile="self_serve")
        await x.people("ann")
        await write(x, "1")
        answers = [await send(x, "1", f"Done {n}") for n in range(16)]
        assert [answer.status_code for answer in answers] == [201] * 15 + [429]
        assert answers[0].headers["x-app-limit-24hour-limit"] == "1440"

    async def test_a_wrong_text_is_an_invalid_request(self, x: X) -> None:
        await write(x, "1")
        path = "/2/dm_conversations/with/1/messages"
        for body in ({}, {"text": ""}, {"text": "a" * 10_001}, {"text": "a", "attachments": []}):
            answer = await x.client.post(path, json=body, headers=USER)
            assert answer.status_code == 400, body

    async def test_who_wrote_is_known_after_a_restart(self, tmp_path: Path) -> None:
        async with running_x(data_file=tmp_path / "x.ndjson") as x:
            await x.people("ann")
            await write(x, "1")
        async with running_x(data_file=tmp_path / "x.ndjson") as x:
            assert (await send(x, "1")).status_code == 201


class TestDeleting:
    async def test_who_subscribed_to_its_author_is_told(self, x: X) -> None:
        await subscribe(x, "post.delete", "1")
        mine, other = await x.post("1", "#Tea"), await x.post("2", "#Tea")
        async with x.client.stream("GET", "/2/activity/stream", headers=APP) as answer:
            for post_id in (other, mine):
                deleted = await x.client.delete(f"/sandbox/posts/{post_id}")
                assert deleted.status_code == 200
            event = json.loads(await anext(answer.aiter_lines()))["data"]
        assert event["payload"] == {"id": mine, "author_id": "1"}
        assert event["includes"]["users"][0]["data"]["username"] == "ann"
        assert (await x.client.delete(f"/sandbox/posts/{mine}")).status_code == 404

    async def test_it_is_gone_everywhere(self, x: X) -> None:
        post_id = await x.post("1", "@TagbackDemo #Tea")
        await x.client.delete(f"/sandbox/posts/{post_id}")
        for path in (
            f"/2/users/{ACCOUNT}/mentions",
            "/2/users/1/tweets",
            "/2/tweets/search/recent?query=%23Tea",
        ):
            found = (await x.client.get(path, headers=APP)).json()
            assert found == {"meta": {"result_count": 0}}, path
        assert "#Tea" not in (await x.client.get("/")).text.partition("<main>")[2]
        assert (await x.create("Loaded", post_id)).status_code == 403

    async def test_all_its_versions_go(self, x: X) -> None:
        first = await x.post("1", "#Te")
        second = await x.post("1", "#Tea", edit_of=first)
        await x.client.delete(f"/sandbox/posts/{second}")
        found = (await x.client.get(f"/2/tweets/{first}", headers=APP)).json()
        assert found.keys() == {"errors"}

    async def test_a_programme_deletes_its_own_posts_alone(self, x: X) -> None:
        theirs = await x.post("1", "@TagbackDemo #Tea")
        own = (await x.create("Loaded", theirs)).json()["data"]["id"]
        answers = [
            await x.client.delete(f"/2/tweets/{post_id}", headers=USER)
            for post_id in (own, own, theirs)
        ]
        assert [answer.status_code for answer in answers] == [200, 404, 403]
        assert answers[0].json() == {"data": {"deleted": True}}
        assert (await x.client.get("/sandbox/replies")).json()["items"] == []
        assert (await x.state())["replies"] == 0
        assert "Loaded" not in (await x.client.get("/")).text
        assert (await x.create("Loaded", theirs)).status_code == 201

    async def test_it_stays_gone_after_a_restart(self, tmp_path: Path) -> None:
        async with running_x(data_file=tmp_path / "x.ndjson") as x:
            await x.people("ann")
            gone, kept = await x.post("1", "one"), await x.post("1", "two")
            await x.client.delete(f"/sandbox/posts/{gone}")
        async with running_x(data_file=tmp_path / "x.ndjson") as x:
            found = (await x.client.get("/2/users/1/tweets", headers=APP)).json()
        assert [post["id"] for post in found["data"]] == [kept]


class TestLookingUp:
    async def test_one_or_many_by_id(self, x: X) -> None:
        first, second = await x.post("1", "#Tea"), await x.post("2", "#Coffee")

        async def get(path: str, **params: str) -> Any:
            params["expansions"] = "author_id"
            answer = await x.client.get(path, params=params, headers=APP)
            assert answer.status_code == 200, answer.text
            return answer.json()

        one = await get(f"/2/tweets/{first}")
        assert (one["data"]["id"], one["includes"]["users"][0]["username"]) == (first, "ann")
        many = await get("/2/tweets", ids=f"{second},77,{first}")
        assert [post["id"] for post in many["data"]] == [second, first]
        [missing] = many["errors"]
        assert (missing["resource_id"], missing["title"]) == ("77", "Not Found Error")
        assert (await x.state())["usage"]["counts"] == {"post_read": 2}
        assert (await x.client.get("/2/tweets?ids=a", headers=APP)).status_code == 400
