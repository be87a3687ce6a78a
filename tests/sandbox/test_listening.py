import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from running_x import ACCOUNT, APP, SECRET, USER, Listen, Start, X, signed

AT_ONCE = (0.01, 0.01)


async def registered(x: X, url: str) -> str:
    answer = await x.register(url)
    assert answer.status_code == 200, answer.text
    webhook_id: str = answer.json()["data"]["id"]
    return webhook_id


def reason(answer: httpx.Response) -> str:
    """The name that X gives to a refusal, which stands in front of its message."""
    assert answer.status_code == 400, answer.text
    message: str = answer.json()["errors"][0]["message"]
    return message.partition(":")[0]


async def lines(answer: httpx.Response) -> AsyncIterator[Any]:
    """What a stream says, without its signs of life."""
    async for line in answer.aiter_lines():
        if line:
            yield json.loads(line)


class TestRegisteringAWebhook:
    async def test_it_must_know_the_secret(self, start: Start, listen: Listen) -> None:
        x, knows, does_not = await start(), await listen(), await listen(secret="another")
        assert reason(await x.register(does_not.url)) == "CrcValidationFailed"
        assert reason(await x.register("http://127.0.0.1:9/nobody")) == "CrcValidationFailed"
        answer = await x.register(knows.url)
        assert answer.status_code == 200
        webhook = answer.json()["data"]
        assert (webhook["url"], webhook["valid"]) == (knows.url, True)
        listed = await x.client.get("/2/webhooks", headers=APP)
        assert listed.json() == {"data": [webhook], "meta": {"result_count": 1}}

    async def test_http_and_a_port_are_for_this_machine_alone(self, start: Start) -> None:
        x = await start()
        for url in (
            "http://shop.example/x",
            "https://shop.example:8443/x",
            "http://10.0.0.1:8000/x",
            "ftp://127.0.0.1/x",
            "http://127.0.0.1:port/x",
            "/x",
        ):
            assert reason(await x.register(url)) == "UrlValidationFailed", url

    async def test_one_url_once_and_one_webhook_for_self_serve(
        self, start: Start, listen: Listen
    ) -> None:
        x, first, second = await start(), await listen(), await listen()
        webhook_id = await registered(x, first.url)
        assert reason(await x.register(first.url)) == "DuplicateUrlFailed"
        assert reason(await x.register(second.url)) == "WebhookLimitExceeded"
        await x.client.delete(f"/2/webhooks/{webhook_id}", headers=APP)
        assert (await x.register(second.url)).status_code == 200

    async def test_it_is_checked_again_on_demand(self, start: Start, listen: Listen) -> None:
        x, receiver = await start(), await listen()
        path = f"/2/webhooks/{await registered(x, receiver.url)}"
        assert (await x.client.put(path, headers=APP)).json() == {"data": {"valid": True}}
        receiver.secret = "rotated"
        assert reason(await x.client.put(path, headers=APP)) == "CrcValidationFailed"
        listed = await x.client.get("/2/webhooks", headers=APP)
        assert listed.json()["data"][0]["valid"] is False
        assert reason(await x.client.put("/2/webhooks/1", headers=APP)) == "WebhookIdInvalid"


