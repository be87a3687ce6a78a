"""`/link`, over real HTTP, with a stand-in for X."""

import asyncio
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.kit.db import Sessions
from app.members import cards
from app.members import service as members
from app.members.schemas import MemberLine
from app.replies import service as replies
from app.upkeep.jobs import run_job
from app.web.words import CONSENT_VERSION, WORDS
from tests.hand_offs import make_link
from tests.replies.outbox import reply
from tests.web.browser import Browser, NewBrowser, Page

EN = WORDS["en"]


async def rows(sessions: Sessions, query: str, **values: Any) -> list[Any]:
    async with sessions.begin() as session:
        found = await session.execute(text(query), values)
        return [tuple(row) for row in found] if found.returns_rows else []


async def enrolled(sessions: Sessions, name: str, account_id: str) -> None:
    line = {
        "member_ref": f"m-{name}",
        "account": {"network": "x", "id": account_id, "handle": name},
        "card": {"card_ref": f"c-{name}", "network": "mastercard", "last4": "0001"},
        "consented_at": "2026-01-01T00:00:00Z",
    }
    async with sessions.begin() as session:
        (saved,) = await members.save_members(
            session, rows=[MemberLine.model_validate(line)], now=datetime.now(UTC)
        )
    assert saved.outcome == "created"


async def bring_card(browser: Browser, **claims: Any) -> Page:
    return await browser.open(f"/link?handoff={make_link(**claims)}")


async def link(browser: Browser, **claims: Any) -> Page:
    await browser.sign_in()
    await bring_card(browser, **claims)
    return await browser.agree()


