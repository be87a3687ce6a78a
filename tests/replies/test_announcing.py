from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from outbox import reply
from outbox import rows as all_rows
from sqlalchemy import text

from app.config import Settings
from app.errors import Conflict, Invalid, NotFound
from app.kit import clock
from app.kit.db import Sessions
from app.kit.ids import new_id
from app.kit.urls import URL
from app.kit.weighted_length import weighted_length
from app.networks.x.client import open_sender
from app.offers import service as offers
from app.replies import announcing, sending, service
from app.replies.announcing import Announcement
from tests.programme import NOW, OPERATOR, make_offer
from tests.stand_in import StandIn, StartX
from tests.support import MakeKey, Tagback

DAY = timedelta(days=1)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"x_account_id": "7", "x_handle": "Programme"})


class Profile:
    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self.sessions = sessions
        self.settings = settings

    async def announce(self, offer_id: UUID, **more: Any) -> Announcement:
        usual = {"words": None, "again": False, "is_dry_run": False, "now": NOW}
        async with self.sessions.begin() as session:
            return await announcing.announce(
                session,
                offer_id=offer_id,
                actor="test",
                settings=more.pop("settings", self.settings),
                **(usual | more),
            )

    async def rows(self) -> list[dict[str, Any]]:
        found = (await all_rows(self.sessions)).values()
        return sorted(found, key=lambda row: row["id"])


async def name_partners(sessions: Sessions, name: str) -> None:
    async with sessions.begin() as session:
        await session.execute(text("UPDATE partners SET name = :name"), {"name": name})


@pytest.fixture
def profile(sessions: Sessions, settings: Settings) -> Profile:
    return Profile(sessions, settings)


class TestTheText:
    async def test_says_what_one_gets_and_how(self, profile: Profile, sessions: Sessions) -> None:
        offer_id = await make_offer(sessions, "CoffeeFriday", title="$5 back on breakfast")
        await name_partners(sessions, "Corner Coffee")
        made = await profile.announce(offer_id)
        assert made.text.startswith(
            "“$5 back on breakfast” at Corner Coffee: $5.00 back. Post #CoffeeFriday and mention "
            "@Programme by 25 Jul, then pay with your linked card, in the shop or online."
        )

    async def test_is_in_the_programmes_language(
        self, profile: Profile, sessions: Sessions
    ) -> None:
        offer_id = await make_offer(sessions, "CoffeeFriday")
        french = profile.settings.model_copy(update={"default_locale": "fr"})
        made = await profile.announce(offer_id, settings=french)
        assert "Publiez #CoffeeFriday en mentionnant @Programme jusqu'au 25 juillet" in made.text
        assert (await profile.rows())[0]["locale"] == "fr"

    @pytest.mark.parametrize("locale", ["en", "fr"])
    async def test_fits_and_links_to_nothing_whatever_the_offer_is_called(
        self, profile: Profile, sessions: Sessions, locale: str
    ) -> None:
        long = "見て " * 17 + "shop.example @somebody #other"
        offer_id = await make_offer(sessions, "Ж" * 60, title=long[-80:])
        await name_partners(sessions, f"corner.example @{'x' * 150}")
        settings = profile.settings.model_copy(update={"default_locale": locale})
        made = await profile.announce(offer_id, settings=settings)
        assert weighted_length(made.text) <= 280
        assert not URL.search(made.text)
        assert [word for word in made.text.split() if word.startswith("@")] == ["@Programme"]
        assert "#other" not in made.text

    async def test_may_be_the_operators_own(self, profile: Profile, sessions: Sessions) -> None:
        offer_id = await make_offer(sessions, "CoffeeFriday")
        made = await profile.announce(offer_id, words="Friday is #CoffeeFriday day")
        assert made.text.startswith("Friday is #CoffeeFriday day (")
        for words in ("see shop.example", "x" * 270):
            with pytest.raises(Invalid):
                await profile.announce(offer_id, words=words)

    async def test_needs_to_know_whom_to_mention(
        self, profile: Profile, sessions: Sessions
    ) -> None:
        offer_id = await make_offer(sessions, "CoffeeFriday")
        nobody = profile.settings.model_copy(update={"x_account_id": None, "x_handle": None})
        with pytest.raises(Invalid, match="tagback x connect"):
            await profile.announce(offer_id, settings=nobody)


