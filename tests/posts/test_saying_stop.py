"""Whoever says "stop", by a post or by a message, is left alone."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from app.config import Settings
from app.insight.verify import verify
from app.kit.db import Sessions
from app.members import service as members
from app.members.schemas import MemberLine
from app.networks.post import AccessRevoked, Event, Message, Messages, Post
from app.posts import events
from app.posts.enrol import Enroller
from app.replies.queries import SAID_STOP
from tests.programme import NOW, make_members, make_offer, make_post, member_line

OWN = "1000000000000000001"
EARLIER = NOW - timedelta(hours=1)


async def enrol(
    sessions: Sessions, settings: Settings, *posts: Post, now: datetime = NOW
) -> list[tuple[str, ...]]:
    results = await Enroller(sessions, settings).enrol(posts, source="test", now=now)
    return [result.outcomes for result in results]


async def take(
    sessions: Sessions, settings: Settings, event: Event, *, now: datetime = NOW
) -> None:
    told = settings.model_copy(update={"x_account_id": OWN})
    async with sessions.begin() as session:
        await events.take(session, event, settings=told, now=now)


async def rows(sessions: Sessions, query: str) -> list[Any]:
    async with sessions.begin() as session:
        return [tuple(row) for row in await session.execute(text(query))]


async def stopped(sessions: Sessions) -> set[tuple[str, str]]:
    return set(await rows(sessions, "SELECT account_id, told_by FROM stopped_accounts"))


async def consent_again(sessions: Sessions, account: str) -> None:
    """Ten minutes ago."""
    at = (NOW - timedelta(minutes=10)).isoformat()
    line = MemberLine.model_validate(member_line(account, consented_at=at))
    async with sessions.begin() as session:
        await members.save_members(session, rows=[line], now=NOW)


def stop_post(author: str, **more: Any) -> Post:
    return make_post(author, asks_to_stop=True, **more)


def message(sender: str, *, asks_to_stop: bool = True, sent_at: Any = NOW) -> Messages:
    return Messages("x", (Message("9", sender, sent_at, asks_to_stop),))


class TestByAPost:
    async def test_ends_loading_from_that_batch_on_and_is_not_kept(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        author, other = await make_members(sessions, 2)
        batch = [make_post(author, "Tea"), stop_post(author), make_post(other, "Tea")]
        assert await enrol(sessions, settings, *batch) == [("opted_out",), ("stop",), ("loaded",)]
        assert await stopped(sessions) == {(author, "post")}
        assert (
            await rows(sessions, f"SELECT post_id FROM posts WHERE post_id = '{batch[1].id}'") == []
        )
        assert await enrol(sessions, settings, make_post(author, "Tea")) == [("opted_out",)]

    async def test_of_a_stranger_counts_too(self, sessions: Sessions, settings: Settings) -> None:
        assert await enrol(sessions, settings, stop_post("4242")) == [("stop",)]
        assert await stopped(sessions) == {("4242", "post")}

    async def test_that_names_an_offer_is_for_the_offer(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Stop")
        (author,) = await make_members(sessions, 1)
        post = make_post(author, "Stop", asks_to_stop=True)
        assert await enrol(sessions, settings, post) == [("loaded",)]
        assert await stopped(sessions) == set()

    async def test_brought_again_does_not_undo_a_newer_consent(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        post = stop_post(author, posted_at=EARLIER)
        await enrol(sessions, settings, post, now=EARLIER)
        await consent_again(sessions, author)
        assert await enrol(sessions, settings, post) == [("stop",)]
        assert await enrol(sessions, settings, make_post(author, "Tea")) == [("loaded",)]


class TestByAMessage:
    async def test_is_heeded(self, sessions: Sessions, settings: Settings) -> None:
        (author,) = await make_members(sessions, 1)
        await take(sessions, settings, message(author))
        assert await stopped(sessions) == {(author, "message")}

    async def test_is_answered_once_by_a_message(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        (author,) = await make_members(sessions, 1, locale="fr-FR")
        for _ in range(2):
            await take(sessions, settings, message(author))
        await take(sessions, settings, message("4242"))
        told = (
            "SELECT recipient_id, kind, channel, post_id, locale FROM replies ORDER BY created_at"
        )
        assert await rows(sessions, told) == [
            (author, "farewell", "dm", "9", "fr"),
            ("4242", "farewell", "dm", "9", "en"),
        ]
        async with sessions() as session:
            assert [one.name for one in await verify(session) if one.wrong] == []

    async def test_that_comes_again_after_midnight_has_had_its_answer(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        for hours in (0, 20):
            await take(sessions, settings, message("4242"), now=NOW + timedelta(hours=hours))
        assert await rows(sessions, "SELECT kind FROM replies") == [("farewell",)]

    async def test_other_messages_and_our_own_are_not(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await take(sessions, settings, message("7", asks_to_stop=False))
        await take(sessions, settings, message(OWN))
        assert await stopped(sessions) == set()


class TestWhatWaitsToBeSent:
    """When its recipient says "stop". By the page: test_link_page.py."""

    async def replies(self, sessions: Sessions) -> list[tuple[str, str, str, str | None]]:
        return await rows(
            sessions,
            "SELECT recipient_id, kind, state, problem FROM replies "
            "WHERE kind <> 'farewell' ORDER BY created_at, id",
        )

    async def test_is_withdrawn_by_a_post(self, sessions: Sessions, settings: Settings) -> None:
        await make_offer(sessions, "Tea")
        author, other = await make_members(sessions, 2)
        posts = [make_post(one, "Tea") for one in (author, other, "4242")]
        await enrol(sessions, settings, *posts)
        await enrol(sessions, settings, stop_post(author), stop_post("4242"))
        assert await self.replies(sessions) == [
            (author, "confirmation", "expired", SAID_STOP),
            (other, "confirmation", "queued", None),
            ("4242", "invitation", "expired", SAID_STOP),
        ]
        async with sessions() as session:
            assert [one.name for one in await verify(session) if one.wrong] == []

    async def test_is_withdrawn_by_a_message_which_is_answered(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        await enrol(sessions, settings, make_post(author, "Tea"))
        for _ in range(2):
            await take(sessions, settings, message(author))
        assert await self.replies(sessions) == [(author, "confirmation", "expired", SAID_STOP)]
        waiting = "SELECT kind FROM replies WHERE state = 'queued'"
        assert await rows(sessions, waiting) == [("farewell",)]

    async def test_is_withdrawn_whichever_account_of_his_it_goes_to(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        second = {"network": "x", "id": "4242", "handle": "second"}
        line = member_line(author, account=second)
        async with sessions.begin() as session:
            await members.save_members(session, rows=[MemberLine.model_validate(line)], now=NOW)
        await enrol(sessions, settings, make_post("4242", "Tea"))
        await enrol(sessions, settings, stop_post(author))
        assert await self.replies(sessions) == [("4242", "confirmation", "expired", SAID_STOP)]


class TestAccessRevoked:
    async def test_unlinks_the_account(self, sessions: Sessions, settings: Settings) -> None:
        (author,) = await make_members(sessions, 1)
        await take(sessions, settings, AccessRevoked("x", author, NOW))
        assert await rows(sessions, "SELECT 1 FROM accounts") == []

    async def test_before_a_consent_that_is_newer_does_not(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        (author,) = await make_members(sessions, 1)
        await consent_again(sessions, author)
        await take(sessions, settings, AccessRevoked("x", author, EARLIER))
        assert await rows(sessions, "SELECT 1 FROM accounts") == [(1,)]

    async def test_by_the_programme_itself_is_a_problem_of_its_account(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await rows(
            sessions,
            "INSERT INTO network_accounts (network, account_id, handle, scopes, access_token, "
            f"expires_at, connected_at, updated_at) VALUES ('x', '{OWN}', 'demo', '{{}}', '', "
            f"'{NOW}', '{EARLIER}', '{EARLIER}') RETURNING 1",
        )
        await take(sessions, settings, AccessRevoked("x", OWN, EARLIER - timedelta(hours=1)))
        assert await rows(sessions, "SELECT problem FROM network_accounts") == [(None,)]
        await take(sessions, settings, AccessRevoked("x", OWN, NOW))
        assert await rows(sessions, "SELECT problem FROM network_accounts") == [(events.REVOKED,)]
