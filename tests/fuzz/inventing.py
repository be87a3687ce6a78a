"""How schemathesis makes up requests here: formats of ours, lines, X's signature, and in place of
half of what only looks right a value that is known, or a body that does but for a field or two. The
likeliest to be done comes first: of few cases it is the one.
"""

import json
from typing import Any
from uuid import uuid4

import schemathesis
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.document import NDJSON, read_lines, write_lines
from tests.fuzz.world import World
from tests.story import signature

schemathesis.openapi.format("iso-4217", st.sampled_from(["USD", "EUR", "JPY", "KWD"]))
schemathesis.openapi.format("iana-time-zone", st.sampled_from(["UTC", "Asia/Tokyo"]))
schemathesis.openapi.format("bcp-47", st.sampled_from(["en", "fr-CA", "de"]))
schemathesis.openapi.format("hashtag", st.from_regex(r"\A[A-Za-z]{3}[A-Za-z0-9]{0,9}\Z"))

# Two things of one name would be one thing, told twice.
_NAMES = {
    "add_account": {"id"},
    "add_card": {"card_ref"},
    "create_merchant": {"acceptor_id"},
    "create_offer": {"offer_ref", "hashtag"},
    "create_partner": {"ref"},
    "enrol_member": {"member_ref", "id", "card_ref"},
    "make_adjustment": {"ref"},
    "make_claim": {"ref", "transaction_id"},
    "take_transaction": {"id"},
}


class _Told:
    """The hooks are schemathesis's for good; what they know is the world that was told last."""

    world = World({}, {}, {}, {}, frozenset())


def tell(world: World) -> None:
    _Told.world = world


@schemathesis.serializer(NDJSON)
def as_lines(_context: Any, value: Any) -> dict[str, bytes]:
    return {"data": write_lines(value if isinstance(value, list) else [value])}


@schemathesis.deserializer(NDJSON)
def from_lines(_context: Any, response: Any) -> Any:
    return read_lines(response.text)


@schemathesis.hook
def flatmap_path_parameters(context: Any, path_parameters: Any) -> SearchStrategy[Any]:
    found = _meet(path_parameters)
    fitting = _Told.world.fitting.get(_route(context))
    if fitting and path_parameters:  # a link may have told them
        name, ids = fitting
        return st.one_of(
            st.sampled_from(ids).map(lambda one: {**path_parameters, name: one}), found
        )
    return found


@schemathesis.hook
def flatmap_query(_context: Any, query: Any) -> SearchStrategy[Any]:
    return _meet(query)


@schemathesis.hook
def flatmap_body(context: Any, body: Any) -> SearchStrategy[Any]:
    route = _route(context)
    usual = _Told.world.bodies.get(route)
    if body is None and isinstance(usual, dict):  # it may be left out
        return st.sampled_from([usual, None])
    if isinstance(body, dict) and isinstance(usual, dict):
        return st.one_of(_hardly_changed(route, usual, body), _meet(body).map(_in_order))
    return _meet(body)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    if (case.path_parameters or {}).get("key_id") in _Told.world.own_keys:
        case.path_parameters["key_id"] = str(uuid4())
    if _route(case) == "receive_event" and isinstance(case.body, dict):
        body = json.dumps(case.body).encode()
        case.headers["x-twitter-webhooks-signature"] = signature(body)


def _route(of: Any) -> str:
    return str(of.operation.definition.raw["operationId"])


def _meet(value: Any, name: str = "") -> SearchStrategy[Any]:
    known = _Told.world.known
    if isinstance(value, dict):
        return st.fixed_dictionaries({key: _meet(one, str(key)) for key, one in value.items()})
    if isinstance(value, list):
        return st.tuples(*(_meet(one, name) for one in value)).map(list)
    if name in known and isinstance(value, str) and value:
        return st.one_of(st.sampled_from(known[name]), st.just(value))
    return st.just(value)


@st.composite
def _hardly_changed(
    draw: st.DrawFn, route: str, usual: dict[str, Any], body: dict[str, Any]
) -> dict[str, Any]:
    changed = draw(st.lists(st.sampled_from(sorted(body)), max_size=2)) if body else []
    names = _NAMES.get(route, set())
    name = f"{route.replace('_', '')}{draw(st.integers(1, 10**9))}"

    def renamed(told: Any) -> Any:
        if not isinstance(told, dict):
            return told
        return {key: name if key in names else renamed(one) for key, one in told.items()}

    return {**renamed(usual), **{key: body[key] for key in changed}}


def _in_order(body: dict[str, Any]) -> dict[str, Any]:
    """An offer ends after it has begun."""
    first, last = body.get("starts_at"), body.get("ends_at")
    if isinstance(first, str) and isinstance(last, str) and last < first:
        return body | {"starts_at": last, "ends_at": first}
    return body
