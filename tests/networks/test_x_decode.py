import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from x_messages import (
    DECODER,
    POST_ID,
    POSTED_AT,
    PROGRAMME_ID,
    USER,
    decoded,
    event,
    fields,
    ignored,
    line_of,
    refused,
    streamed,
    tagged,
)

from app.networks.post import (
    AccessRevoked,
    MalformedPost,
    Message,
    Messages,
    NotAPost,
    Post,
    PostRemoved,
    StreamEnded,
)
from app.networks.x.decode import KEEP_ALIVE, POST_EVENTS, TAGS_MAX, XDecoder
from app.networks.x.notices import HEEDED


def message(message_id: str, text: str) -> dict[str, object]:
    created = {"sender_id": "111", "message_data": {"text": text}}
    return {
        "type": "message_create",
        "id": message_id,
        "created_timestamp": "1783430823813",
        "message_create": created,
    }


def to_programme(text: str) -> dict[str, object]:
    """As a stream tells it that was asked for entities."""
    return {"text": text, "entities": {"mentions": [{"id": PROGRAMME_ID, "username": "MyBot"}]}}


class TestSamples:
    """What X sends and documents."""

    def test_every_documented_event_is_a_post_or_ignored(self, shared: Path):
        events = json.loads((shared / "x/samples/xaa_docs_event_payloads.json").read_bytes())
        read = {name: DECODER.decode(line_of(message)) for name, message in events.items()}
        assert read.pop("Event envelope") == NotAPost("post.create:empty")
        posts = {name: post for name, post in read.items() if isinstance(post, Post)}
        assert posts.keys() == POST_EVENTS
        assert {name for name, post in posts.items() if post.is_repost} == {"post.repost.create"}
        assert all(
            read[name] == NotAPost(name) for name in read.keys() - POST_EVENTS - HEEDED.keys()
        )
        assert read["post.delete"] == PostRemoved("x", "2080761269309813134")
        assert read["oauth.revoke"] == AccessRevoked(
            "x", "1111111111111111111", datetime(2026, 7, 23, 21, 44, 5, tzinfo=UTC)
        )
        assert len(read) > len(posts)

    def test_a_recorded_mention(self, shared: Path):
        line = (shared / "x/samples/xaa_2026_post.mention.create.json").read_bytes()
        assert DECODER.decode(line) == Post(
            network="x",
            id=POST_ID,
            root_id=POST_ID,
            author_id="111111111",
            posted_at=POSTED_AT,
            tags=(),
            mentions_programme=True,
            is_repost=False,
            lang="en",
        )

    def test_a_recorded_direct_message_comes_without_its_text(self, shared: Path):
        line = (shared / "x/samples/xaa_2026_dm.received.json").read_bytes()
        sent_at = datetime(2026, 7, 7, 13, 27, 3, 813_000, tzinfo=UTC)
        message = Message("1900000000000000003", "111111111", sent_at, asks_to_stop=False)
        assert DECODER.decode(line) == Messages("x", (message,))
        assert "your alt" not in repr(DECODER.decode(line))

    def test_a_recorded_stream_line(self, shared: Path):
        line = (shared / "x/samples/stream_2022_with_author_expansion.json").read_bytes()
        post = DECODER.decode(line)
        assert isinstance(post, Post)
        assert (post.id, post.root_id, post.author_id) == (
            "1534359106945003520",
            "1534359106945003520",
            "15899943",
        )
        assert post.posted_at == datetime(2022, 6, 8, 2, 18, 12, tzinfo=UTC)

    def test_a_recorded_stream_line_without_author_is_refused(self, shared: Path):
        line = (shared / "x/samples/stream_2022_hashtags_no_author.json").read_bytes()
        assert refused(line) == "author_id is missing."

    def test_with_its_author_it_has_its_tags_and_the_day_of_its_id(self, shared: Path):
        line = (shared / "x/samples/stream_2022_hashtags_no_author.json").read_bytes()
        message = json.loads(line)
        message["data"]["author_id"] = "1"
        post = decoded(message)
        assert post.tags == ("options", "stocks")
        assert post.posted_at.date() == date(2022, 11, 8)

    def test_a_recorded_end_of_a_stream_and_a_recorded_error(self, shared: Path):
        errors = json.loads((shared / "x/samples/errors_observed.json").read_bytes())
        in_stream = errors["in_stream_operational_disconnect"]["body"]
        assert DECODER.decode(line_of(in_stream)) == StreamEnded("OperationalDisconnect")
        assert ignored(errors["429_too_many_connections"]["body"]) == "error:ConnectionException"


