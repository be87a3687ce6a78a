"""What others try at `/link`, and what goes wrong on the way to X and back."""

import asyncio
import re
from decimal import Decimal
from typing import Any

import pytest
from httpx import AsyncClient
from pydantic import AnyHttpUrl
from sqlalchemy import text

from app.kit.db import Sessions, make_engine, make_sessions
from app.main import create_app
from app.web.words import WORDS
from tests.hand_offs import make_link
from tests.stand_in import StandIn
from tests.web.browser import Browser, NewBrowser, Page, query_of

EN = WORDS["en"]


async def handles(sessions: Sessions) -> list[str | None]:
    """Who has signed in, in each session."""
    async with sessions() as session:
        return list(await session.scalars(text("SELECT handle FROM link_sessions ORDER BY 1")))


async def execute(sessions: Sessions, statement: str) -> None:
    async with sessions.begin() as session:
        await session.execute(text(statement))


class TestTheWayToX:
    async def test_asks_for_what_is_needed_with_pkce_and_the_one_redirect(
        self, browser: Browser
    ) -> None:
        asked = query_of(await browser.leave_for_x())
        assert asked["redirect_uri"] == f"{str(browser.client.base_url).rstrip('/')}/link/callback"
        assert asked["scope"] == "tweet.read users.read"
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        assert len(asked["state"]) >= 22

    async def test_has_a_new_state_and_challenge_each_time(self, browser: Browser) -> None:
        asked = [query_of(await browser.leave_for_x()) for _ in range(2)]
        for name in ("state", "code_challenge"):
            assert asked[0][name] != asked[1][name]

    async def test_is_the_same_whatever_host_was_asked_for(self, browser: Browser) -> None:
        await browser.open("/link")
        answer = await browser.send("/link/x", headers={"host": "evil.example"})
        assert "evil.example" not in answer.headers["location"]

    async def test_is_refused_after_twenty_times(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await browser.leave_for_x()
        await execute(sessions, "UPDATE link_sessions SET sign_ins = 19")
        address = await browser.leave_for_x()
        await browser.open("/link")
        page = await browser.submit("/link/x")
        assert page.alerts == [EN["too_many_sign_ins"]]
        page = await browser.open(await browser.decide_at_x(address, "ann"))
        assert EN["x_done"].format(handle="ann") in page.text


class TestTheMoneyOfSignIns:
    async def test_is_a_part_of_the_months_and_no_more(
        self, new_browser: NewBrowser, sessions: Sessions
    ) -> None:
        """Else one person, signing in again and again, could use up what confirmations need."""
        ceiling = {"x_monthly_ceiling_usd": Decimal("0.10"), "x_sign_ins_ceiling_percent": 20}
        browser, late = await new_browser(**ceiling), await new_browser(**ceiling)
        back = await late.decide_at_x(await late.leave_for_x(), "bob")
        for _ in range(2):
            assert (await browser.sign_in()).alerts == []
        assert (await browser.submit("/link/x")).alerts == [EN["x_unavailable"]]
        assert (await late.open(back)).alerts == [EN["x_unavailable"]]
        async with sessions() as session:
            usage = await session.execute(text("SELECT kind, micro_usd FROM network_usage"))
            assert [tuple(row) for row in usage] == [("user_read", 20_000)]
        await execute(sessions, "UPDATE network_usage SET day = day - 31")
        assert (await browser.sign_in()).alerts == []

    async def test_is_without_bound_where_no_ceiling_is_set(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await execute(
            sessions, "INSERT INTO network_usage VALUES ('x', now(), 'user_read', 1, 1000000000000)"
        )
        assert (await browser.sign_in()).alerts == []


class TestTooManyAtOnce:
    async def test_make_no_further_session_and_disturb_nobody_who_has_one(
        self, browser: Browser, new_browser: NewBrowser, sessions: Sessions
    ) -> None:
        await browser.leave_for_x()
        flood = """
            INSERT INTO link_sessions (id_hash, created_at, expires_at)
            SELECT int4send(one), now() + make_interval(secs => {age}), now() + interval '1 hour'
            FROM generate_series(1, 1000) AS one
        """
        await execute(sessions, flood.format(age=1))  # those that come next are within its minute
        other = await new_browser()
        await other.open("/link")
        assert (await other.submit("/link/x")).alerts == [EN["x_unavailable"]]
        page = await other.open(f"/link?handoff={make_link()}")
        assert page.alerts == [EN["x_unavailable"]]
        assert len(await handles(sessions)) == 1_001
        assert (await browser.sign_in()).alerts == []
        await execute(sessions, "UPDATE link_sessions SET created_at = now() - interval '1 minute'")
        assert (await other.sign_in("bob")).alerts == []

    async def test_are_not_those_who_have_signed_in(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await execute(
            sessions,
            "INSERT INTO link_sessions "
            "(id_hash, created_at, expires_at, network, account_id, proved_at) "
            "SELECT int4send(one), now(), now() + interval '1 hour', 'x', 'a', now() "
            "FROM generate_series(1, 1000) AS one",
        )
        assert (await browser.sign_in()).alerts == []


class TestTheWayBack:
    async def test_counts_once(self, browser: Browser) -> None:
        back = await browser.decide_at_x(await browser.leave_for_x(), "ann")
        assert (await browser.open(back)).alerts == []
        assert (await browser.open(back)).alerts == [EN["state"]]

    async def test_with_another_state_is_refused_and_the_right_one_is_still_good(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        back = await browser.decide_at_x(await browser.leave_for_x(), "ann")
        for wrong in (
            re.sub("state=[^&]*", "state=another", back),
            re.sub("state=[^&]*", "state=", back),
            re.sub("&?state=[^&]*", "", back),
            back.partition("?")[0],
        ):
            assert (await browser.open(wrong)).alerts == [EN["state"]]
        assert await handles(sessions) == [None]
        await browser.open(back)
        assert await handles(sessions) == ["ann"]

    async def test_of_an_earlier_sign_in_is_refused(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        early = await browser.decide_at_x(await browser.leave_for_x(), "bob")
        await browser.leave_for_x()
        assert (await browser.open(early)).alerts == [EN["state"]]
        assert await handles(sessions) == [None]

    async def test_to_another_browser_is_refused(
        self, browser: Browser, new_browser: NewBrowser, sessions: Sessions
    ) -> None:
        """Else a person would link his card to the handle of whoever sent him the address."""
        back = await browser.decide_at_x(await browser.leave_for_x(), "mallory")
        other, third = [await new_browser() for _ in range(2)]
        await other.leave_for_x()
        for one in (other, third):
            assert (await one.open(back)).alerts == [EN["state"]]
        assert await handles(sessions) == [None, None]

    async def test_with_the_code_of_another_sign_in_is_refused_by_pkce(
        self, browser: Browser, new_browser: NewBrowser, sessions: Sessions
    ) -> None:
        other = await new_browser()
        stolen = query_of(await other.decide_at_x(await other.leave_for_x(), "victim"))["code"]
        back = await browser.decide_at_x(await browser.leave_for_x(), "mallory")
        page = await browser.open(re.sub("code=[^&]*", f"code={stolen}", back))
        assert page.alerts == [EN["code_too_late"]]
        assert await handles(sessions) == [None, None]

    async def test_changes_the_session_so_that_a_planted_one_is_worth_nothing(
        self, browser: Browser, new_browser: NewBrowser, sessions: Sessions
    ) -> None:
        attacker = await new_browser()
        await attacker.leave_for_x()
        assert attacker.cookie
        browser.client.cookies.set("tagback", attacker.cookie, domain="127.0.0.1", path="/")
        await browser.open("/link")
        await browser.sign_in()
        assert browser.cookie != attacker.cookie
        page = await attacker.open("/link")
        assert "@ann" not in page.text
        assert await handles(sessions) == ["ann"]

    async def test_is_not_disturbed_by_the_issuers_link_in_another_tab(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        back = await browser.decide_at_x(await browser.leave_for_x(), "ann")
        await browser.open(f"/link?handoff={make_link()}")
        page = await browser.open(back)
        assert "/link/consent" in page.forms
        assert await handles(sessions) == ["ann"]

    async def test_is_paid_for_even_if_the_session_has_changed_meanwhile(
        self, browser: Browser, new_browser: NewBrowser, sessions: Sessions, x: StandIn
    ) -> None:
        back = await browser.decide_at_x(await browser.leave_for_x(), "ann")
        tab = await new_browser()
        tab.client.cookies.set("tagback", browser.cookie or "", domain="127.0.0.1", path="/")
        slow = {"kind": "slow_after", "on": "GET /2/users/me", "seconds": 1}
        assert (await x.client.post("/sandbox/faults", json=slow)).is_success
        coming = asyncio.create_task(browser.open(back))
        async with asyncio.timeout(20):
            while not (await x.client.get("/sandbox/faults")).json()["fired"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await tab.open(f"/link?handoff={make_link()}")
        await coming
        async with sessions() as session:
            usage = await session.execute(text("SELECT kind, units FROM network_usage"))
            assert [tuple(row) for row in usage] == [("user_read", 1)]

    async def test_is_never_by_a_name_that_a_browser_has_made_up(self, browser: Browser) -> None:
        browser.client.cookies.set("tagback", "made-up")
        await browser.open("/link")
        await browser.send("/link/x")
        assert len({cookie.value for cookie in browser.client.cookies.jar} - {"made-up"}) == 1

    async def test_after_declining_says_that_nothing_was_linked(self, browser: Browser) -> None:
        page = await browser.sign_in(decision="decline")
        assert page.alerts == [EN["declined"]]
        assert "/link/x" in page.forms

    async def test_with_the_programmes_own_account_is_refused(self, browser: Browser) -> None:
        """It would be rewarded for its own announcements, and answer itself."""
        page = await browser.sign_in("TagbackDemo")
        assert page.alerts == [EN["own_account"]]
        page = await browser.open(f"/link?handoff={make_link()}")
        assert "/link/consent" not in page.forms

    @pytest.mark.parametrize("said", ["agreed", "stopped", "unlinked"])
    async def test_is_not_said_to_be_done_by_an_address_alone(
        self, browser: Browser, said: str
    ) -> None:
        assert (await browser.open(f"/link?said={said}")).news == []

    async def test_is_said_in_the_persons_language(self, new_browser: NewBrowser) -> None:
        browser = await new_browser("fr-FR,fr;q=0.8")
        page = await browser.sign_in(decision="decline")
        assert (page.language, page.alerts) == ("fr", [WORDS["fr"]["declined"]])

    async def test_with_a_code_that_is_too_old_says_so(self, browser: Browser, clock: Any) -> None:
        back = await browser.decide_at_x(await browser.leave_for_x(), "ann")
        clock.seconds += 31
        page = await browser.open(back)
        assert page.alerts == [EN["code_too_late"]]
        assert (await browser.sign_in()).alerts == []

    @pytest.mark.parametrize("error", ["server_error", "invalid_scope"])
    async def test_with_an_error_of_xs_says_so(self, browser: Browser, error: str) -> None:
        state = query_of(await browser.leave_for_x())["state"]
        for query in (f"state={state}&error={error}", f"state={state}"):
            page = await browser.open(f"/link/callback?{query}")
            assert page.alerts in ([EN["x_refused"]], [EN["state"]])
        assert page.alerts == [EN["state"]]

    async def test_while_x_is_away_says_so(
        self, new_browser: NewBrowser, sessions: Sessions
    ) -> None:
        browser = await new_browser()
        back = await browser.decide_at_x(await browser.leave_for_x(), "ann")
        await new_browser(x_base_url=AnyHttpUrl("http://127.0.0.1:1"))
        page = await browser.open(back)
        assert page.alerts == [EN["x_unavailable"]]
        assert await handles(sessions) == [None]

    async def test_leads_nowhere_else(self, browser: Browser) -> None:
        await browser.open("/link")
        for more in ("next=https://evil.example", "said=https://evil.example", "said=%3Cb%3E"):
            page = await browser.open(f"/link?{more}")
            assert (page.alerts, "evil" in page.answer.text) == ([], False)


class TestTheIssuersLink:
    @pytest.mark.parametrize("first", ["sign-in", "way-to-x"])
    async def test_tapped_more_than_once_leaves_one_session(
        self, browser: Browser, sessions: Sessions, first: str
    ) -> None:
        """Each tap comes with the cookie from before; the browser may keep any answer's."""
        await (browser.sign_in() if first == "sign-in" else browser.leave_for_x())
        before = f"tagback={browser.cookie}"
        address = f"/link?handoff={make_link()}"
        async with AsyncClient(base_url=browser.client.base_url, verify=False) as other:
            answers = await asyncio.gather(
                *(other.get(address, headers={"cookie": before}) for _ in range(4))
            )
        assert {answer.status_code for answer in answers} == {303}
        (after,) = {answer.cookies["tagback"] for answer in answers}
        assert after not in before
        assert await handles(sessions) == ["ann" if first == "sign-in" else None]
        browser.client.cookies.set("tagback", after, domain="127.0.0.1", path="/")
        page = await browser.open("/link")
        assert ("/link/consent" in page.forms) == (first == "sign-in")
        assert "Visa ending in 4242" in page.text

    async def test_gives_its_session_to_nobody_who_has_the_cookie_from_before_alone(
        self, browser: Browser, new_browser: NewBrowser
    ) -> None:
        await browser.sign_in()
        attacker = await new_browser()
        attacker.client.cookies.set("tagback", browser.cookie or "", domain="127.0.0.1", path="/")
        await browser.open(f"/link?handoff={make_link()}")
        page = await attacker.open(f"/link?handoff={make_link()}")
        assert "@ann" not in page.text

    async def test_does_not_come_to_a_session_that_was_planted(
        self, browser: Browser, new_browser: NewBrowser
    ) -> None:
        """Else who has planted it, signed in as himself, could agree for another's card."""
        attacker = await new_browser()
        await attacker.sign_in("mallory")
        assert attacker.cookie
        browser.client.cookies.set("tagback", attacker.cookie, domain="127.0.0.1", path="/")
        page = await browser.open(f"/link?handoff={make_link()}")
        assert "@mallory" in page.text
        page = await attacker.open("/link")
        assert "/link/consent" not in page.forms
        assert "4242" not in page.text


class TestAForm:
    @pytest.mark.parametrize("action", ["x", "consent", "unlink", "stop"])
    async def test_of_another_site_is_refused(self, browser: Browser, action: str) -> None:
        ours = (await browser.open("/link")).forms["/link/x"].fields["csrf"]
        for headers, csrf in (
            ({}, "0" * 64),
            ({}, ""),
            ({}, "é"),
            ({"sec-fetch-site": "cross-site"}, ours),
            ({"sec-fetch-site": "same-site"}, ours),
            ({"origin": "https://evil.example"}, ours),
        ):
            answer = await browser.client.post(
                f"/link/{action}", data={"csrf": csrf}, headers=headers
            )
            assert (answer.status_code, Page(answer).alerts) == (403, [EN["csrf"]])

    async def test_of_another_session_is_refused(
        self, browser: Browser, new_browser: NewBrowser
    ) -> None:
        other = await new_browser()
        page = await other.open("/link")
        await browser.open("/link")
        body = page.forms["/link/x"].fields
        assert (await browser.client.post("/link/x", data=body)).status_code == 403

    async def test_of_our_own_is_taken_as_browsers_send_it(self, browser: Browser) -> None:
        own = str(browser.client.base_url).rstrip("/")
        for headers in ({"origin": own}, {"origin": "null", "sec-fetch-site": "same-origin"}):
            await browser.open("/link")
            assert (await browser.send("/link/x", headers=headers)).status_code == 303

    async def test_without_a_cookie_says_what_is_needed(self, browser: Browser) -> None:
        await browser.open("/link")
        browser.client.cookies.clear()
        page = await browser.submit("/link/x")
        assert page.alerts == [EN["no_cookie"]]


class TestEveryAnswer:
    async def test_keeps_its_address_to_itself_and_takes_nothing_from_others(
        self, browser: Browser, x: StandIn
    ) -> None:
        await browser.open("/link")
        answers = [
            await browser.client.get("/link"),
            await browser.send("/link/x"),
            await browser.client.get(f"/link?handoff={make_link()}"),
            await browser.client.get("/link/callback?state=1&code=2"),
            await browser.client.post("/link/stop"),
        ]
        assert [answer.status_code for answer in answers] == [200, 303, 303, 303, 403]
        for answer in answers:
            policy = dict(
                part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
            )
            assert policy == {
                "default-src": "'none'",
                "style-src": "'self'",
                "form-action": f"'self' {str(x.settings.x_base_url).rstrip('/')}",
                "base-uri": "'none'",
                "frame-ancestors": "'none'",
            }
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"

    async def test_has_a_cookie_for_this_host_by_https_alone(
        self, browser: Browser, new_browser: NewBrowser
    ) -> None:
        answer = await browser.client.get("/link")
        parts = answer.headers["set-cookie"].lower().split("; ")
        assert {"httponly", "samesite=lax", "path=/"} <= {*parts}
        assert "secure" not in parts
        secure = await new_browser(public_url=AnyHttpUrl("https://tagback.example"))
        answer = await secure.client.get("/link")
        name, *more = answer.headers["set-cookie"].split("; ")
        assert re.fullmatch(r"__Host-tagback=[\w-]{43}", name)
        assert {"Secure", "HttpOnly", "SameSite=lax", "Path=/"} <= {*more}
        assert not [one for one in more if one.lower().startswith("domain")]

    async def test_has_its_stylesheet_from_us(self, browser: Browser) -> None:
        page = await browser.open("/link")
        found = re.findall('(?:href|src)="([^"]+)"', page.answer.text)
        assert found == ["/static/pages.css"]
        sheet = await browser.client.get(found[0])
        assert sheet.headers["content-type"].startswith("text/css")
        assert "http" not in sheet.text
        assert (await browser.client.get("/static/../pages.py")).status_code == 404

    async def test_is_in_a_language_that_is_asked_for(self, browser: Browser) -> None:
        for accepted, language in (
            ("fr", "fr"),
            ("en;q=0.2, FR-ca;q=0.9", "fr"),
            ("de, es", "en"),
            ("fr;q=0, en;q=0.1", "en"),
            ("fr;q=much, *", "en"),
            ("", "en"),
        ):
            browser.client.headers["accept-language"] = accepted
            assert (await browser.open("/link")).language == language

    async def test_says_when_linking_is_not_set_up(
        self, new_browser: NewBrowser, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("public_url", "handoff_secret", "x_client_id"):
            browser = await new_browser(**{name: None})
            for address in ("/link", f"/link?handoff={make_link()}", "/link/callback?state=1"):
                page = await browser.open(address)
                assert (page.answer.status_code, page.alerts) == (200, [EN["not_set_up"]])
            answer = await browser.client.post("/link/x")
            assert answer.headers["location"] == "/link?said=not_set_up"
            assert f"TAGBACK_{name.upper()}" in capsys.readouterr().err

    async def test_is_a_page_when_the_database_is_away(
        self, browser: Browser, linking_settings: Any, stage: tuple[Any, str]
    ) -> None:
        await browser.open("/link")
        engine = make_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none", role="none")
        stage[0].app = create_app(linking_settings, make_sessions(engine))
        page = await browser.open("/link")
        assert (page.answer.status_code, page.alerts) == (503, [EN["unavailable"]])

    async def test_escapes_what_others_have_named(
        self, browser: Browser, sessions: Sessions
    ) -> None:
        await browser.sign_in()
        await execute(sessions, "UPDATE link_sessions SET handle = '<b>\"ann'")
        page = await browser.open(f"/link?handoff={make_link(card_network='<i>visa')}")
        assert "<b>" not in page.answer.text
        assert "<i>" not in page.answer.text.lower()


class TestTheWords:
    def test_are_the_same_in_each_language(self) -> None:
        def places(sentence: str) -> set[str]:
            return set(re.findall(r"\{(\w+)\}", sentence))

        french = WORDS["fr"]
        assert EN.keys() == french.keys()
        assert {name: places(EN[name]) for name in EN} == {n: places(french[n]) for n in french}
