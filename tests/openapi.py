"""X's own OpenAPI documents, and where an exchange with X disagrees with them.

Two editions are in use: 2.166, whose field names all recorded traffic has, and 2.167, which renames
posts' fields (`edit_history_tweet_ids` is `edit_history_post_ids`). A request is right when it
agrees with either, and so is an answer. Objects are closed: a field that a schema does not name is
a disagreement, though JSON Schema itself would let it pass.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.observed import (
    GATEWAY_STATUSES,
    HOSTS_OF_PROBLEMS,
    OBSERVED,
    OBSERVED_ERRORS,
    OBSERVED_PROBLEMS,
    UNDOCUMENTED,
    Schema,
)
from tests.support import reference_material

EDITIONS = ("2.166", "2.167")
PROBLEM = "#/components/schemas/Problem"
SHOWN_MAX = 160
DIALECT = "https://json-schema.org/draft/2020-12/schema"

# What the two dialects have in common.
_KEPT = {
    "const",
    "enum",
    "format",
    "maximum",
    "maxItems",
    "maxLength",
    "minimum",
    "minItems",
    "minLength",
    "pattern",
    "required",
    "type",
    "uniqueItems",
}

formats = FormatChecker(formats=())


@formats.checks("date-time", raises=ValueError)
def _is_a_time(value: object) -> bool:
    return not isinstance(value, str) or (
        "T" in value and datetime.fromisoformat(value).tzinfo is not None
    )


@formats.checks("int32")
def _fits_32_bits(value: object) -> bool:
    return not isinstance(value, int) or -(2**31) <= value < 2**31


@formats.checks("int64")
def _fits_64_bits(value: object) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**63


@dataclass
class Exchange:
    """One request and its answer, as far as they came: `sent` is the request's body, None when the
    server did not read it to its end; of an exchange without an answer `status` is 0. `scheme` is
    the documents' name for how the caller said who he is; None where that is not known.
    """

    method: str
    path: str
    query: str = ""
    content_type: str = ""
    sent: bytes | None = b""
    status: int = 0
    answer_type: str = ""
    said: bytes = b""
    scheme: str | None = None
    is_a_testers: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Document:
    """One edition."""

    def __init__(self, edition: str, content: Mapping[str, Any]) -> None:
        self.edition = edition
        self.schemas: dict[str, Schema] = content["components"]["schemas"]
        self._parameters: Mapping[str, Any] = content["components"]["parameters"]
        for (name, *path, last), more in OBSERVED.items():
            if schema := self.schemas.get(name):
                for step in path:
                    schema = self.resolved(schema[step])
                known = schema.get(last, type(more)())
                schema[last] = known + more if isinstance(more, list) else known | more
        self.operations = [
            Operation(self, method.upper(), template, spec)
            for template, item in content["paths"].items()
            for method, spec in item.items()
        ]
        converted = {
            "$schema": DIALECT,
            "components": {
                "schemas": {n: self.convert(s, closed=False) for n, s in self.schemas.items()}
            },
        }
        resource = DRAFT202012.create_resource(converted)
        self._registry: Registry[Any] = Registry().with_resource(self._uri, resource)
        self._validators: dict[str, Draft202012Validator] = {}

    @property
    def _uri(self) -> str:
        return f"urn:x:{self.edition}"

    def find(self, method: str, path: str) -> "Operation | None":
        """A path without parameters before one with them, as OpenAPI wants it."""
        found = [
            operation
            for operation in self.operations
            if operation.method == method and operation.path.fullmatch(path)
        ]
        return min(found, key=lambda operation: operation.template.count("{"), default=None)

    def parameter(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" in given:
            found: Mapping[str, Any] = self._parameters[given["$ref"].rpartition("/")[2]]
            return found
        return given

    def resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self.schemas[schema["$ref"].rpartition("/")[2]]
        return schema

    def faults(self, schema: Schema, value: object) -> list[str]:
        key = json.dumps(schema)
        validator = self._validators.get(key)
        if validator is None:
            validator = self._validators[key] = Draft202012Validator(
                self.convert(schema), registry=self._registry, format_checker=formats
            )
        errors = list(validator.iter_errors(value))
        # A part that fails has named no fields, which are then unexpected: noise beside its fault.
        others = [error for error in errors if error.validator != "unevaluatedProperties"]
        return [_told(error) for error in others or errors]

    def convert(self, schema: Schema, *, closed: bool = True) -> Schema:
        """OpenAPI 3.0's dialect as JSON Schema 2020-12. `closed`: nothing is allowed that neither
        this schema nor one that it refers to names. Where alternatives are all that a schema has,
        each is closed for itself. `oneOf` is `anyOf`: a discriminator tells its schemas apart,
        which JSON Schema does not know.
        """
        if schema.get("$ref") == PROBLEM and closed:
            return {"type": "object", "format": "problem"}
        new = {name: schema[name] for name in schema.keys() & _KEPT}
        alternatives = [*schema.get("oneOf", ()), *schema.get("anyOf", ())]
        each_closed = closed and all(self._names_fields(s) for s in alternatives)
        if "$ref" in schema:
            new["$ref"] = self._uri + schema["$ref"]
        if "properties" in schema:
            new["properties"] = {n: self.convert(s) for n, s in schema["properties"].items()}
        for name in ("items", "additionalProperties"):
            if name in schema:
                inner = schema[name]
                new[name] = self.convert(inner) if isinstance(inner, dict) else inner
        if "allOf" in schema:
            new["allOf"] = [self.convert(s, closed=False) for s in schema["allOf"]]
        if alternatives:
            new["anyOf"] = [self.convert(s, closed=each_closed) for s in alternatives]
        if schema.get("nullable"):
            return {"anyOf": [{"type": "null"}, self.convert({**schema, "nullable": False})]}
        if closed and self._names_fields(schema) and not (alternatives and each_closed):
            new["unevaluatedProperties"] = False
        return new

    def _names_fields(self, schema: Schema) -> bool:
        """Whether an object of this schema has named fields; without any it is free in form."""
        schema = self.resolved(schema)
        if "properties" in schema:
            return True
        parts = [*schema.get("allOf", ()), *schema.get("oneOf", ()), *schema.get("anyOf", ())]
        return any(self._names_fields(part) for part in parts)

    def problem(self, kind: str) -> tuple[str, Schema] | None:
        """The `type` of this kind of problem, and its schema."""
        for url, target in self.schemas["Problem"]["discriminator"]["mapping"].items():
            if url.rpartition("/")[2] == kind:
                return url, {"$ref": target}
        return None


class Operation:
    def __init__(
        self, document: Document, method: str, template: str, spec: Mapping[str, Any]
    ) -> None:
        self.document = document
        self.method = method
        self.template = template
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template))
        self.path = re.compile(pattern)
        self.is_stream = bool(spec.get("x-twitter-streaming"))
        self._spec = spec
        self._parameters = [document.parameter(given) for given in spec.get("parameters", ())]

    def request_faults(self, exchange: Exchange) -> list[str]:
        faults = []
        schemes = {scheme for accepted in self._spec.get("security", ()) for scheme in accepted}
        is_known = exchange.scheme and exchange.status != HTTPStatus.UNAUTHORIZED
        if is_known and exchange.scheme not in schemes:
            faults.append(f"{exchange.scheme}: is not among {sorted(schemes)}")
        found = self.path.fullmatch(exchange.path)
        given = found.groupdict() if found else {}
        query = parse_qsl(exchange.query, keep_blank_values=True)
        known = {p["name"] for p in self._parameters if p["in"] == "query"}
        faults += [f"query {name}: unknown" for name, _ in query if name not in known]
        for parameter in self._parameters:
            name = parameter["name"]
            if parameter["in"] == "path":
                values = [given[name]]
            else:
                values = [value for given_name, value in query if given_name == name]
            if values:
                value = self._read(values, parameter)
                found_faults = self.document.faults(parameter["schema"], value)
                faults += [f"{parameter['in']} {name}: {fault}" for fault in found_faults]
            elif parameter.get("required"):
                faults.append(f"{parameter['in']} {name}: is missing")
        return faults + self._body_faults(exchange)

    def _body_faults(self, exchange: Exchange) -> list[str]:
        body = self._spec.get("requestBody")
        if exchange.sent is None:
            return []
        if not exchange.sent:
            return ["body: is missing"] if body and body.get("required") else []
        if body is None:
            return ["body: this operation has none"]
        content = body["content"].get(media_type(exchange.content_type))
        if content is None:
            return [f"body: content type {exchange.content_type!r} is not among its own"]
        try:
            value = json.loads(exchange.sent)
        except ValueError:
            return ["body: no JSON"]
        return [f"body {fault}" for fault in self.document.faults(content["schema"], value)]

    def _read(self, values: Sequence[str], parameter: Mapping[str, Any]) -> object:
        """A parameter's value of the type that its schema has, where its text is of that type."""
        schema = self.document.resolved(parameter["schema"])
        if schema.get("type") != "array":
            return values[0] if len(values) > 1 else _typed(values[0], schema)
        if parameter.get("explode") is False:
            values = [part for value in values for part in value.split(",")]
        items = self.document.resolved(schema["items"])
        return [_typed(value, items) for value in values]

    def answer_faults(self, exchange: Exchange, value: object) -> list[str]:
        """Of an answer that is no error, or of one line of it if this is a stream."""
        response = self._spec["responses"].get(str(exchange.status))
        if response is None:
            return [f"status {exchange.status}: is not among its own"]
        content = response["content"].get(media_type(exchange.answer_type))
        if content is None:
            return [f"content type {exchange.answer_type!r}: is not among its own"]
        return self.document.faults(content["schema"], value)


