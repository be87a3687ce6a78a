"""The listener role against the stand-in: by stream, by webhook, and what it makes good."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import AnyHttpUrl, SecretStr
from sqlalchemy import text

from app.config import Settings, SettingsError
from app.kit.db import Sessions
from app.main import create_app
from app.offers import service as offers
from app.posts import listening
from app.posts.pace import Pace
from app.sandbox.settings import SandboxSettings
from tests.programme import OPERATOR, make_members, make_offer
from tests.stand_in import PROGRAMME, StandIn, StartX
from tests.support import until

ALWAYS = {"starts_at": "2006-01-01T00:00:00Z", "ends_at": "2090-01-01T00:00:00Z"}
APP = {"Authorization": "Bearer app"}
SECRET = SandboxSettings().consumer_secret
QUICK = Pace(
    tail_seconds=0.2,
    retry_seconds=0.1,
    page_again_seconds=0.02,
    between_gaps_seconds=0.05,
    gaps_every_seconds=0.3,
    subscriptions_every_seconds=0.2,
    rules_every_seconds=0.05,
    rules_heeded_seconds=0.1,
    cursor_every_seconds=0.1,
    account_every_seconds=0.05,
)


def told(x: StandIn, **more: Any) -> Settings:
    return x.settings.model_copy(
        update={"x_app_token": SecretStr("app"), "x_handle": "TagbackDemo", **more}
    )


@asynccontextmanager
async def listening_to(
    sessions: Sessions, settings: Settings, pace: Pace = QUICK
) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(listening.run(sessions, settings, stop, pace=pace))
    try:
        yield
    finally:
        stop.set()
        await running


async def state(x: StandIn) -> dict[str, Any]:
    found: dict[str, Any] = (await x.client.get("/sandbox/state")).json()
    return found


async def connected(x: StandIn, stream: str) -> None:
    """And, for mentions, subscribed."""

    async def holds() -> bool:
        known = await state(x)
        is_told = stream == "filtered_stream" or known["subscriptions"]
        return bool(is_told and known["connections"][stream])

    await until(holds)


async def people(x: StandIn, authors: list[str]) -> None:
    lines = [{"id": author, "handle": f"h{author}"} for author in authors]
    (await x.client.post("/sandbox/people", json=lines)).raise_for_status()


async def post(x: StandIn, author: str, words: str, **more: Any) -> str:
    body = {"author_id": author, "text": words, **more}
    answer = await x.client.post("/sandbox/posts", json=body)
    assert answer.status_code == 200, answer.text
    post_id: str = answer.json()["ids"][0]
    return post_id


def a_minute_ago() -> str:
    return (datetime.now(UTC) - timedelta(minutes=1)).isoformat()


async def rows(sessions: Sessions, query: str) -> list[Any]:
    async with sessions.begin() as session:
        return [tuple(row) for row in await session.execute(text(query))]


async def count(sessions: Sessions, table: str) -> int:
    found: int = (await rows(sessions, f"SELECT count(*) FROM {table}"))[0][0]
    return found


async def coupons(sessions: Sessions, number: int) -> None:
    async def holds() -> bool:
        return await count(sessions, "coupons") == number

    await until(holds)


async def rules(x: StandIn) -> list[str]:
    answer = await x.client.get("/2/tweets/search/stream/rules", headers=APP)
    return [rule["value"] for rule in answer.json().get("data", [])]


async def subscriptions(x: StandIn) -> list[tuple[str, str, str | None]]:
    answer = await x.client.get("/2/activity/subscriptions", headers=APP)
    return sorted(
        (one["event_type"], one["filter"].get("user_id", ""), one.get("tag"))
        for one in answer.json()["data"]
    )


class TestByTheActivityStream:
    async def test_mentions_come_in_pieces_and_twice_and_count_once(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        authors = await make_members(sessions, 20)
        x = await start_x(stream_chunk_bytes=37)
        await people(x, authors)
        async with listening_to(sessions, told(x)):
            await connected(x, "activity_stream")
            for _ in range(2):
                for number, author in enumerate(authors):
                    more = {"id": str(1_900_000_000_000 + number)}
                    await post(x, author, "#Tea @TagbackDemo", **more)
            await coupons(sessions, 20)
        assert await count(sessions, "posts") == 20
        assert await rows(sessions, "SELECT kind, units FROM network_usage") == [("post_read", 20)]

    async def test_our_subscriptions_are_made_and_stale_ones_of_ours_alone_removed(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        (author,) = await make_members(sessions, 1)
        x = await start_x()
        others = [("post.delete", "77", "tagback"), ("post.create", "5", "theirs")]
        for kind, user, tag in others:
            body = {"event_type": kind, "filter": {"user_id": user}, "tag": tag}
            await x.client.post("/2/activity/subscriptions", json=body, headers=APP)
        async with listening_to(sessions, told(x)):
            wanted = [
                ("dm.received", PROGRAMME, "tagback"),
                ("post.create", "5", "theirs"),
                ("post.delete", author, "tagback"),
                ("post.mention.create", PROGRAMME, "tagback"),
            ]

            async def are_in_step() -> bool:
                return await subscriptions(x) == sorted(wanted)

            await until(are_in_step)
            (another,) = await make_members(sessions, 1)
            wanted.append(("post.delete", another, "tagback"))
            await until(are_in_step)

    async def test_comes_back_after_x_has_ended_the_stream(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        authors = await make_members(sessions, 3)
        x = await start_x()
        await people(x, authors)
        async with listening_to(sessions, told(x)):
            for number, author in enumerate(authors):
                await connected(x, "activity_stream")
                await post(x, author, "#Tea @TagbackDemo")
                await coupons(sessions, number + 1)
                ended = await x.client.delete("/2/connections/all", headers=APP)
                assert ended.json()["data"]["successful_kills"] == 1

    async def test_hangs_up_what_a_crash_has_left_connected(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        (author,) = await make_members(sessions, 1)
        x = await start_x()
        await people(x, [author])
        async with (
            x.client.stream("GET", "/2/activity/stream", headers=APP),
            x.client.stream("GET", "/2/activity/stream", headers=APP),
        ):

            async def are_ours() -> bool:
                return (await state(x))["connections"]["activity_stream"] == 1

            async with listening_to(sessions, told(x)):
                await until(are_ours)
                await connected(x, "activity_stream")
                await post(x, author, "#Tea @TagbackDemo")
                await coupons(sessions, 1)

    async def test_reconnects_when_the_stream_falls_silent(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        x = await start_x(keep_alive_seconds=60)
        ended = "/2/connections?status=inactive"

        async def has_ended() -> bool:
            answer = await x.client.get(ended, headers=APP)
            return bool(answer.json()["meta"]["result_count"])

        async with listening_to(sessions, told(x), Pace(silence_seconds=0.2)):
            await until(has_ended)
            await connected(x, "activity_stream")


class TestAnAccountThatIsConnectedLater:
    async def test_is_waited_for(self, sessions: Sessions, start_x: StartX) -> None:
        x = await start_x()
        async with listening_to(sessions, told(x, x_account_id=None)):
            await asyncio.sleep(0.2)
            assert not (await state(x))["subscriptions"]
            await rows(
                sessions,
                "INSERT INTO network_accounts (network, account_id, handle, scopes, access_token, "
                f"expires_at, connected_at, updated_at) VALUES ('x', '{PROGRAMME}', 'TagbackDemo', "
                "'{}', '', now(), now(), now()) RETURNING 1",
            )
            await connected(x, "activity_stream")


class TestClosingGaps:
    async def test_what_was_posted_while_nobody_listened_is_found(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        authors = await make_members(sessions, 3)
        x = await start_x()
        await people(x, authors)
        for author in authors:
            await post(x, author, "#Tea @TagbackDemo", created_at=a_minute_ago())
        async with listening_to(sessions, told(x)):
            await coupons(sessions, 3)
        assert await rows(sessions, "SELECT DISTINCT source FROM posts") == [("x:gap",)]
        read = await rows(sessions, "SELECT kind, units, micro_usd FROM network_usage")
        assert read == [("owned_read", 3, 3_000)]
        ((cursor,),) = await rows(
            sessions, "SELECT posted_at FROM cursors WHERE source = 'x:mentions'"
        )
        assert datetime.now(UTC) - cursor < timedelta(minutes=1)

    async def test_begins_before_the_cursor(self, sessions: Sessions, start_x: StartX) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        authors = await make_members(sessions, 2)
        x = await start_x()
        await people(x, authors)
        now = datetime.now(UTC)
        await rows(
            sessions,
            "INSERT INTO cursors (source, posted_at, updated_at) VALUES ('x:mentions', "
            f"'{now - timedelta(days=3)}', now()) RETURNING 1",
        )
        for author, minutes in zip(authors, (14, 16), strict=True):
            posted_at = now - timedelta(days=3, minutes=minutes)
            await post(x, author, "#Tea @TagbackDemo", created_at=posted_at.isoformat())
        async with listening_to(sessions, told(x)):
            await coupons(sessions, 1)

    async def test_more_than_x_gives_of_mentions_are_searched_for(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        authors = await make_members(sessions, 900)
        x = await start_x()
        await people(x, authors)
        began = datetime.now(UTC) - timedelta(minutes=10)
        lines = [
            {
                "author_id": author,
                "text": "#Tea @TagbackDemo",
                "created_at": (began + timedelta(milliseconds=100 * number)).isoformat(),
            }
            for number, author in enumerate(authors)
        ]
        body = "\n".join(
            httpx.Request("POST", "http://x", json=one).content.decode() for one in lines
        )
        (await x.client.post("/sandbox/posts", content=body, timeout=30)).raise_for_status()
        async with listening_to(sessions, told(x)):
            await coupons(sessions, 900)
        read = await rows(sessions, "SELECT kind, units FROM network_usage ORDER BY kind")
        assert read == [("owned_read", 800), ("post_read", 100)]

    async def test_a_tag_without_a_mention_is_searched_for(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        (author,) = await make_members(sessions, 1)
        x = await start_x()
        await people(x, [author])
        await post(x, author, "#Tea", created_at=a_minute_ago())
        given = {"x_hashtag_stream": True, "x_mentions_by": "off"}
        async with listening_to(sessions, told(x, **given)):
            await coupons(sessions, 1)
        assert await rows(sessions, "SELECT kind, units FROM network_usage") == [("post_read", 1)]

    async def test_the_cursor_goes_along_with_a_stream_that_lives(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        x = await start_x(keep_alive_seconds=0.05)
        query = "SELECT count(*) FROM cursors WHERE source = 'x:mentions' AND posted_at > "

        async with listening_to(sessions, told(x)):
            await connected(x, "activity_stream")
            since = datetime.now(UTC) - timedelta(seconds=29)

            async def has_moved() -> bool:
                return await rows(sessions, f"{query} '{since}'") == [(1,)]

            await until(has_moved)


class TestByTheFilteredStream:
    async def test_rules_are_those_of_the_offers_and_leftovers_go(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        (author,) = await make_members(sessions, 1)
        x = await start_x()
        await people(x, [author])
        leftover = {"add": [{"value": "#Strangers", "tag": "somebody's"}]}
        await x.client.post("/2/tweets/search/stream/rules", json=leftover, headers=APP)

        async def are(*wanted: str) -> None:
            async def holds() -> bool:
                return await rules(x) == list(wanted)

            await until(holds)

        given = {"x_hashtag_stream": True, "x_mentions_by": "off"}
        async with listening_to(sessions, told(x, **given)):
            await are("(#Tea) -is:retweet")
            await connected(x, "filtered_stream")
            await post(x, author, "#tea")
            await coupons(sessions, 1)
            soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
            late = (datetime.now(UTC) + timedelta(minutes=9)).isoformat()
            await make_offer(sessions, "Cake", **{**ALWAYS, "starts_at": soon})
            await make_offer(sessions, "Later", **{**ALWAYS, "starts_at": late})
            await are("(#Tea OR #Cake) -is:retweet")

    async def test_a_stream_without_rules_is_waited_for_and_not_hammered(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        x = await start_x()
        (author,) = await make_members(sessions, 1)
        await people(x, [author])
        given = {"x_hashtag_stream": True, "x_mentions_by": "off"}
        async with listening_to(sessions, told(x, **given)):
            await asyncio.sleep(0.5)
            await make_offer(sessions, "Tea", **ALWAYS)
            await connected(x, "filtered_stream")
            await post(x, author, "#tea")
            await coupons(sessions, 1)

    async def test_a_paused_offer_is_not_listened_for(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        offer_id = await make_offer(sessions, "Cake", **ALWAYS)
        x = await start_x()
        given = {"x_hashtag_stream": True, "x_mentions_by": "off"}

        async def without_cake() -> bool:
            return await rules(x) == ["(#Tea) -is:retweet"]

        async def with_cake() -> bool:
            return await rules(x) == ["(#Cake OR #Tea) -is:retweet"]

        async with listening_to(sessions, told(x, **given)):
            await until(with_cake)
            async with sessions.begin() as session:
                await offers.pause(session, offer_id=offer_id, by=OPERATOR, now=datetime.now(UTC))
            await until(without_cake)


class Api:
    """The service's API on the stage, which a webhook reaches; `is_up` is whether it answers."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.is_up = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.is_up:
            await self.app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def api(stage: Any, settings: Settings, sessions: Sessions) -> Api:
    told_api = {"x_consumer_secret": SecretStr(SECRET), "x_account_id": PROGRAMME}
    api = Api(create_app(settings.model_copy(update=told_api), sessions))
    stage[0].app = api
    return api


