from collections.abc import Iterator
from datetime import time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.ids import new_id
from app.members.service import Author, Summary
from app.networks.post import Post
from app.offers.queries import Counter
from app.offers.terms import Audience, Terms
from app.posts.decisions import LOADED, OUTCOMES, RULES, Facts, Limits, decide
from app.posts.matching import Naming
from app.posts.velocity import Written
from tests.posts.test_matching import terms
from tests.programme import NOW, make_post

LIMITS = Limits(
    author_age_days_min=0,
    author_followers_min=0,
    default_picture_refused=False,
    author_posts_max=None,
    author_posts_window=timedelta(hours=1),
    accounts_per_member_max=None,
    offers_per_post_max=2,
    coupons_per_member_max=None,
    default_coupon_valid_days=30,
)
TEA = terms("tea", starts=-5, ends=5)
ANN = Author(new_id(), "en-US", "US", opted_out=False, has_active_card=True)


def facts(offers: list[Terms], **known: Any) -> Facts:
    given: dict[str, Any] = {
        "authors": {"ann": ANN},
        "counters": {offer.offer_id: Counter(None, 0, None, 0) for offer in offers},
        "held": set(),
        "stopped": set(),
        "summaries": {},
        "recent_coupons": {},
        "written": {},
        "accounts": {},
        "decided": set(),
        "offers_decided": {},
        **known,
    }
    return Facts(**given)


def outcome(post: Post, offer: Terms = TEA, limits: Limits = LIMITS, **known: Any) -> str:
    (decision,) = decide([Naming(post, (offer,))], facts([offer], **known), limits=limits, now=NOW)
    return decision.outcome