class TestWhatMayBeAnnounced:
    async def test_is_what_can_be_had(self, profile: Profile, sessions: Sessions) -> None:
        draft = await make_offer(sessions, "Draft", publish=False)
        ended = await make_offer(sessions, "Ended")
        paused = await make_offer(sessions, "Paused")
        async with sessions.begin() as session:
            await offers.end(session, offer_id=ended, by=OPERATOR, now=NOW)
            await offers.pause(session, offer_id=paused, by=OPERATOR, now=NOW)
        for offer_id in (draft, ended, paused):
            with pytest.raises(Conflict):
                await profile.announce(offer_id)
        with pytest.raises(NotFound):
            await profile.announce(new_id())

    async def test_is_also_what_is_to_come_with_a_warning(
        self, profile: Profile, sessions: Sessions
    ) -> None:
        soon = (NOW + DAY).isoformat()
        offer_id = await make_offer(sessions, "Soon", starts_at=soon)
        made = await profile.announce(offer_id)
        assert made.warning == "the offer starts at 2026-07-16 12:00 UTC"
        now = await make_offer(sessions, "Now")
        assert (await profile.announce(now)).warning is None

    async def test_is_not_the_same_within_a_day_unless_it_is_meant(
        self, profile: Profile, sessions: Sessions
    ) -> None:
        offer_id = await make_offer(sessions, "CoffeeFriday")
        await profile.announce(offer_id)
        with pytest.raises(Conflict, match="within a day"):
            await profile.announce(offer_id, now=NOW + DAY - timedelta(minutes=1))
        await profile.announce(offer_id, words="other words")
        await profile.announce(offer_id, again=True)
        await profile.announce(offer_id, now=NOW + DAY)
        kept = await profile.rows()
        assert [row["root_id"] for row in kept] == [f"offer:{offer_id}:{n}" for n in (1, 2, 3, 4)]
        assert len({row["text"] for row in kept}) == 4

    async def test_is_only_shown_in_a_dry_run(self, profile: Profile, sessions: Sessions) -> None:
        offer_id = await make_offer(sessions, "CoffeeFriday")
        made = await profile.announce(offer_id, is_dry_run=True)
        assert made.reply_id is None
        assert await profile.rows() == []

    async def test_expires_with_the_offer(self, profile: Profile, sessions: Sessions) -> None:
        ends_at = NOW + timedelta(hours=2)
        offer_id = await make_offer(sessions, "CoffeeFriday", ends_at=ends_at.isoformat())
        await profile.announce(offer_id)
        async with sessions.begin() as session:
            await sending.claim(
                session,
                network="x",
                channel="post",
                settings=profile.settings,
                now=ends_at + timedelta(seconds=1),
                most=1,
            )
        assert [row["state"] for row in await profile.rows()] == ["expired"]


@pytest.fixture
async def x(start_x: StartX) -> StandIn:
    x = await start_x(profile="self_serve", handle="Programme")
    return StandIn(x.settings.model_copy(update={"x_handle": "Programme"}), x.client)


