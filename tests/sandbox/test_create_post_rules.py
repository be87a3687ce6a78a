import json
from pathlib import Path
from typing import Any

import pytest
from running_x import ACCOUNT, APP, USER, Start, X

RATE_HEADERS = ("x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset")


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
async def x(start: Start) -> X:
    x = await start(profile="self_serve")
    await x.people("ann", "bob")
    return x


@pytest.fixture
def observed(shared: Path) -> dict[str, Any]:
    """Error bodies that X was seen to give."""
    found: dict[str, Any] = json.loads((shared / "x/samples/errors_observed.json").read_text())
    return found


class TestReply:
    async def test_a_post_that_mentions_the_account_may_be_answered(self, x: X) -> None:
        post_id = await x.post("1", "@TagbackDemo #Coffee")
        answer = await x.create("Loaded. Ref 1", post_id)
        assert answer.status_code == 201
        data = answer.json()["data"]
        assert data == {
            "id": data["id"],
            "text": "Loaded. Ref 1",
            "edit_history_tweet_ids": [data["id"]],
        }

    async def test_ids_rise_and_are_too_large_for_a_double(self, x: X) -> None:
        post_id = await x.post("1", "@TagbackDemo #Coffee")
        ids = [
            int((await x.create(f"Loaded {n}", post_id)).json()["data"]["id"]) for n in range(20)
        ]
        assert ids == sorted(set(ids))
        assert ids[0] > 2**53

    async def test_a_post_without_a_mention_may_not(self, x: X, observed: dict[str, Any]) -> None:
        answer = await x.create("Loaded", await x.post("1", "#Coffee"))
        assert answer.status_code == 403
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == observed["403_reply_not_summoned_wording_1"]["detail"]

    async def test_a_quote_of_one_of_the_accounts_posts_may(self, x: X) -> None:
        own = (await x.create("Coffee for half")).json()["data"]["id"]
        quote = await x.post("1", "I want #Coffee", quote_of=own)
        assert (await x.create("Loaded", quote)).status_code == 201

    async def test_a_quote_of_somebody_else_may_not(self, x: X) -> None:
        quote = await x.post("1", "me too #Coffee", quote_of=await x.post("2", "#Coffee"))
        assert (await x.create("Loaded", quote)).status_code == 403

    async def test_a_mention_in_the_hidden_part_of_a_long_post_counts(self, x: X) -> None:
        post_id = await x.post("1", "", long_text="word " * 100 + "@tagbackdemo #Coffee")
        assert (await x.create("Loaded", post_id)).status_code == 201

    async def test_an_enterprise_programme_may_answer_anyone(self, start: Start) -> None:
        x = await start(profile="enterprise")
        await x.people("ann")
        assert (await x.create("Loaded", await x.post("1", "#Coffee"))).status_code == 201

    async def test_a_post_that_is_not_there_cannot_be_answered(self, x: X) -> None:
        answer = await x.create("Loaded", "1234")
        assert answer.status_code == 403
        assert "deleted or not visible" in answer.json()["detail"]


class TestText:
    async def test_the_same_text_twice_is_a_duplicate(self, x: X, observed: dict[str, Any]) -> None:
        first, second = [await x.post(who, "@TagbackDemo #Coffee") for who in ("1", "2")]
        assert (await x.create("Loaded", first)).status_code == 201
        again = await x.create(" Loaded ", second)
        assert again.status_code == 403
        assert again.json() == observed["403_duplicate_content"]["body"]

    async def test_280_by_weight_is_allowed_and_281_is_not(self, x: X) -> None:
        link = " https://shop.example/" + "b" * 90  # weighs 1 + 23
        for fits in ("a" * 280, "界" * 140, "a" * 256 + link):
            assert (await x.create(fits)).status_code == 201
            answer = await x.create("a" + fits)
            assert answer.status_code == 403
            assert answer.json()["title"] == "Forbidden"


