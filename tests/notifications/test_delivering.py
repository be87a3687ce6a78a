"""From the outbox to a receiver over real HTTP: signatures, retries, and what is not held up."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from standardwebhooks import Webhook, WebhookVerificationError

from app.cli.jobs import run_job
from app.config import Settings
from app.kit.db import Sessions
from app.kit.sealing import new_key
from app.notifications import outbox_queries, service, worker
from app.notifications.domain import BACK_OFF, Answer, Attempt, Claimed, attempted
from app.notifications.queries import NewEvent
from app.partners import service as partners
from app.posts.enrol import Enroller
from app.secret_keys import sealer_of
from tests.notifications.receiving import Post, Receiver, post_office, receiving
from tests.programme import NOW, make_members, make_offer, make_post
from tests.support import Analyse, until

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
SOME_ID = UUID(int=1)
DEAD = "http://127.0.0.1:9/hooks"


async def announce(
    post: Post, *subjects: str, partner: str = "cafe", event: str = "offer.ended", now: Any = NOW
) -> None:
    async with post.sessions.begin() as session:
        owner = await partners.find_partner(session, ref_or_id=partner)
        events = [NewEvent(owner.id, event, subject, {"about": subject}) for subject in subjects]
        await service.announce(session, events=events, now=now)


class TestADelivery:
    async def test_is_verified_by_the_reference_package(
        self, sessions: Sessions, settings: Settings, post: Post, receiver: Receiver
    ) -> None:
        endpoint = await post.endpoint(receiver.url)
        offer_id = await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        enroller = Enroller(sessions, settings)
        await enroller.enrol([make_post(author, "tea")], source="test", now=NOW)
        assert await post.round(now=NOW) == [Answer(204, None)]
        (taken,) = receiver.taken
        body = taken.verified(endpoint.secret)
        assert {**body, "data": body["data"]["coupons"]} == {
            "type": "coupon.loaded",
            "timestamp": "2026-07-15T12:00:00Z",
            "subject": f"offer:{offer_id}",
            "sequence": 1,
            "data": 1,
        }
        assert await post.deliveries("id, state, attempts, last_status, ended_at") == [
            (taken.id, "delivered", 1, 204, NOW)
        ]
        assert taken.headers["content-type"] == "application/json"
        with pytest.raises(WebhookVerificationError):
            Webhook(endpoint.secret).verify(taken.body + b" ", taken.headers)

    async def test_carries_both_signatures_for_a_day_after_a_rotation(
        self, post: Post, receiver: Receiver
    ) -> None:
        endpoint = await post.endpoint(receiver.url)
        async with post.sessions.begin() as session:
            _, new = await service.rotate_secret(
                session,
                actor="test",
                endpoint_id=endpoint.id,
                sealer=sealer_of(post.settings),
                now=NOW,
            )
        for now in (NOW, NOW + 24 * HOUR - SECOND, NOW + 24 * HOUR):
            await announce(post, "s", now=now)
            await post.round(now=now)
        during, just_before, after = receiver.taken
        for taken in (during, just_before):
            for secret in (endpoint.secret, new):
                assert taken.verified(secret)["type"] == "offer.ended"
        assert after.verified(new)
        with pytest.raises(WebhookVerificationError):
            after.verified(endpoint.secret)

    async def test_is_not_sent_unsigned_when_the_key_is_gone(
        self, sessions: Sessions, post: Post, receiver: Receiver
    ) -> None:
        """To rotate the secret is enough to go on."""
        endpoint = await post.endpoint(receiver.url)
        await announce(post, "s")
        told = post.settings.model_copy(update={"secret_keys": SecretStr(new_key())})
        async with post_office(sessions, told) as other:
            (answer,) = await other.round(now=NOW)
            assert "rotate" in str(answer.error)
            async with sessions.begin() as session:
                _, secret = await service.rotate_secret(
                    session,
                    actor="test",
                    endpoint_id=endpoint.id,
                    sealer=sealer_of(told),
                    now=NOW,
                )
            await other.round(now=NOW + MINUTE)
        assert [taken.verified(secret)["subject"] for taken in receiver.taken] == ["s"]

    async def test_reaches_a_receiver_by_the_worker_within_seconds(
        self, post: Post, receiver: Receiver
    ) -> None:
        endpoint = await post.endpoint(receiver.url)
        stop = asyncio.Event()
        running = asyncio.create_task(worker.run(post.sessions, post.settings, stop))
        await announce(post, *(f"s{number}" for number in range(20)))

        async def all_delivered() -> bool:
            return set(await post.deliveries("state")) == {("delivered",)}

        await until(all_delivered)
        stop.set()
        await running
        assert {taken.verified(endpoint.secret)["subject"] for taken in receiver.taken} == {
            f"s{number}" for number in range(20)
        }


class TestWhatFails:
    async def test_is_all_delivered_once_each_after_an_hour_of_absence(
        self, post: Post, receiver: Receiver
    ) -> None:
        endpoint = await post.endpoint(receiver.url)
        receiver.is_up = False
        for minute in range(0, 60, 3):
            now = NOW + minute * MINUTE
            await announce(post, f"s{minute % 7}", now=now)
            await post.round(now=now)
        assert receiver.taken == []
        receiver.is_up = True
        for minutes in range(0, 24 * 60, 60):
            await post.round(now=NOW + HOUR + minutes * MINUTE)
        bodies = {taken.id: taken.verified(endpoint.secret) for taken in receiver.taken}
        assert len(bodies) == len(receiver.taken) == 20
        numbers: dict[str, list[int]] = {}
        for body in bodies.values():
            numbers.setdefault(body["subject"], []).append(body["sequence"])
        assert len(numbers) == 7
        for found in numbers.values():
            assert sorted(found) == list(range(1, len(found) + 1))
        assert set(await post.deliveries("state")) == {("delivered",)}

    async def test_is_tried_for_a_day_and_then_parked(self, post: Post) -> None:
        await post.endpoint(DEAD)
        await announce(post, "s")
        tried = []
        for minutes in range(0, 30 * 60, 10):
            now = NOW + minutes * MINUTE
            if await post.round(now=now):
                tried.append(now)
        assert 9 <= len(tried) <= 14
        assert tried[-1] <= NOW + 24 * HOUR
        ((state, attempts, status, error, ended_at),) = await post.deliveries(
            "state, attempts, last_status, last_error, ended_at"
        )
        assert (state, attempts, status, ended_at) == ("parked", len(tried), None, tried[-1])
        assert "ConnectError" in error

    @pytest.mark.parametrize("status", [302, 307, 404, 429, 500])
    async def test_is_any_status_but_2xx(self, post: Post, receiver: Receiver, status: int) -> None:
        await post.endpoint(receiver.url)
        receiver.statuses = [status]
        receiver.answer_headers = [(b"location", receiver.url.encode() + b"/elsewhere")]
        receiver.answer_body = b"no \x00 use" + b"x" * 1_000
        await announce(post, "s")
        await post.round(now=NOW)
        assert receiver.paths == ["/hooks"]  # nobody followed
        ((state, found, error),) = await post.deliveries("state, last_status, last_error")
        assert (state, found, len(error)) == ("queued", status, len("answered 500: ") + 200)
        assert error.startswith(f"answered {status}: no   use")

    async def test_is_not_kept_with_a_card_number_that_was_answered(
        self, post: Post, receiver: Receiver
    ) -> None:
        await post.endpoint(receiver.url)
        receiver.statuses, receiver.answer_body = [500], b"no card 4242424242424242 here"
        await announce(post, "s")
        (answer,) = await post.round(now=NOW)
        assert answer == Answer(500, "answered 500: (hidden)")

    async def test_is_who_does_not_answer_in_time(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        async with (
            receiving(hold=asyncio.Event()) as slow,
            post_office(sessions, settings, webhooks_seconds_max=0.2) as post,
        ):
            await post.endpoint(slow.url)
            await announce(post, "s")
            assert await post.round(now=NOW) == [Answer(None, "no answer within 0.2 s")]

    async def test_is_the_end_when_the_receiver_is_gone(
        self, post: Post, receiver: Receiver
    ) -> None:
        """410: what else waits, waits until the endpoint is enabled again."""
        endpoint = await post.endpoint(receiver.url)
        receiver.statuses = [410]
        await announce(post, "s", "t")
        (one, other) = await post.claim(now=NOW)
        await post.record(one, Answer(410, "answered 410"), now=NOW)
        await post.record(other, Answer(500, "answered 500"), now=NOW)
        await announce(post, "u")
        assert await post.claim(now=NOW + HOUR) == []
        assert await post.deliveries("subject, state") == [("s", "parked"), ("t", "queued")]
        async with post.sessions.begin() as session:
            row = await service.get_endpoint(session, endpoint_id=endpoint.id)
            assert row.endpoint.disabled_because == "gone"
            await service.change_endpoint(
                session, actor="t", endpoint_id=endpoint.id, changes={"enabled": True}, now=NOW
            )
        receiver.statuses = []
        await post.round(now=NOW + HOUR)
        assert await post.deliveries("subject, state") == [("s", "parked"), ("t", "delivered")]

    async def test_is_sent_again_when_a_worker_died_with_it(
        self, post: Post, receiver: Receiver
    ) -> None:
        """Under its id, which tells the receiver; and who comes back late changes nothing."""
        await post.endpoint(receiver.url)
        await announce(post, "s")
        (lost,) = await post.claim(now=NOW)
        assert await post.claim(now=NOW + MINUTE) == []
        (again,) = await post.claim(now=NOW + 2 * MINUTE)
        assert again.delivery.id == lost.delivery.id
        await post.record(lost, Answer(204, None), now=NOW + 2 * MINUTE)
        assert await post.deliveries("state, attempts") == [("sending", 2)]
        await post.record(again, Answer(204, None), now=NOW + 3 * MINUTE)
        assert await post.deliveries("state, attempts") == [("delivered", 2)]


class TestBackOff:
    @pytest.mark.parametrize("attempts", range(1, 12))
    def test_grows_to_four_hours_with_some_chance(self, attempts: int) -> None:
        delivery = Claimed(
            id=SOME_ID,
            endpoint_id=SOME_ID,
            event="e",
            subject="s",
            sequence=1,
            data={},
            created_at=NOW,
            attempts=attempts,
            tried_until=NOW + 24 * HOUR,
            leased_until=NOW,
        )
        wait = [*BACK_OFF, 4 * HOUR, 4 * HOUR, 4 * HOUR][attempts - 1]
        for chance, share in ((0.0, 0.8), (0.5, 1.0), (1.0, 1.2)):
            ended = attempted(delivery, Answer(500, "x"), now=NOW, chance=chance)
            assert ended == Attempt("queued", NOW + wait * share, 500, "x")
        late = NOW + 24 * HOUR - wait / 2
        assert attempted(delivery, Answer(500, "x"), now=late, chance=0.5).state == "parked"


class TestASlowReceiver:
    async def test_has_so_many_in_flight_and_holds_up_nobody_else(
        self, post: Post, receiver: Receiver
    ) -> None:
        slow = await post.endpoint(DEAD, partner="slow")
        await post.endpoint(receiver.url)
        await announce(post, *(f"s{number}" for number in range(50)), partner="slow")
        await announce(post, "tea")
        taken = await post.claim(now=NOW)
        most = post.settings.webhooks_in_flight_per_endpoint_max
        assert [one.endpoint.id for one in taken].count(slow.id) == most
        assert len(taken) == most + 1
        # another worker finds the bound reached
        assert await post.claim(now=NOW) == []

    async def test_that_failed_is_asked_by_one_at_a_time(
        self, post: Post, receiver: Receiver
    ) -> None:
        await post.endpoint(receiver.url)
        await announce(post, *(f"s{number}" for number in range(9)))
        for one in await post.claim(now=NOW):
            await post.record(one, Answer(500, "x"), now=NOW)
        (tried,) = await post.claim(now=NOW + SECOND)
        await post.record(tried, Answer(204, None), now=NOW + SECOND)
        most = post.settings.webhooks_in_flight_per_endpoint_max
        assert len(await post.claim(now=NOW + SECOND)) == most

    async def test_gives_way_to_those_that_answer(self, post: Post, receiver: Receiver) -> None:
        """However many there are, and however old is what waits for them."""
        for number in range(5):
            await post.endpoint(DEAD, partner=f"dead{number}")
            await announce(post, "s", "t", partner=f"dead{number}", now=NOW - HOUR)
        for one in await post.claim(now=NOW - HOUR):
            await post.record(one, Answer(None, "x"), now=NOW - HOUR)
        alive = await post.endpoint(receiver.url)
        await announce(post, "a", "b", "c")
        taken = await post.claim(now=NOW, room=4)
        assert [one.endpoint.id == alive.id for one in taken].count(True) == 3
        assert len(taken) == 4
        assert await post.claim(now=NOW, room_failing=0) == []
        assert len(await post.claim(now=NOW)) == 4

    async def test_leaves_room_for_other_partners(self, post: Post, receiver: Receiver) -> None:
        """However many endpoints its partner has, and however old is what waits for them."""
        for _ in range(3):
            await post.endpoint(receiver.url, partner="many")
        await announce(post, "s", "t", "u", partner="many", now=NOW - HOUR)
        one = await post.endpoint(receiver.url)
        await announce(post, "tea")
        taken = await post.claim(now=NOW, room=4)
        assert [own.endpoint.id == one.id for own in taken].count(True) == 1
        await announce(post, "cake")
        assert [own.endpoint.id for own in await post.claim(now=NOW, room=1)] == [one.id]


class TestReplay:
    async def test_sends_one_again_under_its_id_and_number(
        self, post: Post, receiver: Receiver
    ) -> None:
        endpoint = await post.endpoint(receiver.url)
        await announce(post, "s")
        await post.round(now=NOW)
        (first,) = receiver.taken
        later = NOW + 40 * HOUR
        async with post.sessions.begin() as session:
            replayed = await service.replay(session, delivery_id=first.id, now=later)
        assert (replayed.state, replayed.attempts, replayed.not_before) == ("queued", 0, later)
        await post.round(now=later)
        (_, again) = receiver.taken
        assert (again.id, again.body) == (first.id, first.body)
        assert again.verified(endpoint.secret)["sequence"] == 1

    async def test_gives_a_parked_one_another_day(self, post: Post) -> None:
        await post.endpoint(DEAD)
        await announce(post, "s")
        (one,) = await post.claim(now=NOW + 24 * HOUR)
        await post.record(one, Answer(500, "x"), now=NOW + 24 * HOUR)
        later = NOW + 48 * HOUR
        async with post.sessions.begin() as session:
            await service.replay(session, delivery_id=one.delivery.id, now=later)
        (again,) = await post.claim(now=later)
        await post.record(again, Answer(500, "x"), now=later + 20 * HOUR)
        assert await post.deliveries("state") == [("queued",)]

    async def test_of_a_range_sends_what_was_announced_in_it(
        self, post: Post, receiver: Receiver
    ) -> None:
        endpoint = await post.endpoint(receiver.url)
        other = await post.endpoint(receiver.url)
        for hour in range(4):
            await announce(post, f"s{hour}", now=NOW + hour * HOUR)
        await post.round(now=NOW + 4 * HOUR)
        receiver.taken.clear()
        async with post.sessions.begin() as session:
            replayed = await service.replay_range(
                session,
                endpoint_id=endpoint.id,
                since=NOW + HOUR,
                until=NOW + 3 * HOUR,
                now=NOW + 5 * HOUR,
            )
        assert replayed == 2
        await post.round(now=NOW + 5 * HOUR)
        subjects = sorted(taken.verified(endpoint.secret)["subject"] for taken in receiver.taken)
        assert subjects == ["s1", "s2"]
        assert other.id != endpoint.id

    async def test_leaves_what_is_just_being_sent(self, post: Post) -> None:
        await post.endpoint(DEAD)
        await announce(post, "s")
        (one,) = await post.claim(now=NOW)
        async with post.sessions.begin() as session:
            left = await service.replay(session, delivery_id=one.delivery.id, now=NOW)
            assert left.state == "sending"


class TestWhatIsOld:
    async def test_is_forgotten_after_thirty_days(self, post: Post) -> None:
        await post.endpoint(DEAD)
        await announce(post, "old")
        await announce(post, "new", now=NOW + 5 * 24 * HOUR)
        assert await run_job(post.sessions, "tidy", now=NOW + 30 * 24 * HOUR) == 1
        assert await post.deliveries("subject") == [("new",)]
        await announce(post, "old", now=NOW + 30 * 24 * HOUR)
        assert ("old", 2) in await post.deliveries("subject, sequence")  # numbers go on

    async def test_goes_with_its_endpoint(self, post: Post) -> None:
        endpoint = await post.endpoint(DEAD)
        await announce(post, "s")
        async with post.sessions.begin() as session:
            await service.delete_endpoint(session, actor="t", endpoint_id=endpoint.id, now=NOW)
        assert await run_job(post.sessions, "tidy", now=NOW) == 0  # who announces may hold it yet
        assert await run_job(post.sessions, "tidy", now=NOW + HOUR) == 3
        async with post.sessions() as session:
            for table in ("webhook_endpoints", "webhook_deliveries", "webhook_sequences"):
                assert await session.scalar(text(f"SELECT count(*) FROM {table}")) == 0


class TestAClaim:
    async def test_goes_by_the_index_of_what_waits(self, post: Post, analyse: Analyse) -> None:
        endpoint = await post.endpoint(DEAD)
        async with post.sessions.begin() as session:
            await session.execute(
                text(
                    "INSERT INTO webhook_deliveries (endpoint_id, event, subject, sequence, data, "
                    "state, not_before, tried_until, created_at) "
                    "SELECT :id, 'offer.ended', 's', n, '{}', "
                    "CASE WHEN n % 100 = 0 THEN 'queued' ELSE 'delivered' END, :now, :now, :now "
                    "FROM generate_series(1, 20000) n"
                ),
                {"id": endpoint.id, "now": NOW},
            )
        await analyse("webhook_deliveries", "webhook_endpoints")
        given = {
            "endpoint_id": [endpoint.id],
            "most": [4],
            "is_failing": [False],
            "room": 64,
            "now": NOW,
            "leased_until": NOW,
        }
        async with post.sessions.begin() as session:
            for statement, values in (
                (outbox_queries.DUE_ENDPOINTS, {"now": NOW}),
                (outbox_queries.TAKE, given),
            ):
                rows = await session.scalars(text(f"EXPLAIN {statement.text}"), values)
                plan = "\n".join(rows)
                assert "ix_webhook_deliveries_waiting" in plan, plan
                assert "Seq Scan on webhook_deliveries" not in plan, plan
