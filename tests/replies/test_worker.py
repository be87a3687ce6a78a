import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from outbox import queue, reply, rows, states
from pydantic import SecretStr
from sqlalchemy import text
from structlog.testing import capture_logs

from app.config import Settings
from app.kit import clock
from app.kit.db import DATABASE_ERRORS, Sessions
from app.networks.sender import (
    LOOKUP_POSTS_MAX,
    Found,
    RateLimited,
    Sender,
    SendResult,
    Sent,
    Unknown,
)
from app.networks.x.client import open_sender
from app.replies import sending, service, worker
from app.replies.queries import NewReply
from tests.stand_in import StandIn, StartX
from tests.support import until

SECONDS_MAX = 20.0


class Watched:
    """A sender that keeps what came of each send."""

    network = "x"

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self.results: list[SendResult] = []
        self.lookups = 0

    async def send(self, text: str, in_reply_to: str | None) -> SendResult:
        result = await self.sender.send(text, in_reply_to)
        self.results.append(result)
        return result

    async def send_message(self, text: str, to: str) -> SendResult:
        result = await self.sender.send_message(text, to)
        self.results.append(result)
        return result

    async def find_own(self, text: str, since: datetime) -> Found:
        self.lookups += 1
        return await self.sender.find_own(text, since)


class HeldBack(Watched):
    """Sends, and then holds some of the answers back until told."""

    def __init__(self, sender: Sender, *, texts: Sequence[str]) -> None:
        super().__init__(sender)
        self.texts = set(texts)
        self.go_on = asyncio.Event()

    async def send(self, text: str, in_reply_to: str | None) -> SendResult:
        result = await super().send(text, in_reply_to)
        if text in self.texts:
            await self.go_on.wait()
        return result


class Forgetful(Watched):
    """Finds nothing of its own."""

    async def find_own(self, _text: str, _since: datetime) -> Found:
        self.lookups += 1
        return Found(None, reads=0)


class Lost(Watched):
    """Looks for ever."""

    async def find_own(self, _text: str, _since: datetime) -> Found:
        self.lookups += 1
        await asyncio.Event().wait()
        raise AssertionError


@asynccontextmanager
async def running(
    sessions: Sessions, sender: Sender, settings: Settings
) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(sessions, sender, settings, stop))
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait([task], timeout=SECONDS_MAX)
        assert task.done()
        if not task.cancelled():
            task.result()


async def until_states(sessions: Sessions, queued: Sequence[NewReply], *expected: str) -> list[str]:
    """Waits until each is in one of the expected states."""

    async def reached() -> bool:
        return set(await states(sessions, queued)) <= set(expected)

    await until(reached)
    return await states(sessions, queued)


async def replies_to_posts(x: StandIn, count: int, **more: Any) -> list[NewReply]:
    return [reply(post_id=await x.post(), at=clock.now(), **more) for _ in range(count)]


