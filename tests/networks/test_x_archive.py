from datetime import UTC, datetime

import pytest
from x_messages import PROGRAMME_ID, decoded, line_of, refused, tweet

from app.networks.post import Post


class TestArchivedTweet:
    def test_is_read_like_any_post(self):
        assert decoded(tweet()) == Post(
            network="x",
            id="1050118621198921728",
            root_id="1050118621198921728",
            author_id="6253282",
            posted_at=datetime(2018, 10, 10, 20, 19, 24, tzinfo=UTC),
            tags=("Coffee",),
            mentions_programme=False,
            is_repost=False,
            lang="en",
            author_handle="someone",
            author_created_at=datetime(2007, 5, 23, 6, 1, 13, tzinfo=UTC),
            author_followers=21,
            author_default_picture=False,
        )

    def test_ids_may_be_numbers_alone(self):
        post = decoded(tweet(id_str=None, user={"id": 6253282}))
        assert (post.id, post.author_id) == ("1050118621198921728", "6253282")

    def test_numbers_may_be_strings(self):
        hashtags = [{"text": "b", "indices": ["9", "11"]}, {"text": "a", "indices": ["0", "2"]}]
        assert decoded(tweet(id="1", entities={"hashtags": hashtags})).tags == ("a", "b")

    def test_a_retweet_is_a_repost(self):
        assert decoded(tweet(retweeted_status=tweet())).is_repost

    def test_a_quote_is_none_and_its_tags_do_not_count(self):
        quote = decoded(tweet(quoted_status=tweet(), text="look", entities={"hashtags": []}))
        assert not quote.is_repost
        assert quote.tags == ()

    def test_a_long_one_is_read_whole(self):
        entities = {"hashtags": [{"text": "b", "indices": [200, 202]}]}
        extended = {"full_text": "long #b", "entities": entities}
        assert decoded(tweet(extended_tweet=extended)).tags == ("b",)

    def test_full_text_stands_for_text(self):
        assert decoded(tweet(text=None, full_text="all #of it", entities=None)).tags == ("of",)

    def test_mentions(self):
        by_id = {"user_mentions": [{"id": int(PROGRAMME_ID), "screen_name": "Old"}]}
        by_name = {"user_mentions": [{"id_str": "1", "screen_name": "MyBot"}]}
        assert decoded(tweet(entities=by_id)).mentions_programme
        assert decoded(tweet(entities=by_name)).mentions_programme

    @pytest.mark.parametrize(
        "edits",
        [
            {"edit_history": {"initial_tweet_id": "7", "edit_tweet_ids": ["7", "8"]}},
            {"ext_edit_control": {"edit": {"initial_tweet_id": 7}}},
            {"ext_edit_control": {"initial": {"edit_tweet_ids": ["7"]}}},
        ],
    )
    def test_an_edit_keeps_the_id_of_the_first_version(self, edits):
        assert decoded(tweet(**edits)).root_id == "7"

    def test_one_of_x_own_download_lacks_its_author(self):
        download = {"tweet": tweet(user=None, id="1", entities={"hashtags": []})}
        assert refused(line_of(download)) == "user is missing, and with it the author."
        assert decoded({"tweet": tweet()}) == decoded(tweet())

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"id": None, "id_str": None}, "shape"),
            ({"id_str": "1" * 21}, "id_str"),
            ({"id": -1}, "id"),
            ({"id": 2**63}, "id"),
            ({"user": {}}, "author_id"),
            ({"created_at": None}, "created_at"),
            ({"created_at": "2018-10-10T20:19:24Z"}, "created_at"),
            ({"created_at": "Wed Foo 10 20:19:24 +0000 2018"}, "created_at"),
            ({"created_at": "Wed Feb 30 20:19:24 +0000 2018"}, "created_at"),
            ({"created_at": "Wed Oct 10 20:19:24 +0000 1999"}, "created_at"),
            ({"entities": {"hashtags": [{"text": 5}]}}, "text"),
        ],
    )
    def test_a_bad_one_is_refused_with_the_field(self, changes, field):
        assert field in refused(line_of(tweet(**changes)))