class TestTheWay:
    @pytest.mark.parametrize("first", ["card", "sign-in"])
    async def test_is_sign_in_and_card_in_any_order_and_then_consent(
        self, browser: Browser, sessions: Sessions, first: str
    ) -> None:
        page = await browser.open("/link")
        assert "/link/x" in page.forms
        assert "/link/consent" not in page.forms
        if first == "card":
            page = await bring_card(browser)
            assert "Visa ending in 4242" in page.text
            assert "/link/consent" not in page.forms
            page = await browser.sign_in()
        else:
            page = await browser.sign_in()
            assert EN["x_done"].format(handle="ann") in page.text
            assert "/link/consent" not in page.forms
            page = await bring_card(browser)
        assert page.alerts == []
        assert str(page.answer.url).endswith("/link")
        assert "your X account @ann and your card, Visa ending in 4242" in page.text
        assert await rows(sessions, "SELECT 1 FROM members") == []
        page = await browser.agree()
        assert page.news == [EN["agreed"]]
        assert "@ann is linked to your card: Visa ending in 4242." in page.text
        assert "#Offer @TagbackDemo" in page.text

    async def test_ends_with_member_account_card_and_consent_at_once(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await link(browser, locale="fr", country="FR", jti="once-a")
        ((member_id, *member),) = await rows(
            sessions, "SELECT id, ref, locale, country FROM members"
        )
        assert member == ["m-ann", "fr", "FR"]
        account = "SELECT network, account_id, member_id, handle, proved_by FROM accounts"
        assert await rows(sessions, account) == [("x", "1", member_id, "ann", "oauth")]
        card = "SELECT ref, member_id, network, last4, state FROM cards"
        assert await rows(sessions, card) == [("c-ann", member_id, "visa", "4242", "active")]
        assert await rows(sessions, "SELECT member_id, act, text_version FROM consents") == [
            (member_id, "given", "page-1 en")
        ]
        assert await rows(sessions, "SELECT jti FROM handoffs_used") == [("once-a",)]
        assert await rows(sessions, "SELECT 1 FROM accounts WHERE look_back_at = linked_at")
        usage = "SELECT kind, units, micro_usd FROM network_usage"
        assert await rows(sessions, usage) == [("user_read", 1, 10_000)]

    async def test_keeps_the_language_of_the_words_that_were_agreed_to(
        self, new_browser: NewBrowser, sessions: Sessions
    ) -> None:
        browser = await new_browser("de, fr-CA;q=0.9, en;q=0.5")
        page = await link(browser)
        assert page.language == "fr"
        assert page.news == ["C'est fait."]
        assert await rows(sessions, "SELECT text_version FROM consents") == [("page-1 fr",)]

    async def test_takes_back_a_stop_from_before(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        async with sessions.begin() as session:
            await members.stop_accounts(
                session,
                network="x",
                account_ids=["1"],
                told_by="post",
                now=datetime.now(UTC) - timedelta(minutes=1),
            )
        await link(browser)
        assert await rows(sessions, "SELECT 1 FROM stopped_accounts") == []

    async def test_adds_a_further_card_of_the_same_member_by_a_consent_of_its_own(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await link(browser)
        page = await bring_card(browser, card_ref="c-2", last4="0002")
        assert "Visa ending in 0002" in page.text
        page = await browser.agree()
        assert "Visa ending in 4242 and Visa ending in 0002" in page.text
        assert await rows(sessions, "SELECT count(*) FROM consents") == [(2,)]


class TestConsent:
    async def test_that_is_not_ticked_links_nothing(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await browser.sign_in()
        await bring_card(browser)
        page = await browser.submit("/link/consent")
        assert page.alerts == [EN["consent_missing"]]
        assert await rows(sessions, "SELECT 1 FROM members") == []

    async def test_holds_for_what_was_shown_and_for_nothing_else(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await browser.sign_in()
        shown = (await bring_card(browser)).forms["/link/consent"].fields["about"]
        await bring_card(browser, card_ref="c-other", last4="6666")
        page = await browser.submit("/link/consent", "agreed", about=shown)
        assert page.alerts == [EN["changed"]]
        assert "ending in 6666" in page.text
        assert await rows(sessions, "SELECT 1 FROM members") == []

    async def test_in_another_language_than_was_shown_is_asked_for_again(
        self, browser: Browser
    ) -> None:
        await browser.sign_in()
        await bring_card(browser)
        browser.client.headers["accept-language"] = "fr"
        assert (await browser.agree()).alerts == [WORDS["fr"]["changed"]]

    async def test_sent_twice_is_given_once(self, browser: Browser, sessions: Sessions) -> None:
        await browser.sign_in()
        await bring_card(browser)
        answers = await asyncio.gather(*(browser.send("/link/consent", "agreed") for _ in range(4)))
        assert {answer.headers["location"] for answer in answers} == {"/link?said=agreed"}
        assert await rows(sessions, "SELECT count(*) FROM consents") == [(1,)]

    async def test_before_sign_in_or_card_is_none(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        page = await browser.open("/link")
        body = {**page.forms["/link/x"].fields, "agreed": "yes", "about": "0" * 64}
        await browser.client.post("/link/consent", data=body)
        await bring_card(browser)
        await browser.client.post("/link/consent", data={**body, "about": "é"})
        assert await rows(sessions, "SELECT 1 FROM members") == []

    async def test_words_have_a_version_of_their_own(self) -> None:
        """Whoever changes them changes CONSENT_VERSION, then this."""
        agreed_to = [f"consent_{name}" for name in ("what", "for", "reads", "seen", "stop", "box")]
        said = "\n".join(words[name] for words in WORDS.values() for name in agreed_to)
        assert (CONSENT_VERSION, sha256(said.encode()).hexdigest()[:16]) == (
            "page-1",
            "881713e662760181",
        )


class TestTheIssuersLink:
    async def test_is_used_by_one_of_two_browsers(
        self, new_browser: NewBrowser, sessions: Sessions
    ) -> None:
        token = make_link()
        browsers = [await new_browser() for _ in range(2)]
        for number, one in enumerate(browsers):
            await one.sign_in(f"person{number}")
            await one.open(f"/link?handoff={token}")
        answers = await asyncio.gather(*(one.send("/link/consent", "agreed") for one in browsers))
        assert sorted(answer.headers["location"] for answer in answers) == [
            "/link?said=agreed",
            "/link?said=handoff_used",
        ]
        assert await rows(sessions, "SELECT count(*) FROM accounts") == [(1,)]

    async def test_that_was_used_says_so_when_it_is_opened_again(
        self, browser: Browser, new_browser: NewBrowser
    ) -> None:
        token = make_link()
        await browser.sign_in()
        await browser.open(f"/link?handoff={token}")
        await browser.agree()
        other = await new_browser()
        assert (await other.open(f"/link?handoff={token}")).alerts == [EN["handoff_used"]]

    async def test_that_another_browser_uses_is_of_no_more_use_to_this(
        self, new_browser: NewBrowser
    ) -> None:
        token = make_link()
        first, second = [await new_browser() for _ in range(2)]
        await second.open(f"/link?handoff={token}")
        await first.sign_in()
        await first.open(f"/link?handoff={token}")
        await first.agree()
        page = await second.sign_in("bob")
        assert page.alerts == [EN["handoff_used"]]
        assert "/link/consent" not in page.forms

    @pytest.mark.parametrize("language", ["en", "fr"])
    async def test_that_is_not_good_is_said_kindly_and_off_the_address(
        self, new_browser: NewBrowser, language: str
    ) -> None:
        browser = await new_browser(language)
        for token, said in (
            (make_link(iat=1_700_000_000, exp=1_700_000_300), "handoff_expired"),
            (make_link(secret="s" * 40), "handoff_refused"),
            (make_link(aud="another"), "handoff_refused"),
            (make_link(card_ref="4111111111111111"), "handoff_refused"),
            ("nonsense", "handoff_refused"),
            ("", "handoff_refused"),
        ):
            page = await browser.open(f"/link?handoff={token}")
            assert page.alerts == [WORDS[language][said]]
            assert page.answer.url.query == f"said={said}".encode()
            assert "/link/x" in page.forms

    async def test_may_be_finished_in_a_quarter_of_an_hour_and_no_later(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await browser.sign_in()
        await bring_card(browser)
        old = int((datetime.now(UTC) - timedelta(minutes=17)).timestamp())
        await rows(
            sessions,
            "UPDATE link_sessions SET handoff = handoff || jsonb_build_object('exp', :exp ::int)",
            exp=old,
        )
        page = await browser.agree()
        assert page.alerts == [EN["handoff_expired"]]
        assert await rows(sessions, "SELECT 1 FROM members") == []

    async def test_for_a_card_of_another_member_links_nothing(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await enrolled(sessions, "bob", "99")
        await browser.sign_in()
        await bring_card(browser, card_ref="c-bob")
        page = await browser.agree()
        assert page.alerts == [EN["card_taken"]]
        assert await rows(sessions, "SELECT ref FROM members") == [("m-bob",)]
        assert await rows(sessions, "SELECT 1 FROM handoffs_used") == []

    async def test_for_another_member_than_before_is_said_and_needs_a_new_sign_in(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        """Whoever swaps it must not have his card taken for the person's own."""
        await browser.sign_in()
        assert (await bring_card(browser)).alerts == []
        assert (await bring_card(browser, card_ref="c-2", last4="0002")).alerts == []
        other = {"sub": "m-evil", "card_ref": "c-evil", "card_network": None, "last4": "6666"}
        for page in [await bring_card(browser, **other), await bring_card(browser, **other)]:
            assert page.alerts == [EN["handoff_changed"]]
            assert "ending in 6666" in page.text
            assert "@ann" not in page.text
            assert "/link/consent" not in page.forms
        page = await browser.sign_in()
        assert page.alerts == [EN["handoff_changed"]]
        assert "your X account @ann and your card, ending in 6666" in page.text
        page = await bring_card(browser)
        assert page.alerts == [EN["handoff_changed"]]
        await browser.sign_in()
        page = await browser.agree()
        assert (page.alerts, page.news) == ([], [EN["agreed"]])
        assert await rows(sessions, "SELECT ref FROM members") == [("m-ann",)]
        page = await bring_card(browser, card_ref="c-2", last4="0002")
        assert page.alerts == []

    async def test_for_another_member_leaves_who_is_linked_signed_in(
        self, browser: Browser
    ) -> None:
        await link(browser)
        await bring_card(browser, card_ref="c-2", last4="0002")
        page = await bring_card(browser, sub="m-evil", card_ref="c-evil", last4="6666")
        assert page.alerts == [EN["account_taken"], EN["handoff_changed"]]
        assert "@ann is linked to your card" in page.text
        assert "/link/consent" not in page.forms

    async def test_from_before_the_card_was_removed_does_not_bring_it_back(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        older = make_link()
        await link(browser)
        ((member_id,),) = await rows(sessions, "SELECT id FROM members")
        async with sessions.begin() as session:
            await cards.remove_card(
                session, member_id=member_id, card_ref="c-ann", actor="test", now=datetime.now(UTC)
            )
        await browser.open(f"/link?handoff={older}")
        page = await browser.agree()
        assert page.alerts == [EN["card_state"]]
        assert await rows(sessions, "SELECT state FROM cards") == [("removed",)]

    async def test_for_somebody_else_than_the_handle_is_linked_to_is_said(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await enrolled(sessions, "bob", "1")
        await browser.sign_in()
        page = await bring_card(browser)
        assert page.alerts == [EN["account_taken"]]
        assert "/link/consent" not in page.forms
        # the way on: it is his handle, so he may unlink it, and go on with what he has brought
        page = await browser.submit("/link/unlink", "sure")
        assert page.news == [EN["unlinked"]]
        await browser.agree()
        query = "SELECT ref FROM members JOIN accounts ON member_id = id"
        assert await rows(sessions, query) == [("m-ann",)]

    async def test_for_what_is_linked_already_says_so(self, browser: Browser) -> None:
        await link(browser)
        page = await bring_card(browser)
        assert page.alerts == [EN["already_linked"]]
        assert "/link/consent" not in page.forms


class TestWhoIsLinked:
    async def test_comes_back_by_signing_in_alone(
        self, browser: Browser, new_browser: NewBrowser
    ) -> None:
        await link(browser)
        page = await (await new_browser()).sign_in()
        assert "@ann is linked to your card: Visa ending in 4242." in page.text

    async def test_sees_nothing_of_anybody_else(
        self, browser: Browser, new_browser: NewBrowser, sessions: Sessions
    ) -> None:
        await link(browser)
        other = await new_browser()
        page = await other.sign_in("bob")
        assert "4242" not in page.text
        body = {**page.forms["/link/x"].fields, "sure": "yes"}
        for action in ("/link/unlink", "/link/stop"):
            assert (await other.client.post(action, data=body)).status_code == 303
        assert await rows(sessions, "SELECT account_id FROM accounts") == [("1",)]
        assert await rows(sessions, "SELECT opted_out_at FROM members") == [(None,)]

    async def test_unlinks_when_he_is_sure(self, browser: Browser, sessions: Sessions) -> None:
        await link(browser)
        page = await browser.submit("/link/unlink")
        assert page.alerts == [EN["unlink_unsure"]]
        page = await browser.submit("/link/unlink", "sure")
        assert page.news == [EN["unlinked"]]
        assert "4242" not in page.text
        assert await rows(sessions, "SELECT 1 FROM accounts") == []
        assert await rows(sessions, "SELECT act, text_version FROM consents ORDER BY id") == [
            ("given", "page-1 en"),
            ("withdrawn", "unlink"),
        ]

    async def test_stops_and_starts_again_by_a_new_consent(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await link(browser)
        page = await browser.submit("/link/stop")
        assert page.news == [EN["stopped"]]
        assert "/link/stop" not in page.forms
        assert await rows(sessions, "SELECT told_by FROM stopped_accounts") == [("page",)]
        assert (await browser.submit("/link/consent")).alerts == [EN["consent_missing"]]
        page = await browser.agree()
        assert page.news == [EN["agreed"]]
        assert "/link/stop" in page.forms
        assert await rows(sessions, "SELECT 1 FROM stopped_accounts") == []
        assert await rows(sessions, "SELECT act, text_version FROM consents ORDER BY id") == [
            ("given", "page-1 en"),
            ("withdrawn", "stop"),
            ("given", "page-1 en"),
        ]
        assert await rows(sessions, "SELECT opted_out_at FROM members") == [(None,)]

    async def test_gets_no_reply_any_more_that_waits_when_he_stops(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await link(browser)
        now = datetime.now(UTC)
        async with sessions.begin() as session:
            await session.execute(text("SELECT 1"))
            mine, other = (reply(at=now, recipient_id=one) for one in ("1", "2"))
            await replies.queue(session, rows=[mine, other])
        await browser.submit("/link/stop")
        states = "SELECT recipient_id, state FROM replies ORDER BY 1"
        assert await rows(sessions, states) == [("1", "expired"), ("2", "queued")]

    async def test_and_was_unlinked_elsewhere_sees_nothing_more(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await link(browser)
        async with sessions.begin() as session:
            await members.unlink_account(
                session, network="x", account_id="1", now=datetime.now(UTC)
            )
        page = await browser.open("/link")
        assert "4242" not in page.text
        assert "/link/unlink" not in page.forms


class TestASignIn:
    async def test_counts_for_half_an_hour_whatever_is_done_meanwhile(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        earlier = "UPDATE link_sessions SET proved_at = proved_at - interval '29 minutes'"
        await browser.sign_in()
        await rows(sessions, earlier)
        page = await bring_card(browser)
        assert "/link/consent" in page.forms
        await rows(sessions, earlier)
        page = await browser.agree()
        assert page.alerts == [EN["session_over"]]
        assert "@ann" not in page.text
        assert await rows(sessions, "SELECT 1 FROM members") == []
        await browser.sign_in()
        assert (await browser.agree()).news == [EN["agreed"]]

    @pytest.mark.parametrize("action", ["/link/stop", "/link/unlink"])
    async def test_that_is_older_ends_and_unlinks_nothing(
        self, browser: Browser, sessions: Sessions, action: str
    ) -> None:
        await link(browser)
        await rows(sessions, "UPDATE link_sessions SET proved_at = now() - interval '30 minutes'")
        page = await browser.submit(action, *(["sure"] if action == "/link/unlink" else []))
        assert page.alerts == [EN["session_over"]]
        assert "4242" not in page.text
        assert await rows(sessions, "SELECT 1 FROM accounts") == [(1,)]
        assert await rows(sessions, "SELECT opted_out_at FROM members") == [(None,)]


class TestASession:
    async def test_is_over_after_a_quarter_of_an_hour_or_half_an_hour_when_linked(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        left = "SELECT ceil(extract(epoch FROM expires_at - now()) / 900) FROM link_sessions"
        await browser.sign_in()
        await bring_card(browser)
        assert await rows(sessions, left) == [(1,)]
        await browser.agree()
        assert await rows(sessions, left) == [(2,)]
        await rows(sessions, "UPDATE link_sessions SET expires_at = now()")
        page = await browser.submit("/link/stop")
        assert page.alerts == [EN["session_over"]]
        assert "4242" not in page.text
        assert await rows(sessions, "SELECT opted_out_at FROM members") == [(None,)]

    async def test_is_forgotten_when_it_is_over_and_so_is_a_used_link(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await link(browser)
        now = datetime.now(UTC)
        assert await run_job(sessions, "forget", now=now) == 0
        assert await run_job(sessions, "forget", now=now + timedelta(minutes=20)) == 0
        assert await run_job(sessions, "forget", now=now + timedelta(minutes=31)) == 2
        for table in ("link_sessions", "handoffs_used"):
            assert await rows(sessions, f"SELECT 1 FROM {table}") == []

    async def test_holds_no_secret_in_the_clear(
        self, browser: Browser, sessions: Sessions, capsys: pytest.CaptureFixture[str]
    ) -> None:
        back = await browser.decide_at_x(await browser.leave_for_x(), "ann")
        ((kept,),) = await rows(sessions, "SELECT s::text FROM link_sessions s")
        secret = httpx.URL(back).params
        await browser.open(back)
        await bring_card(browser)
        await browser.agree()
        for table in ("link_sessions", "accounts", "members", "handoffs_used"):
            kept += str(await rows(sessions, f"SELECT t::text FROM {table} t"))
        kept += "".join(capsys.readouterr())
        for value in (browser.cookie, secret["code"], secret["state"]):
            assert value
            assert value not in kept
            assert value.encode().hex() not in kept
        assert "access_token" not in kept
