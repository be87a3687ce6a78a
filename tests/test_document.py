"""What the OpenAPI document says: whole, true, and its examples a story that can be lived."""

import base64
import hmac
import re
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.config import Settings
from app.insight import attribution
from app.kit.db import Sessions
from tests.document import NDJSON, Document, Operation, our_document, write_lines
from tests.support import MakeKey

SECRET = "consumer-secret"
# On this day the story is told.
TOLD = datetime(2026, 7, 15, 12, tzinfo=UTC)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
ID = re.compile(r"0198f0c2-7d10-7000-8000-[0-9a-f]{12}")

# Who calls what, with which of the body's examples.
STORY: list[tuple[str, str, int]] = [
    ("nobody", "healthz", 0),
    ("nobody", "readyz", 0),
    ("operator", "create_partner", 0),
    ("operator", "list_partners", 0),
    ("operator", "create_key", 1),
    ("operator", "create_key", 0),
    ("operator", "list_keys", 0),
    ("partner", "create_merchant", 0),
    ("partner", "list_merchants", 0),
    ("operator", "confirm_merchant", 0),
    ("partner", "create_offer", 0),
    ("partner", "list_offers", 0),
    ("partner", "publish_offer", 0),
    ("operator", "approve_offer", 0),
    ("operator", "change_offer", 0),
    ("partner", "get_offer", 0),
    ("analyst", "list_versions", 0),
    ("partner", "pause_offer", 0),
    ("partner", "resume_offer", 0),
    ("issuer", "enrol_member", 0),
    ("issuer", "list_members", 0),
    ("issuer", "get_member", 0),
    ("issuer", "add_card", 0),
    ("issuer", "add_card", 1),
    ("issuer", "list_cards", 0),
    ("issuer", "add_account", 0),
    ("issuer", "list_accounts", 0),
    ("issuer", "receive_posts", 0),
    ("nobody", "answer_challenge", 0),
    ("nobody", "receive_event", 0),
    ("issuer", "list_coupons", 0),
    ("issuer", "explain_post", 0),
    ("processor", "take_transaction", 0),
    ("processor", "take_batch", 0),
    ("issuer", "explain_transaction", 0),
    ("partner", "list_redemptions", 0),
    ("analyst", "get_attribution", 0),
    ("partner", "get_performance", 0),
    ("partner", "dry_run_offer", 0),
    ("operator", "get_costs", 0),
    ("issuer", "create_batch", 0),
    ("issuer", "list_batches", 0),
    ("issuer", "get_batch", 0),
    ("issuer", "acknowledge_batch", 0),
    ("operator", "make_adjustment", 0),
    ("operator", "list_adjustments", 0),
    ("partner", "list_invoices", 0),
    ("issuer", "make_claim", 0),
    ("issuer", "get_claim", 0),
    ("issuer", "list_claims", 0),
    ("issuer", "list_claims_of_member", 0),
    ("operator", "accept_claim", 0),
    ("issuer", "make_claim", 1),
    ("operator", "refuse_claim", 0),
    ("operator", "announce_offer", 0),
    ("operator", "list_replies", 0),
    ("operator", "pause_replies", 0),
    ("operator", "pause_replies", 1),
    ("operator", "resume_replies", 0),
    ("operator", "resume_replies", 1),
    ("issuer", "remove_account", 0),
    ("issuer", "remove_card", 0),
    ("partner", "end_offer", 0),
    ("operator", "revoke_key", 0),
    ("nobody", "metrics", 0),
]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"x_consumer_secret": SecretStr(SECRET)})


@pytest.fixture
def document() -> Document:
    return our_document()


