"""What has happened since a reply was queued, or was claimed before."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from outbox import NOW, queue, reply, rows, states
from sqlalchemy import text

from app.config import Settings
from app.kit.db import Sessions
from app.members import service as members
from app.networks.sender import SendResult, Sent, Temporary
from app.replies import removal_queries, sending
from app.replies.budget import Channel
from app.replies.domain import Claimed

MINUTE = timedelta(minutes=1)


class Outbox:
    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self.sessions = sessions
        self.settings = settings

    async def claim(self, *, now: datetime = NOW, channel: Channel = "post") -> list[Claimed]:
        async with self.sessions.begin() as session:
            claim = await sending.claim(
                session,
                network="x",
                channel=channel,
                settings=self.settings,
                now=now,
                most=100,
            )
            return claim.replies

    async def record(self, reply: Claimed, result: SendResult, *, now: datetime = NOW) -> None:
        async with self.sessions.begin() as session:
            await sending.record(
                session,
                network="x",
                channel=reply.channel,
                results=[(reply, result)],
                settings=self.settings,
                now=now,
            )

    async def stop(self, account_id: str) -> None:
        async with self.sessions.begin() as session:
            await members.stop_accounts(
                session, network="x", account_ids=[account_id], told_by="post", now=NOW
            )

    async def forget(self, post_id: str) -> None:
        """As the job does when the post was deleted on its network."""
        new = ("removed:post", "removed:root", "removed:author")
        async with self.sessions.begin() as session:
            await removal_queries.rename_posts(session, network="x", renamed={post_id: new})

    async def only_row(self) -> dict[str, Any]:
        (row,) = (await rows(self.sessions)).values()
        return row

    async def usage(self) -> list[tuple[Any, ...]]:
        async with self.sessions() as session:
            found = await session.execute(text("SELECT kind, units, micro_usd FROM network_usage"))
            return [tuple(row) for row in found]


@pytest.fixture
def outbox(sessions: Sessions, settings: Settings) -> Outbox:
    return Outbox(sessions, settings)


class TestAStop:
    async def test_is_obeyed_by_what_is_queued_after_it(self, outbox: Outbox) -> None:
        """By a batch that began before it and commits after it."""
        await outbox.stop("7")
        told, other = reply(recipient_id="7"), reply(recipient_id="8")
        invited = reply(recipient_id="7", kind="invitation")
        await queue(outbox.sessions, told, other, invited)
        assert [one.id for one in await outbox.claim()] == [other.id]
        assert await states(outbox.sessions, [told, invited]) == ["expired", "expired"]
        assert (await rows(outbox.sessions))[told.id]["problem"] == "the author has said stop"

    async def test_is_obeyed_by_what_waits_for_its_next_try(self, outbox: Outbox) -> None:
        await queue(outbox.sessions, reply(recipient_id="7"))
        (claimed,) = await outbox.claim()
        await outbox.stop("7")
        await outbox.record(claimed, Temporary("503"))
        assert await outbox.claim(now=NOW + MINUTE) == []
        assert (await outbox.only_row())["state"] == "expired"

    async def test_is_obeyed_when_a_lease_is_over(self, outbox: Outbox) -> None:
        await queue(outbox.sessions, reply(recipient_id="7"))
        (claimed,) = await outbox.claim()
        await outbox.stop("7")
        assert await outbox.claim(now=claimed.leased_until) == []
        row = await outbox.only_row()
        assert (row["state"], row["outcome_unknown"]) == ("expired", True)

    async def test_on_another_network_is_no_stop_here(self, outbox: Outbox) -> None:
        async with outbox.sessions.begin() as session:
            await members.stop_accounts(
                session, network="elsewhere", account_ids=["7"], told_by="post", now=NOW
            )
        await queue(outbox.sessions, reply(recipient_id="7"))
        assert len(await outbox.claim()) == 1

    async def test_is_answered_all_the_same(self, outbox: Outbox) -> None:
        await outbox.stop("7")
        farewell = reply(kind="farewell", channel="dm", offer_id=None, recipient_id="7")
        await queue(outbox.sessions, farewell)
        assert [one.id for one in await outbox.claim(channel="dm")] == [farewell.id]


class TestAPostThatWasForgotten:
    async def test_does_not_come_back_by_the_id_of_its_answer(self, outbox: Outbox) -> None:
        answer = reply()
        await queue(outbox.sessions, answer)
        (claimed,) = await outbox.claim()
        await outbox.forget(answer.root_id)
        await outbox.record(claimed, Sent("4242"))
        row = await outbox.only_row()
        assert (row["state"], row["sent_post_id"]) == ("sent", None)
        assert await outbox.usage() == [("summoned_reply", 1, 10_000)]

    async def test_is_not_answered_once_the_lease_is_over(self, outbox: Outbox) -> None:
        answer = reply()
        await queue(outbox.sessions, answer)
        (claimed,) = await outbox.claim()
        await outbox.forget(answer.root_id)
        assert await outbox.claim(now=claimed.leased_until) == []
        assert (await outbox.only_row())["state"] == "expired"
