"""`/docs`: the OpenAPI document for people, without scripts and without anybody else's server."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape

from app.openapi import NDJSON
from app.web.pages import render

KEPT_SECONDS = 3_600

router = APIRouter(include_in_schema=False)

Schema = Mapping[str, Any]


class Answer(NamedTuple):
    status: str
    description: str
    example: str | None


class Operation(NamedTuple):
    """As the page shows it; `told` is what the document says."""

    name: str
    method: str
    path: str
    description: Markup
    told: Schema
    curl: str
    answers: list[Answer]


@router.get("/docs")
async def reference(request: Request) -> HTMLResponse:
    headers = {
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'",
        "Cache-Control": f"public, max-age={KEPT_SECONDS}",
        "X-Content-Type-Options": "nosniff",
    }
    base_url = str(request.app.state.settings.public_url or request.base_url).rstrip("/")
    return HTMLResponse(_page(request.app, base_url), headers=headers)


@lru_cache(maxsize=8)
def _page(app: FastAPI, base_url: str) -> str:
    document = app.openapi()
    operations = list(_operations(document, base_url))
    tags = [
        (tag, [one for one in operations if tag["name"] in one.told["tags"]])
        for tag in document["tags"]
    ]
    return render(
        "reference.html", document=document, about=_text(document["info"]["description"]), tags=tags
    )


def _operations(document: Schema, base_url: str) -> Iterator[Operation]:
    for path, operations in document["paths"].items():
        for method, told in operations.items():
            yield Operation(
                name=told["operationId"],
                method=method.upper(),
                path=path,
                description=_text(told["description"].partition("\n\n**For**")[0]),
                told=told,
                curl=_curl(document, base_url + path, method.upper(), told),
                answers=[
                    _answer(document, status, one) for status, one in told["responses"].items()
                ],
            )


def _curl(document: Schema, url: str, method: str, told: Schema) -> str:
    for parameter in told.get("parameters", ()):
        if parameter["in"] == "path":
            url = url.replace(f"{{{parameter['name']}}}", str(parameter.get("example", "…")))
        elif parameter.get("required"):
            url += f"{'&' if '?' in url else '?'}{parameter['name']}={parameter['example']}"
    words = ["curl", *([] if method == "GET" else ["-X", method]), shlex.quote(url)]
    if "security" in told:
        words += ["\\\n  -H", "'Authorization: Bearer tb_…'"]
    for media_type, content in told.get("requestBody", {}).get("content", {}).items():
        words += ["\\\n  -H", f"'Content-Type: {media_type}'"]
        example = _example(document, media_type, content["schema"])
        words += ["\\\n  --data-binary", shlex.quote(example or "{}")]
    return " ".join(words)


def _answer(document: Schema, status: str, told: Schema) -> Answer:
    told = _resolved(document, told)
    example = None
    if status < "300":
        for media_type, content in told.get("content", {}).items():
            example = _example(document, media_type, content["schema"]) or example
    return Answer(status, told["description"], example)


def _example(document: Schema, media_type: str, schema: Schema) -> str | None:
    schema = _resolved(document, schema)
    if "anyOf" in schema:
        schema = _resolved(document, schema["anyOf"][0])
    if media_type == NDJSON:
        examples = _resolved(document, schema["items"]).get("examples", [])
        return "\n".join(json.dumps(one) for one in examples)
    examples = schema.get("examples", [])
    return json.dumps(examples[-1], indent=2) if examples else None


def _resolved(document: Schema, told: Schema) -> Schema:
    if "$ref" not in told:
        return told
    found: Any = document
    for name in told["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return cast("Schema", found)


def _text(told: str) -> Markup:
    """Paragraphs, and code between backticks: the document's own prose needs no more."""
    paragraphs = (
        re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(one))) for one in told.split("\n\n")
    )
    return Markup("".join(f"<p>{one}</p>" for one in paragraphs))  # noqa: S704 - escaped above