class TestRequest:
    async def test_a_wrong_shape_is_an_invalid_request(self, x: X) -> None:
        for body in (
            b"",
            b"{",
            b"[]",
            b'{"text": 1}',
            b'{"text": ""}',
            b'{"text": " "}',
            b'{"text": "a", "reply": {}}',
            b'{"text": "a", "reply": {"in_reply_to_tweet_id": 12}}',
            b'{"text": "a", "reply": {"in_reply_to_tweet_id": "x"}}',
            b'{"text": "a", "unknown": 1}',
            b'{"text": "\xff"}',
        ):
            answer = await x.client.post("/2/tweets", content=body, headers=USER)
            assert answer.status_code == 400, body
            problem = answer.json()
            assert problem["type"] == "https://api.twitter.com/2/problems/invalid-request"
            assert problem["errors"][0]["message"]

    async def test_without_a_token_of_the_account_it_is_unauthorized(self, x: X) -> None:
        for wrong in ({}, {"authorization": "Bearer x"}, {"authorization": "user"}):
            answer = await x.client.post("/2/tweets", json={"text": "a"}, headers=wrong)
            assert answer.status_code == 401
            assert "x-rate-limit-limit" not in answer.headers

    async def test_the_apps_own_token_is_not_a_users(self, x: X) -> None:
        answer = await x.client.post("/2/tweets", json={"text": "a"}, headers=APP)
        assert answer.status_code == 403
        assert answer.json()["type"].endswith("/unsupported-authentication")


class TestRateLimit:
    async def test_the_headers_count_down_to_429_and_start_again(self, start: Start) -> None:
        clock = Clock()
        x = await start(profile="self_serve", clock=clock)
        seen = [(await x.create(f"Post {n}")) for n in range(100)]
        assert {answer.status_code for answer in seen} == {201}
        assert [answer.headers["x-rate-limit-remaining"] for answer in seen] == [
            str(n) for n in range(99, -1, -1)
        ]
        refused = await x.create("Post 100")
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert [refused.headers[name] for name in RATE_HEADERS] == ["100", "0", "1800000900"]
        clock.seconds += 899
        assert (await x.create("Post 100")).status_code == 429
        clock.seconds += 1
        again = await x.create("Post 100")
        assert again.status_code == 201
        assert again.headers["x-rate-limit-remaining"] == "99"

    async def test_a_refused_post_counts_against_the_limit(self, x: X) -> None:
        before = int((await x.create("Once")).headers["x-rate-limit-remaining"])
        again = await x.create("Once")
        assert again.status_code == 403
        assert int(again.headers["x-rate-limit-remaining"]) == before - 1

    async def test_the_apps_limit_of_a_day_is_told(self, x: X) -> None:
        assert (await x.create("Once")).headers["x-app-limit-24hour-remaining"] == "9999"

    async def test_an_enterprise_programme_has_room(self, start: Start) -> None:
        x = await start(profile="enterprise")
        assert (await x.create("Once")).headers["x-rate-limit-remaining"] == "999999"

    async def test_every_route_counts_once_its_caller_is_known(self, x: X) -> None:
        for method, path, status in [
            ("GET", "/2/users/me", 403),
            ("GET", "/2/users/1/tweets", 200),
            ("GET", "/2/webhooks", 200),
            ("POST", "/2/webhooks", 400),
            ("PUT", "/2/webhooks/1", 400),
            ("DELETE", "/2/webhooks/1", 400),
            ("GET", "/2/activity/subscriptions", 200),
            ("POST", "/2/activity/subscriptions", 400),
            ("DELETE", "/2/activity/subscriptions/1", 404),
            ("DELETE", "/2/connections/all", 200),
        ]:
            answer = await x.client.request(method, path, headers=APP)
            assert answer.status_code == status, (method, path, answer.text)
            assert ("x-rate-limit-limit" in answer.headers) == (status != 403), (method, path)