class TestOtherEvents:
    def test_a_removed_post(self):
        removed = event("post.delete", {"id": POST_ID, "author_id": "111"})
        assert DECODER.decode(line_of(removed)) == PostRemoved("x", POST_ID)

    def test_several_messages_each_with_whether_it_asks_to_stop(self):
        payload = {
            "direct_message_events": [
                message("1", "Hello!"),
                {**message("2", ""), "type": "typing"},
                message("3", " STOP. "),
            ]
        }
        found = DECODER.decode(line_of(event("dm.received", payload)))
        assert isinstance(found, Messages)
        assert [(one.id, one.asks_to_stop) for one in found.messages] == [("1", False), ("3", True)]

    @pytest.mark.parametrize(
        ("kind", "payload"),
        [
            ("post.delete", {}),
            ("post.delete", {"id": "12x"}),
            ("post.delete", {"id": 12}),
            ("dm.received", {"direct_message_events": [{"type": "message_create"}]}),
            ("dm.received", {"direct_message_events": [message("1", "a") | {"id": "\n"}]}),
            ("dm.received", []),
            ("oauth.revoke", {"user_id": "1", "date_time": "2026-07-23T21:44:05"}),
            ("oauth.revoke", {"user_id": "1", "date_time": "yesterday"}),
            ("oauth.revoke", None),
        ],
    )
    def test_one_that_cannot_be_read_is_refused(self, kind: str, payload: object):
        assert refused(line_of(event(kind, payload)))


class TestAskingToStop:
    def test_a_post_to_the_programme_that_says_stop(self):
        assert decoded(streamed(**to_programme("@MyBot stop"))).asks_to_stop
        assert decoded(streamed(text="@MyBot stop")).asks_to_stop

    def test_not_one_that_says_more_or_is_to_somebody_else(self):
        assert not decoded(streamed(**to_programme("@MyBot stop the count"))).asks_to_stop
        assert not decoded(streamed(text="@Other stop")).asks_to_stop

    def test_not_a_repost_of_it(self):
        reposted = {"referenced_tweets": [{"type": "retweeted", "id": "5"}]}
        line = streamed(**to_programme("@MyBot stop"), **reposted)
        assert not decoded(line).asks_to_stop

    def test_the_whole_text_of_a_long_post_is_looked_at(self):
        note = {"note_tweet": {"text": "@MyBot stop " + "talking " * 50}}
        assert not decoded(streamed(**to_programme("@MyBot stop"), **note)).asks_to_stop


class TestAPage:
    def test_its_posts_have_their_authors_and_a_bad_one_hides_no_other(self):
        users = [{"id": str(n), "username": f"u{n}"} for n in (1, 2)]
        page = {
            "data": [
                fields(id="11", author_id="1", text="#tea"),
                {"id": "12"},
                fields(id="13", author_id="2", text="#tea"),
            ],
            "includes": {"users": users},
            "meta": {"next_token": "abc"},
        }
        posts, token = DECODER.decode_page(line_of(page))
        assert [(post.id, post.author_handle) for post in posts] == [("11", "u1"), ("13", "u2")]
        assert token == "abc"

    def test_a_user_who_cannot_be_read_hides_nobody_but_himself(self):
        page = {
            "data": [fields(id="11", author_id="1", text="#tea"), fields(id="12", text="#tea")],
            "includes": {"users": [{"id": "1", "created_at": "soon"}, USER]},
        }
        posts, _ = DECODER.decode_page(line_of(page))
        assert [(post.id, post.author_handle) for post in posts] == [
            ("11", None),
            ("12", "someone"),
        ]
        posts, _ = DECODER.decode_page(line_of(page | {"includes": {"users": 5}}))
        assert [(post.id, post.author_handle) for post in posts] == [("11", None), ("12", None)]

    def test_what_is_left_out_is_told_and_counted(self):
        page = {"data": [{"id": "12"}, fields(id="11", text="?")]}
        before = REGISTRY.get_sample_value("tagback_lines_rejected_total") or 0.0
        with capture_logs() as logs:
            DECODER.decode_page(line_of(page).replace(b"?", b"\xff"))
        told = [one["reason"] for one in logs if one["event"] == "line_rejected"]
        assert told == ["author_id is missing.", "The line is not UTF-8."]
        assert REGISTRY.get_sample_value("tagback_lines_rejected_total") == before + 2

    def test_an_empty_one(self):
        assert DECODER.decode_page(b'{"meta":{"result_count":0}}') == ([], None)

    def test_what_is_no_page_is_refused(self):
        with pytest.raises(MalformedPost):
            DECODER.decode_page(b"<html>")


