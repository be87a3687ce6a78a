"""The rules of the filtered stream: what can be one, what it matches, and X's routes for them."""

import json
from typing import Any

import pytest
from running_x import APP, Start, X

from app.sandbox.main import SandboxSettings
from app.sandbox.posts import NewPost, make_post
from app.sandbox.records import Entry, Post
from app.sandbox.rule_language import RuleError, parse_rule
from app.sandbox.rules import subject_of
from app.sandbox.state import State

PATH = "/2/tweets/search/stream/rules"


@pytest.fixture(scope="module")
def state() -> State:
    state = State(SandboxSettings())
    for person_id, handle in (("1", "ann"), ("2", "Bob")):
        state.record(Entry(person=state.new_person(handle, id=person_id)))
    return state


def made(state: State, text: str, **more: Any) -> Post:
    post = make_post(state, NewPost(author_id=more.pop("author_id", "1"), text=text, **more))
    state.record(Entry(post=post))
    return post


def matches(state: State, rule: str, post: Post) -> bool:
    return parse_rule(rule)(subject_of(state, post))


class TestLanguage:
    @pytest.mark.parametrize(
        ("rule", "text", "expected"),
        [
            ("coffee", "I like COFFEE.", True),
            ("coffee", "I like coffees", False),
            ("coffee tea", "tea or coffee", True),
            ("coffee tea", "coffee", False),
            ("coffee OR tea", "tea", True),
            ("coffee -tea", "coffee, tea", False),
            ('"half price"', "at half-price today", True),
            ('"half price"', "price half", False),
            ('coffee -"half price"', "coffee at half price", False),
            ("#Coffee", "my #coffee!", True),
            ("#Coffee", "coffee", False),
            ("#Coffee", "#CoffeeTime", False),
            ("#caf\u00e9", "#CAF\u00c9", True),
            ("@bob", "hello @BOB", True),
            ("@bob", "bob", False),
            ("from:ann coffee", "coffee", True),
            ("from:@Ann", "coffee", True),
            ("from:1", "coffee", True),
            ("from:bob", "coffee", False),
            ("coffee lang:en", "coffee", True),
            ("coffee lang:fr", "coffee", False),
            ("coffee -lang:fr", "coffee", True),
            ("(coffee OR tea) @bob", "tea @bob", True),
            ("(coffee OR tea) @bob", "tea", False),
            ("coffee OR tea @bob", "coffee", True),
            ("@bob -(coffee OR tea)", "@bob tea", False),
            ("@bob -(coffee OR tea)", "@bob water", True),
        ],
    )
    def test_what_matches(self, state: State, rule: str, text: str, *, expected: bool) -> None:
        assert matches(state, rule, made(state, text)) is expected

    def test_kinds_of_post(self, state: State) -> None:
        plain = made(state, "coffee")
        repost = made(state, "", repost_of=plain.id, author_id="2")
        quote = made(state, "look", quote_of=plain.id, author_id="2")
        reply = made(state, "coffee too", reply_to=plain.id, author_id="2")
        for rule, found in {
            "coffee": [plain, repost, quote, reply],
            "coffee -is:retweet": [plain, quote, reply],
            "coffee is:quote": [quote],
            "coffee is:reply": [reply],
            "coffee -is:retweet -is:quote -is:reply": [plain],
            "to:ann": [reply],
            "to:bob": [],
        }.items():
            posts = [plain, repost, quote, reply]
            assert [post for post in posts if matches(state, rule, post)] == found, rule

    def test_the_text_of_a_quoted_post_matches_too(self, state: State) -> None:
        quote = made(state, "look", quote_of=made(state, "#Coffee @bob").id)
        assert matches(state, "#Coffee", quote)
        assert matches(state, "@bob", quote)
        assert not matches(state, "from:bob", quote)

    @pytest.mark.parametrize(
        "rule",
        [
            "",
            "   ",
            "()",
            "(coffee",
            "coffee)",
            '"half price',
            "coffee OR",
            "OR coffee",
            "coffee OR OR tea",
            "coffee and tea",
            "coffee or tea",
            "-coffee",
            "-(coffee)",
            "is:retweet",
            "lang:en",
            "coffee OR -tea",
            "coffee OR lang:en",
            "coffee is:verified",
            "coffee has:links",
            "coffee lang:english",
            "url:shop.example",
            "conversation_id:12",
            "from:",
            "@",
            "#",
            "coffee -",
            "\U0001f44d",
            "(" * 500 + "coffee" + ")" * 500,
        ],
    )
    def test_what_is_no_rule(self, rule: str) -> None:
        with pytest.raises(RuleError):
            parse_rule(rule)


async def change(x: X, body: Any, **params: str) -> Any:
    answer = await x.client.post(PATH, json=body, params=params, headers=APP)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def listed(x: X, **params: str) -> Any:
    return (await x.client.get(PATH, params=params, headers=APP)).json()