def by_webhook(x: StandIn, url: str) -> Settings:
    return told(x, public_url=AnyHttpUrl(url), x_consumer_secret=SecretStr(SECRET))


@pytest.mark.usefixtures("api")
class TestByWebhook:
    async def test_is_registered_and_brings_posts_removals_and_words_to_stop(
        self, sessions: Sessions, start_x: StartX, stage: Any
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        ann, bob, cid = authors = await make_members(sessions, 3)
        x = await start_x()
        await people(x, authors)

        async def is_ready() -> bool:
            return len(await subscriptions(x)) == 5

        async def have_stopped() -> bool:
            said = await rows(sessions, "SELECT account_id, told_by FROM stopped_accounts")
            return set(said) == {(bob, "post"), (cid, "message")}

        async def is_removed() -> bool:
            return await count(sessions, "removed_posts") == 1

        async with listening_to(sessions, by_webhook(x, stage[1])):
            await until(is_ready)
            post_id = await post(x, ann, "#Tea @TagbackDemo")
            await coupons(sessions, 1)
            await post(x, bob, "@TagbackDemo Stop!")
            message = {"sender_id": cid, "text": "stop"}
            (await x.client.post("/sandbox/messages", json=message)).raise_for_status()
            await until(have_stopped)
            (await x.client.delete(f"/sandbox/posts/{post_id}")).raise_for_status()
            await until(is_removed)
        assert (await state(x))["webhooks"][0]["url"] == f"{stage[1]}/webhooks/x"

    async def test_a_push_that_was_lost_is_found(
        self, sessions: Sessions, start_x: StartX, stage: Any, api: Api
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        (author,) = await make_members(sessions, 1)
        x = await start_x(webhook_retries_after_seconds=())
        await people(x, [author])

        async def is_ready() -> bool:
            return len(await subscriptions(x)) == 3

        async def is_lost() -> bool:
            return (await state(x))["events"]["webhook"]["dropped"] == 1

        async with listening_to(sessions, by_webhook(x, stage[1])):
            await until(is_ready)
            api.is_up = False
            await post(x, author, "#Tea @TagbackDemo", created_at=a_minute_ago())
            await until(is_lost)
            api.is_up = True
            await coupons(sessions, 1)

    async def test_what_mentions_do_not_bring_is_replayed_at_start(
        self, sessions: Sessions, start_x: StartX, stage: Any, api: Api
    ) -> None:
        (author,) = await make_members(sessions, 1)
        x = await start_x(webhook_retries_after_seconds=())
        await people(x, [author])

        async def is_ready() -> bool:
            return len(await subscriptions(x)) == 3

        async def has_stopped() -> bool:
            return await count(sessions, "stopped_accounts") == 1

        settings = by_webhook(x, stage[1])
        async with listening_to(sessions, settings):
            await until(is_ready)
        api.is_up = False
        message = {"sender_id": author, "text": "stop"}
        (await x.client.post("/sandbox/messages", json=message)).raise_for_status()
        api.is_up = True
        async with listening_to(sessions, settings):
            await until(has_stopped)

    async def test_a_replay_is_owed_though_the_next_question_fails(
        self, sessions: Sessions, start_x: StartX, stage: Any, api: Api
    ) -> None:
        (author,) = await make_members(sessions, 1)
        x = await start_x(webhook_retries_after_seconds=())
        await people(x, [author])

        async def is_ready() -> bool:
            found = await rows(sessions, "SELECT 1 FROM cursors WHERE source = 'x:pushed'")
            return bool(found) and len(await subscriptions(x)) == 3

        async def is_lost() -> bool:
            return (await state(x))["events"]["webhook"]["dropped"] == 1

        async def has_stopped() -> bool:
            return await count(sessions, "stopped_accounts") == 1

        pace = replace(QUICK, retry_seconds_max=0.2)
        async with listening_to(sessions, by_webhook(x, stage[1]), pace):
            await until(is_ready)
            api.is_up = False
            message = {"sender_id": author, "text": "stop"}
            (await x.client.post("/sandbox/messages", json=message)).raise_for_status()
            await until(is_lost)
            webhook_id = (await state(x))["webhooks"][0]["id"]
            checked = await x.client.put(f"/2/webhooks/{webhook_id}", headers=APP)
            assert checked.status_code == 400
            fault = {"kind": "internal_error", "on": "GET /2/activity/subscriptions", "times": 2}
            (await x.client.post("/sandbox/faults", json=fault)).raise_for_status()
            api.is_up = True
            await until(has_stopped)


class TestWhereMentionsComeFrom:
    @pytest.mark.parametrize(
        ("given", "way"),
        [
            ({}, "stream"),
            ({"public_url": AnyHttpUrl("https://offers.example")}, "webhook"),
            ({"public_url": AnyHttpUrl("http://127.0.0.1:8000")}, "webhook"),
            ({"public_url": AnyHttpUrl("https://a.example"), "x_consumer_secret": None}, "stream"),
            ({"public_url": AnyHttpUrl("https://a.example"), "x_mentions_by": "off"}, "off"),
            ({"public_url": AnyHttpUrl("https://a.example"), "x_mentions_by": "stream"}, "stream"),
        ],
    )
    def test_by_itself(self, settings: Settings, given: dict[str, Any], way: str) -> None:
        usual = {"x_consumer_secret": SecretStr("s")}
        assert listening.way_of_mentions(settings.model_copy(update=usual | given)) == way

    def test_a_webhook_that_is_asked_for_needs_an_address(self, settings: Settings) -> None:
        with pytest.raises(SettingsError, match="TAGBACK_PUBLIC_URL"):
            listening.way_of_mentions(settings.model_copy(update={"x_mentions_by": "webhook"}))


class TestFaults:
    @pytest.mark.usefixtures("api")
    @pytest.mark.parametrize("way", ["activity_stream", "filtered_stream", "webhook"])
    async def test_of_every_kind_lose_no_post(
        self, sessions: Sessions, start_x: StartX, stage: Any, way: str
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        authors = await make_members(sessions, 100)
        x = await start_x(keep_alive_seconds=0.1, webhook_retries_after_seconds=(0.05,))
        await people(x, authors)
        kinds = ["duplicate", "reorder", "lose"]
        if way != "webhook":
            kinds += ["drop", "stall", "split", "disconnect"]
        faults: list[dict[str, Any]] = [
            {"kind": kind, "on": way, "times": 3, "probability": 0.1, "seed": seed, "seconds": 0.5}
            for seed, kind in enumerate(kinds)
        ]
        routes = [
            "GET /2/users/{user_id}/mentions",
            "GET /2/tweets/search/recent",
            "GET /2/activity/subscriptions",
            "POST /2/activity/subscriptions",
            "GET /2/webhooks",
            "POST /2/webhooks",
            "GET /2/tweets/search/stream/rules",
            "POST /2/tweets/search/stream/rules",
        ]
        for kind in ("internal_error", "cut", "cut_after", "rate_limited_v1", "bad_gateway_after"):
            faults += [{"kind": kind, "on": route} for route in routes]
        (await x.client.post("/sandbox/faults", json=faults)).raise_for_status()
        settings = {
            "activity_stream": told(x),
            "filtered_stream": told(x, x_hashtag_stream=True, x_mentions_by="off"),
            "webhook": by_webhook(x, stage[1]),
        }[way]
        mention = "" if way == "filtered_stream" else " @TagbackDemo"
        quick = replace(QUICK, silence_seconds=0.4, retry_seconds=0.02, retry_seconds_max=0.1)

        async def is_ready() -> bool:
            return bool((await state(x))["subscriptions"])

        async with listening_to(sessions, settings, quick):
            if way == "webhook":
                await until(is_ready)
            else:
                await connected(x, way)
            for author in authors:
                await post(x, author, f"#Tea{mention}", created_at=a_minute_ago())
            # what was lost in silence is found with the next gap
            await x.client.delete("/2/connections/all", headers=APP)
            await coupons(sessions, 100)
        fired = (await x.client.get("/sandbox/faults")).json()["fired"]
        assert {kind for kind in kinds if fired.get(kind)} == set(kinds)
        assert await rows(sessions, "SELECT count(*), count(DISTINCT root_id) FROM posts") == [
            (100, 100)
        ]