class TestShapes:
    def test_a_stream_line(self):
        assert decoded(streamed()) == Post(
            network="x",
            id=POST_ID,
            root_id=POST_ID,
            author_id="111",
            posted_at=POSTED_AT,
            tags=(),
            mentions_programme=False,
            is_repost=False,
            lang="en",
        )

    @pytest.mark.parametrize("way", ["", "mention.", "quote.", "reply."])
    def test_an_activity_event_of_a_post(self, way):
        assert decoded(event(f"post.{way}create", fields())) == decoded(streamed())

    def test_other_activity_events_are_ignored_whatever_they_hold(self):
        assert ignored(event("like.create", {"id": 5, "text": ["?"]})) == "like.create"
        assert ignored(event("news.new", [])) == "news.new"

    def test_an_envelope_without_a_post_is_ignored(self):
        assert ignored(event("post.mention.create", {})) == "post.mention.create:empty"

    def test_but_not_one_whose_post_cannot_be_read(self):
        assert refused(line_of(event("post.create", {"post_id": "1"}))) == "id is missing."
        assert "payload" in refused(line_of(event("post.create", [])))
        assert "payload" in refused(line_of(event("post.create", None)))

    @pytest.mark.parametrize("line", [b"", b"\r\n", b"\n", b"  "])
    def test_a_blank_line_keeps_alive(self, line):
        assert DECODER.decode(line) == KEEP_ALIVE == NotAPost("keep-alive")

    def test_the_end_of_a_stream_is_told_with_its_reason(self):
        ended = {"title": "operational-disconnect", "disconnect_type": "SlowReader"}
        assert DECODER.decode(line_of({"errors": [ended]})) == StreamEnded("SlowReader")
        del ended["disconnect_type"]
        assert DECODER.decode(line_of({"errors": [ended]})) == StreamEnded("operational-disconnect")

    def test_an_error_in_the_stream_is_told_by_its_title_or_code(self):
        assert ignored({"errors": [{"title": "a"}]}) == "error:a"
        assert ignored({"errors": [{"code": 88, "message": "Rate limit"}]}) == "error:88"
        assert ignored({"errors": []}) == "error:unknown"

    def test_an_error_beside_a_post_does_not_hide_it(self):
        assert decoded(streamed() | {"errors": [{"title": "Not Found Error"}]}).id == POST_ID

    def test_notices_of_an_old_stream_are_ignored(self):
        assert ignored({"delete": {"status": {"id": 1, "user_id": 2}}}) == "delete"
        assert ignored({"limit": {"track": 5}}) == "limit"

    @pytest.mark.parametrize(
        "message", [{}, {"post": {}}, {"data": None}, {"delete": {}, "x": 1}, {"id": 1}]
    )
    def test_no_other_shape_is_taken_for_a_message(self, message):
        assert refused(line_of(message)) == "The line has the shape of no message that X sends."

    @pytest.mark.parametrize("message", [[], "text", 5, None, True])
    def test_nor_what_is_no_object(self, message):
        assert refused(line_of(message)).startswith("The line is not valid")


class TestIdentity:
    def test_an_edit_keeps_the_id_of_the_first_version(self):
        post = decoded(streamed(id="12", edit_history_tweet_ids=["10", "11", "12"]))
        assert (post.id, post.root_id) == ("12", "10")

    def test_under_the_new_name_too(self):
        changes = {"edit_history_tweet_ids": None, "edit_history_post_ids": ["10", "12"]}
        assert decoded(streamed(id="12", **changes)).root_id == "10"

    def test_a_post_without_history_is_its_own_root(self):
        assert decoded(streamed(edit_history_tweet_ids=None)).root_id == POST_ID
        assert decoded(streamed(edit_history_tweet_ids=[])).root_id == POST_ID

    @pytest.mark.parametrize("value", ["", "12a", "-1", "1" * 21, " 1", "\u0661", "\u00b2", "1\n"])
    @pytest.mark.parametrize("field", ["id", "author_id", "edit_history_tweet_ids"])
    def test_an_id_is_1_to_20_digits(self, field, value):
        reason = refused(
            line_of(streamed(**{field: [value] if field.startswith("edit") else value}))
        )
        assert field in reason

    @pytest.mark.parametrize("field", ["id", "author_id"])
    def test_an_id_is_a_string_and_must_be_there(self, field):
        assert refused(line_of(streamed(**{field: 5}))).startswith(f"data.{field} is not valid")
        assert refused(line_of(streamed(**{field: None}))) == f"{field} is missing."