class TestEachOutcome:
    def test_loaded(self) -> None:
        assert outcome(make_post("ann", "tea")) == "loaded"

    def test_a_repost_does_not_count(self) -> None:
        assert outcome(make_post("ann", "tea", is_repost=True)) == "repost"

    @pytest.mark.parametrize(
        ("signal", "limit", "author", "known"),
        [
            ("account_age", {"author_age_days_min": 30},
             {"author_created_at": NOW - timedelta(days=20)}, {}),
            ("followers", {"author_followers_min": 10}, {"author_followers": 9}, {}),
            ("default_picture", {"default_picture_refused": True},
             {"author_default_picture": True}, {}),
            ("velocity", {"author_posts_max": 1}, {"id": "9"},
             {"written": {"ann": [Written(NOW - timedelta(minutes=9), "8", "8"),
                                  Written(NOW - timedelta(minutes=5), "9", "9")]}}),
            ("several_accounts", {"accounts_per_member_max": 2}, {},
             {"accounts": {ANN.member_id: 3}}),
        ],
    )  # fmt: skip
    def test_suspected_abuse(
        self, signal: str, limit: dict[str, Any], author: dict[str, Any], known: dict[str, Any]
    ) -> None:
        post = make_post("ann", "tea", **author)
        limits = LIMITS._replace(**limit)
        (decision,) = decide([Naming(post, (TEA,))], facts([TEA], **known), limits=limits, now=NOW)
        assert (decision.outcome, decision.seen["signals"]) == ("suspected_abuse", [signal])
        assert outcome(post, **known) == "loaded"

    def test_suspected_abuse_tells_every_signal(self) -> None:
        post = make_post("ann", "tea", author_followers=0, author_default_picture=True)
        limits = LIMITS._replace(author_followers_min=1, default_picture_refused=True)
        (decision,) = decide([Naming(post, (TEA,))], facts([TEA]), limits=limits, now=NOW)
        assert decision.seen["signals"] == ["followers", "default_picture"]

    def test_as_many_accounts_as_a_member_may_have_are_no_signal(self) -> None:
        limits = LIMITS._replace(accounts_per_member_max=2)
        assert outcome(make_post("ann"), limits=limits, accounts={ANN.member_id: 2}) == "loaded"

    def test_what_the_network_does_not_tell_is_not_held_against_anybody(self) -> None:
        post = make_post("ann", "tea", author_followers=None, author_created_at=None)
        strict = LIMITS._replace(author_age_days_min=30, author_followers_min=10)
        assert outcome(post, limits=strict) == "loaded"

    def test_opted_out(self) -> None:
        assert outcome(make_post("ann"), authors={"ann": ANN._replace(opted_out=True)}) == (
            "opted_out"
        )

    def test_who_has_said_stop_is_opted_out_linked_or_not(self) -> None:
        assert outcome(make_post("ann"), stopped={"ann"}) == "opted_out"
        assert outcome(make_post("stranger"), stopped={"stranger"}) == "opted_out"
        assert outcome(make_post("stranger"), stopped={"ann"}) == "not_linked"

    def test_the_third_offer_of_a_post_is_too_many(self) -> None:
        offers = [terms(tag, starts=-1, ends=1) for tag in ("a", "b", "c")]
        naming = Naming(make_post("ann", "a", "b", "c"), tuple(offers))
        found = decide([naming], facts(offers), limits=LIMITS, now=NOW)
        assert [decision.outcome for decision in found] == ["loaded", "loaded", "too_many_offers"]

    def test_an_edit_does_not_start_to_count_anew(self) -> None:
        post = make_post("ann", "tea", root_id="77")
        assert outcome(post, offers_decided={"77": 2}) == "too_many_offers"

    def test_not_started(self) -> None:
        assert outcome(make_post("ann"), terms("tea", starts=1, ends=2)) == "not_started"

    def test_ended(self) -> None:
        assert outcome(make_post("ann"), terms("tea", starts=-2, ends=-1)) == "ended"

    def test_paused(self) -> None:
        assert outcome(make_post("ann"), TEA._replace(state="paused")) == "paused"

    def test_outside_hours(self) -> None:
        night = TEA._replace(hours_from=time(22), hours_to=time(6))
        assert outcome(make_post("ann"), night) == "outside_hours"

    def test_not_linked(self) -> None:
        assert outcome(make_post("nobody")) == "not_linked"

    def test_card_inactive(self) -> None:
        cardless = ANN._replace(has_active_card=False)
        assert outcome(make_post("ann"), authors={"ann": cardless}) == "card_inactive"

    def test_already_loaded_by_an_earlier_batch(self) -> None:
        held = {(ANN.member_id, TEA.offer_id)}
        assert outcome(make_post("ann"), held=held) == "already_loaded"

    @pytest.mark.parametrize(
        ("audience", "is_eligible"),
        [
            (Audience(customers=frozenset({"new"})), True),
            (Audience(customers=frozenset({"lapsed", "returning"})), False),
            (Audience(purchases_min=1), False),
            (Audience(countries=frozenset({"US"})), True),
            (Audience(countries=frozenset({"CA"})), False),
            (Audience(languages=frozenset({"en"})), True),
            (Audience(languages=frozenset({"fr"})), False),
        ],
    )
    def test_not_eligible(self, audience: Audience, is_eligible: bool) -> None:  # noqa: FBT001
        found = outcome(make_post("ann"), TEA._replace(audience=audience))
        assert found == ("loaded" if is_eligible else "not_eligible")

    def test_a_lapsed_customer_is_one_without_a_purchase_for_long(self) -> None:
        lapsed = TEA._replace(audience=Audience(customers=frozenset({"lapsed"}), lapsed_days=90))
        for days, expected in ((91, "loaded"), (89, "not_eligible")):
            last = NOW - timedelta(days=days)
            known = {(ANN.member_id, TEA.partner_id): Summary(3, last, last)}
            assert outcome(make_post("ann"), lapsed, summaries=known) == expected

    def test_too_frequent(self) -> None:
        limits = LIMITS._replace(coupons_per_member_max=3)
        assert outcome(make_post("ann"), limits=limits, recent_coupons={ANN.member_id: 3}) == (
            "too_frequent"
        )

    def test_sold_out(self) -> None:
        assert outcome(make_post("ann"), counters={TEA.offer_id: Counter(3, 3, None, 0)}) == (
            "sold_out"
        )

    def test_budget_spent_when_the_next_coupon_does_not_fit(self) -> None:
        almost = {TEA.offer_id: Counter(None, 9, 5_000, 4_501)}
        assert outcome(make_post("ann"), counters=almost) == "budget_spent"
        fits = {TEA.offer_id: Counter(None, 9, 5_000, 4_500)}
        assert outcome(make_post("ann"), counters=fits) == "loaded"


