import html
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running_x import Start, X

from app.sandbox.main import SandboxSettings
from app.sandbox.posts import NewPost, make_post, show_post
from app.sandbox.records import Entry
from app.sandbox.state import State


@pytest.fixture(scope="module")
def state() -> State:
    state = State(SandboxSettings())
    for person_id, handle in (("1", "ann"), ("2", "Bob")):
        state.record(Entry(person=state.new_person(handle, id=person_id)))
    return state


def made(state: State, text: str, **more: Any) -> dict[str, Any]:
    post = make_post(state, NewPost(author_id=more.pop("author_id", "1"), text=text, **more))
    state.record(Entry(post=post))
    return show_post(post)


class TestEntities:
    def test_indices_are_code_points_of_the_escaped_text(self, state: State) -> None:
        post = made(state, "Tom & Jerry <3 👩‍🍳 #Café & @bob > #b")
        assert post["text"] == "Tom &amp; Jerry &lt;3 👩‍🍳 #Café &amp; @bob &gt; #b"
        found = [
            post["text"][entity["start"] : entity["end"]]
            for kind in ("hashtags", "mentions")
            for entity in post["entities"][kind]
        ]
        assert found == ["#Café", "#b", "@bob"]
        assert post["entities"]["mentions"][0]["username"] == "Bob"
        assert post["entities"]["mentions"][0]["id"] == "2"

    @given(text=st.text(st.sampled_from("&<>;#@abBo \n_é界👍"), min_size=1).filter(str.strip))
    def test_an_entity_points_at_itself_whatever_stands_around_it(
        self, state: State, text: str
    ) -> None:
        post = show_post(make_post(state, NewPost(author_id="1", text=text)))
        assert html.unescape(post["text"]) == text
        for tag in post.get("entities", {}).get("hashtags", ()):
            assert post["text"][tag["start"] : tag["end"]] == "#" + tag["tag"]
        for mention in post.get("entities", {}).get("mentions", ()):
            shown = post["text"][mention["start"] : mention["end"]]
            assert shown.lower() == "@" + mention["username"].lower()

    @pytest.mark.parametrize(
        "text", ["@nobody hello", "mail@bob", "&@bob", "@bob@example", "@bobé", "@bob://x"]
    )
    def test_what_is_no_mention(self, state: State, text: str) -> None:
        assert "mentions" not in made(state, text).get("entities", {})

    def test_a_post_without_any_has_no_entities(self, state: State) -> None:
        assert "entities" not in made(state, "hello")


class TestLongPost:
    def test_its_text_is_cut_and_its_tags_may_stand_only_in_the_note(self, state: State) -> None:
        whole = "word & " * 60 + "#Coffee @bob"
        post = made(state, "", long_text=whole)
        assert len(html.unescape(post["text"])) <= 280
        assert post["text"].endswith("…")
        assert "entities" not in post
        note = post["note_tweet"]
        assert html.unescape(note["text"]) == whole
        [tag] = note["entities"]["hashtags"]
        assert note["text"][tag["start"] : tag["end"]] == "#Coffee"

    def test_a_text_over_280_that_comes_alone_is_long_too(self, state: State) -> None:
        post = made(state, "word " * 60 + "#Coffee")
        assert len(post["text"]) <= 280
        assert post["note_tweet"]["entities"]["hashtags"][0]["tag"] == "Coffee"
        assert "note_tweet" not in made(state, "a" * 280)

    def test_a_cut_makes_no_other_hashtag(self, state: State) -> None:
        post = made(state, "", long_text="x" * 270 + " #CoffeeForEveryone and so on")
        assert "hashtags" not in post.get("entities", {})


class TestRepost:
    def test_it_is_cut_near_140_and_loses_tags(self, state: State) -> None:
        original = made(state, "@TagbackDemo " + "very " * 30 + "good #Coffee")
        post = made(state, "", author_id="2", repost_of=original["id"])
        assert post["text"].startswith("RT @ann: @TagbackDemo very")
        assert len(post["text"]) <= 140
        assert "hashtags" not in post["entities"]
        assert post["referenced_tweets"] == [{"type": "retweeted", "id": original["id"]}]