class TestTime:
    def test_it_is_in_utc(self):
        post = decoded(streamed(created_at="2026-07-07T15:17:01+02:00"))
        assert post.posted_at == POSTED_AT
        assert post.posted_at.tzinfo is UTC

    def test_a_post_without_time_has_that_of_its_id(self):
        post = decoded(streamed(id="2080761390344937796", created_at=None))
        assert post.posted_at.replace(microsecond=0) == datetime(2026, 7, 24, 21, 5, 48, tzinfo=UTC)

    def test_unless_the_id_is_older_than_that(self):
        assert "created_at is missing" in refused(line_of(streamed(id="20", created_at=None)))

    @pytest.mark.parametrize(
        "time",
        [
            "2005-12-31T23:59:59Z",
            "2100-01-01T00:00:00Z",
            "2100-01-01T00:30:00-01:00",
            "2006-01-01T00:30:00+01:00",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
            "2026-07-07T13:17:01",
            "2026-02-30T00:00:00Z",
            "yesterday",
            1783430221,
        ],
    )
    def test_a_time_that_cannot_be_is_refused(self, time):
        assert "created_at" in refused(line_of(streamed(created_at=time)))

    def test_an_id_of_20_digits_tells_no_believable_time(self):
        assert "created_at" in refused(line_of(streamed(id="9" * 20, created_at=None)))


class TestTags:
    def test_of_the_posts_own_entities(self):
        assert decoded(streamed(entities={"hashtags": tagged("Save", "now")})).tags == (
            "Save",
            "now",
        )

    def test_in_the_order_of_the_text(self):
        assert decoded(streamed(entities={"hashtags": tagged("a", "b")[::-1]})).tags == ("a", "b")

    def test_each_once_as_first_written(self):
        hashtags = tagged("Save", "SAVE", "\uff53ave", "caf\u00e9", "cafe\u0301")
        assert decoded(streamed(entities={"hashtags": hashtags})).tags == ("Save", "caf\u00e9")

    def test_entities_without_tags_are_believed(self):
        assert decoded(streamed(text="#no", entities={"hashtags": []})).tags == ()

    def test_a_post_without_entities_is_read(self):
        assert decoded(streamed(text="Yes #Save\n\uff03now")).tags == ("Save", "now")

    def test_and_one_whose_entities_say_nothing_of_tags(self):
        assert decoded(streamed(text="Yes #Save", entities={"urls": []})).tags == ("Save",)

    def test_after_its_html_is_unescaped_once(self):
        assert decoded(streamed(text="&amp;#x &lt;#y&gt; #a&amp;b")).tags == ("y", "a")
        assert decoded(streamed(text="who wrote &amp;amp;#z meant &amp;amp;")).tags == ("z",)

    def test_never_of_the_rules_or_the_quoted_post(self):
        quoted = {"tweets": [fields(id="5", entities={"hashtags": tagged("quoted")})]}
        reference = [{"type": "quoted", "id": "5"}]
        assert decoded(streamed(quoted, referenced_tweets=reference)).tags == ()
        assert decoded(streamed({"posts": quoted["tweets"]}, referenced_posts=reference)).tags == ()

    @pytest.mark.parametrize("name", ["note_tweet", "note_post"])
    def test_of_a_long_post_from_its_note(self, name):
        note = {"text": "long #a … #b", "entities": {"hashtags": tagged("a", "b")}}
        post = decoded(streamed(entities={"hashtags": tagged("a")}, **{name: note}))
        assert post.tags == ("a", "b")

    def test_of_a_note_without_entities_from_its_text(self):
        note = {"text": "long #a … #b"}
        post = decoded(streamed(entities={"hashtags": tagged("a")}, note_tweet=note))
        assert post.tags == ("a", "b")

    def test_at_most_64(self):
        names = [f"tag{number}" for number in range(TAGS_MAX + 1)]
        assert decoded(streamed(entities={"hashtags": tagged(*names)})).tags == tuple(names[:-1])

    def test_one_over_280_characters_is_dropped(self):
        hashtags = tagged("a" * 281, "b" * 280, "")
        assert decoded(streamed(entities={"hashtags": hashtags})).tags == ("b" * 280,)


