"""The mentions of the account and recent search, by which gaps are closed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from running_x import ACCOUNT, APP, USER, Start, X

MENTIONS = f"/2/users/{ACCOUNT}/mentions"
SEARCH = "/2/tweets/search/recent"


@pytest.fixture
async def x(start: Start) -> X:
    x = await start(search_delay_seconds=0)
    await x.people("ann", "bob")
    return x


async def get(x: X, path: str, **params: str) -> httpx.Response:
    if path == SEARCH:
        params = {"query": "#Tea", **params}
    return await x.client.get(path, params=params, headers=APP)


async def page(x: X, path: str, **params: str) -> Any:
    answer = await get(x, path, **params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(found: Any) -> list[str]:
    return [post["id"] for post in found.get("data", [])]


def moment(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("path", [MENTIONS, SEARCH])
class TestBoth:
    async def test_what_is_meant_newest_first(self, x: X, path: str) -> None:
        made = [await x.post("1", f"@TagbackDemo #Tea {n}") for n in range(3)]
        await x.post("1", "@bob #Coffee")
        found = await page(x, path)
        assert ids(found) == made[::-1]
        assert found["meta"] == {"result_count": 3, "newest_id": made[2], "oldest_id": made[0]}
        assert found["data"][0].keys() == {"id", "text", "edit_history_tweet_ids"}

    async def test_pages_hold_each_once_while_new_ones_arrive(self, x: X, path: str) -> None:
        made = [await x.post("1", f"@TagbackDemo #Tea {n}") for n in range(24)]
        seen: list[str] = []
        params = {"max_results": "10", "since_id": made[1]}
        for expected in (10, 10, 2):
            found = await page(x, path, **params)
            assert found["meta"]["result_count"] == expected
            seen += ids(found)
            params["pagination_token"] = found["meta"].get("next_token", "")
            await x.post("1", "@TagbackDemo #Tea later")
        assert seen == made[:1:-1]
        assert params["pagination_token"] == ""

    async def test_ids_and_times_bound_it(self, x: X, path: str) -> None:
        now = datetime.now(UTC)
        made = [
            await x.post("1", "@TagbackDemo #Tea", created_at=moment(now - timedelta(hours=hours)))
            for hours in (4, 3, 2, 1)
        ]
        assert ids(await page(x, path, since_id=made[0], until_id=made[3])) == made[2:0:-1]
        start, end = moment(now - timedelta(hours=3)), moment(now - timedelta(hours=1))
        assert ids(await page(x, path, start_time=start, end_time=end)) == made[2:0:-1]

    async def test_the_last_half_minute_is_left_out_unless_asked_for(
        self, start: Start, path: str
    ) -> None:
        clock = [1_800_000_000.0]
        x = await start(clock=lambda: clock[0])
        await x.people("ann")
        post_id = await x.post("1", "@TagbackDemo #Tea")
        clock[0] += 29
        assert await page(x, path) == {"meta": {"result_count": 0}}
        now = moment(datetime.fromtimestamp(clock[0], UTC))
        assert ids(await page(x, path, end_time=now)) == [post_id]
        clock[0] += 2
        assert ids(await page(x, path)) == [post_id]

    async def test_nothing_over_seven_days_may_be_asked_for(self, x: X, path: str) -> None:
        old = datetime.now(UTC) - timedelta(days=7, minutes=1)
        post_id = await x.post("1", "@TagbackDemo #Tea", created_at=moment(old))
        for params in ({"since_id": post_id}, {"start_time": moment(old)}):
            answer = await get(x, path, **params)
            assert answer.status_code == 400
            [error] = answer.json()["errors"]
            assert error["parameters"].keys() == params.keys()

    async def test_authors_and_quoted_posts_come_along(self, x: X, path: str) -> None:
        first = await x.post("2", "look at this")
        await x.post("1", "@TagbackDemo #Tea", quote_of=first)
        found = await page(
            x,
            path,
            expansions="author_id,referenced_tweets.id,referenced_tweets.id.author_id",
            **{"tweet.fields": "entities", "user.fields": "created_at"},
        )
        [post] = found["data"]
        assert post["author_id"] == "1"
        assert post["entities"]["hashtags"][0]["tag"] == "Tea"
        users = found["includes"]["users"]
        assert [user["username"] for user in users] == ["ann", "bob"]
        assert users[0].keys() == {"id", "name", "username", "created_at"}
        assert [other["id"] for other in found["includes"]["tweets"]] == [first]

    async def test_who_asks_by_the_new_names_is_answered_with_them(self, x: X, path: str) -> None:
        first = await x.post("1", "", long_text="word " * 80 + "@TagbackDemo #Tea")
        await x.post("1", "@TagbackDemo #Tea", quote_of=first)
        found = await page(
            x,
            path,
            expansions="referenced_posts,author_id",
            **{"post.fields": "public_metrics,note_post", "user.fields": "public_metrics"},
        )
        quote, long = found["data"]
        assert quote["edit_history_post_ids"] == [quote["id"]]
        assert quote["referenced_posts"] == [{"type": "quoted", "id": first}]
        assert "repost_count" in long["public_metrics"]
        assert "#Tea" in long["note_post"]["text"]
        assert [post["id"] for post in found["includes"]["posts"]] == [first]
        assert "post_count" in found["includes"]["users"][0]["public_metrics"]

    async def test_a_bad_parameter_is_an_invalid_request(self, x: X, path: str) -> None:
        for params in (
            {"max_results": "4"},
            {"max_results": "101"},
            {"since_id": "x"},
            {"until_id": "1" * 20},
            {"start_time": "yesterday"},
            {"end_time": "2026-01-01T00:00:00"},
            {"pagination_token": "!"},
        ):
            answer = await get(x, path, **params)
            assert answer.status_code == 400, params
            assert answer.json()["type"].endswith("/invalid-request")


class TestMentions:
    async def test_an_app_may_ask_more_often_than_a_user(self, x: X) -> None:
        for headers, limit in ((APP, "450"), (USER, "300")):
            answer = await x.client.get(MENTIONS, headers=headers)
            assert answer.headers["x-rate-limit-limit"] == limit

    async def test_no_more_than_800_can_be_reached(self, x: X) -> None:
        body = "\n".join('{"author_id": "1", "text": "@TagbackDemo #Tea"}' for _ in range(805))
        made = (await x.client.post("/sandbox/posts", content=body)).json()["ids"]
        seen: list[str] = []
        params = {"max_results": "100"}
        while params.get("pagination_token") != "":
            found = await page(x, MENTIONS, **params)
            seen += ids(found)
            params["pagination_token"] = found["meta"].get("next_token", "")
        assert seen == made[:4:-1]

    async def test_an_unknown_user_is_not_found(self, x: X) -> None:
        answer = await x.client.get("/2/users/77/mentions", headers=APP)
        assert answer.status_code == 404


class TestSearch:
    async def test_the_query_is_a_rule_of_512_characters_at_most(self, x: X) -> None:
        post_id = await x.post("1", "#Coffee")
        assert ids(await page(x, SEARCH, query="(#Tea OR #Coffee) -is:retweet")) == [post_id]
        assert (await get(x, SEARCH, query="#Tea " + "a" * 507)).status_code == 200
        for query in ("#Tea " + "a" * 508, "has:links", ""):
            assert (await get(x, SEARCH, query=query)).status_code == 400, query


class TestPrice:
    async def test_own_mentions_are_cheap_and_a_post_is_charged_once_a_day(
        self, start: Start
    ) -> None:
        clock = [datetime(2027, 1, 1, 12, tzinfo=UTC).timestamp()]
        x = await start(clock=lambda: clock[0], search_delay_seconds=0)
        await x.people("ann")
        await x.post("1", "@TagbackDemo #Tea")
        for _ in range(2):
            await page(x, MENTIONS)
            await page(x, SEARCH)
        assert (await x.state())["usage"]["counts"] == {"owned_read": 1}
        clock[0] += 13 * 3600
        await page(x, SEARCH)
        assert (await x.state())["usage"]["counts"] == {"owned_read": 1, "post_read": 1}