class TestQuote:
    def test_it_ends_in_a_link_that_is_an_entity(self, state: State) -> None:
        original = made(state, "#Coffee")
        post = made(state, "look & see", quote_of=original["id"])
        [link] = post["entities"]["urls"]
        assert post["text"][link["start"] : link["end"]] == link["url"]
        assert link["expanded_url"].endswith(original["id"])
        assert post["referenced_tweets"] == [{"type": "quoted", "id": original["id"]}]


class TestReply:
    def test_it_begins_with_the_handle_and_stays_in_the_conversation(self, state: State) -> None:
        root = made(state, "#Coffee")
        reply = made(state, "me too", author_id="2", reply_to=root["id"])
        answer = made(state, "@bob you too", reply_to=reply["id"])
        assert reply["text"] == "@ann me too"
        assert reply["display_text_range"] == [5, 11]
        assert answer["text"] == "@bob you too"
        assert reply["in_reply_to_user_id"] == "1"
        assert {reply["conversation_id"], answer["conversation_id"]} == {root["id"]}


class TestEdit:
    def test_each_has_a_new_id_and_the_history_from_the_root(self, state: State) -> None:
        root = made(state, "#Cofee")["id"]
        second = made(state, "#Coffe", edit_of=root)["id"]
        third = made(state, "#Coffee", edit_of=root)
        assert third["edit_history_tweet_ids"] == [root, second, third["id"]]
        assert third["edit_controls"]["edits_remaining"] == 3
        assert third["conversation_id"] == root

    def test_nobody_edits_the_post_of_another(self, state: State) -> None:
        root = made(state, "#Coffee")["id"]
        with pytest.raises(ValueError, match="another author"):
            made(state, "#Tea", author_id="2", edit_of=root)


class TestId:
    def test_it_tells_the_time_of_the_post(self, state: State) -> None:
        at = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
        ids = [int(made(state, "hello", created_at=at)["id"]) for _ in range(3)]
        assert len(set(ids)) == 3
        assert {(post_id >> 22) + 1_288_834_974_657 for post_id in ids} == {at.timestamp() * 1000}