class TestMention:
    @pytest.mark.parametrize(
        "mention",
        [{"id": PROGRAMME_ID}, {"username": "mybot", "id": "9"}, {"username": "MYBOT"}],
    )
    def test_by_id_or_handle_in_any_case(self, mention):
        assert decoded(streamed(entities={"mentions": [{"id": "1"}, mention]})).mentions_programme

    def test_of_others_is_none(self):
        mentions = [{"id": "1", "username": "mybot2"}, {}]
        assert not decoded(streamed(entities={"mentions": mentions})).mentions_programme

    def test_entities_without_mentions_are_believed(self):
        assert not decoded(streamed(text="@mybot", entities={"urls": []})).mentions_programme

    def test_in_the_note_only(self):
        note = {"text": "…", "entities": {"mentions": [{"id": PROGRAMME_ID}]}}
        assert decoded(streamed(entities={}, note_tweet=note)).mentions_programme

    @pytest.mark.parametrize("text", ["@mybot", "hi @MyBot!", "(\uff20mybot)", "日本@mybot。"])
    def test_in_the_text_where_there_are_no_entities(self, text):
        assert decoded(streamed(text=text)).mentions_programme

    @pytest.mark.parametrize(
        "text",
        [
            "mybot",
            "a@mybot.example",
            "@mybots",
            "@mybot\u00e9",
            "@mybot_",
            "@mybot@x",
            "&amp;@mybot",
            "@my",
        ],
    )
    def test_not_where_x_would_see_none(self, text):
        assert not decoded(streamed(text=text)).mentions_programme

    def test_a_programme_without_account_is_never_mentioned(self):
        post = XDecoder(None, None).decode(line_of(streamed(text="@ @mybot")))
        assert isinstance(post, Post)
        assert not post.mentions_programme
        line = line_of(streamed(entities={"mentions": [{"id": "", "username": ""}]}))
        assert XDecoder(None, None).decode(line) == DECODER.decode(line)


class TestRepost:
    @pytest.mark.parametrize("field", ["referenced_tweets", "referenced_posts"])
    @pytest.mark.parametrize("kind", ["retweeted", "reposted"])
    def test_by_reference(self, field, kind):
        assert decoded(streamed(**{field: [{"type": kind, "id": "5"}]})).is_repost

    def test_by_event(self):
        assert decoded(event("post.repost.create", fields())).is_repost

    def test_a_quote_or_a_reply_is_none(self):
        references = [{"type": "quoted", "id": "5"}, {"type": "replied_to", "id": "6"}]
        assert not decoded(streamed(referenced_tweets=references)).is_repost


class TestOwnPosts:
    def test_name_no_offer_and_ask_for_nothing(self):
        """An announcement holds its offer's tag, and the account's own handle."""
        said = {"text": "#Coffee @MyBot", "author_id": PROGRAMME_ID}
        post = decoded(streamed(None, **said))
        assert (post.tags, post.mentions_programme, post.asks_to_stop) == ((), False, False)


class TestAuthor:
    def author(self, *users: dict[str, Any]) -> tuple[object, ...]:
        post = decoded(streamed({"users": list(users)}, text="#tag"))
        return (
            post.author_handle,
            post.author_created_at,
            post.author_followers,
            post.author_default_picture,
        )

    def test_is_found_among_the_included_users(self):
        joined = datetime(2007, 8, 21, 5, 11, 32, tzinfo=UTC)
        assert self.author({"id": "5"}, USER) == ("someone", joined, 216, False)

    def test_of_an_activity_event_too(self):
        post = decoded(event("post.create", fields(text="#tag"), includes={"users": [USER]}))
        assert post.author_handle == "someone"

    def test_is_not_looked_for_without_a_tag(self):
        includes = {"users": [USER]}
        assert decoded(streamed(includes, text="#1")) == decoded(streamed(includes))
        assert decoded(streamed(includes)).author_handle is None

    def test_may_be_unknown(self):
        assert self.author() == self.author({"id": "111"}) == (None, None, None, None)
        assert decoded(streamed(text="#tag") | {"includes": None}).author_handle is None

    def test_with_the_default_picture(self):
        url = "https://abs.twimg.com/sticky/default_profile_images/default_profile_normal.png"
        assert self.author(USER | {"profile_image_url": url})[3] is True

    def test_what_cannot_be_a_handle_or_a_time_of_joining_is_unknown(self):
        odd = {"username": "a b", "created_at": "1970-01-01T00:00:00Z"}
        assert self.author(USER | odd)[:2] == (None, None)

    def test_of_the_wrong_type_is_unknown(self):
        assert self.author({"id": "111", "username": 5}) == (None, None, None, None)
