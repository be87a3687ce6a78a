from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.kit.ids import new_id
from app.offers.catalogue import build, named_by
from app.offers.terms import EVERYBODY, Terms
from app.posts.matching import first_come_first, name_offers
from tests.programme import NOW, make_post


def terms(tag: str, *, starts: float, ends: float, state: str = "live") -> Terms:
    """An offer whose window is given in days from NOW."""
    return Terms(
        offer_id=new_id(), version=1, partner_id=UUID(int=1), partner="Cafe", title=tag,
        hashtag=tag, tag_key=tag, starts_at=NOW + timedelta(days=starts),
        ends_at=NOW + timedelta(days=ends), state=state, currency="USD", time_zone="UTC",
        fixed_minor=500, basis_points=None, max_minor=None, min_spend_minor=0, channel="any",
        acceptor_ids=None, days=None, hours_from=None, hours_to=None, coupon_valid_days=None,
        coupon_last_day=None, redemptions_per_coupon=1, audience=EVERYBODY,
        refund_policy="restore",
    )  # fmt: skip


class TestWhichOfferATagMeans:
    def test_the_one_whose_window_holds_the_post(self) -> None:
        earlier, current = terms("tea", starts=-20, ends=-10), terms("tea", starts=-5, ends=5)
        assert named_by("tea", NOW, build(1, [earlier, current])) is current

    def test_a_window_holds_its_start_and_not_its_end(self) -> None:
        first, second = terms("tea", starts=-5, ends=0), terms("tea", starts=0, ends=5)
        assert named_by("tea", NOW, build(1, [first, second])) is second

    def test_else_the_one_that_ended_last_within_thirty_days(self) -> None:
        older, newer = terms("tea", starts=-40, ends=-20), terms("tea", starts=-15, ends=-3)
        coming = terms("tea", starts=1, ends=5)
        assert named_by("tea", NOW, build(1, [older, newer, coming])) is newer

    def test_else_the_next_to_start(self) -> None:
        old = terms("tea", starts=-90, ends=-31)
        soon, later = terms("tea", starts=1, ends=5), terms("tea", starts=9, ends=12)
        assert named_by("tea", NOW, build(1, [old, later, soon])) is soon

    def test_whether_the_clock_or_the_operator_has_ended_it_since_does_not_matter(self) -> None:
        ended = terms("tea", starts=1, ends=5, state="ended")
        assert named_by("tea", NOW, build(1, [ended])) is ended

    def test_a_tag_of_no_offer_means_nothing(self) -> None:
        assert named_by("coffee", NOW, build(1, [terms("tea", starts=-1, ends=1)])) is None


class TestWhichOffersAPostNames:
    def test_tags_are_compared_folded_and_an_offer_is_named_once(self) -> None:
        tea, book = terms("tea", starts=-1, ends=1), terms("buch", starts=-1, ends=1)
        catalogue = build(1, [tea, book])
        assert name_offers(make_post("1", "TEA", "ＢＵＣＨ", "tea"), catalogue) == (tea, book)

    def test_within_a_batch_the_earlier_post_comes_first(self) -> None:
        catalogue = build(1, [terms("tea", starts=-1, ends=1)])
        late = make_post("1", "tea", posted_at=datetime(2026, 7, 15, 11, 59, tzinfo=UTC))
        early = make_post("2", "tea", posted_at=datetime(2026, 7, 15, 11, 58, tzinfo=UTC))
        other = make_post("3", "coffee")
        assert [n.post for n in first_come_first([late, other, early], catalogue)] == [early, late]
