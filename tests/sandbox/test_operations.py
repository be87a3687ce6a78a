"""Every operation of X that the stand-in serves and every one that our client uses, asked once and
held against X's documents.
"""

import ast
import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_x import ACCOUNT, APP, USER, Start, X, listening, running_x

from app.config import Settings
from app.networks.sender import Found, Sent
from app.networks.x import stream
from app.networks.x.client import open_sender
from app.networks.x.decode import XDecoder
from app.networks.x.oauth import ACCOUNT_SCOPES, open_sign_in
from app.sandbox.main import SandboxSettings, create_sandbox
from tests.observed import UNDOCUMENTED
from tests.openapi import Documents, documents
from tests.support import ROOT
from tests.watching import judge_events

EVERY_FIELD = {
    "tweet.fields": "author_id,conversation_id,created_at,display_text_range,edit_controls,"
    "edit_history_tweet_ids,entities,in_reply_to_user_id,lang,note_tweet,possibly_sensitive,"
    "public_metrics,referenced_tweets,reply_settings",
    "expansions": "author_id,entities.mentions.username,in_reply_to_user_id,referenced_tweets.id,"
    "referenced_tweets.id.author_id",
    "user.fields": "created_at,description,name,profile_image_url,protected,public_metrics,"
    "username,verified",
}


@pytest.fixture(scope="module")
def documented(shared: Path) -> Documents:
    found = documents()
    assert found
    return found


