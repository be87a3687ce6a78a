"""The document at `/openapi.json`: what FastAPI knows of the routes, and by rule what it does not.
Who may call a route is read from its dependencies; so are the problems that any such route has. A
route names the others itself: `responses=problems(NotFound, Conflict)`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from app.deps import get_sessions
from app.errors import TagbackError
from app.kit.http import PROBLEM, PROBLEM_SCHEMA

Schema = dict[str, Any]
Document = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]


class Webhooks(NamedTuple):
    """`items` by type of event, and the `schemas` that they refer to by name."""

    items: Mapping[str, Schema]
    schemas: Mapping[str, Schema]


JSON = "application/json"
NDJSON = "application/x-ndjson"
DESCRIPTION = """Tagback turns a hashtag into money back on a card. A partner publishes an offer;
a member posts its hashtag and has a coupon on his card; the purchase is matched and credited.

Every call carries an API key: `Authorization: Bearer tb_…`. A key has one role, and each route says
which roles may call it; a partner sees its own rows and nobody else's. Amounts are integers in
minor units (`500` is 5.00 USD), times are RFC 3339. A list answers `items` and `next_cursor`, which
is null on the last page. What goes wrong is a problem (RFC 9457) with a stable `code`."""

_TAGS: Mapping[str, str] = {
    "operation": "Is it alive, is it ready, how does it do: for those who run it.",
    "partners": "Partners, their shops, and the keys of everybody.",
    "offers": "What a hashtag promises, from the draft to its end, and the coupons that it loads.",
    "posts": "Posts from any listening tool, and what X pushes.",
    "insight": "What offers sold and cost, and why a post or a purchase became what it did.",
    "members": "Card-holders, with their accounts and cards.",
    "replies": "What the programme says on the network, and the button that silences it.",
    "transactions": "Card transactions, each answered with what became of its purchase.",
    "ledger": "Money: statement credits, adjustments, invoices.",
    "claims": "Purchases that a member misses.",
    "webhooks": "What a partner's own server is told, and what became of each delivery.",
    "test clock": "Time that moves when it is told to, for who tries an integration.",
}

# A parameter of these names means the same in every route. The examples are of one story, which the
# schemas' examples tell as well.
_PARAMETERS: Mapping[str, tuple[str, str | bool | None]] = {
    "action": ("what was done, such as `offer.publish`", None),
    "actor": ("who did it: `key:` and the key's `id`, or what has no key", None),
    "account_id": ("the account's id on its network, which outlives its handle", "2244994945"),
    "batch_id": ("the credit batch's `id`", "0198f0c2-7d10-7000-8000-000000000009"),
    "card_ref": ("the issuer's own name for the card", "card-7f3a"),
    "claim_id": ("the claim's `id`", "0198f0c2-7d10-7000-8000-000000000007"),
    "crc_token": ("what X wants signed", "challenge-5f2c9d01"),
    "cursor": ("`next_cursor` of the page before", None),
    "delivery_id": ("the delivery's `id`", "0198f0c2-7d10-7000-8000-00000000000d"),
    "endpoint": ("the webhook endpoint's `id`", None),
    "endpoint_id": ("the webhook endpoint's `id`", "0198f0c2-7d10-7000-8000-00000000000c"),
    "event": ("of this type alone", None),
    "forfeit": ("give up what is owed and not yet credited, and what may yet be", True),
    "format": ("of the file", None),
    "if-match": ("its `ETag`: if it has changed since, nothing is done", None),
    "if-none-match": ("its `ETag`, or several: if it has not changed since, 304", None),
    "key_id": ("the key's `id`", "0198f0c2-7d10-7000-8000-000000000006"),
    "limit": ("how many items a page has at most", None),
    "locale": ("the language of the sentences", None),
    "member_id": ("the member's `id`", "0198f0c2-7d10-7000-8000-000000000004"),
    "merchant_id": ("the place's `id`", "0198f0c2-7d10-7000-8000-000000000002"),
    "month": ("of UTC", "2026-07"),
    "network": ("the network, such as `x`", "x"),
    "offer_id": ("the offer's `id`", "0198f0c2-7d10-7000-8000-000000000003"),
    "partner": ("the partner's `ref` or `id`", "corner-coffee"),
    "post_id": ("the post's id on its network", "1945000000000000001"),
    "purchased_since": ("from then on", None),
    "purchased_until": ("before then", None),
    "redemption_id": ("the redemption's `id`", "0198f0c2-7d10-7000-8000-00000000000b"),
    "since": ("from then on", None),
    "state": ("of these alone", None),
    "subject_id": ("the id of what was changed", None),
    "subject_kind": ("what was changed, such as `offer`", None),
    "transaction_id": ("the card transaction's `id`", "tx-1002"),
    "until": ("before then", None),
    "x-twitter-webhooks-signature": ("`sha256=` and X's signature of the body", None),
}

# Whose id an answer holds: routes that take it can follow.
_LEADS_TO: Mapping[str, str] = {
    "BatchOut": "batch_id",
    "ClaimOut": "claim_id",
    "DeliveryOut": "delivery_id",
    "ExplainedClaim": "claim_id",
    "MemberOut": "member_id",
    "MerchantOut": "merchant_id",
    "NewKeyOut": "key_id",
    "NewSecretOut": "endpoint_id",
    "OfferOut": "offer_id",
    "PartnerOut": "partner",
}

_PROBLEMS: Mapping[int, tuple[str, str]] = {
    400: ("NotReadable", "The body is no text that can be read as JSON."),
    401: ("NotAuthenticated", "No API key, or one that is not valid: unknown, expired or revoked."),
    403: ("Forbidden", "The key's role, or what it stands for, does not allow it."),
    404: ("NotFound", "There is no such thing, or none that this key may see."),
    409: ("Conflict", "The state of things does not allow it; `code` tells what of it."),
    412: ("PreconditionFailed", "It has changed meanwhile: read it again."),
    413: ("BodyTooLarge", "The body is larger than the service takes."),
    414: ("AddressTooLong", "The address, with all its values, is longer than the service takes."),
    422: (
        "Invalid",
        "Understood, and it cannot be done as it stands. `errors` points to each failure.",
    ),
    429: (
        "TooManyRequests",
        "Too many requests with this key: wait as long as `Retry-After` says.",
    ),
    500: ("InternalError", "A mistake of ours, which the log has under `error_id`."),
    503: ("Unavailable", "Not now: try again."),
}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_HEADERS: Mapping[str, Schema] = {
    "Idempotency-Replayed": {
        "description": "`true`: the answer of the first time; nothing was done",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "RateLimit-Limit": {
        "description": "requests a minute, of a key with a limit",
        "schema": _COUNT,
    },
    "RateLimit-Remaining": {"description": "how many are left of them now", "schema": _COUNT},
    "RateLimit-Reset": {"description": "seconds until all of them are there", "schema": _COUNT},
    "Retry-After": {"description": "seconds to wait", "schema": _COUNT},
    "WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}},
}
_OF_A_LIMIT = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
_OF_A_PROBLEM: Mapping[int, Sequence[str]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", *_OF_A_LIMIT),
}

# In place of FastAPI's words, where a route has none of its own.
_DONE: Mapping[str, str] = {
    "200": "As it stands now.",
    "201": "Made.",
    "204": "Done; there is nothing to tell.",
}
_FASTAPI_SAYS = ("OK", "Successful Response")

ETAG: dict[str, Any] = {
    "headers": {
        "ETag": {
            "description": "of it as it stands: for `If-Match` and `If-None-Match`",
            "schema": {"type": "string", "pattern": '^"[^"]+"$'},
        }
    }
}


def problems(*errors: type[TagbackError]) -> Responses:
    """For `responses=` of a route: what it may refuse beyond what its like may."""
    return {error.status: _problem(error.status) for error in errors}


def lines(schema: Schema, description: str) -> Schema:
    """For `content`: one JSON value a line, told as the array that they make together."""
    return {NDJSON: {"schema": {"type": "array", "items": schema, "description": description}}}


def document(
    routers: Sequence[APIRouter],
    *,
    webhooks: Webhooks,
    title: str,
    version: str,
) -> Document:
    routes = [
        route
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute) and router.include_in_schema
    ]
    used = {tag for route in routes for tag in route.tags}
    given = get_openapi(
        title=title,
        version=version,
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        tags=[{"name": name, "description": text} for name, text in _TAGS.items() if name in used],
        routes=routes,
    )
    given["webhooks"] = webhooks.items
    given["components"]["schemas"] |= webhooks.schemas
    found: Document = _mended(given, given["components"]["schemas"])
    components = found["components"]
    components["responses"] = {
        name: _response(status, text) for status, (name, text) in _PROBLEMS.items()
    }
    components["headers"] = dict(_HEADERS)
    schemas = components["schemas"]
    schemas["Problem"] = PROBLEM_SCHEMA
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for name, schema in schemas.items():
        _show_page(name, schema, schemas)
    for route in routes:
        for method in route.methods or ():
            _complete(found["paths"][route.path_format][method.lower()], route)
    _link(found)
    return found


def _mended(found: Any, schemas: Mapping[str, Schema]) -> Any:  # noqa: ANN401 - JSON
    """FastAPI writes every bound as a float, and leaves out every null, of examples as well."""
    if isinstance(found, dict):
        mended = {name: _mended(value, schemas) for name, value in found.items()}
        if isinstance(examples := mended.get("examples"), list):
            mended["examples"] = [_with_nulls(mended, one, schemas) for one in examples]
        return mended
    if isinstance(found, list):
        return [_mended(value, schemas) for value in found]
    return int(found) if isinstance(found, float) and found.is_integer() else found


def _with_nulls(schema: Schema, example: Any, schemas: Mapping[str, Schema]) -> Any:  # noqa: ANN401
    schema = _resolved(schema, schemas)
    for one in (*schema.get("oneOf", ()), *schema.get("anyOf", ())):
        alternative = _resolved(one, schemas)
        if isinstance(example, dict) and example.keys() <= alternative.get("properties", {}).keys():
            schema = alternative
    if isinstance(example, list) and "items" in schema:
        return [_with_nulls(schema["items"], one, schemas) for one in example]
    if not isinstance(example, dict) or "properties" not in schema:
        return example
    required = schema.get("required", ())
    told = {
        name: _with_nulls(inner, example.get(name), schemas)
        for name, inner in schema["properties"].items()
        if name in example or name in required
    }
    return {**told, **{name: one for name, one in example.items() if name not in told}}


def _resolved(schema: Schema, schemas: Mapping[str, Schema]) -> Schema:
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _problem(status: int) -> Schema:
    return {"$ref": f"#/components/responses/{_PROBLEMS[status][0]}"}


def _response(status: int, text: str) -> Schema:
    told: Schema = {
        "description": text,
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    names = _OF_A_PROBLEM.get(status, ())
    return told | ({"headers": _headers(names)} if names else {})


def _headers(names: Sequence[str]) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _show_page(name: str, schema: Schema, schemas: Mapping[str, Schema]) -> None:
    """A page's example is one of its items."""
    if not name.startswith("Page_"):
        return
    item = _resolved(schema["properties"]["items"]["items"], schemas)
    schema["title"] = f"a page of {item['title']}"
    schema["examples"] = [{"items": item.get("examples", [])[:1], "next_cursor": None}]


