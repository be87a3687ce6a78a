"""Our own OpenAPI document, as those who build on it read it."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import httpx
from jsonschema import Draft202012Validator, FormatChecker

from app.main import ROUTERS
from app.notifications.bodies import webhooks
from app.openapi import document
from app.upkeep import endpoints as upkeep

NDJSON = "application/x-ndjson"
Schema = dict[str, Any]


class Operation(NamedTuple):
    method: str
    path: str
    told: Schema

    @property
    def name(self) -> str:
        return str(self.told["operationId"])

    @property
    def statuses(self) -> set[int]:
        return {int(status) for status in self.told["responses"]}


class Document:
    def __init__(self, told: Schema) -> None:
        self.told = told
        self.operations = {
            one["operationId"]: Operation(method.upper(), path, one)
            for path, operations in told["paths"].items()
            for method, one in operations.items()
        }

    def resolve(self, told: Schema) -> Schema:
        found: Any = told
        while "$ref" in found:
            place = found["$ref"].removeprefix("#/").split("/")
            found = self.told
            for name in place:
                found = found[name]
        return dict(found)

    def faults(self, schema: Schema, value: object) -> list[str]:
        whole = {"allOf": [schema], "components": self.told["components"]}
        checker = Draft202012Validator(whole, format_checker=FormatChecker())
        return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(value)]

    def examples(self, media_type: str, schema: Schema) -> list[Any]:
        """What may stand in a body of this type; of lines, each makes a body of its own."""
        resolved = self.resolve(schema)
        if "anyOf" in resolved:  # a body that may be left out
            resolved = self.resolve(resolved["anyOf"][0])
        if media_type != NDJSON:
            return list(resolved.get("examples", []))
        return [[one] for one in self.resolve(resolved["items"]).get("examples", [])]

    def body_of(self, operation: Operation) -> tuple[str, Schema] | None:
        if "requestBody" not in operation.told:
            return None
        ((media_type, told),) = operation.told["requestBody"]["content"].items()
        return media_type, told["schema"]

    def webhook_faults(self, body: Schema) -> list[str]:
        """Of a body that a partner's server is sent; a field that is not told is one as well."""
        told = self.told["webhooks"][body["type"]]["post"]
        schema = self.resolve(self.body_of(Operation("POST", "", told))[1])
        data = self.resolve(schema["properties"]["data"])
        untold = body["data"].keys() - data["properties"].keys()
        return [*self.faults(schema, body), *(f"$.data.{name} is not told" for name in untold)]

    def request_examples(self, operation: Operation) -> list[Any]:
        body = self.body_of(operation)
        return [None] if body is None else self.examples(*body)

    def answers(self, operation: Operation) -> Iterator[tuple[int, str, Schema]]:
        """Each that has a body, of those that are no problem."""
        for status, told in operation.told["responses"].items():
            if status < "300":
                for media_type, content in self.resolve(told).get("content", {}).items():
                    yield int(status), media_type, content["schema"]

    def answer_faults(self, operation: Operation, answer: httpx.Response) -> list[str]:
        """Empty when it is one that the document knows."""
        status = str(answer.status_code)
        if status not in operation.told["responses"]:
            return [f"{status} is not documented: {answer.text}"]
        content = self.resolve(operation.told["responses"][status]).get("content")
        if content is None:
            return [f"a body where none is documented: {answer.text}"] if answer.content else []
        media_type = answer.headers.get("content-type", "")
        if media_type not in content:
            return [f"the type {media_type} is not documented"]
        if media_type.startswith("text/"):
            return []
        value = read_lines(answer.text) if media_type == NDJSON else answer.json()
        return self.faults(content[media_type]["schema"], value)


@cache
def our_document(*, test_clock: bool = False) -> Document:
    routers = (*ROUTERS, upkeep.router) if test_clock else ROUTERS
    told = document(routers, webhooks=webhooks(), title="Tagback", version="0")
    return Document(json.loads(json.dumps(told)))


def read_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def write_lines(values: list[Any]) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)