@dataclass
class Scene:
    """A stand-in with something of everything, and a caller like any other: nobody's tester."""

    x: X
    caller: httpx.AsyncClient
    post_id: str
    webhook_id: str
    receiver_url: str

    async def app(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.caller.request(method, path, headers=APP, **more)

    async def user(self, method: str, path: str, **more: Any) -> httpx.Response:
        return await self.caller.request(method, path, headers=USER, **more)

    async def subscribed(self, user_id: str) -> str:
        """To another event of each person, for the same twice is refused."""
        body = {"event_type": "post.delete", "filter": {"user_id": user_id}}
        answer = await self.app("POST", "/2/activity/subscriptions", json=body)
        subscription_id: str = answer.json()["data"]["subscription"]["subscription_id"]
        return subscription_id


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    async with (
        listening() as receiver,
        running_x(profile="enterprise", search_delay_seconds=0.0) as x,
        httpx.AsyncClient(base_url=x.client.base_url) as caller,
    ):
        await x.people("ann", "bob")
        await x.rules("#Coffee")
        await x.subscribe()
        post_id = await x.post("1", "@TagbackDemo #Coffee")
        webhook_id = (await x.register(receiver.url)).json()["data"]["id"]
        yield Scene(x, caller, post_id, webhook_id, receiver.url)
    judge_events(body for _, body in receiver.received)


Ask = Callable[[Scene], Awaitable[httpx.Response]]


async def delete_post(scene: Scene) -> httpx.Response:
    made = (await scene.user("POST", "/2/tweets", json={"text": "Coffee for half"})).json()
    return await scene.user("DELETE", f"/2/tweets/{made['data']['id']}")


async def send_message(scene: Scene) -> httpx.Response:
    """To somebody who has written before."""
    await scene.x.client.post("/sandbox/messages", json={"sender_id": "1", "text": "hello"})
    path = "/2/dm_conversations/with/1/messages"
    return await scene.user("POST", path, json={"text": "You will hear nothing more."})


async def delete_rule(scene: Scene) -> httpx.Response:
    [rule_id] = await scene.x.rules("#Tea")
    body = {"delete": {"ids": [rule_id]}}
    return await scene.app("POST", "/2/tweets/search/stream/rules", json=body)


async def listen_to(scene: Scene, path: str, params: dict[str, str]) -> httpx.Response:
    """To posts with everything that posts have, and to the stream's end."""
    async with scene.caller.stream("GET", path, headers=APP, params=params) as answer:
        long_text = "word & " * 60 + "#Coffee @TagbackDemo"
        quoting = await scene.x.post("1", "", long_text=long_text, quote_of=scene.post_id)
        await scene.x.post("2", "@TagbackDemo @ann #Coffee", reply_to=quoting)
        await scene.x.client.delete("/2/connections/all", headers=APP)
        lines = [line async for line in answer.aiter_lines() if line]
    assert len(lines) == 3, lines
    return answer


async def change_subscription(scene: Scene) -> httpx.Response:
    path = f"/2/activity/subscriptions/{await scene.subscribed('11')}"
    return await scene.app("PUT", path, json={"webhook_id": scene.webhook_id})


async def delete_subscription(scene: Scene) -> httpx.Response:
    return await scene.app("DELETE", f"/2/activity/subscriptions/{await scene.subscribed('12')}")


async def delete_subscriptions(scene: Scene) -> httpx.Response:
    ids = {"ids": f"{await scene.subscribed('13')},404"}
    return await scene.app("DELETE", "/2/activity/subscriptions", params=ids)


async def delete_webhook(scene: Scene) -> httpx.Response:
    made = await scene.x.register(f"{scene.receiver_url}?gone")
    return await scene.app("DELETE", f"/2/webhooks/{made.json()['data']['id']}")


async def replay(scene: Scene) -> httpx.Response:
    now = datetime.now(UTC)
    body = {
        "webhook_id": scene.webhook_id,
        "from_date": f"{now - timedelta(hours=1):%Y%m%d%H%M}",
        "to_date": f"{now:%Y%m%d%H%M}",
    }
    return await scene.app("POST", "/2/webhooks/replay", json=body)


async def end_connection(scene: Scene) -> httpx.Response:
    async with scene.caller.stream("GET", "/2/activity/stream", headers=APP):
        [one] = (await scene.app("GET", "/2/connections")).json()["data"]
        return await scene.app("DELETE", "/2/connections", json={"uuids": [one["id"]]})


STREAM, ACTIVITY = "/2/tweets/search/stream", "/2/activity/subscriptions"
MENTIONS = {"event_type": "post.mention.create", "filter": {"user_id": ACCOUNT}}
OPERATIONS: dict[str, Ask] = {
    "POST /2/tweets": lambda s: s.user(
        "POST",
        "/2/tweets",
        json={"text": "Loaded", "reply": {"in_reply_to_tweet_id": s.post_id}},
    ),
    "GET /2/tweets": lambda s: s.app(
        "GET", "/2/tweets", params={"ids": f"{s.post_id},404", **EVERY_FIELD}
    ),
    "GET /2/tweets/{id}": lambda s: s.app("GET", f"/2/tweets/{s.post_id}", params=EVERY_FIELD),
    "DELETE /2/tweets/{id}": delete_post,
    "POST /2/dm_conversations/with/{participant_id}/messages": send_message,
    "GET /2/users/me": lambda s: s.user(
        "GET", "/2/users/me", params={"user.fields": EVERY_FIELD["user.fields"]}
    ),
    "GET /2/users/{id}/tweets": lambda s: s.app(
        "GET", "/2/users/1/tweets", params={"max_results": 5, **EVERY_FIELD}
    ),
    "GET /2/users/{id}/mentions": lambda s: s.app(
        "GET", f"/2/users/{ACCOUNT}/mentions", params={"max_results": 5, **EVERY_FIELD}
    ),
    "GET /2/tweets/search/recent": lambda s: s.app(
        "GET", "/2/tweets/search/recent", params={"query": "#Coffee", **EVERY_FIELD}
    ),
    "GET /2/tweets/search/stream": lambda s: listen_to(s, STREAM, EVERY_FIELD),
    "GET /2/tweets/search/stream/rules": lambda s: s.app("GET", f"{STREAM}/rules"),
    "GET /2/tweets/search/stream/rules/counts": lambda s: s.app("GET", f"{STREAM}/rules/counts"),
    "POST /2/tweets/search/stream/rules": delete_rule,
    "GET /2/activity/stream": lambda s: listen_to(s, "/2/activity/stream", {}),
    "GET /2/activity/subscriptions": lambda s: s.app("GET", ACTIVITY),
    "POST /2/activity/subscriptions": lambda s: s.app(
        "POST", ACTIVITY, json={**MENTIONS, "tag": "ours", "webhook_id": s.webhook_id}
    ),
    "DELETE /2/activity/subscriptions": delete_subscriptions,
    "PUT /2/activity/subscriptions/{subscription_id}": change_subscription,
    "DELETE /2/activity/subscriptions/{subscription_id}": delete_subscription,
    "POST /2/webhooks": lambda s: s.app(
        "POST", "/2/webhooks", json={"url": f"{s.receiver_url}?another"}
    ),
    "GET /2/webhooks": lambda s: s.app("GET", "/2/webhooks"),
    "PUT /2/webhooks/{webhook_id}": lambda s: s.app("PUT", f"/2/webhooks/{s.webhook_id}"),
    "DELETE /2/webhooks/{webhook_id}": delete_webhook,
    "POST /2/webhooks/replay": replay,
    "GET /2/connections": lambda s: s.app("GET", "/2/connections", params={"status": "all"}),
    "DELETE /2/connections": end_connection,
    "DELETE /2/connections/all": lambda s: s.app("DELETE", "/2/connections/all"),
    "DELETE /2/connections/{endpoint_id}": lambda s: s.app(
        "DELETE", "/2/connections/filtered_stream"
    ),
}


def without_names(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


class TestTheStandIn:
    @pytest.mark.parametrize("operation", OPERATIONS)
    async def test_serves(self, scene: Scene, documented: Documents, operation: str) -> None:
        watch = scene.x.watch
        before = len(watch.exchanges())
        answer = await OPERATIONS[operation](scene)
        assert answer.is_success, answer.text
        made = watch.exchanges()[before:]
        assert [fault for exchange in made for fault in documented.faults(exchange)] == []
        asked = [documented.operation(one) for one in made if not one.is_a_testers]
        assert operation in asked

    def test_serves_nothing_else(self) -> None:
        served = {
            without_names(f"{method.upper()} {path}")
            for path, methods in create_sandbox(SandboxSettings()).openapi()["paths"].items()
            for method in methods
            if path.startswith(("/2/", "/i/"))
        }
        signing_in = {f"{method} {path}" for method, path in UNDOCUMENTED}
        assert served == {without_names(operation) for operation in OPERATIONS} | signing_in


def paths_of_our_client() -> set[str]:
    """Every path of X's API that stands in the client's code, f-strings with {} for their gaps."""
    found = set()
    for module in (ROOT / "app/networks/x").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "{}" for p in node.values]
                found.add("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return {path for path in found if re.fullmatch(r"/2/[a-z0-9_{}/]*[a-z}]", path)}


class TestOurClient:
    """What it asks in any test is held against the documents; here is that it asks for nothing that
    was not walked above, and what its functions make of the answers.
    """

    def test_asks_for_nothing_else(self) -> None:
        walked = {operation.partition(" ")[2] for operation in OPERATIONS}
        walked |= {path for _, path in UNDOCUMENTED}
        patterns = [re.sub(r"\{\w+\}", "[a-z0-9_{}]+", path) for path in walked]
        paths = paths_of_our_client()
        assert {"/2/tweets", "/2/users/{}/tweets", "/2/oauth2/token"} <= paths
        assert [path for path in paths if not any(re.fullmatch(p, path) for p in patterns)] == []

    async def test_answers_and_looks_the_answer_up(
        self, start: Start, documented: Documents
    ) -> None:
        x = await start()
        await x.people("ann")
        async with open_sender(told(x)) as sender:
            sent = await sender.send("Loaded", await x.post("1", "@TagbackDemo #Coffee"))
            found = await sender.find_own("Loaded", datetime.now(UTC))
        assert isinstance(sent, Sent)
        assert found == Found(sent.post_id, reads=1)
        assert x.watch.operations(documented) == {"POST /2/tweets", "GET /2/users/{id}/tweets"}

    @pytest.mark.parametrize("names", ["2.166", "2.167"])
    async def test_listens_to_the_filtered_stream(
        self, start: Start, documented: Documents, names: str
    ) -> None:
        x = await start(profile="enterprise", field_names=names)
        await x.people("ann")
        await x.rules("#Coffee")
        decoder = XDecoder(ACCOUNT, "TagbackDemo")
        async with httpx.AsyncClient(base_url=x.client.base_url, headers=APP) as client:
            lines = stream.lines(client, stream.FILTERED)
            reading = asyncio.ensure_future(anext(lines))
            await x.connected("filtered_stream")
            first = await x.post("1", "", long_text="word " * 80 + "#Coffee")
            posts = [decoder.decode(await reading)]
            edited = await x.post("1", "", long_text="word " * 80 + "#Coffee!", edit_of=first)
            posts.append(decoder.decode(await anext(lines)))
            await lines.aclose()
        assert [(post.id, post.root_id) for post in posts] == [(first, first), (edited, first)]
        assert {(post.tags, post.author_handle) for post in posts} == {(("Coffee",), "ann")}
        assert x.watch.operations(documented) == {"GET /2/tweets/search/stream"}

    async def test_signs_somebody_in_and_stays_signed_in(
        self, start: Start, documented: Documents
    ) -> None:
        x = await start()
        now = datetime.now(UTC)
        back = "http://127.0.0.1:8723/callback"
        async with open_sign_in(told(x)) as sign_in:
            begun = sign_in.begin(redirect_uri=back, scopes=ACCOUNT_SCOPES)
            form = {**httpx.URL(begun.url).params, "handle": "ann", "decision": "allow"}
            allowed = await x.client.post("/i/oauth2/authorize", data=form)
            code = httpx.URL(allowed.headers["location"]).params["code"]
            first = await sign_in.exchange(
                code, verifier=begun.verifier, redirect_uri=back, now=now
            )
            tokens = await sign_in.refresh(first.refresh_token or "", now=now)
            assert (await sign_in.whoami(tokens.access_token)).handle == "ann"
        assert x.watch.operations(documented) == {"POST /2/oauth2/token", "GET /2/users/me"}


def told(x: X) -> Settings:
    return Settings.model_validate(
        {
            "x_base_url": str(x.client.base_url),
            "x_account_id": ACCOUNT,
            "x_user_token": "user",
            "x_client_id": "sandbox-client-id",
            "x_client_secret": "sandbox-client-secret",
        }
    )
