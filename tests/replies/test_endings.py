"""Every way in which a send can end, at the stand-in with somebody between who spoils it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from outbox import queue, reply, rows
from sqlalchemy import text

from app.config import Settings
from app.kit import clock
from app.kit.db import Sessions
from app.networks.x.client import open_sender
from app.replies import sending, service, worker
from app.replies.queries import NewReply
from tests.between import POST, Between, Fault, standing_between
from tests.stand_in import PROGRAMME, StandIn

SECONDS_MAX = 20.0
NOT_MENTIONED = (
    "Reply to this conversation is not allowed because you have not been mentioned or otherwise "
    "engaged by the author of the post you are replying to."
)


def problem(kind: str, *, host: str = "api.twitter.com", **more: Any) -> dict[str, Any]:
    return {"type": f"https://{host}/2/problems/{kind}", "title": "?", "detail": kind, **more}


class World:
    def __init__(self, x: StandIn, between: Between, sessions: Sessions) -> None:
        self.x = x
        self.between = between
        self.sessions = sessions
        self.known: set[UUID] = set()

    async def replies(self, number: int, **more: Any) -> list[NewReply]:
        return [reply(post_id=await self.x.post(), at=clock.now(), **more) for _ in range(number)]

    async def send(self, *queued: NewReply, until: Callable[[dict[str, Any]], bool]) -> None:
        """Queues those that are new, and sends until that holds of the rows of all."""
        await queue(self.sessions, *(one for one in queued if one.id not in self.known))
        self.known |= {one.id for one in queued}
        stop = asyncio.Event()
        async with open_sender(self.x.settings) as sender:
            running = asyncio.create_task(worker.run(self.sessions, sender, self.x.settings, stop))
            try:
                async with asyncio.timeout(SECONDS_MAX):
                    while not all([until(await self.row(one)) for one in queued]):  # noqa: ASYNC110 - in a database
                        await asyncio.sleep(0.02)
            finally:
                stop.set()
                await running

    async def again(self) -> None:
        """What waits for a later try or a later window is tried at once."""
        async with self.sessions.begin() as session:
            await session.execute(text("UPDATE replies SET not_before = now()"))
            await session.execute(text("UPDATE send_windows SET remaining = 100"))

    async def row(self, queued: NewReply) -> dict[str, Any]:
        return (await rows(self.sessions))[queued.id]

    async def usage(self) -> dict[str, tuple[int, int]]:
        async with self.sessions() as session:
            found = await session.execute(text("SELECT kind, units, micro_usd FROM network_usage"))
            return {kind: (units, micro_usd) for kind, units, micro_usd in found}

    async def messages(self) -> list[dict[str, Any]]:
        """That the programme has written."""
        found = (await self.x.client.get("/sandbox/messages")).json()["items"]
        return [one for one in found if one["sender_id"] == PROGRAMME]

    async def window(self, channel: str = "post") -> dict[str, Any]:
        async with self.sessions() as session:
            found: dict[str, Any] = (await service.summary(session))["windows"]["x"][channel]
            return found


@pytest.fixture
async def world(settings: Settings, sessions: Sessions) -> AsyncIterator[World]:
    async with standing_between(settings) as (x, between):
        yield World(x, between, sessions)


def is_sent(row: dict[str, Any]) -> bool:
    return bool(row["state"] == "sent")


def has_ended(row: dict[str, Any]) -> bool:
    return row["state"] not in ("queued", "sending")


def was_tried(row: dict[str, Any]) -> bool:
    return row["problem"] is not None


class TestWhatMayHaveBeenSent:
    """Whatever happened to the answer, the post is there once."""

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(after=True),
            Fault(status=503, after=True),
            Fault(status=500, after=True),
            Fault(status=502, after=True),
            Fault(status=504, after=True),
            Fault(status=408, after=True),
            Fault(status=201, after=True, body={"data": {}}),
            Fault(),
            Fault(status=503),
            Fault(status=502),
            Fault(status=429, headers={"retry-after": "1"}, after=True),
        ],
        ids=lambda fault: f"{fault.status or 'lost'} {'after' if fault.after else 'before'}",
    )
    async def test_is_there_once(self, world: World, fault: Fault) -> None:
        (one,) = await world.replies(1)
        world.between.faults[POST] = [fault]
        await world.send(one, until=was_tried)
        await world.again()
        await world.send(one, until=is_sent)
        assert [sent["text"] for sent in await world.x.replies()] == [one.text]

    async def test_is_found_by_reading_and_the_reading_is_charged(self, world: World) -> None:
        (one,) = await world.replies(1)
        world.between.faults[POST] = [Fault(after=True)]
        await world.send(one, until=was_tried)
        await world.again()
        await world.send(one, until=is_sent)
        (there,) = await world.x.replies()
        assert (await world.row(one))["sent_post_id"] == there["id"]
        assert await world.usage() == {"owned_read": (1, 1_000), "summoned_reply": (1, 10_000)}
        assert world.between.asked[POST] == 1


class TestALookUp:
    """That cannot say whether the reply was sent."""

    PATH = f"GET /2/users/{PROGRAMME}/tweets"

    async def look_up(self, world: World, fault: Fault) -> tuple[NewReply, dict[str, Any]]:
        """Of a reply whose answer was lost."""
        (one,) = await world.replies(1)
        world.between.faults[POST] = [Fault(after=True)]
        await world.send(one, until=was_tried)
        await world.again()
        world.between.faults[self.PATH] = [fault]
        await world.send(one, until=lambda row: "GET /2/users" in row["problem"])
        return one, await world.row(one)

    async def test_over_its_own_limit_waits_for_its_end_and_nobody_else_does(
        self, world: World
    ) -> None:
        reset = int(datetime.now(UTC).timestamp()) + 800
        limits = {"limit": "900", "remaining": "0", "reset": str(reset)}
        told = {f"x-rate-limit-{name}": value for name, value in limits.items()}
        _, row = await self.look_up(world, Fault(429, headers=told))
        assert (row["state"], row["attempts"], row["outcome_unknown"]) == ("queued", 1, True)
        wait = (row["not_before"] - clock.now()).total_seconds()
        assert 700 < wait <= 802
        assert (await world.window())["remaining"] > 0
        await world.send(*await world.replies(2), until=is_sent)

    @pytest.mark.parametrize("status", [None, 403, 503])
    async def test_is_tried_again_and_no_attempt_is_lost(
        self, world: World, status: int | None
    ) -> None:
        one, row = await self.look_up(world, Fault(status))
        assert (row["state"], row["attempts"], row["outcome_unknown"]) == ("queued", 1, True)
        await world.again()
        await world.send(one, until=is_sent)
        assert len(await world.x.replies()) == 1

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (401, {"title": "Unauthorized"}),
            (402, problem("credits", title="CreditsDepleted")),
            (429, problem("usage-capped", title="UsageCapExceeded")),
        ],
    )
    async def test_that_nobody_may_make_stops_all(
        self, world: World, status: int, body: dict[str, Any]
    ) -> None:
        _, row = await self.look_up(world, Fault(status, body))
        assert (row["state"], row["attempts"], row["outcome_unknown"]) == ("queued", 1, True)
        assert (await world.window())["stopped_reason"] == row["problem"]


class TestWhatXForbids:
    @pytest.mark.parametrize(
        ("fault", "state", "said"),
        [
            (Fault(403, {"title": "Forbidden", "detail": NOT_MENTIONED}), "not_allowed", "engaged"),
            (
                Fault(403, {"detail": "You can only reply to or quote posts where you are …"}),
                "not_allowed",
                "quote posts",
            ),
            (Fault(403, {"errors": [{"code": 385, "message": "gone"}]}), "not_allowed", "gone"),
            (Fault(400, problem("invalid-request")), "failed", "invalid-request"),
            (Fault(404, {"errors": [{"code": 144, "message": "none"}]}), "failed", "none"),
        ],
    )
    async def test_ends_one_and_hinders_no_other(
        self, world: World, fault: Fault, state: str, said: str
    ) -> None:
        first, *others = await world.replies(4)
        world.between.faults[POST] = [fault]
        await world.send(first, until=has_ended)
        await world.send(*others, until=is_sent)
        row = await world.row(first)
        assert row["state"] == state
        assert said in row["problem"]
        assert world.between.asked[POST] == 4

    async def test_to_say_twice_is_to_have_said(self, world: World) -> None:
        (one,) = await world.replies(1)
        world.between.faults[POST] = [
            Fault(403, {"errors": [{"code": 187, "message": "Status is a duplicate."}]})
        ]
        await world.send(one, until=is_sent)


class TestWhatStopsAll:
    @pytest.mark.parametrize("host", ["api.twitter.com", "api.x.com"])
    @pytest.mark.parametrize(
        ("status", "kind", "title"),
        [
            (402, "credits", "CreditsDepleted"),
            (429, "usage-capped", "UsageCapExceeded"),
            (403, "client-forbidden", "Client Forbidden"),
        ],
    )
    async def test_waits_for_the_operator(
        self, world: World, host: str, status: int, kind: str, title: str
    ) -> None:
        first, second = await world.replies(2)
        fault = Fault(status, problem(kind, host=host, title=title))
        world.between.faults[POST] = [fault]
        await world.send(first, until=was_tried)
        assert kind in (await world.window())["stopped_reason"]
        assert (await world.row(first))["state"] == "queued"
        asked = world.between.asked[POST]
        async with world.sessions.begin() as session:
            await service.resume(session, scope="all", actor="test", now=clock.now())
        await world.send(first, second, until=is_sent)
        assert world.between.asked[POST] == asked + 2

    async def test_of_version_1_is_understood(self, world: World) -> None:
        (one,) = await world.replies(1)
        body = {"errors": [{"code": 326, "message": "this account is temporarily locked"}]}
        world.between.faults[POST] = [Fault(403, body)]
        await world.send(one, until=was_tried)
        assert "temporarily locked" in (await world.window())["stopped_reason"]


class TestTooMany:
    async def send_one(self, world: World, fault: Fault) -> dict[str, Any]:
        (one,) = await world.replies(1)
        world.between.faults[POST] = [fault]
        await world.send(one, until=was_tried)
        row = await world.row(one)
        assert (row["state"], row["attempts"]) == ("queued", 0)
        return row

    def told(self, prefix: str, *, seconds: int, remaining: int = 0) -> dict[str, str]:
        reset = int(datetime.now(UTC).timestamp()) + seconds
        return {
            f"{prefix}-limit": "100",
            f"{prefix}-remaining": str(remaining),
            f"{prefix}-reset": str(reset),
        }

    async def test_waits_until_the_end_that_is_told(self, world: World) -> None:
        row = await self.send_one(world, Fault(429, headers=self.told("x-rate-limit", seconds=200)))
        window = await world.window()
        assert window["remaining"] == 0
        assert timedelta() < row["not_before"] - clock.now() <= timedelta(seconds=202)
        assert window["resets_at"] == row["not_before"]

    async def test_waits_a_window_where_none_is_told(self, world: World) -> None:
        row = await self.send_one(world, Fault(429, {"title": "Too Many Requests"}))
        assert row["not_before"] - clock.now() > timedelta(seconds=880)
        assert (await world.window())["remaining"] == 0

    async def test_of_the_day_waits_for_the_day(self, world: World) -> None:
        headers = self.told("x-rate-limit", seconds=200, remaining=60) | self.told(
            "x-app-limit-24hour", seconds=7_200
        )
        row = await self.send_one(world, Fault(429, headers=headers))
        window = await world.window()
        assert (window["remaining"], window["day_remaining"]) == (60, 0)
        assert row["not_before"] - clock.now() > timedelta(seconds=7_100)

    async def test_of_version_1_is_understood(self, world: World) -> None:
        body = {"errors": [{"code": 185, "message": "over the daily limit"}]}
        await self.send_one(world, Fault(403, body))
        assert (await world.window())["stopped_reason"] is None


class TestAMessage:
    """A farewell: at most once, whatever happens to it."""

    PATH = "POST /2/dm_conversations/with/1/messages"

    async def farewell(self, world: World) -> None:
        body = {"sender_id": "1", "text": "stop"}
        answer = await world.x.client.post("/sandbox/messages", json=body)
        assert answer.status_code == 200, answer.text
        async with world.sessions.begin() as session:
            assert await service.queue_farewell(
                session,
                network="x",
                account_id="1",
                message_id="77",
                sent_at=clock.now(),
                locale="fr",
                now=clock.now(),
                settings=world.x.settings,
            )

    async def send(self, world: World, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with world.sessions() as session:
            query = "SELECT id FROM replies WHERE kind = 'farewell'"
            found = await session.scalar(text(query))
        one = reply()._replace(id=found)
        world.known.add(one.id)
        await world.send(one, until=until)
        return await world.row(one)

    async def arrived(self, world: World) -> list[str]:
        return [one["text"] for one in await world.messages()]

    async def test_answers_who_has_written(self, world: World) -> None:
        await self.farewell(world)
        row = await self.send(world, is_sent)
        assert row["sent_post_id"]
        assert row["cost_microusd"] == 15_000
        (text_sent,) = await self.arrived(world)
        assert text_sent.startswith("C'est arrêté")
        assert await world.usage() == {"dm": (1, 15_000)}
        assert (await world.window("dm"))["remaining"] == 14

    @pytest.mark.parametrize("status", [None, 500, 502, 503])
    async def test_that_may_have_arrived_is_not_sent_again(
        self, world: World, status: int | None
    ) -> None:
        await self.farewell(world)
        world.between.faults[self.PATH] = [Fault(status, after=True)]
        row = await self.send(world, has_ended)
        assert row["state"] == "failed"
        assert "may have arrived" in row["problem"]
        assert len(await self.arrived(world)) == 1

    async def test_of_a_worker_that_died_is_not_sent_again(self, world: World) -> None:
        await self.farewell(world)
        async with world.sessions.begin() as session:
            claim = await sending.claim(
                session,
                network="x",
                channel="dm",
                settings=world.x.settings,
                now=clock.now(),
                most=1,
            )
            assert len(claim.replies) == 1
            await session.execute(text("UPDATE replies SET leased_until = now()"))
        row = await self.send(world, has_ended)
        assert row["state"] == "failed"
        assert world.between.asked[self.PATH] == 0

    async def test_that_is_not_permitted_is_not_allowed(self, world: World) -> None:
        await self.farewell(world)
        detail = "You do not have permission to DM one or more participants."
        world.between.faults[self.PATH] = [Fault(403, {"title": "Forbidden", "detail": detail})]
        assert (await self.send(world, has_ended))["state"] == "not_allowed"

    async def test_over_its_limit_holds_no_reply_back(self, world: World) -> None:
        await self.farewell(world)
        world.between.faults[self.PATH] = [Fault(429)]
        assert (await self.send(world, was_tried))["state"] == "queued"
        await world.send(*await world.replies(2), until=is_sent)