async def end_leases(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        await session.execute(
            text("UPDATE replies SET leased_until = :then WHERE state = 'sending'"),
            {"then": clock.now() - timedelta(seconds=1)},
        )


class TestSending:
    @pytest.mark.parametrize("profile", ["self_serve", "enterprise"])
    async def test_every_reply_arrives_once_at_its_post(
        self, sessions: Sessions, start_x: StartX, profile: str
    ) -> None:
        x = await start_x(profile=profile)
        queued = await replies_to_posts(x, 30)
        async with open_sender(x.settings) as sender, running(sessions, sender, x.settings):
            await queue(sessions, *queued)
            await until_states(sessions, queued, "sent")
        arrived = await x.replies()
        assert {one["in_reply_to_id"] for one in arrived} == {one.post_id for one in queued}
        assert len(arrived) == 30
        kept = await rows(sessions)
        by_post = {one["in_reply_to_id"]: one["id"] for one in arrived}
        for one in queued:
            assert kept[one.id]["sent_post_id"] == by_post[one.post_id]

    async def test_a_reply_costs_what_the_network_charged(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        x = await start_x()
        queued = await replies_to_posts(x, 4)
        async with open_sender(x.settings) as sender, running(sessions, sender, x.settings):
            await queue(sessions, *queued)
            await until_states(sessions, queued, "sent")
        async with sessions() as session:
            counted = await session.execute(text("SELECT units, micro_usd FROM network_usage"))
            assert [tuple(row) for row in counted] == [(4, 40_000)]
        assert (await x.usage())["summoned_reply"] == 4

    async def test_a_forbidden_reply_is_not_tried_again(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        x = await start_x(profile="self_serve")
        unasked = reply(post_id=await x.post("#Coffee and no mention"), at=clock.now())
        async with open_sender(x.settings) as sender:
            watched = Watched(sender)
            async with running(sessions, watched, x.settings):
                await queue(sessions, unasked)
                await until_states(sessions, [unasked], "not_allowed")
                await asyncio.sleep(0.3)
        assert len(watched.results) == 1
        assert "mentioned" in (await rows(sessions))[unasked.id]["problem"]

    async def test_a_notification_is_not_kept_waiting_by_the_poll(
        self, sessions: Sessions, start_x: StartX, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(worker, "POLL_SECONDS", 3_600.0)
        x = await start_x()
        first, second = await replies_to_posts(x, 2)
        async with open_sender(x.settings) as sender, running(sessions, sender, x.settings):
            for one in (first, second):
                await queue(sessions, one)
                await until_states(sessions, [one], "sent")

    async def test_the_slowest_send_holds_nobody_back(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        x = await start_x()
        slow, *others = await replies_to_posts(x, 12)
        async with open_sender(x.settings) as sender:
            held = HeldBack(sender, texts=[slow.text])
            settings = x.settings.model_copy(update={"replies_in_flight_max": 2})
            async with running(sessions, held, settings):
                await queue(sessions, slow, *others)
                await until_states(sessions, others, "sent")
                assert await states(sessions, [slow]) == ["sending"]
                held.go_on.set()
                await until_states(sessions, [slow], "sent")

    async def test_a_token_that_is_refused_stops_all_and_is_told_once(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        x = await start_x()
        queued = await replies_to_posts(x, 20)
        wrong = x.settings.model_copy(update={"x_user_token": SecretStr("wrong")})
        with capture_logs() as logs:
            async with open_sender(wrong) as sender:
                watched = Watched(sender)
                async with running(sessions, watched, wrong):
                    await queue(sessions, *queued)

                    async def stopped() -> bool:
                        async with sessions() as session:
                            windows = (await service.summary(session))["windows"]
                        return bool(windows and windows["x"]["post"]["stopped_reason"])

                    await until(stopped)
                    await until_states(sessions, queued, "queued")
        assert len(watched.results) <= wrong.replies_in_flight_max
        told = [entry for entry in logs if entry["event"] == "replies_stopped"]
        assert len(told) == 1
        assert "token refused" in told[0]["reason"]
        assert "wrong" not in str(logs)


class TestLimits:
    async def test_a_window_of_so_many_allows_exactly_so_many(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        """The stand-in allows a hundred, as the settings say."""
        x = await start_x(profile="self_serve")
        queued = await replies_to_posts(x, 130)
        async with open_sender(x.settings) as sender:
            watched = Watched(sender)
            async with running(sessions, watched, x.settings):
                await queue(sessions, *queued)
                await until_states(sessions, queued, "sent", "queued")

                async def all_sent() -> bool:
                    return (await states(sessions, queued)).count("sent") == 100

                await until(all_sent)
                await asyncio.sleep(0.3)
        assert len(watched.results) == 100
        assert len(await x.replies()) == 100
        assert not any(isinstance(result, RateLimited) for result in watched.results)

    async def test_a_setting_that_is_too_high_is_corrected_without_a_refusal(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        x = await start_x(profile="self_serve")
        settings = x.settings.model_copy(update={"x_replies_per_window": 5_000})
        queued = await replies_to_posts(x, 130)
        async with open_sender(settings) as sender:
            watched = Watched(sender)
            async with running(sessions, watched, settings):
                await queue(sessions, *queued)

                async def nothing_more() -> bool:
                    before = len(watched.results)
                    await asyncio.sleep(0.5)
                    return before == len(watched.results) > 0

                await until(nothing_more)
        assert not any(isinstance(result, RateLimited) for result in watched.results)
        assert 100 - settings.replies_in_flight_max <= len(watched.results) <= 100

    async def test_a_limit_that_others_have_used_up_is_met_once(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        x = await start_x(profile="self_serve")
        async with open_sender(x.settings) as somebody_else:
            for number in range(95):
                await somebody_else.send(f"Hello {number}", await x.post())
        queued = await replies_to_posts(x, 80)
        async with open_sender(x.settings) as sender:
            watched = Watched(sender)
            async with running(sessions, watched, x.settings):
                await queue(sessions, *queued)
                await asyncio.sleep(2)
        refused = sum(isinstance(result, RateLimited) for result in watched.results)
        assert len(watched.results) - refused == 5
        assert refused < x.settings.replies_in_flight_max
        assert (await states(sessions, queued)).count("queued") == 75


class TestSeveralWorkers:
    async def test_send_each_reply_once(self, sessions: Sessions, start_x: StartX) -> None:
        x = await start_x()
        settings = x.settings.model_copy(update={"replies_in_flight_max": 3})
        queued = await replies_to_posts(x, 60)
        async with open_sender(settings) as one, open_sender(settings) as other:
            first, second = Watched(one), Watched(other)
            async with running(sessions, first, settings), running(sessions, second, settings):
                await queue(sessions, *queued)
                await until_states(sessions, queued, "sent")
        assert len(await x.replies()) == 60
        assert len(first.results) + len(second.results) == 60
        assert all(isinstance(result, Sent) for result in first.results + second.results)
        assert first.results
        assert second.results


class TestAWorkerThatIsKilled:
    async def test_after_the_send_and_before_the_record_sends_nothing_twice(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        x = await start_x()
        (one,) = await replies_to_posts(x, 1)
        async with open_sender(x.settings) as sender:
            held = HeldBack(sender, texts=[one.text])
            async with running(sessions, held, x.settings) as task:
                await queue(sessions, one)

                async def arrived() -> bool:
                    return bool(held.results)

                await until(arrived)
                task.cancel()
            assert await states(sessions, [one]) == ["sending"]
            await end_leases(sessions)
            watched = Watched(sender)
            async with running(sessions, watched, x.settings):
                await until_states(sessions, [one], "sent")
        (there,) = await x.replies()
        assert (await rows(sessions))[one.id]["sent_post_id"] == there["id"]
        assert (watched.lookups, watched.results) == (1, [])

    async def test_before_the_send_loses_nothing(self, sessions: Sessions, start_x: StartX) -> None:
        x = await start_x()
        (one,) = await replies_to_posts(x, 1)
        await queue(sessions, one)
        async with sessions.begin() as session:
            claim = await sending.claim(
                session, network="x", channel="post", settings=x.settings, now=clock.now(), most=1
            )
            assert len(claim.replies) == 1
        await end_leases(sessions)
        async with open_sender(x.settings) as sender:
            watched = Watched(sender)
            async with running(sessions, watched, x.settings):
                await until_states(sessions, [one], "sent")
        assert (watched.lookups, len(watched.results), len(await x.replies())) == (1, 1, 1)

    async def test_a_reply_that_the_lookup_missed_is_known_by_its_text(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        x = await start_x()
        (one,) = await replies_to_posts(x, 1)
        await queue(sessions, one)
        async with open_sender(x.settings) as sender:
            async with sessions.begin() as session:
                await sending.claim(
                    session,
                    network="x",
                    channel="post",
                    settings=x.settings,
                    now=clock.now(),
                    most=1,
                )
            assert isinstance(await sender.send(one.text, one.post_id), Sent)
            await end_leases(sessions)
            async with running(sessions, Forgetful(sender), x.settings):
                await until_states(sessions, [one], "sent")
        assert len(await x.replies()) == 1


class TestStopping:
    async def test_counts_what_a_look_up_may_have_read(
        self, sessions: Sessions, start_x: StartX, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(worker, "STOP_SENDING_SECONDS", 0.05)
        x = await start_x()
        queued = await replies_to_posts(x, 2)
        await queue(sessions, *queued)
        async with sessions.begin() as session:
            await session.execute(text("UPDATE replies SET outcome_unknown = true"))
        async with open_sender(x.settings) as sender:
            lost = Lost(sender)
            async with running(sessions, lost, x.settings):

                async def under_way() -> bool:
                    return lost.lookups == 2

                await until(under_way)
        async with sessions() as session:
            usage = await session.execute(text("SELECT kind, units FROM network_usage"))
            assert [tuple(row) for row in usage] == [("owned_read", 2 * LOOKUP_POSTS_MAX)]

    async def test_leaves_no_lease_behind(
        self, sessions: Sessions, start_x: StartX, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(worker, "STOP_SENDING_SECONDS", 0.2)
        x = await start_x()
        queued = await replies_to_posts(x, 3)
        async with open_sender(x.settings) as sender:
            held = HeldBack(sender, texts=[one.text for one in queued])
            async with running(sessions, held, x.settings):
                await queue(sessions, *queued)

                async def under_way() -> bool:
                    return len(held.results) == 3

                await until(under_way)
        kept = await rows(sessions)
        for one in queued:
            row = kept[one.id]
            assert (row["state"], row["outcome_unknown"]) == ("queued", True)

    async def test_gives_back_what_was_claimed_and_not_begun(
        self, sessions: Sessions, start_x: StartX, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(worker, "STOP_SENDING_SECONDS", 0.2)
        x = await start_x()
        settings = x.settings.model_copy(update={"replies_in_flight_max": 1})
        first, second = await replies_to_posts(x, 2)
        async with open_sender(settings) as sender:
            held = HeldBack(sender, texts=[first.text])
            async with running(sessions, held, settings):
                await queue(sessions, first)
                await until_states(sessions, [first], "sending")
                await queue(sessions, second)
                await until_states(sessions, [second], "sending")
        row = (await rows(sessions))[second.id]
        assert (row["state"], row["outcome_unknown"], row["attempts"]) == ("queued", False, 0)
        assert len(held.results) == 1

    async def test_waits_for_what_is_about_to_end(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        x = await start_x()
        (one,) = await replies_to_posts(x, 1)
        async with open_sender(x.settings) as sender:
            held = HeldBack(sender, texts=[one.text])
            async with running(sessions, held, x.settings):
                await queue(sessions, one)

                async def under_way() -> bool:
                    return bool(held.results)

                await until(under_way)
                asyncio.get_running_loop().call_later(0.2, held.go_on.set)
        assert await states(sessions, [one]) == ["sent"]

    async def test_takes_no_time_when_nothing_is_sent(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        x = await start_x()
        async with (
            open_sender(x.settings) as sender,
            asyncio.timeout(2),
            running(sessions, sender, x.settings),
        ):
            await asyncio.sleep(0.1)


class TestPausing:
    async def test_holds_replies_back_until_it_is_lifted(
        self, sessions: Sessions, start_x: StartX, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(worker, "POLL_SECONDS", 3_600.0)
        x = await start_x()
        queued = await replies_to_posts(x, 5)
        async with sessions.begin() as session:
            await service.pause(session, scope="all", actor="test", now=clock.now())
        async with open_sender(x.settings) as sender, running(sessions, sender, x.settings):
            await queue(sessions, *queued)
            await asyncio.sleep(0.5)
            assert not await x.replies()
            async with sessions.begin() as session:
                await service.resume(session, scope="all", actor="test", now=clock.now())
            await until_states(sessions, queued, "sent")


class TestWhatGoesAway:
    async def test_the_database_comes_back_and_work_goes_on(
        self, sessions: Sessions, start_x: StartX, server: Any
    ) -> None:
        x = await start_x()
        before, after = await replies_to_posts(x, 2)
        async with sessions() as session:
            name = await session.scalar(text("SELECT current_database()"))

        async def administer(*statements: str) -> None:
            async with server.administration.connect() as connection:
                for statement in statements:
                    await connection.execute(text(statement))

        with capture_logs() as logs:
            async with open_sender(x.settings) as sender, running(sessions, sender, x.settings):
                await queue(sessions, before)
                await until_states(sessions, [before], "sent")
                await administer(
                    f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    f"WHERE datname = '{name}'",
                )
                await asyncio.sleep(2.5)
                await administer(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
                await until(lambda: reachable(sessions))
                await queue(sessions, after)
                await until_states(sessions, [after], "sent")
        events = [entry["event"] for entry in logs]
        assert events.count("database_away") == 1
        assert events.count("database_back") == 1

    async def test_a_network_that_cannot_be_reached_is_not_hammered(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        x = await start_x()
        queued = await replies_to_posts(x, 20)
        changed = {"x_base_url": "http://127.0.0.1:9", "replies_in_flight_max": 2}
        settings = x.settings.model_copy(update=changed)
        with capture_logs() as logs:
            async with open_sender(settings) as sender:
                watched = Watched(sender)
                async with running(sessions, watched, settings):
                    await queue(sessions, *queued)
                    await asyncio.sleep(2)
        assert 3 <= len(watched.results) <= 8
        assert [entry["event"] for entry in logs].count("network_away") == 1
        assert set(await states(sessions, queued)) == {"queued"}

    async def test_an_error_of_the_sender_costs_one_attempt_and_not_the_worker(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        class Broken(Watched):
            async def send(self, _text: str, _in_reply_to: str | None) -> SendResult:
                self.results.append(Unknown(""))
                raise ZeroDivisionError

        x = await start_x()
        (one,) = await replies_to_posts(x, 1)
        with capture_logs() as logs:
            async with open_sender(x.settings) as sender:
                broken = Broken(sender)
                async with running(sessions, broken, x.settings):
                    await queue(sessions, one)

                    async def tried() -> bool:
                        return bool((await rows(sessions))[one.id]["outcome_unknown"])

                    await until(tried)
        assert [entry["event"] for entry in logs] == ["send_failed"]


async def reachable(sessions: Sessions) -> bool:
    try:
        async with sessions() as session:
            await session.execute(text("SELECT 1"))
    except DATABASE_ERRORS:
        return False
    return True