class TestWebhookDelivery:
    async def test_a_mention_arrives_signed_in_the_recorded_shape(
        self, start: Start, listen: Listen, shared: Path
    ) -> None:
        x, receiver = await start(), await listen()
        await x.people("ann")
        await x.subscribe(await registered(x, receiver.url))
        post_id = await x.post("1", "@TagbackDemo #Café")
        assert (await x.events("webhook"))["delivered"] == 1
        [(signature, body)] = receiver.received
        assert signature == signed(SECRET, body)
        event = json.loads(body)["data"]
        recorded = json.loads((shared / "x/samples/xaa_2026_post.mention.create.json").read_text())
        assert event.keys() == recorded["data"].keys()
        assert event["payload"].keys() <= recorded["data"]["payload"].keys()
        assert event["filter"] == {"user_id": ACCOUNT}
        assert (event["event_type"], event["tag"]) == ("post.mention.create", "ours")
        assert event["payload"]["id"] == event["event_uuid"] == post_id
        assert [user["username"] for user in event["includes"]["users"]] == ["ann", "TagbackDemo"]
        assert event["includes"]["tweets"][0] == event["payload"]

    async def test_only_mentions_of_a_subscribed_account(
        self, start: Start, listen: Listen
    ) -> None:
        x, receiver = await start(), await listen()
        await x.people("ann", "bob")
        subscription_id = await x.subscribe(await registered(x, receiver.url))
        await x.post("1", "#Coffee")
        await x.post("1", "@bob #Coffee")
        heard = await x.post("1", "@tagbackdemo #Coffee")
        await x.events("webhook")
        await x.client.delete(f"/2/activity/subscriptions/{subscription_id}", headers=APP)
        await x.post("1", "@tagbackdemo #Tea")
        await x.events("webhook")
        assert [json.loads(body)["data"]["event_uuid"] for _, body in receiver.received] == [heard]

    async def test_the_same_post_again_is_the_same_event_again(
        self, start: Start, listen: Listen
    ) -> None:
        x, receiver = await start(), await listen()
        await x.people("ann")
        await x.subscribe(await registered(x, receiver.url))
        post_id = await x.post("1", "@TagbackDemo #Coffee")
        await x.events("webhook")
        await x.post("1", "another text", id=post_id)
        await x.events("webhook")
        first, second = receiver.received
        assert first == second

    async def test_it_is_tried_again_until_it_is_taken(self, start: Start, listen: Listen) -> None:
        x = await start(webhook_retries_after_seconds=AT_ONCE)
        receiver = await listen(statuses=[503, 404])
        await x.people("ann")
        await x.subscribe(await registered(x, receiver.url))
        await x.post("1", "@TagbackDemo #Coffee")
        events = await x.events("webhook")
        assert (events["delivered"], events["dropped"]) == (1, 0)
        assert len(receiver.received) == 3
        assert (await x.state())["usage"]["counts"] == {"post_read": 1}

    async def test_what_is_never_taken_is_dropped_and_shown(
        self, start: Start, listen: Listen
    ) -> None:
        x = await start(webhook_retries_after_seconds=AT_ONCE)
        receiver = await listen(statuses=[503, 503, 202])
        await x.people("ann")
        webhook_id = await registered(x, receiver.url)
        await x.subscribe(webhook_id)
        post_id = await x.post("1", "@TagbackDemo #Coffee")
        events = await x.events("webhook")
        assert (events["delivered"], events["dropped"]) == (0, 1)
        state = await x.state()
        assert state["dropped_last"] == [
            {"event_uuid": post_id, "webhook_id": webhook_id, "reason": "status 202"}
        ]
        assert state["usage"]["counts"] == {}

    async def test_a_receiver_too_slow_or_gone_is_no_answer(
        self, start: Start, listen: Listen
    ) -> None:
        x = await start(webhook_retries_after_seconds=(), webhook_timeout_seconds=0.2)
        receiver = await listen()
        await x.people("ann")
        await x.subscribe(await registered(x, receiver.url))
        receiver.delay_seconds = 1.0
        await x.post("1", "@TagbackDemo #Coffee")
        assert (await x.events("webhook"))["dropped"] == 1
        assert (await x.state())["dropped_last"][0]["reason"] == "no answer within 0.2 s"

    async def test_many_are_under_way_at_once_within_the_bound(
        self, start: Start, listen: Listen
    ) -> None:
        x = await start(webhook_in_flight_max=4)
        receiver = await listen(delay_seconds=0.02)
        await x.people("ann")
        await x.subscribe(await registered(x, receiver.url))
        posts = [{"author_id": "1", "text": f"@TagbackDemo #Coffee {n}"} for n in range(40)]
        body = "\n".join(json.dumps(post) for post in posts)
        await x.client.post("/sandbox/posts", content=body)
        assert (await x.events("webhook"))["delivered"] == 40
        assert receiver.in_flight_max == 4