def _calls(dependant: Dependant) -> Iterator[Any]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from _calls(inner)


def _complete(operation: Schema, route: APIRoute) -> None:
    calls = list(_calls(route.dependant))
    roles = next((call.roles for call in calls if hasattr(call, "roles")), None)
    operation["operationId"] = route.name
    operation["summary"] = route.name.replace("_", " ").capitalize()
    has_key = "security" in operation
    if roles is not None:
        operation["x-roles"] = list(roles)
    if has_key:
        told = f"**For** {', '.join(roles or ('every key',))}."
        operation["description"] = f"{operation.get('description', '')}\n\n{told}".strip()
    parameters = operation.get("parameters", ())
    for parameter in parameters:
        _describe(parameter)
    responses = operation["responses"]
    is_read = "requestBody" in operation
    applies = {
        400: route.body_field is not None,
        401: has_key,
        403: roles is not None,
        413: is_read,
        414: any(_takes_several(parameter) for parameter in parameters),
        422: route.body_field is not None or "parameters" in operation,
        429: has_key,
        500: True,
        503: get_sessions in calls,
    }
    for status, does in applies.items():
        if does:
            responses[str(status)] = _problem(status)
        elif "HTTPValidationError" in str(responses.get(str(status))):
            del responses[str(status)]
    headers: list[str] = []
    if has_key:
        headers += _OF_A_LIMIT
    if any(parameter["name"] == "Idempotency-Key" for parameter in parameters):
        headers.append("Idempotency-Replayed")
    operation["responses"] = _told(responses, headers)


