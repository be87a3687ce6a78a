"""Clients that others wrote for X, against the stand-in: nothing of them is changed but where they
connect to.

xdk, X's own, takes a base URL. tweepy has X's address in its code, in many places; a transport of
its `requests` session, which tweepy hands out, sends what is meant for X to the stand-in.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import requests
import tweepy
import xdk
from requests.adapters import HTTPAdapter
from running_x import ACCOUNT, Start, X
from xdk.posts.models import CreateRequest

X_ITSELF = "https://api.twitter.com"
WITH_AUTHORS = {
    "expansions": ["author_id"],
    "user_fields": ["username", "public_metrics"],
}


class ToTheStandIn(HTTPAdapter):
    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        request.url = (request.url or "").replace(X_ITSELF, self.address)
        return super().send(request, *args, **kwargs)


def led(client: Any, x: X) -> Any:
    client.session.mount(X_ITSELF, ToTheStandIn(address(x)))
    return client


def address(x: X) -> str:
    return str(x.client.base_url).rstrip("/")


async def heard(
    x: X, listen: Callable[[], Any], post: Callable[[], Awaitable[str]]
) -> tuple[Any, str]:
    """What `listen` returns, which blocks, of the post that is made once it is connected."""
    listening = asyncio.create_task(asyncio.to_thread(listen))
    await x.connected("filtered_stream")
    post_id = await post()
    async with asyncio.timeout(10):
        return await listening, post_id


@pytest.fixture
async def x(start: Start) -> X:
    x = await start(keep_alive_seconds=0.1, search_delay_seconds=0.0)
    await x.people("ann")
    return x


class Hearing(tweepy.StreamingClient):
    """Hangs up after the first post."""

    def on_response(self, response: tweepy.StreamResponse) -> None:
        self.heard = response
        self.disconnect()


class TestTweepy:
    async def test_rules_and_the_stream_that_follows_them(self, x: X) -> None:
        client = led(Hearing("app"), x)

        def add() -> Any:
            tried = client.add_rules(tweepy.StreamRule("#Coffee", tag="coffee"), dry_run=True)
            added = client.add_rules(tweepy.StreamRule("#Coffee", tag="coffee"))
            return tried, added, client.get_rules()

        tried, added, kept = await asyncio.to_thread(add)
        assert tried.errors == added.errors == []
        [rule] = added.data
        assert (rule.value, rule.tag) == ("#Coffee", "coffee")
        assert kept.data == [rule]

        def listen() -> tweepy.StreamResponse:
            fields = ["author_id", "created_at", "entities"]
            client.filter(tweet_fields=fields, **WITH_AUTHORS)
            return client.heard

        async def post() -> str:
            await x.post("1", "#Tea, which no rule wants")
            return await x.post("1", "@TagbackDemo #Coffee")

        response, post_id = await heard(x, listen, post)
        assert response.data.id == int(post_id)
        assert response.data.author_id == 1
        assert response.data.entities["hashtags"][0]["tag"] == "Coffee"
        assert response.includes["users"][0].username == "ann"
        assert [found.tag for found in response.matching_rules] == ["coffee"]

        await asyncio.to_thread(client.delete_rules, [rule.id])
        assert not (await asyncio.to_thread(client.get_rules)).data

    async def test_creates_a_reply(self, x: X) -> None:
        post_id = await x.post("1", "@TagbackDemo #Coffee")
        client = led(tweepy.Client("user"), x)

        def create() -> Any:
            return client.create_tweet(text="Loaded", in_reply_to_tweet_id=post_id, user_auth=False)

        created = await asyncio.to_thread(create)
        assert created.data["text"] == "Loaded"
        with pytest.raises(tweepy.Forbidden, match="duplicate content"):
            await asyncio.to_thread(create)

    async def test_knows_who_it_is(self, x: X) -> None:
        client = led(tweepy.Client("user"), x)
        me = await asyncio.to_thread(client.get_me, user_auth=False, user_fields=["created_at"])
        assert (str(me.data.id), me.data.username) == (ACCOUNT, "TagbackDemo")
        assert me.data.created_at.year == 2020

    async def test_reads_mentions_page_by_page(self, x: X) -> None:
        ids = [await x.post("1", f"@TagbackDemo #Coffee {n}") for n in range(12)]
        client = led(tweepy.Client("app"), x)

        def read() -> list[tweepy.Tweet]:
            pages = tweepy.Paginator(
                client.get_users_mentions, ACCOUNT, max_results=5, since_id=ids[0]
            )
            return list(pages.flatten())

        mentions = await asyncio.to_thread(read)
        assert [str(mention.id) for mention in mentions] == ids[:0:-1]


class TestXdk:
    async def test_creates_a_post_and_knows_who_it_is(self, x: X) -> None:
        client = xdk.Client(base_url=address(x), access_token="user")
        created = await asyncio.to_thread(
            client.posts.create, CreateRequest(text="Coffee for half")
        )
        assert created.data.text == "Coffee for half"
        me = await asyncio.to_thread(client.users.get_me)
        assert (me.data.id, me.data.username) == (ACCOUNT, "TagbackDemo")

    async def test_hears_the_stream(self, x: X) -> None:
        await self.add_rule(x)
        response, post_id = await self.first(x)
        assert (response.data.id, response.data.text) == (post_id, "@TagbackDemo #Coffee")

    async def test_takes_metrics_under_the_new_names(self, start: Start) -> None:
        """Under the recorded names it drops a post with metrics, silently."""
        renamed = await start(field_names="2.167", keep_alive_seconds=0.1)
        await renamed.people("ann")
        client = xdk.Client(base_url=address(renamed), access_token="user")
        me = await asyncio.to_thread(client.users.get_me, user_fields=["public_metrics"])
        assert me.data.public_metrics.post_count == 0
        await self.add_rule(renamed)
        fields = ["author_id", "edit_history_tweet_ids", "note_tweet", "public_metrics"]
        response, post_id = await self.first(renamed, tweet_fields=fields, **WITH_AUTHORS)
        assert response.data.edit_history_post_ids == [post_id]
        assert response.data.public_metrics.repost_count == 0
        assert response.includes.users[0].public_metrics.post_count == 0

    async def add_rule(self, x: X) -> None:
        client = xdk.Client(base_url=address(x), bearer_token="app")
        body = {"add": [{"value": "#Coffee", "tag": "coffee"}]}
        added = await asyncio.to_thread(client.stream.update_rules, body)
        assert added.meta.summary

    async def first(self, x: X, **fields: Any) -> tuple[Any, str]:
        client = xdk.Client(base_url=address(x), bearer_token="app")

        def listen() -> Any:
            stream = client.stream.posts(**fields)
            try:
                return next(stream)
            finally:
                stream.close()
                client.session.close()

        return await heard(x, listen, lambda: x.post("1", "@TagbackDemo #Coffee"))