class TestSendingThem:
    async def test_lines_may_be_split_anywhere(self, start: Start) -> None:
        x = await start()
        await x.people("ann")
        body = "\r\n".join(json.dumps({"author_id": "1", "text": f"café {n}"}) for n in range(50))

        async def in_pieces() -> AsyncIterator[bytes]:
            raw = body.encode()
            for start_at in range(0, len(raw), 11):
                yield raw[start_at : start_at + 11]

        answer = await x.client.post("/sandbox/posts", content=in_pieces())
        assert answer.json()["accepted"] == 50
        assert len(set(answer.json()["ids"])) == 50

    async def test_a_bad_line_stops_nothing_and_says_why(self, start: Start) -> None:
        x = await start()
        await x.people("ann")
        body = (
            '{"author_id": "1", "text": "one"}\n'
            '{"author_id": "9", "text": "who"}\n'
            "not json\n"
            "\n"
            '{"author_id": "1", "text": "two", "edit_of": "404"}\n'
            '{"author_id": "1", "text": " "}\n'
            '{"author_id": "1", "text": "three", "created_at": "2026-03-01T10:00:00"}\n'
            '{"author_id": "1", "text": "lone \\ud800"}\n'
            '{"author_id": "1", "text": "four"}'
        )
        answer = await x.client.post("/sandbox/posts", content=body)
        assert answer.status_code == 200
        outcome = answer.json()
        assert (outcome["accepted"], outcome["rejected"]) == (2, 6)
        reasons = {rejection["line"]: rejection["reason"] for rejection in outcome["rejections"]}
        assert list(reasons) == [2, 3, 5, 6, 7, 8]
        assert "is nobody here" in reasons[2]
        assert "404 is no post here" in reasons[5]
        assert (await x.state())["posts"] == 2

    async def test_when_every_line_is_bad_the_request_is(self, start: Start) -> None:
        x = await start()
        answer = await x.client.post("/sandbox/posts", content="{}")
        assert answer.status_code == 400

    async def test_the_same_id_again_is_a_repetition(self, start: Start) -> None:
        x = await start()
        await x.people("ann")
        await x.post("1", "once", id="77")
        again = {"author_id": "1", "text": "once more", "id": "77"}
        answer = (await x.client.post("/sandbox/posts", json=again)).json()
        assert (answer["accepted"], answer["repeated"], answer["ids"]) == (0, 1, ["77"])
        assert (await x.state())["posts"] == 1

    async def test_replies_are_listed_in_pages(self, start: Start) -> None:
        x = await start(profile="enterprise")
        await x.people("ann")
        post_id = await x.post("1", "#Coffee")
        await x.create("no reply")
        for n in range(5):
            await x.create(f"Loaded {n}", post_id)
        seen: list[dict[str, str]] = []
        cursor: str | None = "0"
        while cursor:
            params = {"cursor": cursor, "limit": "2"}
            page = (await x.client.get("/sandbox/replies", params=params)).json()
            seen += page["items"]
            cursor = page["next_cursor"]
        assert [reply["text"] for reply in seen] == [f"Loaded {n}" for n in range(5)]
        assert {reply["in_reply_to_id"] for reply in seen} == {post_id}

    async def test_the_oldest_posts_are_forgotten_past_the_limit(self, start: Start) -> None:
        x = await start(profile="enterprise", posts_kept_max=3)
        await x.people("ann")
        ids = [await x.post("1", f"post {n}") for n in range(5)]
        assert (await x.state())["posts"] == 3
        assert (await x.create("Loaded", ids[0])).status_code == 403
        assert (await x.create("Loaded", ids[4])).status_code == 201


class TestPeople:
    async def test_one_list_or_a_line_each(self, start: Start) -> None:
        x = await start()
        await x.people("ann", "bob")
        lines = '{"handle": "cat"}\n{"handle": "dan", "followers": 3, "default_picture": true}\n'
        answer = await x.client.post("/sandbox/people", content=lines)
        assert answer.json()["accepted"] == 2
        assert (await x.state())["people"] == 5

    async def test_a_handle_belongs_to_one_and_may_be_changed(self, start: Start) -> None:
        x = await start()
        await x.people("ann", "bob")
        taken = await x.client.post("/sandbox/people", json={"id": "2", "handle": "ANN"})
        assert "belongs to 1" in taken.json()["rejections"][0]["reason"]
        await x.client.post("/sandbox/people", json={"id": "1", "handle": "anna"})
        await x.client.post("/sandbox/people", json={"id": "2", "handle": "ann"})
        assert (await x.state())["people"] == 3

    async def test_accounts_that_look_made_for_the_purpose_show_it(self, start: Start) -> None:
        x = await start()
        person = {
            "id": "1",
            "handle": "fresh",
            "created_at": "2026-08-01T00:00:00Z",
            "followers": 0,
            "default_picture": True,
        }
        await x.client.post("/sandbox/people", json=person)
        shown = await self.as_seen(x)
        assert shown["created_at"] == "2026-08-01T00:00:00.000Z"
        assert shown["public_metrics"]["followers_count"] == 0
        assert "default_profile" in shown["profile_image_url"]

    async def as_seen(self, x: X) -> dict[str, Any]:
        await x.rules("hello")
        fields = "created_at,public_metrics,profile_image_url"
        async with x.client.stream(
            "GET",
            "/2/tweets/search/stream",
            headers={"authorization": "Bearer app"},
            params={"expansions": "author_id", "user.fields": fields},
        ) as answer:
            await x.post("1", "hello")
            line = json.loads(await anext(answer.aiter_lines()))
        user: dict[str, Any] = line["includes"]["users"][0]
        return user
