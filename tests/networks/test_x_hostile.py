import json
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from x_messages import DECODER, USER, event, fields, line_of, refused, streamed, tagged, tweet

from app.networks.post import MalformedPost, NotAPost, Post
from app.networks.x.decode import LINE_BYTES_MAX

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("idtexg_"), inner),
    max_leaves=5,
)


def read_or_refused(line: bytes) -> None:
    try:
        message: Post | NotAPost | MalformedPost = DECODER.decode(line)
    except MalformedPost as refusal:
        message = refusal
    if isinstance(message, MalformedPost):
        assert message.reason.endswith(".")
    elif isinstance(message, Post):
        assert message.id.isdigit()
        assert message.posted_at.tzinfo is UTC
        assert "\0" not in "".join(message.tags)


class TestHostileLines:
    def test_longer_than_a_mebibyte(self):
        line = line_of(streamed(source="a" * LINE_BYTES_MAX))
        assert refused(line) == f"The line is longer than {LINE_BYTES_MAX} bytes."

    def test_up_to_a_mebibyte_is_read(self):
        line = line_of(streamed())
        assert DECODER.decode(line.ljust(LINE_BYTES_MAX)) == DECODER.decode(line)

    @pytest.mark.parametrize("where", [b'"text": "', b'"tag": "'])
    def test_not_utf_8_even_where_nobody_looks(self, where):
        assert refused(line_of(streamed()).replace(where, where + b"\xff")) == (
            "The line is not UTF-8."
        )

    @pytest.mark.parametrize(
        "line", [b"{", b"{]", b'{"data":{"id":"1"', b"\x00", b"\xef\xbb\xbf{}"]
    )
    def test_not_json(self, line):
        assert refused(line).startswith("The line is not ")

    @pytest.mark.parametrize("opening", [b'{"data":{"x":', b'{"x":', b'{"tweet":{"x":'])
    def test_nested_too_deeply(self, opening):
        assert refused(opening + b"[" * 100_000) == "The line nests too deeply."

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"text": "a\0"}, "text"),
            ({"lang": "\0"}, "lang"),
            ({"entities": {"hashtags": tagged("a\0")}}, "hashtags"),
            ({"note_tweet": {"text": "\0"}}, "text"),
            ({"id": "1\0"}, "id"),
        ],
    )
    def test_a_nul_in_what_is_read(self, changes, field):
        assert field in refused(line_of(streamed(**changes)))

    @pytest.mark.parametrize("escape", [rb"\ud800", rb"\udc00", rb"\ud800\ud800", rb"\ud800A"])
    def test_half_a_surrogate_pair(self, escape):
        assert "not JSON" in refused(line_of(streamed(text="?")).replace(b"?", escape))

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("text", 5),
            ("lang", ["en"]),
            ("lang", "x" * 36),
            ("entities", []),
            ("entities", {"hashtags": {}}),
            ("entities", {"hashtags": [{"tag": None}]}),
            ("edit_history_tweet_ids", "1"),
            ("referenced_tweets", [{}]),
            ("note_tweet", "long"),
        ],
    )
    def test_wrong_types(self, field, value):
        assert refused(line_of(streamed(**{field: value}))).startswith(f"data.{field}")

    def test_a_reason_repeats_nothing_of_the_post(self):
        assert "SECRET" not in refused(line_of(streamed(created_at="SECRET", text="SECRET")))

    @given(st.binary())
    def test_bytes_are_read_or_refused(self, line):
        read_or_refused(line)

    @given(st.data())
    def test_so_is_a_message_with_something_else_in_it(self, data):
        messages = [
            streamed({"users": [USER]}, entities={"hashtags": tagged("a", "b")}),
            event("post.create", fields(text="#a")),
            tweet(),
            {"errors": [{"title": "a"}]},
        ]
        message = json.loads(line_of(data.draw(st.sampled_from(messages))))
        place: Any = message
        while True:
            key = data.draw(
                st.sampled_from(
                    list(place) or ["new"] if isinstance(place, dict) else range(len(place))
                )
            )
            inner = place.get(key) if isinstance(place, dict) else place[key]
            if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
                break
            place = inner
        place[key] = data.draw(ANY_JSON)
        read_or_refused(line_of(message))

    @given(st.integers(min_value=0), st.binary(max_size=4))
    def test_so_is_a_line_that_was_damaged(self, place, damage):
        line = line_of(streamed({"users": [USER]}, text="#tag \u00e9"))
        place %= len(line)
        read_or_refused(line[:place] + damage + line[place + len(damage) :])