class TestABatch:
    def test_serves_the_first_and_counts_down_for_the_rest(self) -> None:
        people = {name: ANN._replace(member_id=new_id()) for name in "abcd"}
        namings = [Naming(make_post(name, "tea"), (TEA,)) for name in "abcd"]
        known = facts([TEA], authors=people, counters={TEA.offer_id: Counter(3, 1, None, 0)})
        found = [d.outcome for d in decide(namings, known, limits=LIMITS, now=NOW)]
        assert found == ["loaded", "loaded", "sold_out", "sold_out"]

    def test_loads_one_coupon_for_two_posts_of_one_member(self) -> None:
        namings = [Naming(make_post("ann", "tea"), (TEA,)) for _ in range(2)]
        found = decide(namings, facts([TEA]), limits=LIMITS, now=NOW)
        assert [decision.outcome for decision in found] == ["loaded", "already_loaded"]

    def test_decides_a_post_and_its_edit_once(self) -> None:
        post = make_post("ann", "tea")
        edit = make_post("ann", "tea", root_id=post.id)
        found = decide([Naming(post, (TEA,)), Naming(edit, (TEA,))], facts([TEA]),
                       limits=LIMITS, now=NOW)  # fmt: skip
        assert [(d.post.id, d.outcome) for d in found] == [(post.id, "loaded")]

    def test_reserves_the_most_that_every_use_can_cost(self) -> None:
        twice = TEA._replace(
            fixed_minor=None, basis_points=1_000, max_minor=700, redemptions_per_coupon=2
        )
        (decision,) = decide([Naming(make_post("ann"), (twice,))], facts([twice]),
                             limits=LIMITS, now=NOW)  # fmt: skip
        assert decision.coupon is not None
        assert (decision.coupon.reserved_minor, decision.coupon.uses_max) == (1_400, 2)


# Each rule with a post and facts that break it: any mixture must give the first that is broken.
BREAKING: dict[str, dict[str, Any]] = {
    "repost": {"post": {"is_repost": True}},
    "opted_out": {"author": {"opted_out": True}},
    "too_many_offers": {"offers_decided": 2},
    "paused": {"offer": {"state": "paused"}},
    "outside_hours": {"offer": {"days": frozenset({7})}},
    "card_inactive": {"author": {"has_active_card": False}},
    "already_loaded": {"held": True},
    "not_eligible": {"offer": {"audience": Audience(countries=frozenset({"FR"}))}},
    "too_frequent": {"recent": 9},
    "sold_out": {"counter": {"coupons_max": 0}},
    "budget_spent": {"counter": {"budget_minor": 1}},
}


class TestPrecedence:
    def test_every_outcome_has_one_place_in_the_order(self) -> None:
        assert len(set(OUTCOMES)) == len(OUTCOMES) == len(RULES) + 1 == 16

    @given(st.sets(st.sampled_from(sorted(BREAKING))))
    def test_the_first_rule_that_is_broken_is_the_outcome(self, broken: set[str]) -> None:
        changes = {"post": {}, "author": {}, "offer": {}, "counter": {}}
        for name in broken:
            for part in changes:
                changes[part] |= BREAKING[name].get(part, {})
        post = make_post("ann", "tea", root_id="5", **changes["post"])
        offer = TEA._replace(**changes["offer"])
        found = outcome(
            post,
            offer,
            LIMITS._replace(coupons_per_member_max=5),
            authors={"ann": ANN._replace(**changes["author"])},
            counters={offer.offer_id: Counter(None, 0, None, 0)._replace(**changes["counter"])},
            held={(ANN.member_id, offer.offer_id)} if "already_loaded" in broken else set(),
            recent_coupons={ANN.member_id: 9} if "too_frequent" in broken else {},
            offers_decided={"5": 2} if "too_many_offers" in broken else {},
        )
        assert found == next(_in_order(broken), LOADED)


def _in_order(broken: set[str]) -> Iterator[str]:
    return (name for name in OUTCOMES if name in broken)