class TestSubscriptions:
    async def test_listed_and_deleted(self, start: Start) -> None:
        x = await start()
        subscription_id = await x.subscribe()
        listed = (await x.client.get("/2/activity/subscriptions", headers=USER)).json()
        assert [s["subscription_id"] for s in listed["data"]] == [subscription_id]
        path = f"/2/activity/subscriptions/{subscription_id}"
        deleted = await x.client.delete(path, headers=APP)
        assert deleted.json()["data"] == {"deleted": True}
        assert (await x.client.delete(path, headers=APP)).status_code == 404

    async def test_the_same_events_twice_are_refused(self, start: Start) -> None:
        x = await start()
        await x.subscribe()
        again = {"event_type": "post.mention.create", "filter": {"user_id": ACCOUNT}}
        answer = await x.client.post("/2/activity/subscriptions", json=again, headers=APP)
        assert reason(answer) == "DuplicateSubscriptionFailed"

    async def test_an_event_that_x_does_not_have_is_refused(self, start: Start) -> None:
        x = await start()
        wrong = {"event_type": "post.mentions.create", "filter": {"user_id": ACCOUNT}}
        answer = await x.client.post("/2/activity/subscriptions", json=wrong, headers=APP)
        assert answer.status_code == 400


class TestActivityStream:
    path = "/2/activity/stream"

    async def test_a_line_for_each_mention(self, start: Start) -> None:
        x = await start()
        await x.people("ann")
        await x.subscribe()
        async with x.client.stream("GET", self.path, headers=APP) as answer:
            assert answer.headers["x-rate-limit-remaining"] == "449"
            await x.post("1", "#Coffee")
            post_id = await x.post("1", "@TagbackDemo\r\n#Coffee")
            event = await anext(lines(answer))
        assert event["data"]["event_uuid"] == post_id
        assert event["data"]["payload"]["text"] == "@TagbackDemo\r\n#Coffee"
        assert (await x.state())["usage"]["counts"] == {"post_read": 1}

    async def test_lines_end_in_cr_lf_and_silence_is_broken(self, start: Start) -> None:
        x = await start(keep_alive_seconds=0.05)
        await x.people("ann")
        await x.subscribe()
        read = b""
        async with asyncio.timeout(5), x.client.stream("GET", self.path, headers=APP) as answer:
            chunks = answer.aiter_bytes()
            while read != b"\r\n" * 3:
                read += await anext(chunks)
            await x.post("1", "@TagbackDemo #Coffee")
            line = await anext(chunks)
        assert line.endswith(b"}\r\n")
        assert line.count(b"\n") == 1

    async def test_an_object_may_be_split_over_chunks(self, start: Start) -> None:
        x = await start(stream_chunk_bytes=7)
        await x.people("ann")
        await x.subscribe()
        read = b""
        async with asyncio.timeout(5), x.client.stream("GET", self.path, headers=APP) as answer:
            chunks = answer.aiter_bytes()
            post_id = await x.post("1", "@TagbackDemo #Coffee")
            while not read.endswith(b"\r\n"):
                chunk = await anext(chunks)
                assert len(chunk) <= 7
                read += chunk
        assert json.loads(read)["data"]["event_uuid"] == post_id

    async def test_a_third_connection_is_one_too_many(self, start: Start, shared: Path) -> None:
        x = await start()
        observed = json.loads((shared / "x/samples/errors_observed.json").read_text())
        async with (
            x.client.stream("GET", self.path, headers=APP),
            x.client.stream("GET", self.path, headers=APP),
        ):
            third = await x.client.get(self.path, headers=APP)
        assert third.status_code == 429
        body = third.json()
        assert body.pop("status") == 429
        assert body == observed["429_too_many_connections"]["body"]

    async def test_a_reader_that_leaves_frees_its_place(self, start: Start) -> None:
        x = await start()
        for _ in range(5):
            async with x.client.stream("GET", self.path, headers=APP) as answer:
                assert answer.status_code == 200
            async with asyncio.timeout(5):
                while (await x.state())["connections"]["activity_stream"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    async def test_all_connections_can_be_ended(self, start: Start, shared: Path) -> None:
        x = await start()
        observed = json.loads((shared / "x/samples/errors_observed.json").read_text())
        async with x.client.stream("GET", self.path, headers=APP) as answer:
            ended = await x.client.delete("/2/connections/all", headers=APP)
            said = [line async for line in lines(answer)]
        data = ended.json()["data"]
        assert (data["successful_kills"], data["failed_kills"]) == (1, 0)
        [error] = said[0]["errors"]
        assert error.pop("disconnect_type") == "ForceDisconnect"
        [like] = observed["in_stream_operational_disconnect"]["body"]["errors"]
        assert error == {name: like[name] for name in like if name != "disconnect_type"}

    async def test_a_reader_that_does_not_read_is_cut_off(self, start: Start) -> None:
        x = await start(slow_reader_seconds=0.1, queue_events_max=2)
        await x.people("ann")
        await x.subscribe()
        posts = [
            {"author_id": "1", "text": "@TagbackDemo #Coffee", "long_text": f"{n} " + "x" * 50_000}
            for n in range(300)
        ]
        body = "\n".join(json.dumps(post) for post in posts)
        async with x.client.stream("GET", self.path, headers=APP):
            await x.client.post("/sandbox/posts", content=body)
            state = await x.state()
        assert state["connections"]["activity_stream"] == 0
        events = state["events"]["activity_stream"]
        assert events["dropped"] >= 2
        assert events["unheard"] > 0

    async def test_an_event_that_nobody_hears_is_lost(self, start: Start) -> None:
        x = await start()
        await x.people("ann")
        await x.subscribe()
        await x.post("1", "@TagbackDemo #Coffee")
        async with x.client.stream("GET", self.path, headers=APP) as answer:
            later = await x.post("1", "@TagbackDemo #Tea")
            assert (await anext(lines(answer)))["data"]["event_uuid"] == later
        events = (await x.state())["events"]["activity_stream"]
        assert (events["delivered"], events["unheard"]) == (1, 1)


class TestFilteredStream:
    path = "/2/tweets/search/stream"

    async def test_posts_with_no_more_fields_than_asked_for(self, start: Start) -> None:
        x = await start(profile="enterprise")
        await x.people("ann")
        [rule_id] = await x.rules("#Coffee")
        asked = {
            "tweet.fields": "author_id,entities,referenced_tweets",
            "user.fields": "created_at",
            "expansions": "author_id,referenced_tweets.id",
        }
        async with (
            x.client.stream("GET", self.path, headers=APP) as bare,
            x.client.stream("GET", self.path, headers=APP, params=asked) as full,
        ):
            first = await x.post("1", "I like #Coffee")
            await x.post("1", "#Coffee", quote_of=first)
            bare_lines, full_lines = lines(bare), lines(full)
            assert await anext(bare_lines) == {
                "data": {
                    "id": first,
                    "text": "I like #Coffee",
                    "edit_history_tweet_ids": [first],
                },
                "matching_rules": [{"id": rule_id, "tag": "#Coffee"}],
            }
            await anext(full_lines)
            line = await anext(full_lines)
        assert line["data"]["author_id"] == "1"
        assert line["data"]["entities"]["hashtags"] == [{"start": 0, "end": 7, "tag": "Coffee"}]
        assert line["data"]["referenced_tweets"] == [{"type": "quoted", "id": first}]
        assert "created_at" not in line["data"]
        assert [user.keys() for user in line["includes"]["users"]] == [
            {"id", "name", "username", "created_at"}
        ]
        assert [post["id"] for post in line["includes"]["tweets"]] == [first]

    async def test_self_serve_has_one_connection(self, start: Start) -> None:
        x = await start(profile="self_serve")
        await x.rules("#Coffee")
        async with x.client.stream("GET", self.path, headers=APP):
            second = await x.client.get(self.path, headers=APP)
        assert second.json()["connection_issue"] == "TooManyConnections"


class TestStopping:
    async def test_open_streams_end_with_a_word_of_it(self, start: Start) -> None:
        x = await start()
        stream = x.client.stream("GET", "/2/activity/stream", headers=APP)
        async with asyncio.timeout(5), stream as answer:
            x.server.should_exit = True
            said = [line async for line in lines(answer)]
        assert said[-1]["errors"][0]["disconnect_type"] == "OperationalDisconnect"