class TestPrice:
    async def test_a_reply_to_a_mention_is_the_cheapest(self, x: X) -> None:
        await x.create("Loaded", await x.post("1", "@TagbackDemo #Coffee"))
        assert (await x.state())["usage"]["micro_usd"] == {"summoned_reply": 10_000}

    async def test_a_link_makes_a_post_thirteen_times_as_dear(self, x: X) -> None:
        await x.create("Coffee for half")
        await x.create("Coffee for half: https://shop.example/coffee")
        usage = (await x.state())["usage"]
        assert usage["micro_usd"] == {"post_create": 15_000, "post_with_url": 200_000}
        assert usage["total_micro_usd"] == 215_000

    async def test_a_reply_to_a_stranger_costs_as_a_post(self, start: Start) -> None:
        x = await start(profile="enterprise")
        await x.people("ann")
        await x.create("Loaded", await x.post("1", "#Coffee"))
        assert (await x.state())["usage"]["micro_usd"] == {"post_create": 15_000}

    async def test_what_is_refused_costs_nothing(self, x: X) -> None:
        await x.create("Loaded", await x.post("1", "#Coffee"))
        assert (await x.state())["usage"]["total_micro_usd"] == 0


class TestOwnPosts:
    async def test_me(self, x: X) -> None:
        answer = await x.client.get("/2/users/me", headers=USER)
        assert answer.json() == {
            "data": {"id": ACCOUNT, "name": "Tagback Demo", "username": "TagbackDemo"}
        }

    async def test_newest_first_with_no_more_fields_than_asked_for(self, x: X) -> None:
        post_id = await x.post("1", "@TagbackDemo #Coffee")
        for n in range(3):
            await x.create(f"Loaded {n}", post_id)
        url = f"/2/users/{ACCOUNT}/tweets"
        plain = (await x.client.get(url, headers=USER)).json()
        assert [post["text"] for post in plain["data"]] == [f"@ann Loaded {n}" for n in (2, 1, 0)]
        assert {name for post in plain["data"] for name in post} == {
            "id",
            "text",
            "edit_history_tweet_ids",
        }
        asked = {"tweet.fields": "referenced_tweets,in_reply_to_user_id"}
        full = (await x.client.get(url, headers=USER, params=asked)).json()
        assert full["data"][0]["referenced_tweets"] == [{"type": "replied_to", "id": post_id}]
        assert full["data"][0]["in_reply_to_user_id"] == "1"

    async def test_pages_hold_every_post_after_since_id_once(self, x: X) -> None:
        ids = [(await x.create(f"Post {n}")).json()["data"]["id"] for n in range(18)]
        seen: list[str] = []
        params: dict[str, str | int] = {"max_results": 5, "since_id": ids[3]}
        for expected in (5, 5, 4):
            answer = await x.client.get(f"/2/users/{ACCOUNT}/tweets", headers=USER, params=params)
            page = answer.json()
            assert page["meta"]["result_count"] == len(page["data"]) == expected
            assert page["meta"]["newest_id"] == page["data"][0]["id"]
            seen += [post["id"] for post in page["data"]]
            params["pagination_token"] = page["meta"].get("next_token", "")
        assert seen == ids[:3:-1]
        assert params["pagination_token"] == ""

    async def test_nothing_new_is_a_page_without_data(self, x: X) -> None:
        newest = (await x.create("Post")).json()["data"]["id"]
        answer = await x.client.get(
            f"/2/users/{ACCOUNT}/tweets", headers=USER, params={"since_id": newest}
        )
        assert answer.json() == {"meta": {"result_count": 0}}

    async def test_a_bad_parameter_is_an_invalid_request(self, x: X) -> None:
        for query in (
            "max_results=4",
            "max_results=101",
            "since_id=x",
            "pagination_token=!",
            "exclude=replies",
        ):
            answer = await x.client.get(f"/2/users/{ACCOUNT}/tweets?{query}", headers=USER)
            assert answer.status_code == 400, query
            assert answer.json()["type"].endswith("/invalid-request")

    async def test_an_unknown_user_is_not_found(self, x: X) -> None:
        answer = await x.client.get("/2/users/77/tweets", headers=USER)
        assert answer.status_code == 404
        assert answer.json()["type"].endswith("/resource-not-found")
