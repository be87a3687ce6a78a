"""OAuth 2.0 as X does it: the page, the code, tokens that end and rotate."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from running_x import APP, Listen, Start, X, running_x

VERIFIER = "v" * 43
CHALLENGE = (
    base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
)
BACK = "http://127.0.0.1:9/link/callback"
ASKED = {
    "response_type": "code",
    "client_id": "sandbox-client-id",
    "redirect_uri": BACK,
    "scope": "tweet.read tweet.write users.read offline.access",
    "state": "a state & more",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}
BASIC = ("sandbox-client-id", "sandbox-client-secret")


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def x(start: Start, clock: Clock) -> X:
    x = await start(clock=clock)
    await x.people("ann")
    return x


async def decide(x: X, *, decision: str = "allow", handle: str = "ann", **more: str) -> Any:
    """The query with which the person comes back."""
    form = {**ASKED, **more, "handle": handle, "decision": decision}
    answer = await x.client.post("/i/oauth2/authorize", data=form)
    assert answer.status_code == 302, answer.text
    place = urlsplit(answer.headers["location"])
    assert place._replace(query="").geturl() == more.get("redirect_uri", BACK).partition("?")[0]
    return {name: values[0] for name, values in parse_qs(place.query).items()}


async def exchange(x: X, code: str, **more: Any) -> httpx.Response:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": BACK,
        "code_verifier": VERIFIER,
        **more,
    }
    return await x.client.post("/2/oauth2/token", data=form, auth=BASIC)


async def refresh(x: X, token: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return await x.client.post("/2/oauth2/token", data=form, auth=BASIC)


async def tokens(x: X, **more: str) -> Any:
    answer = await exchange(x, (await decide(x, **more))["code"])
    assert answer.status_code == 200, answer.text
    return answer.json()


async def me(x: X, token: str) -> httpx.Response:
    return await x.client.get("/2/users/me", headers={"authorization": f"Bearer {token}"})


def refused(answer: httpx.Response, words: str, *, status: int = 400) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error", "error_description"}
    assert words in answer.json()["error_description"]


class TestPage:
    async def test_it_says_what_the_app_may_do_and_its_form_holds_what_was_asked(
        self, x: X
    ) -> None:
        page = await x.client.get("/i/oauth2/authorize", params=ASKED)
        assert page.status_code == 200
        assert "Post and repost on your behalf." in page.text
        assert 'name="viewport"' in page.text
        assert 'value="a state &amp; more"' in page.text

    @pytest.mark.parametrize(
        "wrong",
        [
            {"client_id": "another"},
            {"redirect_uri": "https://evil.example/callback"},
            {"redirect_uri": "javascript:alert(1)"},
            {"redirect_uri": ""},
            {"response_type": "token"},
            {"scope": "tweet.read everything"},
            {"scope": ""},
            {"state": ""},
            {"state": "s" * 501},
            {"code_challenge_method": "plain"},
            {"code_challenge": ""},
            {"code_challenge": VERIFIER + "="},
        ],
    )
    async def test_a_wrong_question_is_refused_and_leads_nowhere(
        self, x: X, wrong: dict[str, str]
    ) -> None:
        form = {**ASKED, **wrong, "handle": "ann", "decision": "allow"}
        for answer in (
            await x.client.get("/i/oauth2/authorize", params={**ASKED, **wrong}),
            await x.client.post("/i/oauth2/authorize", data=form),
        ):
            assert answer.status_code == 400
            assert "location" not in answer.headers
            assert next(iter(wrong)) in answer.text

    async def test_only_registered_addresses_when_there_are_any(self, start: Start) -> None:
        there = "https://tagback.example/callback?from=x"
        x = await start(redirect_uris=(there,))
        back = await decide(x, redirect_uri=there)
        assert back.keys() == {"from", "code", "state"}
        answer = await x.client.get("/i/oauth2/authorize", params=ASKED)
        assert answer.status_code == 400

    async def test_who_declines_comes_back_without_a_code(self, x: X) -> None:
        assert await decide(x, decision="decline") == {
            "error": "access_denied",
            "state": "a state & more",
        }

    async def test_who_names_no_handle_is_asked_again(self, x: X) -> None:
        form = {**ASKED, "handle": "", "decision": "allow"}
        answer = await x.client.post("/i/oauth2/authorize", data=form)
        assert answer.status_code == 400
        assert "a handle is 1 to 15 letters" in answer.text
        assert CHALLENGE in answer.text


class TestCode:
    async def test_it_gives_a_token_of_the_person(self, x: X) -> None:
        back = await decide(x, handle="@Zoe")
        assert back["state"] == "a state & more"
        given = (await exchange(x, back["code"])).json()
        assert given.keys() == {
            "token_type",
            "expires_in",
            "access_token",
            "scope",
            "refresh_token",
        }
        assert (given["token_type"], given["expires_in"]) == ("bearer", 7200)
        assert given["scope"] == ASKED["scope"]
        person = (await me(x, given["access_token"])).json()["data"]
        assert person["username"] == "Zoe"

    async def test_without_offline_access_there_is_no_refresh_token(self, x: X) -> None:
        assert "refresh_token" not in await tokens(x, scope="tweet.read users.read")

    async def test_it_is_used_once(self, x: X) -> None:
        code = (await decide(x))["code"]
        assert (await exchange(x, code)).status_code == 200
        refused(await exchange(x, code), "authorization code was invalid")

    async def test_it_lives_30_seconds(self, x: X, clock: Clock) -> None:
        early, late = (await decide(x))["code"], (await decide(x))["code"]
        clock.seconds += 29
        assert (await exchange(x, early)).status_code == 200
        clock.seconds += 1
        refused(await exchange(x, late), "authorization code was invalid")

    async def test_it_wants_the_same_address_and_the_verifier(self, x: X) -> None:
        for wrong, words in (
            ({"redirect_uri": BACK + "/"}, "redirect uri"),
            ({"code_verifier": "w" * 43}, "code verifier"),
            ({"code_verifier": ""}, "Missing required parameter [code_verifier]"),
        ):
            refused(await exchange(x, (await decide(x))["code"], **wrong), words)

    async def test_a_client_must_show_who_it_is(self, x: X) -> None:
        form = {
            "grant_type": "authorization_code",
            "code": (await decide(x))["code"],
            "redirect_uri": BACK,
            "code_verifier": VERIFIER,
        }
        post = x.client.post
        path = "/2/oauth2/token"
        bad = await post(path, data=form, auth=("sandbox-client-id", "another"))
        refused(bad, "authorization header", status=401)
        refused(await post(path, data=form), "client_id")
        refused(await post(path, data={**form, "client_id": "another"}), "client id")
        public = await post(path, data={**form, "client_id": "sandbox-client-id"})
        assert public.status_code == 200

    async def test_another_grant_is_not_offered(self, x: X) -> None:
        answer = await x.client.post("/2/oauth2/token", data={"grant_type": "password"}, auth=BASIC)
        assert answer.json()["error"] == "unsupported_grant_type"


class TestDisconnecting:
    async def test_it_ends_all_and_is_told_unasked(self, x: X, listen: Listen) -> None:
        receiver = await listen()
        await x.register(receiver.url)
        given = await tokens(x)
        other = await tokens(x, handle="zoe")
        async with x.client.stream("GET", "/2/activity/stream", headers=APP) as stream:
            ended = await x.client.delete("/sandbox/people/1/grants")
            event = json.loads(await anext(stream.aiter_lines()))["data"]
        assert ended.json() == {"ended": 1}
        await x.events("webhook")
        assert [json.loads(body)["data"] for _, body in receiver.received] == [event]
        assert (event["event_type"], event["filter"]) == ("oauth.revoke", {})
        assert event["payload"] == {
            "date_time": "2027-01-15T08:00:00+00:00",
            "user_id": "1",
            "app_id": "10000001",
        }
        assert (await me(x, given["access_token"])).status_code == 401
        refused(await refresh(x, given["refresh_token"]), "token was invalid")
        assert (await me(x, other["access_token"])).status_code == 200
        again = await x.client.delete("/sandbox/people/1/grants")
        assert again.json() == {"ended": 0}


class TestTokens:
    async def test_an_access_token_lives_two_hours(self, x: X, clock: Clock) -> None:
        token = (await tokens(x))["access_token"]
        clock.seconds += 7_199
        assert (await me(x, token)).status_code == 200
        clock.seconds += 1
        assert (await me(x, token)).status_code == 401

    async def test_a_refresh_token_rotates_and_the_old_one_is_dead(self, x: X) -> None:
        first = await tokens(x)
        second = (await refresh(x, first["refresh_token"])).json()
        assert second["refresh_token"] != first["refresh_token"]
        assert (await me(x, second["access_token"])).status_code == 200
        refused(await refresh(x, first["refresh_token"]), "token was invalid")
        assert (await refresh(x, second["refresh_token"])).status_code == 200

    async def test_revoking_ends_both(self, x: X) -> None:
        for name in ("access_token", "refresh_token"):
            given = await tokens(x)
            form = {"token": given[name], "token_type_hint": name}
            answer = await x.client.post("/2/oauth2/revoke", data=form, auth=BASIC)
            assert answer.json() == {"revoked": True}
            assert (await me(x, given["access_token"])).status_code == 401
            refused(await refresh(x, given["refresh_token"]), "token was invalid")

    async def test_scopes_are_kept_to(self, x: X) -> None:
        token = (await tokens(x, scope="tweet.read users.read"))["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        answer = await x.client.post("/2/tweets", json={"text": "hello"}, headers=headers)
        assert (answer.status_code, answer.json()["detail"]) == (403, "Forbidden")
        assert (await me(x, token)).status_code == 200

    async def test_a_post_is_of_whom_the_token_is_of(self, x: X) -> None:
        token = (await tokens(x))["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        answer = await x.client.post("/2/tweets", json={"text": "hello"}, headers=headers)
        assert answer.status_code == 201
        again = await x.client.post("/2/tweets", json={"text": "hello"}, headers=headers)
        assert "duplicate content" in again.json()["detail"]
        mine = await x.client.get("/2/users/1/tweets", headers=APP)
        assert [post["id"] for post in mine.json()["data"]] == [answer.json()["data"]["id"]]

    async def test_each_person_has_limits_of_his_own(self, x: X) -> None:
        for handle in ("ann", "zoe"):
            answer = await me(x, (await tokens(x, handle=handle))["access_token"])
            assert answer.headers["x-rate-limit-remaining"] == "74"

    async def test_a_refresh_token_outlives_a_restart_and_is_written_nowhere(
        self, tmp_path: Path
    ) -> None:
        data_file = tmp_path / "x.ndjson"
        async with running_x(data_file=data_file) as x:
            first = await tokens(x)
            second = (await refresh(x, first["refresh_token"])).json()
        kept = data_file.read_text()
        assert not any(token in kept for given in (first, second) for token in given.values()
                       if isinstance(token, str) and len(token) > 60)  # fmt: skip
        async with running_x(data_file=data_file) as x:
            assert (await me(x, second["access_token"])).status_code == 401
            refused(await refresh(x, first["refresh_token"]), "token was invalid")
            third = (await refresh(x, second["refresh_token"])).json()
            person = (await me(x, third["access_token"])).json()["data"]
            assert person["username"] == "ann"
