"""How fast an author posts, over plain values."""

from datetime import timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from app.posts.velocity import Written, by_author, posts_lately
from tests.programme import NOW, make_post

HOUR = timedelta(hours=1)


def written(post_id: str, minutes: float, root_id: str = "") -> tuple[str, Written]:
    """By ann, that long before NOW."""
    return "ann", Written(NOW - timedelta(minutes=minutes), post_id, root_id or post_id)


def lately(*others: tuple[str, Written]) -> int:
    post = make_post("ann", posted_at=NOW, id="5")
    return posts_lately(post, by_author([written("5", 0), *others]), window=HOUR)


class TestPostsLately:
    def test_counts_the_post_itself_and_those_within_the_window(self) -> None:
        assert lately() == 1
        assert lately(written("1", 59.9), written("2", 60), written("3", 61)) == 2

    def test_counts_nothing_that_is_later(self) -> None:
        assert lately(written("1", -1), written("6", 0), written("4", 0)) == 2

    def test_counts_the_versions_of_a_post_once(self) -> None:
        assert lately(written("1", 9), written("2", 8, "1"), written("3", 7, "1")) == 2

    def test_counts_nobody_else(self) -> None:
        assert lately(("bob", written("1", 9)[1])) == 1

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 90)), max_size=12), st.randoms())
    def test_does_not_mind_the_order_nor_a_post_that_comes_twice(
        self, posts: list[tuple[int, int]], chance: Random
    ) -> None:
        others = [written(str(number), minutes) for number, minutes in posts]
        mixed = [*others, *others[:3]]
        chance.shuffle(mixed)
        assert lately(*mixed) == lately(*others)