class Story:
    """Says each example with the ids that are, for those that are told, and as if it were today."""

    def __init__(self, document: Document, client: httpx.AsyncClient, keys: dict[str, str]) -> None:
        self._document = document
        self._client = client
        self._keys = keys
        self._ids: dict[str, str] = {}
        self._later = datetime.now(UTC).replace(microsecond=0) - TOLD

    async def live(self, who: str, operation: Operation, example: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._keys[who]}"} if who != "nobody" else {}
        content = None
        if (body := self._document.body_of(operation)) is not None:
            told = self._today(write_lines(example if body[0] == NDJSON else [example]).decode())
            content = told.encode()
            headers["Content-Type"] = body[0]
            if operation.name == "receive_event":
                signed = hmac.digest(SECRET.encode(), content, "sha256")
                headers["x-twitter-webhooks-signature"] = (
                    f"sha256={base64.b64encode(signed).decode()}"
                )
        path, query = self._address(operation)
        answer = await self._client.request(
            operation.method, path, params=query, headers=headers, content=content
        )
        self._learn(operation, answer)
        return answer

    def _address(self, operation: Operation) -> tuple[str, dict[str, str]]:
        path, query = operation.path, {}
        for parameter in operation.told.get("parameters", ()):
            if parameter["in"] == "path":
                value = self._today(parameter["example"])
                path = path.replace(f"{{{parameter['name']}}}", value)
            elif parameter["in"] == "query" and parameter["required"]:
                query[parameter["name"]] = self._today(parameter["example"])
        return path, query

    def _today(self, told: str) -> str:
        def later(found: re.Match[str]) -> str:
            moment = datetime.fromisoformat(found[0]) + self._later
            return moment.isoformat().replace("+00:00", "Z")

        return ID.sub(lambda found: self._ids[found[0]], TIME.sub(later, told))

    def _learn(self, operation: Operation, answer: httpx.Response) -> None:
        for status, media_type, schema in self._document.answers(operation):
            if status == answer.status_code and media_type == "application/json":
                for example in self._document.examples(media_type, schema):
                    self._compare(example, answer.json())
                    if operation.name == "create_key":
                        self._keys[answer.json()["role"]] = answer.json()["key"]

    def _compare(self, told: Any, real: Any) -> None:
        match told, real:
            case dict(), dict():
                for name in told.keys() & real.keys():
                    self._compare(told[name], real[name])
            case [first, *_], [true, *_]:
                self._compare(first, true)
            case str(), str() if ID.fullmatch(told):
                self._ids[told] = real


class TestExamples:
    def test_each_fits_its_own_schema(self, document: Document) -> None:
        seen = 0

        def visit(schema: Any) -> None:
            nonlocal seen
            if isinstance(schema, dict):
                for example in schema.get("examples", ()):
                    assert document.faults(schema, example) == [], example
                    seen += 1
                for inner in schema.values():
                    visit(inner)
            elif isinstance(schema, list):
                for inner in schema:
                    visit(inner)

        visit(document.told["paths"])
        visit(document.told["components"])
        assert seen > 50

    def test_every_body_and_every_answer_has_one(self, document: Document) -> None:
        without = [
            f"{operation.name} {media_type}"
            for operation in document.operations.values()
            for media_type, schema in [
                *filter(None, [document.body_of(operation)]),
                *((media_type, schema) for _, media_type, schema in document.answers(operation)),
            ]
            if not media_type.startswith("text/") and not document.examples(media_type, schema)
        ]
        assert without == []

    def test_the_story_leaves_none_out(self, document: Document) -> None:
        every = {
            (operation.name, number)
            for operation in document.operations.values()
            for number in range(len(document.request_examples(operation)))
        }
        assert every == {(name, number) for _, name, number in STORY}

    async def test_they_tell_a_story_that_can_be_lived(
        self,
        document: Document,
        client: httpx.AsyncClient,
        sessions: Sessions,
        make_key: MakeKey,
    ) -> None:
        keys = {
            "operator": await make_key("operator"),
            "issuer": await make_key("issuer"),
            "processor": await make_key("processor"),
        }
        story = Story(document, client, keys)
        for who, name, number in STORY:
            operation = document.operations[name]
            assert who in operation.told.get("x-roles", ["nobody"])
            example = document.request_examples(operation)[number]
            answer = await story.live(who, operation, example)
            assert answer.is_success, (name, answer.text)
            assert document.answer_faults(operation, answer) == [], (name, answer.text)
            if {200, 201} <= operation.statuses:
                assert answer.status_code == 201, name
                again = await story.live(who, operation, example)
                assert again.status_code == 200, (name, again.text)
                assert document.answer_faults(operation, again) == [], (name, again.text)
            if name == "take_batch":
                await attribution.flush(sessions)


class TestDocument:
    def test_every_route_and_parameter_is_described(self, document: Document) -> None:
        told = document.told
        tags = {tag["name"] for tag in told["tags"]}
        for operation in document.operations.values():
            assert operation.told["description"], operation.name
            assert set(operation.told["tags"]) <= tags
            for parameter in operation.told.get("parameters", ()):
                assert parameter.get("description"), (operation.name, parameter["name"])

    def test_every_tag_is_used(self, document: Document) -> None:
        used = {tag for one in document.operations.values() for tag in one.told["tags"]}
        assert used == {tag["name"] for tag in document.told["tags"]}