class Documents:
    """Both editions: what agrees with one of them is right."""

    def __init__(self, *documents: Document) -> None:
        self._documents = documents
        formats.checks("problem", raises=ValueError)(self._is_problem)

    def operation(self, exchange: Exchange) -> str | None:
        """As in `GET /2/users/{id}/tweets`."""
        for operation in self._find(exchange):
            return f"{operation.method} {operation.template}"
        return str(exchange) if (exchange.method, exchange.path) in UNDOCUMENTED else None

    def faults(self, exchange: Exchange) -> list[str]:
        """Empty when the exchange is right."""
        if (exchange.method, exchange.path) in UNDOCUMENTED:
            return []
        operations = self._find(exchange)
        if not operations:
            return ["is an operation of neither edition"]
        faults = []
        is_refused = exchange.status >= HTTPStatus.BAD_REQUEST
        if not (is_refused and exchange.is_a_testers):
            found = fewest(operation.request_faults(exchange) for operation in operations)
            faults += [f"request: {fault}" for fault in found]
        if is_refused:
            found = self._refusal_faults(exchange)
        elif exchange.status:
            found = self._answer_faults(exchange, operations)
        else:
            found = []  # whoever asked has gone
        return faults + [f"answer {exchange.status}: {fault}" for fault in found]

    def problem_faults(self, value: object) -> list[str]:
        """Problems are judged by their kind: a document knows each kind under one host only, and
        some kinds not at all.
        """
        if not isinstance(value, dict) or not isinstance(value.get("type"), str):
            return ["$: is no problem with a type"]
        url: str = value["type"]
        host, _, kind = url.partition("/2/problems/")
        if url != "about:blank" and host not in HOSTS_OF_PROBLEMS:
            return [f"$.type: {url!r} is under neither of X's hosts"]
        found = []
        for document in self._documents:
            if known := document.problem(kind or url):
                known_url, schema = known
                found.append(document.faults(schema, {**value, "type": known_url}))
        if kind in OBSERVED_PROBLEMS:
            found.append(self._documents[0].faults(OBSERVED_PROBLEMS[kind], value))
        return fewest(found) if found else [f"$.type: {url!r} is neither documented nor recorded"]

    def _find(self, exchange: Exchange) -> list[Operation]:
        found = [document.find(exchange.method, exchange.path) for document in self._documents]
        return [operation for operation in found if operation]

    def _answer_faults(self, exchange: Exchange, operations: Sequence[Operation]) -> list[str]:
        bodies = [exchange.said]
        if operations[0].is_stream:
            # What follows the last end of a line was cut off. An empty line is a sign of life.
            bodies = [line for line in exchange.said.split(b"\n")[:-1] if line.strip()]
        faults = []
        for body in bodies:
            try:
                value = json.loads(body)
            except ValueError:
                faults.append(f"no JSON: {body[:SHOWN_MAX]!r}")
                continue
            faults += fewest(operation.answer_faults(exchange, value) for operation in operations)
        return faults

    def _is_problem(self, value: object) -> bool:
        if faults := self.problem_faults(value):
            raise ValueError("; ".join(faults))
        return True

    def _refusal_faults(self, exchange: Exchange) -> list[str]:
        if exchange.status in GATEWAY_STATUSES:
            return []
        try:
            value = json.loads(exchange.said)
        except ValueError:
            return [f"no JSON: {exchange.said[:SHOWN_MAX]!r}"]
        match media_type(exchange.answer_type):
            case "application/problem+json":
                return self.problem_faults(value)
            case "application/json":
                return self._documents[0].faults(OBSERVED_ERRORS, value)
        return [f"content type {exchange.answer_type!r}: errors have another"]


@cache
def documents() -> Documents | None:
    """None where the reference material is not at hand."""
    folder = reference_material()
    if folder is None:
        return None
    paths = [folder / f"x/openapi-{edition}.json" for edition in EDITIONS]
    return Documents(*(Document(path.stem, json.loads(path.read_text())) for path in paths))


def fewest(alternatives: Iterable[list[str]]) -> list[str]:
    """The nearest miss is the one to be told."""
    return min(alternatives, key=len)


def media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _typed(text: str, schema: Schema) -> object:
    match schema.get("type"):
        case "integer" if re.fullmatch(r"-?[0-9]+", text):
            return int(text)
        case "boolean" if text.lower() in ("true", "false"):  # X takes Python's True too
            return text.lower() == "true"
    return text


def _told(error: ValidationError) -> str:
    """Where, and what: of alternatives that all fail, the one that failed deepest was meant."""
    while error.context:
        error = max(error.context, key=lambda inner: len(inner.path))
    message = str(error.cause or error.message)
    if len(message) > SHOWN_MAX:
        message = f"{message[: SHOWN_MAX // 2]} … {message[-SHOWN_MAX // 2 :]}"
    return f"{error.json_path}: {message}"
