"""The yardstick itself: what it takes for wrong, and what X was recorded to say for right."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.sandbox.main import SandboxServer, SandboxSettings
from tests.openapi import Documents, Exchange, documents
from tests.stand_in import serving
from tests.watching import TESTER, watched

JSON = "application/json"
CREATE = Exchange(
    "POST",
    "/2/tweets",
    content_type=JSON,
    sent=b'{"text": "Loaded", "reply": {"in_reply_to_tweet_id": "1"}}',
    status=201,
    answer_type=JSON + "; charset=utf-8",
    said=b'{"data": {"id": "2", "text": "Loaded"}}',
)
MENTIONS = Exchange(
    "GET",
    "/2/users/1/mentions",
    "max_results=100&since_id=5&tweet.fields=author_id,created_at",
    status=200,
    answer_type=JSON,
    said=b'{"data": [{"id": "7", "text": "hello"}], "meta": {"result_count": 1}}',
)
STREAM = Exchange(
    "GET",
    "/2/tweets/search/stream",
    status=200,
    answer_type=JSON,
    said=b'\r\n{"data": {"id": "7", "text": "a"}, "matching_rules": [{"id": "1"}]}\r\n\r\n{"da',
)
REFUSED = replace(
    CREATE,
    status=403,
    answer_type="application/problem+json",
    said=b'{"title": "Forbidden", "detail": "No.", "type": "about:blank", "status": 403}',
)


@pytest.fixture
def x(shared: Path) -> Documents:
    found = documents()
    assert found
    return found


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("exchange", "fault"),
        [
            (replace(CREATE, path="/2/twits"), "is an operation of neither edition"),
            (replace(CREATE, method="PUT"), "is an operation of neither edition"),
            (replace(CREATE, sent=b'{"text": 1}'), "request: body $.text: 1 is not of type"),
            (replace(CREATE, sent=b'{"txt": "a"}'), "request: body $: Additional properties"),
            (replace(CREATE, sent=b'{"text": "a", "reply": {}}'), "request: body $.reply: "),
            (replace(CREATE, sent=b""), "request: body: is missing"),
            (replace(CREATE, sent=b"{"), "request: body: no JSON"),
            (replace(CREATE, content_type="text/plain"), "request: body: content type"),
            (replace(CREATE, status=200), "answer 200: status 200: is not among its own"),
            (replace(CREATE, answer_type="text/html"), "answer 201: content type"),
            (replace(CREATE, said=b"{"), "answer 201: no JSON"),
            (
                replace(CREATE, said=b'{"data": {"id": 2, "text": "a"}}'),
                "answer 201: $.data.id: 2 is not of type 'string'",
            ),
        ],
    )
    def test_of_a_post(self, x: Documents, exchange: Exchange, fault: str) -> None:
        assert x.faults(CREATE) == []
        assert any(found.startswith(fault) for found in x.faults(exchange)), x.faults(exchange)

    @pytest.mark.parametrize(
        ("query", "fault"),
        [
            ("max_result=100", "query max_result: unknown"),
            ("max_results=ten", "query max_results: $: 'ten' is not of type 'integer'"),
            ("max_results=4", "query max_results: $: 4 is less than the minimum of 5"),
            ("since_id=x", "query since_id: $: 'x' does not match"),
            ("start_time=2026-03-01", "query start_time: $: '2026-03-01' is not a 'date-time'"),
            ("tweet.fields=author_id,authr", "query tweet.fields: $[1]: 'authr' is not one of"),
            ("tweet.fields=", "query tweet.fields: $[0]: '' is not one of"),
        ],
    )
    def test_of_a_query(self, x: Documents, query: str, fault: str) -> None:
        assert x.faults(MENTIONS) == []
        [found] = x.faults(replace(MENTIONS, query=query))
        assert found.startswith(f"request: {fault}")

    def test_a_parameter_that_must_be_given(self, x: Documents) -> None:
        search = replace(MENTIONS, path="/2/tweets/search/recent", query="max_results=10")
        assert x.faults(search) == ["request: query query: is missing"]

    def test_a_path(self, x: Documents) -> None:
        [found] = x.faults(replace(MENTIONS, path="/2/users/ann/mentions"))
        assert found.startswith("request: path id: $: 'ann' does not match")

    @pytest.mark.parametrize(
        ("line", "fault"),
        [
            ({"data": {"id": "7", "text": "a", "author": "9"}}, "('author' was unexpected)"),
            ({"data": {"id": "7", "text": "a", "created_at": "now"}}, "is not a 'date-time'"),
            ({"data": {"id": "7", "text": 7}}, "$.data.text: 7 is not of type 'string'"),
            ({"data": {"id": "7", "text": "a"}, "matching_rules": [{}]}, "'id' is a required"),
            ({"errors": [{"title": "gone"}]}, "$.errors[0]: $: is no problem with a type"),
        ],
    )
    def test_of_a_line_of_a_stream(self, x: Documents, line: object, fault: str) -> None:
        assert x.faults(STREAM) == []
        said = json.dumps(line).encode() + b"\r\n" + STREAM.said
        [found] = x.faults(replace(STREAM, said=said))
        assert fault in found

    @pytest.mark.parametrize(
        ("body", "fault"),
        [
            ({"title": "Forbidden"}, "is no problem with a type"),
            ({"type": "about:blank"}, "'title' is a required property"),
            ({"type": "https://x.test/2/problems/credits", "title": "a"}, "neither of X's hosts"),
            ({"type": "https://api.x.com/2/problems/odd", "title": "a"}, "neither documented nor"),
            ({"type": "about:blank", "title": "a", "details": "b"}, "('details' was unexpected)"),
        ],
    )
    def test_of_a_refusal(self, x: Documents, body: object, fault: str) -> None:
        assert x.faults(REFUSED) == []
        [found] = x.faults(replace(REFUSED, said=json.dumps(body).encode()))
        assert fault in found

    def test_a_caller_whom_the_operation_does_not_know(self, x: Documents) -> None:
        assert x.faults(replace(CREATE, scheme="OAuth2UserToken")) == []
        assert x.faults(replace(CREATE, scheme="BearerToken")) == [
            "request: BearerToken: is not among ['OAuth2UserToken', 'UserToken']"
        ]

    def test_a_problem_under_the_wrong_content_type(self, x: Documents) -> None:
        assert x.faults(replace(REFUSED, answer_type=JSON))

    def test_the_names_of_two_editions_in_one_post(self, x: Documents) -> None:
        old = {"id": "7", "edit_history_tweet_ids": ["7"], "note_tweet": {"text": "a"}}
        new = {"id": "7", "edit_history_post_ids": ["7"], "note_post": {"text": "a"}}
        mixed = {"id": "7", "edit_history_tweet_ids": ["7"], "note_post": {"text": "a"}}
        for post, is_right in ((old, True), (new, True), (mixed, False)):
            said = json.dumps({"data": {"text": "a", **post}}).encode() + b"\r\n"
            assert (x.faults(replace(STREAM, said=said)) == []) == is_right, post


class TestWhatIsRight:
    def test_recorded_refusals(self, x: Documents, shared: Path) -> None:
        observed = json.loads((shared / "x/samples/errors_observed.json").read_text())
        bodies = [case["body"] for case in observed.values() if "body" in case]
        assert len(bodies) == 7
        for body in bodies:
            for problem in body["errors"] if "title" not in body else [body]:
                assert x.problem_faults(problem) == [], problem

    @pytest.mark.parametrize("host", ["https://api.twitter.com", "https://api.x.com"])
    def test_a_problem_under_either_host(self, x: Documents, host: str) -> None:
        kinds = {
            "streaming-connection": {"connection_issue": "TooManyConnections"},
            "invalid-request": {"detail": "No.", "errors": [{"message": "no", "parameters": {}}]},
        }
        for kind, more in kinds.items():
            problem = {"type": f"{host}/2/problems/{kind}", "title": "a", **more}
            assert x.problem_faults(problem) == []

    def test_an_error_in_the_style_of_version_1(self, x: Documents) -> None:
        said = b'{"errors": [{"code": 88, "message": "Rate limit exceeded"}]}'
        assert x.faults(replace(REFUSED, status=429, answer_type=JSON, said=said)) == []

    def test_recorded_answers(self, x: Documents, shared: Path) -> None:
        path = shared / "x/samples/create_post_and_me_recorded.json"
        recorded: list[dict[str, Any]] = json.loads(path.read_text())
        judged = 0
        for case in recorded:
            exchange = Exchange(
                case["method"],
                httpx.URL(case["uri"]).path,
                content_type=JSON,
                sent=None,
                status=case["status"]["code"],
                answer_type=JSON,
                said=case["body"].encode(),
            )
            if "community_id" not in case["body"]:  # which X answered in no edition
                assert x.faults(exchange) == [], case
                judged += 1
        assert judged > 3

    def test_a_recorded_line_and_a_direct_message(self, x: Documents, shared: Path) -> None:
        for path, name in (
            ("/2/tweets/search/stream", "stream_2022_hashtags_no_author.json"),
            ("/2/activity/stream", "xaa_2026_dm.received.json"),
        ):
            recorded = json.loads((shared / "x/samples" / name).read_text())
            said = json.dumps(recorded).encode() + b"\r\n"
            assert x.faults(replace(STREAM, path=path, said=said)) == []


class TestWatching:
    overlooked = "/2/users/1000000000000000001/tweets?max_resluts=5"
    refused = "/2/users/1000000000000000001/tweets?max_results=1"

    async def asked(self, path: str, headers: dict[str, str]) -> None:
        server = SandboxServer(SandboxSettings(app_token="app"), port=0)
        with watched(server):
            async with serving(server) as address, httpx.AsyncClient(base_url=address) as client:
                await client.get(path, headers={"authorization": "Bearer app", **headers})

    @pytest.mark.usefixtures("x")
    async def test_what_is_wrong_fails_the_test_at_its_end(self) -> None:
        for path, told in (
            (self.overlooked, "query max_resluts: unknown"),
            (self.refused, "query max_results: "),
        ):
            with pytest.raises(pytest.fail.Exception, match=told):
                await self.asked(path, {})

    @pytest.mark.usefixtures("x")
    async def test_a_tester_may_ask_for_what_is_wrong_if_it_is_refused(self) -> None:
        await self.asked(self.refused, TESTER)
        with pytest.raises(pytest.fail.Exception, match="query max_resluts: unknown"):
            await self.asked(self.overlooked, TESTER)

    async def test_it_knows_the_operations_it_has_seen(self, x: Documents) -> None:
        server = SandboxServer(SandboxSettings(user_token="user"), port=0)
        with watched(server) as watch:
            async with serving(server) as address, httpx.AsyncClient(base_url=address) as client:
                await client.get("/2/users/me", headers={"authorization": "Bearer user"})
                await client.get("/2/webhooks")
                await client.get("/sandbox/state")
        assert watch.operations(x) == {"GET /2/users/me"}
