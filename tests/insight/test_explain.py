"""Why? For a post and for a purchase, as a card-holder and a support desk ask it."""

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from app.config import Settings
from app.insight import explain
from app.kit.db import Sessions
from app.posts import lookback
from app.posts.enrol import Enroller
from tests.programme import NOW, link, make_members, make_offer, make_post, make_shop, pay
from tests.support import MakeKey


@pytest.fixture
async def author(sessions: Sessions) -> str:
    await make_shop(sessions, "counter")
    await make_shop(sessions, "site", channel="online")
    (account,) = await make_members(sessions, 1)
    return account


async def enrol(sessions: Sessions, settings: Settings, *posts: Any) -> None:
    await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)


async def why_post(sessions: Sessions, post_id: str, locale: str = "en") -> dict[str, Any]:
    async with sessions.begin() as session:
        return await explain.explain_post(session, post_id=post_id, locale=locale)


async def why_paid(sessions: Sessions, transaction_id: str, locale: str = "en") -> dict[str, Any]:
    async with sessions.begin() as session:
        return await explain.explain_transaction(
            session, transaction_id=transaction_id, locale=locale
        )


class TestAPost:
    async def test_that_came_too_late_shows_the_counter_it_saw(
        self, sessions: Sessions, settings: Settings, author: str
    ) -> None:
        await make_offer(sessions, "Tea", coupons_max=1)
        (other,) = await make_members(sessions, 1)
        first, post = make_post(other, "tea"), make_post(author, "tea")
        await enrol(sessions, settings, first, post)
        answer = await why_post(sessions, post.id)
        (offer,) = answer["offers"]
        assert offer["outcome"] == "sold_out"
        assert offer["rules"][-1] == {
            "rule": "sold_out",
            "applies": True,
            "saw": {"coupons_loaded": 1, "coupons_max": 1},
        }
        tried = [rule["rule"] for rule in offer["rules"]]
        assert tried[:2] == ["repost", "suspected_abuse"]
        assert not any(rule["applies"] for rule in offer["rules"][:-1])

    async def test_that_was_suspect_shows_by_which_signal(
        self, sessions: Sessions, settings: Settings, author: str
    ) -> None:
        await make_offer(sessions, "Tea")
        changed = {"author_posts_max": 1, "accounts_per_member_max": 3,
                   "author_default_picture_refused": True}  # fmt: skip
        first = make_post(author, "tea")
        post = make_post(author, "tea", author_default_picture=False)
        await enrol(sessions, settings.model_copy(update=changed), first, post)
        (offer,) = (await why_post(sessions, post.id))["offers"]
        assert offer["rules"][-1] == {
            "rule": "suspected_abuse",
            "applies": True,
            "saw": {
                "signals": ["velocity"],
                "author_age_days": None,
                "author_followers": 100,
                "author_default_picture": False,
                "author_posts": 2,
                "member_accounts": 1,
            },
        }

    async def test_of_who_has_linked_since_says_that_it_was_looked_at_again(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        post = make_post("77", "tea")
        await enrol(sessions, settings, post)
        assert (await why_post(sessions, post.id))["offers"][0]["not_linked_at"] is None
        await link(sessions, "77")
        await lookback.look_back(sessions, settings, now=NOW)
        answer = await why_post(sessions, post.id)
        (offer,) = answer["offers"]  # one, though he was invited and then told
        assert (offer["outcome"], offer["reply"]) == ("loaded", "queued")
        assert datetime.fromisoformat(offer["not_linked_at"]) == NOW
        assert answer["sentence"].startswith("Your account was not linked when you posted; once")
        assert "Done!" in answer["sentence"]
        rules = {rule["rule"]: rule["saw"] for rule in offer["rules"]}
        assert rules["not_linked"] == {"linked": True, "not_linked_at": offer["not_linked_at"]}

    async def test_is_explained_in_the_language_asked_for(
        self, sessions: Sessions, settings: Settings, author: str
    ) -> None:
        await make_offer(sessions, "Tea")
        post = make_post(author, "tea")
        await enrol(sessions, settings, post)
        assert (await why_post(sessions, post.id))["sentence"].startswith("Done!")
        assert "de remboursement" in (await why_post(sessions, post.id, "fr"))["sentence"]

    async def test_that_nobody_kept_says_so(self, sessions: Sessions) -> None:
        answer = await why_post(sessions, "12345")
        assert not answer["known"]
        assert "No post of this id" in answer["sentence"]


class TestAPurchase:
    async def test_that_earned_says_how_much_and_by_what(
        self, sessions: Sessions, settings: Settings, author: str
    ) -> None:
        await make_offer(sessions, "Tea")
        await enrol(sessions, settings, make_post(author, "tea"))
        await pay(sessions, author, "clearing", 2_000, id="T-1")
        answer = await why_paid(sessions, "T-1")
        assert answer["sentence"] == (
            "$5.00 comes back to you for $20.00 spent at Counter, by “Offer Tea”."
        )
        (coupon,) = answer["coupons"]
        assert coupon["is_used"]
        assert not any(rule["applies"] for rule in coupon["rules"])

    @pytest.mark.parametrize(
        ("terms", "paid", "sentence"),
        [
            ({"min_spend_minor": 5_000}, {},
             "You spent $20.00 at Counter; “Offer Tea” asks for at least $50.00."),
            ({"channel": "online"}, {}, "“Offer Tea” is not for purchases made in the shop."),
            ({}, {"currency": "EUR"}, "“Offer Tea” is in USD, and this purchase was in EUR."),
            ({}, {"occurred_at": NOW - timedelta(days=2)},
             "No coupon of yours was valid at Counter when you paid."),
        ],
    )  # fmt: skip
    async def test_that_did_not_earn_says_why(
        self, sessions: Sessions, settings: Settings, author: str, terms: dict[str, Any],
        paid: dict[str, Any], sentence: str,
    ) -> None:  # fmt: skip
        await make_offer(sessions, "Tea", **terms)
        await enrol(sessions, settings, make_post(author, "tea"))
        await pay(sessions, author, "clearing", 2_000, id="T-1", **paid)
        assert (await why_paid(sessions, "T-1"))["sentence"] == sentence

    async def test_that_we_never_kept_says_what_that_means(self, sessions: Sessions) -> None:
        assert "not linked" in (await why_paid(sessions, "nowhere"))["sentence"]

    async def test_is_not_looked_for_by_a_card_number(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        headers = {"Authorization": f"Bearer {await make_key('operator')}"}
        answer = await client.get("/v1/explain/transactions/4111111111111111", headers=headers)
        assert answer.status_code == 422
        assert "4111" not in answer.text

    async def test_is_for_those_who_support_members(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        for role, status in (("issuer", 200), ("operator", 200), ("analyst", 403)):
            headers = {"Authorization": f"Bearer {await make_key(role)}"}
            for path in ("/v1/explain/transactions/T-1", "/v1/explain/posts/1"):
                assert (await client.get(path, headers=headers)).status_code == status