def _told(responses: Schema, headers: Sequence[str]) -> Schema:
    told = {}
    for status, response in sorted(responses.items()):
        if "$ref" in response:
            told[status] = {"$ref": response["$ref"]}
            continue
        told[status] = response
        if response["description"] in _FASTAPI_SAYS:
            was_so = status == "200" and "201" in responses
            response["description"] = "It was so already." if was_so else _DONE[status]
        if headers:
            response["headers"] = {**response.get("headers", {}), **_headers(headers)}
    return told


def _takes_several(parameter: Schema) -> bool:
    return bool(parameter["schema"].get("type") == "array")


def _describe(parameter: Schema) -> None:
    description, example = _PARAMETERS.get(parameter["name"].lower(), (None, None))
    if description is not None:
        parameter.setdefault("description", description)
    if example is not None:
        parameter.setdefault("example", [example] if _takes_several(parameter) else example)


def _link(found: Document) -> None:
    followers: dict[str, list[Schema]] = {}
    for path, operations in found["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path" and f"{{{parameter['name']}}}" in path:
                    followers.setdefault(parameter["name"], []).append(operation)
    for operations in found["paths"].values():
        if "post" not in operations:
            continue
        for status, response in operations["post"]["responses"].items():
            content = response.get("content", {}).get("application/json", {})
            answer = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
            name = _LEADS_TO.get(answer)
            if status in ("200", "201") and name is not None:
                response["links"] = {
                    follower["operationId"]: {
                        "operationId": follower["operationId"],
                        "parameters": {name: "$response.body#/id"},
                    }
                    for follower in followers[name]
                }
