"""X's webhook over HTTP: verified, grouped, durable when answered."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from sqlalchemy import text
from structlog.testing import capture_logs

from app.config import Settings
from app.kit.db import Sessions
from app.main import create_app
from app.posts.webhook import XPosts
from tests.programme import make_members, make_offer

SECRET = "consumer-secret"
ACCOUNT = "1000000000000000001"
HEADER = "x-twitter-webhooks-signature"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    secret = {"x_consumer_secret": SecretStr(SECRET), "x_account_id": ACCOUNT}
    return settings.model_copy(update=secret)


def signed(body: bytes) -> dict[str, str]:
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).digest()
    return {HEADER: "sha256=" + base64.b64encode(digest).decode()}


def event(author_id: str, tag: str, post_id: str, *, posted_at: datetime | None = None) -> bytes:
    created_at = (posted_at or datetime.now(UTC)).isoformat()
    post = {
        "id": post_id, "author_id": author_id, "created_at": created_at,
        "text": f"#{tag} @programme", "edit_history_tweet_ids": [post_id],
        "entities": {"hashtags": [{"start": 0, "end": 4, "tag": tag}],
                     "mentions": [{"start": 5, "end": 9, "id": ACCOUNT, "username": "programme"}]},
    }  # fmt: skip
    data = {"event_uuid": "1", "event_type": "post.mention.create", "payload": post}
    return msgspec.json.encode({"data": data})


async def push(client: httpx.AsyncClient, body: bytes) -> httpx.Response:
    return await client.post("/webhooks/x", content=body, headers=signed(body))


async def count(sessions: Sessions, table: str) -> Any:
    async with sessions.begin() as session:
        return (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()


@contextmanager
def counted(result: str, number: int) -> Iterator[None]:
    """So many more events have this result."""

    def found() -> float:
        labels = {"result": result}
        return REGISTRY.get_sample_value("tagback_webhook_events_total", labels) or 0.0

    before = found()
    yield
    assert found() - before == number


async def open_offer(sessions: Sessions) -> None:
    await make_offer(sessions, "Tea", starts_at="2020-01-01T00:00:00Z", ends_at="2090-01-01T00:00Z")


class TestAnEvent:
    async def test_is_durable_when_answered(
        self, client: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        await open_offer(sessions)
        (author,) = await make_members(sessions, 1)
        answer = await push(client, event(author, "tea", "1900000000000000001"))
        assert (answer.status_code, answer.json()) == (200, {"status": "accepted"})
        assert await count(sessions, "coupons") == 1

    async def test_delivered_many_times_at_once_counts_once(
        self, client: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        await open_offer(sessions)
        (author,) = await make_members(sessions, 1)
        body = event(author, "tea", "1900000000000000001")
        answers = await asyncio.gather(*(push(client, body) for _ in range(30)))
        assert {answer.status_code for answer in answers} == {200}
        assert (await count(sessions, "coupons"), await count(sessions, "posts")) == (1, 1)

    async def test_shares_a_transaction_with_those_that_arrive_meanwhile(
        self, client: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        await open_offer(sessions)
        authors = await make_members(sessions, 60)
        bodies = [
            event(a, "tea", str(1_900_000_000_000_000_000 + i)) for i, a in enumerate(authors)
        ]
        await asyncio.gather(*(push(client, body) for body in bodies))
        async with sessions.begin() as session:
            batches = await session.scalar(text("SELECT count(DISTINCT xmin::text) FROM posts"))
        assert await count(sessions, "coupons") == 60
        assert 1 <= batches < 60

    async def test_that_are_refused_are_told_once_with_what_to_look_at(
        self, client: httpx.AsyncClient
    ) -> None:
        with capture_logs() as logs:
            for _ in range(3):
                await client.post("/webhooks/x", content=b"{}", headers={HEADER: "sha256=wrong"})
        told = [entry for entry in logs if entry["event"] == "webhook_refuses"]
        assert [entry["check"] for entry in told] == ["TAGBACK_X_CONSUMER_SECRET"]

    async def test_without_a_good_signature_is_refused(self, client: httpx.AsyncClient) -> None:
        body = event("1", "tea", "1900000000000000001")
        for headers in ({}, {HEADER: "sha256=AAAA"}, signed(body + b" ")):
            answer = await client.post("/webhooks/x", content=body, headers=headers)
            assert answer.status_code == 403
            assert answer.json()["code"] == "signature"

    async def test_that_was_signed_as_a_challenge_is_none(self, client: httpx.AsyncClient) -> None:
        body = b"0123456789abcdefGHIJ"
        answer = await client.get("/webhooks/x", params={"crc_token": body.decode()})
        headers = {HEADER: answer.json()["response_token"]}
        assert headers == signed(body)
        pushed = await client.post("/webhooks/x", content=body, headers=headers)
        assert (pushed.status_code, pushed.json()["code"]) == (403, "signature")

    async def test_that_x_would_no_longer_send_is_refused(
        self, client: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        await open_offer(sessions)
        one, other = await make_members(sessions, 2)
        now = datetime.now(UTC)
        old = event(one, "tea", "1900000000000000001", posted_at=now - timedelta(hours=25))
        replayed = event(other, "tea", "1900000000000000002", posted_at=now - timedelta(hours=24))
        with counted("event_too_old", 1):
            answer = await push(client, old)
        assert (answer.status_code, answer.json()["code"]) == (403, "event_too_old")
        assert (await push(client, replayed)).json() == {"status": "accepted"}
        message = msgspec.json.encode(
            {"data": {"event_type": "oauth.revoke",
                      "payload": {"user_id": one, "date_time": "2026-01-01T00:00:00Z"}}}
        )  # fmt: skip
        assert (await push(client, message)).json()["code"] == "event_too_old"

    async def test_that_is_too_large_is_refused_and_counted(
        self, client: httpx.AsyncClient
    ) -> None:
        body = event("1", "tea", "1900000000000000001") + b" " * 1_048_576
        with counted("body_too_large", 2):
            answer = await push(client, body)
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")

            async def in_pieces() -> AsyncIterator[bytes]:
                for start in range(0, len(body), 65_536):
                    yield body[start : start + 65_536]

            answer = await client.post("/webhooks/x", content=in_pieces(), headers=signed(body))
            assert answer.status_code == 413

    async def test_is_counted_by_what_became_of_it(
        self, client: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        await open_offer(sessions)
        (author,) = await make_members(sessions, 1)
        body = event(author, "tea", "1900000000000000001")
        with counted("accepted", 1), counted("signature", 1), counted("rejected", 1):
            await push(client, body)
            await client.post("/webhooks/x", content=body, headers=signed(b"other"))
            await push(client, b"not json")

    async def test_of_a_flood_is_refused_until_there_is_room(
        self, client: httpx.AsyncClient, sessions: Sessions, settings: Settings, stage: Any
    ) -> None:
        await open_offer(sessions)
        few = {"batch_posts_max": 1, "webhook_wait_seconds": 20.0}
        stage[0].app = create_app(settings.model_copy(update=few), sessions)
        authors = await make_members(sessions, 12)
        bodies = [
            event(a, "tea", str(1_900_000_000_000_000_000 + i)) for i, a in enumerate(authors)
        ]
        async with sessions.begin() as session:
            await session.execute(text("SELECT FROM offer_counters FOR UPDATE"))
            # one is being stored, four wait, the rest is refused
            pushes = [asyncio.create_task(push(client, bodies[0]))]
            held = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            async with asyncio.timeout(20):
                while not await session.scalar(held):  # noqa: ASYNC110 - a lock tells nobody
                    await asyncio.sleep(0.01)
            pushes += [asyncio.create_task(push(client, body)) for body in bodies[1:]]
            refused: set[asyncio.Task[httpx.Response]] = set()
            async with asyncio.timeout(20):
                while len(refused) < 7:
                    waiting = set(pushes) - refused
                    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    refused |= done
            assert {one.result().status_code for one in refused} == {503}
        answers = await asyncio.gather(*(set(pushes) - refused))
        assert [answer.status_code for answer in answers] == [200] * 5
        assert await count(sessions, "coupons") == 5

    async def test_that_is_no_post_is_acknowledged(self, client: httpx.AsyncClient) -> None:
        body = b'{"data":{"event_type":"like.create","payload":{"id":"1"}}}'
        assert (await push(client, body)).json() == {"status": "ignored"}

    async def test_that_cannot_be_read_is_acknowledged_with_the_reason(
        self, client: httpx.AsyncClient
    ) -> None:
        answer = await push(client, b"not json")
        assert answer.status_code == 200
        assert answer.json()["status"] == "rejected"


class TestTheChallenge:
    async def test_is_answered_with_our_secret(self, client: httpx.AsyncClient) -> None:
        token = "0123456789abcdefGHIJ"
        digest = hmac.new(SECRET.encode(), token.encode(), hashlib.sha256).digest()
        answer = await client.get("/webhooks/x", params={"crc_token": token})
        assert answer.json() == {"response_token": "sha256=" + base64.b64encode(digest).decode()}

    async def test_does_not_sign_an_event(self, client: httpx.AsyncClient) -> None:
        forged = event("1", "tea", "1900000000000000001").decode()
        answer = await client.get("/webhooks/x", params={"crc_token": forged})
        assert answer.status_code == 422
        assert "sha256" not in answer.text


async def test_another_account_is_known_soon_after_it_is_connected(
    sessions: Sessions, settings: Settings
) -> None:
    await open_offer(sessions)
    unset = settings.model_copy(update={"x_account_id": None})
    x_posts = XPosts(unset, sessions, account_every_seconds=0.0)
    for number, account_id in enumerate(("777", ACCOUNT)):
        async with sessions.begin() as session:
            await session.execute(
                text(
                    "INSERT INTO network_accounts (network, account_id, handle, scopes, "
                    "access_token, expires_at, connected_at, updated_at) VALUES ('x', :id, 'p', "
                    "'{}', '', now(), now(), now()) "
                    "ON CONFLICT (network) DO UPDATE SET account_id = EXCLUDED.account_id"
                ),
                {"id": account_id},
            )
        body = event("1", "tea", str(1_900_000_000_000_000_001 + number))
        await x_posts.receive(body, signed(body)[HEADER])
    async with sessions.begin() as session:
        found = await session.scalars(text("SELECT mentions_programme FROM posts ORDER BY post_id"))
        assert list(found) == [False, True]