class TestRoutes:
    async def test_added_listed_counted_and_deleted(self, start: Start) -> None:
        x = await start()
        added = await change(x, {"add": [{"value": "#Tea", "tag": "tea"}, {"value": " #Coffee "}]})
        assert added["meta"]["summary"] == {
            "created": 2,
            "not_created": 0,
            "valid": 2,
            "invalid": 0,
        }
        tea, coffee = added["data"]
        assert tea == {"id": tea["id"], "value": "#Tea", "tag": "tea"}
        assert coffee == {"id": coffee["id"], "value": "#Coffee"}
        assert (await listed(x))["data"] == [tea, coffee]
        assert (await listed(x, ids=coffee["id"]))["data"] == [coffee]
        first = await listed(x, max_results="1")
        rest = await listed(x, pagination_token=first["meta"]["next_token"])
        assert (first["data"], rest["data"]) == ([tea], [coffee])
        counts = (await x.client.get(f"{PATH}/counts", headers=APP)).json()["data"]
        assert (counts["project_rules_count"], counts["cap_per_project"]) == ("2", "1000")
        deleted = await change(x, {"delete": {"ids": [tea["id"], "77"], "values": ["#Coffee"]}})
        assert deleted["meta"]["summary"] == {"deleted": 2, "not_deleted": 1}
        assert deleted["errors"][0]["errors"][0]["parameters"] == {"value": ["77"]}
        assert "data" not in await listed(x)

    async def test_a_duplicate_and_a_bad_rule_stop_no_other(self, start: Start) -> None:
        x = await start()
        [known] = await x.rules("#Tea")
        values = ["#Tea", "#Coffee", "coffee has:links", "#Coffee", "a" * 1_025]
        answer = await change(x, {"add": [{"value": value, "tag": "new"} for value in values]})
        assert [rule["value"] for rule in answer["data"]] == ["#Coffee"]
        assert answer["meta"]["summary"] == {
            "created": 1,
            "not_created": 4,
            "valid": 1,
            "invalid": 4,
        }
        assert answer["errors"][0] == {
            "value": "#Tea",
            "id": known,
            "title": "DuplicateRule",
            "type": "https://api.twitter.com/2/problems/duplicate-rules",
        }
        kinds = [error["type"].rpartition("/")[2] for error in answer["errors"]]
        assert kinds == ["duplicate-rules", "invalid-rules", "duplicate-rules", "invalid-rules"]
        assert (await listed(x, ids=known))["data"][0]["tag"] == "#Tea"

    async def test_self_serve_has_a_thousand(self, start: Start) -> None:
        x = await start(profile="self_serve")
        answer = await change(x, {"add": [{"value": f"#t{n}"} for n in range(1_001)]})
        assert answer["meta"]["summary"]["created"] == 1_000
        assert answer["errors"][0]["type"].endswith("/rule-cap")

    async def test_a_dry_run_changes_nothing(self, start: Start) -> None:
        x = await start()
        [kept] = await x.rules("#Tea")
        tried = await change(x, {"add": [{"value": "#Coffee"}]}, dry_run="true")
        assert tried["meta"]["summary"]["created"] == 1
        await change(x, {"delete": {"ids": [kept]}}, dry_run="true")
        assert [rule["id"] for rule in (await listed(x))["data"]] == [kept]

    async def test_all_can_be_deleted(self, start: Start) -> None:
        x = await start()
        await x.rules("#Tea", "#Coffee")
        answer = await change(x, {}, delete_all="true")
        assert answer["meta"]["summary"] == {"deleted": 2, "not_deleted": 0}
        assert "data" not in await listed(x)

    async def test_neither_or_both_is_an_invalid_request(self, start: Start) -> None:
        x = await start()
        both = {"add": [{"value": "a"}], "delete": {"ids": ["1"]}}
        for body in ({}, {"add": []}, both, {"add": ["a"]}, {"delete": {"ids": ["a"]}}):
            answer = await x.client.post(PATH, json=body, headers=APP)
            assert answer.status_code == 400, body
        user = {"authorization": "Bearer user"}
        assert (await x.client.get(PATH, headers=user)).status_code == 403


class TestStream:
    path = "/2/tweets/search/stream"

    async def test_without_rules_there_is_none(self, start: Start) -> None:
        x = await start()
        answer = await x.client.get(self.path, headers=APP)
        assert answer.status_code == 409
        assert answer.json()["connection_issue"] == "RuleConfigurationIssue"

    async def test_a_post_comes_once_with_all_the_rules_it_matches(self, start: Start) -> None:
        x = await start()
        await x.people("ann")
        tea, _, drink = await x.rules("#Tea", "#Coffee", "drink OR #Tea")
        async with x.client.stream("GET", self.path, headers=APP) as answer:
            await x.post("1", "#Water")
            post_id = await x.post("1", "#tea")
            line = json.loads(await anext(answer.aiter_lines()))
        assert line["data"]["id"] == post_id
        assert line["matching_rules"] == [
            {"id": tea, "tag": "#Tea"},
            {"id": drink, "tag": "drink OR #Tea"},
        ]
        assert (await x.state())["usage"]["counts"] == {"post_read": 1}

    async def test_a_change_takes_its_time(self, start: Start) -> None:
        now = [1_800_000_000.0]
        x = await start(clock=lambda: now[0], rules_effective_seconds=20)
        await x.people("ann")
        [rule_id] = await x.rules("#Tea")
        unheard = []
        for step in ("added", "heeded", "deleted", "gone"):
            if step == "deleted":
                await change(x, {"delete": {"ids": [rule_id]}})
            await x.post("1", f"#Tea {step}")
            unheard.append((await x.state())["events"]["filtered_stream"]["unheard"])
            now[0] += 20
        assert unheard == [0, 1, 2, 2]
