"""What a processor sees over HTTP, and what a file comes to."""

import json
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client import REGISTRY

from app.kit.db import Sessions
from app.kit.lines import Line
from app.redemptions.loader import load
from tests.support import MakeKey
from tests.till import Till, make_transaction

CARD_NUMBER = "4111111111111111"


@pytest.fixture
async def till(sessions: Sessions) -> Till:
    till = await Till.open(sessions)
    await till.coupon(redemptions_per_coupon=2)
    return till


@pytest.fixture
async def processor(client: httpx.AsyncClient, make_key: MakeKey) -> httpx.AsyncClient:
    client.headers["Authorization"] = f"Bearer {await make_key('processor')}"
    return client


def line(event_type: Any, amount_minor: int, purchase: str | None = "p-1", **more: Any) -> bytes:
    return msgspec.json.encode(make_transaction(event_type, amount_minor, purchase, **more))


async def send(client: httpx.AsyncClient, body: bytes) -> httpx.Response:
    return await client.post("/v1/transactions", content=body)


async def send_batch(client: httpx.AsyncClient, *lines: bytes) -> list[dict[str, Any]]:
    answer = await client.post("/v1/transactions/batch", content=b"\n".join(lines))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(one) for one in answer.text.splitlines()]


@pytest.mark.usefixtures("till")
class TestOneTransaction:
    async def test_is_answered_with_the_decision(
        self, till: Till, processor: httpx.AsyncClient
    ) -> None:
        ((coupon_id, offer_id),) = await till.rows("SELECT id, offer_id FROM coupons")
        body = line("clearing", 4_000, id="t-first")
        answer = await send(processor, body)
        assert answer.status_code == 200
        assert answer.json() == {
            "id": "t-first",
            "status": "applied",
            "decision": "earned",
            "reason": None,
            "purchase_id": "p-1",
            "coupon_id": str(coupon_id),
            "offer_id": str(offer_id),
            "reward_minor": 400,
            "currency": "USD",
        }
        assert (await send(processor, body)).json() == answer.json()

    async def test_that_is_not_for_us_is_ignored_and_counted(
        self, processor: httpx.AsyncClient
    ) -> None:
        name, labels = "tagback_transactions_ignored_total", {"reason": "not_linked"}
        before = REGISTRY.get_sample_value(name, labels) or 0
        answer = await send(processor, line("clearing", 4_000, card_ref="stranger"))
        assert answer.status_code == 200
        assert (answer.json()["status"], answer.json()["reason"]) == ("ignored", "not_linked")
        assert REGISTRY.get_sample_value(name, labels) == before + 1

    async def test_that_is_rejected_is_a_problem(self, processor: httpx.AsyncClient) -> None:
        await send(processor, line("clearing", 4_000, id="t-same"))
        for body, code in (
            (line("clearing", 4_001, id="t-same"), "id_reused"),
            (line("clearing", 4_000, currency="EUR"), "purchase_mismatch"),
            (line("clearing", -1), "malformed_transaction"),
            (b"", "malformed_transaction"),
            (line("clearing", 1, card_ref=CARD_NUMBER), "malformed_transaction"),
        ):
            answer = await send(processor, body)
            assert (answer.status_code, answer.json()["code"]) == (422, code)
            assert CARD_NUMBER not in answer.text

    @pytest.mark.parametrize("role", ["issuer", "operator"])
    async def test_may_come_from_the_issuer_or_the_operator(
        self, client: httpx.AsyncClient, make_key: MakeKey, role: str
    ) -> None:
        client.headers["Authorization"] = f"Bearer {await make_key(role)}"
        assert (await send(client, line("clearing", 4_000))).status_code == 200

    async def test_may_not_come_from_others(
        self, till: Till, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        assert (await send(client, line("clearing", 4_000))).status_code == 401
        for role in ("partner", "analyst"):
            partner_id = till.partner_id if role == "partner" else None
            client.headers["Authorization"] = f"Bearer {await make_key(role, partner_id)}"
            assert (await send(client, line("clearing", 4_000))).status_code == 403
            batch = await client.post("/v1/transactions/batch", content=b"")
            assert batch.status_code == 403


@pytest.mark.usefixtures("till")
class TestABatch:
    async def test_answers_a_line_for_each_and_a_summary(
        self, processor: httpx.AsyncClient
    ) -> None:
        *answers, summary = await send_batch(
            processor,
            line("clearing", 4_000, id="t-1"),
            b"",
            b'{"id":',
            line("clearing", 1, id="t-2", card_ref=CARD_NUMBER),
            line("authorization", 4_000, "p-2", id="t-3"),
            line("clearing", 500, id="t-4", card_ref="stranger"),
            line("refund", 9_000, None, id="t-5"),
            line("clearing", 9_000, "p-3", id="t-6"),
            line("clearing", 4_001, id="t-1"),
        )
        assert [(one["line"], one["id"], one["status"]) for one in answers] == [
            (1, "t-1", "applied"),
            (3, None, "rejected"),
            (4, "t-2", "rejected"),
            (5, "t-3", "applied"),
            (6, "t-4", "ignored"),
            (7, "t-5", "unmatched"),
            (8, "t-6", "applied"),
            (9, "t-1", "rejected"),
        ]
        assert [one["reason"] for one in answers if one["status"] == "rejected"] == [
            "malformed_transaction",
            "malformed_transaction",
            "id_reused",
        ]
        assert CARD_NUMBER not in json.dumps(answers)
        assert summary == {
            "summary": {
                "read": 8,
                "applied": 3,
                "ignored": 1,
                "unmatched": 1,
                "rejected": 3,
                "decisions": {"earned": 1, "no_coupon": 1, "pending": 1},
            }
        }

    async def test_of_more_than_a_thousand_lines_is_cut_and_answered_whole(
        self, till: Till, processor: httpx.AsyncClient
    ) -> None:
        lines = [line("clearing", 10, f"p-{n}", id=f"t-{n}") for n in range(2_100)]
        *answers, summary = await send_batch(processor, *lines)
        assert [one["line"] for one in answers] == list(range(1, 2_101))
        assert summary["summary"]["applied"] == 2_100
        assert await till.rows("SELECT count(*) FROM card_transactions") == [(2_100,)]
        again = await send_batch(processor, *lines)
        assert again == [*answers, summary]

    async def test_of_nothing_has_a_summary_alone(self, processor: httpx.AsyncClient) -> None:
        (summary,) = await send_batch(processor)
        assert summary["summary"]["read"] == 0


class TestAFile:
    async def test_counts_each_line_by_what_became_of_it(self, till: Till) -> None:
        lines = [
            line("clearing", 4_000, id="t-1"),
            line("authorization", 4_000, "p-2"),
            line("clearing", 4_000, "p-3"),
            line("refund", 9_000, None),
            line("clearing", 4_000, card_ref="stranger"),
            b"nonsense",
            line("clearing", 1, id="t-1"),
        ]
        numbered = [Line(number, raw) for number, raw in enumerate(lines, start=1)]
        results = await load(till.sessions, numbered)
        assert [(result.status, result.outcomes) for result in results] == [
            ("accepted", ("earned",)),
            ("accepted", ("pending",)),
            ("accepted", ("no_coupon",)),
            ("accepted", ("unmatched",)),
            ("ignored", ()),
            ("rejected", ()),
            ("rejected", ()),
        ]
        assert [bool(result.reason) for result in results] == [False] * 5 + [True] * 2
        assert await load(till.sessions, numbered) == results

    async def test_may_be_csv_where_every_amount_is_text(self, till: Till) -> None:
        def as_csv(amount: str) -> Line:
            raw = line("clearing", 4_000, f"p-{amount}")
            return Line(
                1, raw.replace(b'"amount_minor":4000', b'"amount_minor":"%s"' % amount.encode())
            )

        amounts = ("4000", "0100", "0", "-1", "12.5", "x", "9" * 5_000)
        results = await load(till.sessions, [as_csv(amount) for amount in amounts])
        assert [result.status for result in results] == ["accepted"] * 3 + ["rejected"] * 4
        assert await till.rows("SELECT cleared_minor FROM purchases ORDER BY 1") == [
            (0,),
            (100,),
            (4_000,),
        ]