class TestOnTheProfile:
    async def send(self, x: StandIn, sessions: Sessions) -> int:
        async with sessions.begin() as session:
            claim = await sending.claim(
                session,
                network="x",
                channel="post",
                settings=x.settings,
                now=clock.now(),
                most=10,
            )
        async with open_sender(x.settings) as sender:
            results = [(one, await sender.send(one.text, one.post_id)) for one in claim.replies]
        async with sessions.begin() as session:
            if results:
                await sending.record(
                    session,
                    network="x",
                    channel="post",
                    results=results,
                    settings=x.settings,
                    now=clock.now(),
                )
        return len(results)

    async def offer(self, sessions: Sessions) -> UUID:
        ends_at = (clock.now() + 30 * DAY).isoformat()
        return await make_offer(sessions, "CoffeeFriday", ends_at=ends_at)

    async def test_is_a_post_that_answers_nobody(
        self, x: StandIn, sessions: Sessions, tagback: Tagback
    ) -> None:
        """By the command line, as an operator does it."""
        await self.offer(sessions)
        variables = {"TAGBACK_X_HANDLE": "Programme", "TAGBACK_X_ACCOUNT_ID": "7"}
        ran = await tagback("offers", "announce", "#coffeefriday", **variables)
        assert ran.status == 0, ran.err
        told, queued = ran.out.splitlines()
        assert await self.send(x, sessions) == 1
        (row,) = (await all_rows(sessions)).values()
        assert (row["state"], row["cost_microusd"]) == ("sent", 15_000)
        assert queued == f"queued as {row['id']}"
        own = await x.client.get(
            f"/2/users/{x.settings.x_account_id}/tweets", headers={"authorization": "Bearer user"}
        )
        (post,) = own.json()["data"]
        assert (post["id"], post["text"]) == (row["sent_post_id"], told)
        assert await x.replies() == []
        shown = await tagback("replies", "status")
        assert f"announcement {row['id']}: sent, post {post['id']}" in shown.out
        again = await tagback("offers", "announce", "CoffeeFriday", **variables)
        assert (again.status, len(again.err.splitlines())) == (1, 1)

    async def test_waits_while_all_is_paused(self, x: StandIn, sessions: Sessions) -> None:
        profile = Profile(sessions, x.settings)
        await profile.announce(await self.offer(sessions), now=clock.now())
        async with sessions.begin() as session:
            await service.pause(session, scope="all", actor="test", now=clock.now())
        assert await self.send(x, sessions) == 0
        async with sessions.begin() as session:
            await service.resume(session, scope="all", actor="test", now=clock.now())
        assert await self.send(x, sessions) == 1

    async def test_is_asked_for_over_http_by_the_operator_alone(
        self, client: httpx.AsyncClient, make_key: MakeKey, sessions: Sessions
    ) -> None:
        offer_id = await self.offer(sessions)
        url = f"/v1/offers/{offer_id}/announce"
        for role, status in (("analyst", 403), ("issuer", 403), ("operator", 201)):
            bearer = {"authorization": f"Bearer {await make_key(role)}"}
            answer = await client.post(url, headers=bearer)
            assert answer.status_code == status, answer.text
        made = answer.json()
        assert "#CoffeeFriday" in made["text"]
        listed = (await client.get("/v1/replies", headers=bearer)).json()["items"]
        assert [(one["id"], one["kind"], one["in_reply_to_id"]) for one in listed] == [
            (made["reply_id"], "announcement", None)
        ]
        again = await client.post(url, headers=bearer)
        assert (again.status_code, again.json()["code"]) == (409, "again")
        tried = await client.post(url, headers=bearer, json={"again": True, "dry_run": True})
        assert (tried.status_code, tried.json()["reply_id"]) == (201, None)
        wrong = await client.post(url, headers=bearer, json={"text": "two\nlines"})
        assert wrong.status_code == 422


class TestAFarewell:
    async def queue(
        self, sessions: Sessions, settings: Settings, account_id: str = "1", **more: Any
    ) -> bool:
        usual = {"message_id": "77", "sent_at": NOW, "locale": "en", "now": NOW}
        async with sessions.begin() as session:
            return await service.queue_farewell(
                session, network="x", account_id=account_id, settings=settings, **(usual | more)
            )

    async def test_is_one_a_day_to_an_account(self, sessions: Sessions, settings: Settings) -> None:
        assert await self.queue(sessions, settings)
        assert not await self.queue(sessions, settings, message_id="78")
        assert await self.queue(sessions, settings, "2")
        assert await self.queue(sessions, settings, sent_at=NOW + DAY)
        kept = list((await all_rows(sessions)).values())
        assert {(row["channel"], row["offer_id"]) for row in kept} == {("dm", None)}
        assert {row["recipient_id"] for row in kept} == {"1", "2"}

    @pytest.mark.parametrize(
        ("locale", "begins"),
        [("en", "You are stopped"), ("fr-CA", "C'est arrêté"), (None, "You are"), ("de", "You")],
    )
    async def test_is_in_the_persons_language(
        self, sessions: Sessions, settings: Settings, locale: str | None, begins: str
    ) -> None:
        await self.queue(sessions, settings, locale=locale)
        (row,) = (await all_rows(sessions)).values()
        assert row["text"].startswith(begins)
        assert not URL.search(row["text"])

    async def test_waits_for_no_reply_and_no_reply_for_it(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await self.queue(sessions, settings)
        async with sessions.begin() as session:
            await service.queue(session, rows=[])
            await session.execute(text("SELECT 1"))
            await service.queue(session, rows=[reply(at=NOW)])
        for channel in ("post", "dm"):
            async with sessions.begin() as session:
                claim = await sending.claim(
                    session,
                    network="x",
                    channel=channel,  # type: ignore[arg-type]
                    settings=settings,
                    now=NOW,
                    most=10,
                )
            assert [one.channel for one in claim.replies] == [channel]

    async def test_waits_while_all_is_paused(self, sessions: Sessions, settings: Settings) -> None:
        await self.queue(sessions, settings)
        async with sessions.begin() as session:
            await service.pause(session, scope="all", actor="test", now=NOW)
            claim = await sending.claim(
                session, network="x", channel="dm", settings=settings, now=NOW, most=10
            )
        assert claim.replies == []
