"""What the OpenAPI document says: whole, true, and its examples a story that can be lived."""

from typing import Any

import httpx
import pytest

from app.config import Settings
from app.insight import attribution
from app.kit.db import Sessions
from app.notifications.domain import EVENTS, TEST
from tests.document import NDJSON, Document, our_document
from tests.story import SETTINGS, STORY, Story
from tests.support import MakeKey

NEVER_SHOWN = {"application/vnd.apache.parquet"}
# By type, what does: of several, one is enough.
BOUNDS: dict[str, list[set[str]]] = {
    "string": [{"maxLength"}, {"pattern"}, {"format"}, {"enum"}, {"const"}],
    "integer": [{"minimum", "maximum"}, {"minimum", "exclusiveMaximum"}],
    "array": [{"maxItems"}],
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update=SETTINGS)


@pytest.fixture(params=[False, True], ids=["usual", "with-test-clock"])
def document(request: pytest.FixtureRequest) -> Document:
    return our_document(test_clock=request.param)


def sent(delivery: dict[str, Any]) -> dict[str, Any]:
    """Its body."""
    own = {name: delivery[name] for name in ("subject", "sequence", "data")}
    return {"type": delivery["event"], "timestamp": delivery["created_at"], **own}


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
            if media_type not in NEVER_SHOWN
            and not media_type.startswith("text/")
            and not document.examples(media_type, schema)
        ]
        assert without == []

    def test_the_story_leaves_none_out(self) -> None:
        document = our_document()
        every = {
            (operation.name, number)
            for operation in document.operations.values()
            for number in range(len(document.request_examples(operation)))
        }
        assert every == {(name, number) for _, name, number in STORY}

    async def test_they_tell_a_story_that_can_be_lived(
        self, client: httpx.AsyncClient, sessions: Sessions, make_key: MakeKey
    ) -> None:
        document = our_document()
        keys = {
            "operator": await make_key("operator"),
            "issuer": await make_key("issuer"),
            "processor": await make_key("processor"),
        }
        story = Story(document, client, keys)
        for who, name, number in STORY:
            operation = document.operations[name]
            assert (who == "nobody") == ("security" not in operation.told)
            assert who in operation.told.get("x-roles", [who])
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
            if name == "list_webhook_deliveries":
                told = [sent(delivery) for delivery in answer.json()["items"]]
                assert [document.webhook_faults(body) for body in told] == [[]] * len(told)
                kinds = {body["type"] for body in told}
                assert {"coupon.loaded", "redemption.earned", "webhook.test"} <= kinds


class TestDocument:
    def test_every_route_and_parameter_is_described(self, document: Document) -> None:
        told = document.told
        tags = {tag["name"] for tag in told["tags"]}
        for operation in document.operations.values():
            assert operation.told["description"], operation.name
            assert set(operation.told["tags"]) <= tags
            for parameter in operation.told.get("parameters", ()):
                assert parameter.get("description"), (operation.name, parameter["name"])
                if "example" in parameter:
                    assert document.faults(parameter["schema"], parameter["example"]) == []

    def test_every_event_is_described(self, document: Document) -> None:
        assert document.told["webhooks"].keys() == {*EVENTS, TEST}

    def test_every_tag_is_used(self, document: Document) -> None:
        used = {tag for one in document.operations.values() for tag in one.told["tags"]}
        assert used == {tag["name"] for tag in document.told["tags"]}

    def test_whatever_is_sent_has_bounds(self, document: Document) -> None:
        without: list[str] = []

        def visit(place: str, schema: dict[str, Any]) -> None:
            schema = document.resolve(schema)
            for keyword in ("anyOf", "oneOf"):
                for one in schema.get(keyword, ()):
                    visit(place, one)
            for name, inner in schema.get("properties", {}).items():
                visit(f"{place}.{name}", inner)
            if isinstance(schema.get("items"), dict):
                visit(f"{place}[]", schema["items"])
            bounds = BOUNDS.get(schema.get("type", ""), [])
            if bounds and not any(bound <= schema.keys() for bound in bounds):
                without.append(place)

        for operation in document.operations.values():
            for parameter in operation.told.get("parameters", ()):
                visit(f"{operation.name} {parameter['name']}", parameter["schema"])
            if (body := document.body_of(operation)) is not None and body[0] != NDJSON:
                visit(operation.name, body[1])
        assert without == []
