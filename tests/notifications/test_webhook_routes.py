"""Webhook endpoints and deliveries over HTTP: a partner for itself, the operator for any."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from app.config import Settings
from app.kit.db import Sessions
from app.kit.ids import new_id
from app.main import create_app
from app.notifications.service import ENDPOINTS_MAX
from app.partners import service as partners
from tests.notifications.receiving import Post, Receiver
from tests.programme import NOW, make_offer
from tests.support import MakeKey

Call = Callable[..., Awaitable[Any]]
URL = "http://127.0.0.1:9/hooks"


def caller(client: httpx.AsyncClient, key: str) -> Call:
    async def call(method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        answer = await client.request(
            method, f"/v1{path}", json=body, headers={"Authorization": f"Bearer {key}"}
        )
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    return call


@pytest.fixture
async def ids(sessions: Sessions) -> dict[str, UUID]:
    async with sessions.begin() as session:
        return {
            ref: (await partners.ensure_partner(session, ref=ref)).id for ref in ("cafe", "rival")
        }


@pytest.fixture
async def cafe(client: httpx.AsyncClient, make_key: MakeKey, ids: dict[str, UUID]) -> Call:
    return caller(client, await make_key("partner", ids["cafe"]))


@pytest.fixture
async def rival(client: httpx.AsyncClient, make_key: MakeKey, ids: dict[str, UUID]) -> Call:
    return caller(client, await make_key("partner", ids["rival"]))


@pytest.fixture
async def operator(client: httpx.AsyncClient, make_key: MakeKey) -> Call:
    return caller(client, await make_key("operator"))


class TestAnEndpoint:
    async def test_shows_its_secret_once(self, cafe: Call) -> None:
        wanted = {"url": URL, "events": ["offer.ended", "coupon.loaded"], "description": "Till"}
        made = await cafe("POST", "/webhook-endpoints", wanted, status=201)
        assert made.pop("secret").startswith("whsec_")
        assert made == {
            "id": made["id"],
            "partner": "cafe",
            "url": URL,
            "events": ["coupon.loaded", "offer.ended"],
            "description": "Till",
            "enabled": True,
            "disabled_because": None,
            "failing_since": None,
            "former_secret_until": None,
            "created_at": made["created_at"],
        }
        assert await cafe("GET", f"/webhook-endpoints/{made['id']}") == made
        page = await cafe("GET", "/webhook-endpoints")
        assert page == {"items": [made], "next_cursor": None}

    async def test_is_changed_disabled_and_deleted(self, cafe: Call, sessions: Sessions) -> None:
        made = await cafe("POST", "/webhook-endpoints", {"url": URL}, status=201)
        path = f"/webhook-endpoints/{made['id']}"
        changed = await cafe(
            "PATCH", path, {"url": f"{URL}/2", "events": ["offer.ended"], "enabled": False}
        )
        assert (changed["url"], changed["events"]) == (f"{URL}/2", ["offer.ended"])
        assert (changed["enabled"], changed["disabled_because"]) == (False, "asked")
        answer = await cafe("POST", f"{path}/test", status=409)
        assert answer["code"] == "endpoint_disabled"
        changed = await cafe("PATCH", path, {"events": None, "enabled": True})
        assert (changed["url"], changed["events"]) == (f"{URL}/2", None)
        assert (changed["enabled"], changed["disabled_because"]) == (True, None)
        await cafe("DELETE", path, status=204)
        for method, route in (
            ("GET", path),
            ("PATCH", path),
            ("DELETE", path),
            ("POST", f"{path}/test"),
            ("POST", f"{path}/rotate-secret"),
        ):
            await cafe(method, route, {} if method == "PATCH" else None, status=404)
        assert (await cafe("GET", "/webhook-endpoints"))["items"] == []
        async with sessions() as session:
            actions = await session.scalars(
                text(
                    "SELECT action FROM audit_entries WHERE subject_kind = 'webhook_endpoint' "
                    "ORDER BY id"
                )
            )
            assert [one.partition(".")[2] for one in actions] == [
                "create",
                "change",
                "change",
                "delete",
            ]

    async def test_keeps_no_secret_in_the_clear(self, cafe: Call, sessions: Sessions) -> None:
        made = await cafe("POST", "/webhook-endpoints", {"url": f"{URL}?key=s3cret"}, status=201)
        rotated = await cafe("POST", f"/webhook-endpoints/{made['id']}/rotate-secret")
        assert rotated["secret"] != made["secret"]
        assert rotated["former_secret_until"] is not None
        async with sessions() as session:
            rows = await session.execute(text("SELECT * FROM webhook_endpoints"))
            audited = await session.execute(text("SELECT before, after FROM audit_entries"))
            kept = str([tuple(row) for row in rows]) + str([tuple(row) for row in audited])
        for secret in (made["secret"], rotated["secret"]):
            assert secret.removeprefix("whsec_") not in kept
        async with sessions() as session:
            audited = await session.scalars(text("SELECT after::text FROM audit_entries"))
            assert "s3cret" not in str(audited.all())

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"url": "https://10.0.0.1/hooks"}, "unsafe_url"),
            ({"url": "http://93.184.216.34/hooks"}, "unsafe_url"),
            ({"url": "https://a:b@93.184.216.34/"}, "unsafe_url"),
            ({"url": "https://93.184.216.34/4242424242424242"}, "invalid"),
            ({"url": URL, "events": []}, "invalid"),
            ({"url": URL, "events": ["coupon.stolen"]}, "invalid"),
            ({"url": URL, "secret": "mine"}, "invalid"),
            ({}, "invalid"),
        ],
        ids=["private", "http", "user", "card", "no-events", "unknown", "own-secret", "empty"],
    )
    async def test_that_cannot_be_is_refused(
        self, cafe: Call, body: dict[str, Any], code: str
    ) -> None:
        assert (await cafe("POST", "/webhook-endpoints", body, status=422))["code"] == code

    async def test_does_not_change_to_where_it_could_not_have_been_made(self, cafe: Call) -> None:
        made = await cafe("POST", "/webhook-endpoints", {"url": URL}, status=201)
        path = f"/webhook-endpoints/{made['id']}"
        for url in ("https://169.254.169.254/latest", None):
            await cafe("PATCH", path, {"url": url}, status=422)
        assert (await cafe("GET", path))["url"] == URL

    async def test_is_one_of_so_many_at_most(self, cafe: Call, sessions: Sessions) -> None:
        await cafe("POST", "/webhook-endpoints", {"url": URL}, status=201)
        async with sessions.begin() as session:
            await session.execute(
                text(
                    "INSERT INTO webhook_endpoints (id, partner_id, url, secret_sealed) "
                    "SELECT gen_random_uuid(), partner_id, url, '' "
                    "FROM webhook_endpoints, generate_series(2, :most)"
                ),
                {"most": ENDPOINTS_MAX},
            )
        answer = await cafe("POST", "/webhook-endpoints", {"url": URL}, status=409)
        assert answer["code"] == "too_many"

    async def test_needs_a_key_that_seals(
        self,
        stage: Any,
        settings: Settings,
        sessions: Sessions,
        make_key: MakeKey,
        ids: dict[str, UUID],
    ) -> None:
        """The answer and the log say how to have one."""
        told = settings.model_copy(update={"secret_keys": None})
        stage[0].app = create_app(told, sessions)
        async with httpx.AsyncClient(base_url=stage[1]) as client:
            call = caller(client, await make_key("partner", ids["cafe"]))
            answer = await call("POST", "/webhook-endpoints", {"url": URL}, status=500)
        assert "tagback keys new-secret" in answer["detail"]


class TestWhose:
    async def test_another_partners_are_not_found(
        self, cafe: Call, rival: Call, sessions: Sessions
    ) -> None:
        made = await cafe("POST", "/webhook-endpoints", {"url": URL}, status=201)
        sent = await cafe("POST", f"/webhook-endpoints/{made['id']}/test", status=201)
        path = f"/webhook-endpoints/{made['id']}"
        everything = {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
        for method, route, body in (
            ("GET", path, None),
            ("PATCH", path, {"enabled": False}),
            ("DELETE", path, None),
            ("POST", f"{path}/rotate-secret", None),
            ("POST", f"{path}/test", None),
            ("POST", f"{path}/replay", everything),
            ("POST", f"/webhook-deliveries/{sent['id']}/replay", None),
        ):
            await rival(method, route, body, status=404)
        assert (await rival("GET", "/webhook-endpoints"))["items"] == []
        found = await rival("GET", f"/webhook-deliveries?endpoint={made['id']}")
        assert found["items"] == []
        await rival("POST", "/webhook-endpoints", {"url": URL, "partner": "cafe"}, status=404)
        async with sessions() as session:
            assert await session.scalar(text("SELECT count(*) FROM webhook_endpoints")) == 1

    async def test_the_operator_names_the_partner(self, operator: Call, cafe: Call) -> None:
        answer = await operator("POST", "/webhook-endpoints", {"url": URL}, status=422)
        assert answer["code"] == "partner_missing"
        body = {"url": URL, "partner": "cafe"}
        made = await operator("POST", "/webhook-endpoints", body, status=201)
        assert (await cafe("GET", f"/webhook-endpoints/{made['id']}"))["partner"] == "cafe"
        for partner, number in (("cafe", 1), ("rival", 0)):
            page = await operator("GET", f"/webhook-endpoints?partner={partner}")
            assert len(page["items"]) == number

    @pytest.mark.parametrize("role", ["issuer", "processor", "analyst"])
    async def test_others_have_no_business_here(
        self, client: httpx.AsyncClient, make_key: MakeKey, role: str
    ) -> None:
        call = caller(client, await make_key(role))
        for method, path in (
            ("POST", "/webhook-endpoints"),
            ("GET", "/webhook-endpoints"),
            ("GET", f"/webhook-endpoints/{new_id()}"),
            ("GET", "/webhook-deliveries"),
        ):
            await call(method, path, {"url": URL} if method == "POST" else None, status=403)


class TestDeliveries:
    async def test_show_what_became_of_each(
        self, cafe: Call, post: Post, receiver: Receiver
    ) -> None:
        body = {"url": receiver.url, "events": ["offer.ended"]}
        made = await cafe("POST", "/webhook-endpoints", body, status=201)
        offer_id = await make_offer(post.sessions, "Tea", ends_at="2099-01-01T00:00:00Z")
        await cafe("POST", f"/offers/{offer_id}/end")
        receiver.statuses = [500]
        late = NOW + timedelta(days=365)  # too late to be tried again
        await post.round(now=late)
        sent = await cafe("POST", f"/webhook-endpoints/{made['id']}/test", status=201)
        assert (sent["event"], sent["state"], sent["sequence"]) == ("webhook.test", "queued", 1)
        await post.round(now=late)
        items = (await cafe("GET", "/webhook-deliveries"))["items"]
        shown = [
            (one["event"], one["state"], one["attempts"], one["last_status"], one["last_error"])
            for one in items
        ]
        assert shown == [
            ("offer.ended", "parked", 1, 500, "answered 500"),
            ("webhook.test", "delivered", 1, 204, None),
        ]
        assert items[0]["data"]["offer_id"] == str(offer_id)
        assert all(one["next_attempt_at"] is None for one in items)
        assert receiver.taken[0].verified(made["secret"])["data"] == {"endpoint_id": made["id"]}
        for query, number in (
            ("event=offer.ended", 1),
            ("state=delivered", 1),
            ("state=queued", 0),
            (f"endpoint={made['id']}", 2),
            (f"endpoint={new_id()}", 0),
            ("since=2020-01-01T00:00:00Z&until=2100-01-01T00:00:00Z", 2),
            ("until=2020-01-01T00:00:00Z", 0),
        ):
            found = await cafe("GET", f"/webhook-deliveries?{query}")
            assert len(found["items"]) == number, query

    async def test_are_sent_again_one_by_one_or_by_time(
        self, cafe: Call, post: Post, receiver: Receiver
    ) -> None:
        made = await cafe("POST", "/webhook-endpoints", {"url": receiver.url}, status=201)
        path = f"/webhook-endpoints/{made['id']}"
        sent = [await cafe("POST", f"{path}/test", status=201) for _ in range(3)]
        later = NOW + timedelta(days=365)
        await post.round(now=later)
        again = await cafe("POST", f"/webhook-deliveries/{sent[1]['id']}/replay")
        assert (again["state"], again["attempts"], again["sequence"]) == ("queued", 0, 2)
        await post.round(now=later)
        everything = {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}
        assert await cafe("POST", f"{path}/replay", everything) == {"replayed": 3}
        await post.round(now=later)
        numbers = [taken.verified(made["secret"])["sequence"] for taken in receiver.taken]
        assert sorted(numbers) == [1, 1, 2, 2, 2, 3, 3]
        assert len({taken.id for taken in receiver.taken}) == 3
        backwards = {"since": everything["until"], "until": everything["since"]}
        await cafe("POST", f"{path}/replay", backwards, status=422)
