"""Requests made up from the document, by every role, and all answers held against it."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
import schemathesis
from schemathesis.engine import events, from_schema
from schemathesis.errors import NoLinksFound

from app.config import Settings
from app.kit.db import Sessions
from tests.document import our_document
from tests.fuzz import inventing
from tests.fuzz.world import make_world
from tests.story import SETTINGS
from tests.support import MakeKey

SEED = 20260715
# Below this there is no time for all that the bounds of a schema ask for, nor to try what a role
# may not do: the tests of keys do that.
WHOLE_RUN = 15_000
# From this on there is time for more than the likeliest to be done, which comes first in a round.
LONG_RUN = 1_000
# Of all cases, the part of each role: the more it may do, the more.
PARTS = {"operator": 5, "issuer": 3, "partner": 3, "analyst": 1, "processor": 1}
CHECKS_OFF = (
    # What is right by the schema may be wrong by the state of things: 404, 409, 422.
    "positive_data_acceptance",
    # Files are read by the same types, and a CSV has no numbers: "5" is 5.
    "negative_data_rejection",
)
# With why a made-up request has no chance.
NEVER_DONE: dict[str, str] = {}


class Round(NamedTuple):
    """What one key asks for at once; `most` is for each route, and for stories along the links."""

    key: str
    seed: int
    phases: tuple[str, ...]
    most: int
    routes: list[str]
    checks_off: tuple[str, ...]


class Seen:
    """`statuses` by route; `faults` as they are to be read, each once."""

    def __init__(self) -> None:
        self.statuses: dict[str, Counter[int]] = defaultdict(Counter)
        self.faults: dict[tuple[str, str], str] = {}

    @property
    def cases(self) -> int:
        return sum(counts.total() for counts in self.statuses.values())

    def add(self, recorder: Any) -> None:
        for case_id, node in recorder.cases.items():
            label = node.value.operation.label
            found = recorder.interactions.get(case_id)
            if found is not None and found.response is not None:
                self.statuses[label][found.response.status_code] += 1
            for check in recorder.checks.get(case_id, ()):
                if (info := check.failure_info) is not None:
                    failure = info.failure
                    told = f"{label}: {failure.title}\n{failure.message}\n{info.code_sample}"
                    self.faults.setdefault((label, failure.title), told)


def run(document: dict[str, Any], base_url: str, given: Round, seen: Seen) -> None:
    phases = ("examples", "coverage", "fuzzing", "stateful")
    config = schemathesis.Config.from_dict(
        {
            "seed": given.seed,
            "workers": 1,
            "continue-on-failure": True,
            "generation": {"max-examples": given.most, "database": "none", "no-shrink": True},
            "checks": {name: {"enabled": False} for name in given.checks_off},
            "phases": {name: {"enabled": name in given.phases} for name in phases},
        }
    )
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.config.update(base_url=base_url, headers={"Authorization": f"Bearer {given.key}"})
    for event in from_schema(schema.include(operation_id=given.routes)).execute():
        if isinstance(event, events.ScenarioFinished):
            seen.add(event.recorder)
        elif isinstance(event, events.NonFatalError):
            if not isinstance(event.value, NoLinksFound):  # a role may have none
                seen.faults[event.label, ""] = f"{event.label}: {event.value}"
        elif isinstance(event, events.FatalError):
            raise event.exception


def routes_of(document: dict[str, Any], role: str | None) -> list[str]:
    """That the role may call, or all."""
    return [
        operation["operationId"]
        for operations in document["paths"].values()
        for operation in operations.values()
        if role is None or role in operation.get("x-roles", [role])
    ]


def rounds(document: dict[str, Any], role: str, key: str, *, cases: int) -> Iterator[Round]:
    """The two phases that never end, each time with another seed."""
    is_whole = cases >= WHOLE_RUN
    routes = routes_of(document, None if is_whole else role)
    off = CHECKS_OFF if is_whole else (*CHECKS_OFF, "ignored_auth")
    seed = SEED
    while True:
        most = 10 if cases >= LONG_RUN else 1
        yield Round(key, seed, ("fuzzing", "stateful"), most, routes, off)
        seed += 1


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update=SETTINGS)


async def test_no_answer_is_other_than_the_document_says(
    client: httpx.AsyncClient, sessions: Sessions, make_key: MakeKey, pytestconfig: pytest.Config
) -> None:
    cases = pytestconfig.getoption("--cases")
    keys = {role: await make_key(role) for role in ("operator", "issuer", "processor")}
    world = await make_world(our_document(), client, sessions, keys)
    inventing.tell(world)
    document = (await client.get("/openapi.json")).json()
    seen = Seen()
    for role, part in PARTS.items():
        aim = seen.cases + cases * part // sum(PARTS.values())
        for given in rounds(document, role, world.keys[role], cases=cases):
            await asyncio.to_thread(run, document, str(client.base_url), given, seen)
            if seen.cases >= aim:
                break
    if cases >= WHOLE_RUN:  # last, for it does to everything there is all that can be done
        every_route = routes_of(document, None)
        for role in PARTS:
            bounds = Round(
                world.keys[role], SEED, ("examples", "coverage"), 1, every_route, CHECKS_OFF
            )
            await asyncio.to_thread(run, document, str(client.base_url), bounds, seen)
    print(f"\n{seen.cases} cases from seed {SEED}")
    for label, counts in sorted(seen.statuses.items()):
        print(f"{label:70}", *(f"{status}: {count}" for status, count in sorted(counts.items())))
    assert not seen.faults, "\n\n".join(seen.faults.values())
    every = {f"{one.method} {one.path}" for one in our_document().operations.values()}
    done = {label for label, counts in seen.statuses.items() if min(counts) < 300}
    assert every - done == set(NEVER_DONE)
