"""Every code that a caller of the API may meet is in docs/problems.md, and no other."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import httpx
import pytest

from app.kit.db import Sessions
from app.members.domain import RejectionCode
from app.problems import catalogue
from app.redemptions.transactions import RejectedReason
from tests.programme import make_offer
from tests.support import ROOT, MakeKey

# no problems of the API: told in a terminal, on a page, or by the stand-in for X
ELSEWHERE = (
    "cli",
    "config.py",
    "linking",
    "members/linking.py",
    "networks/x",
    "sandbox",
    "web",
)
# What is no literal, and the codes that it stands for. Statuses are those that frameworks raise.
COMPUTED = {
    "members/service.py: saved.code": set(get_args(RejectionCode)),
    "redemptions/transactions.py: code": set(get_args(RejectedReason)),
    "problems.py: error.code": set[str](),
    "problems.py: status.name.lower()": {"bad_request", "not_found", "method_not_allowed"},
}
STATUSES_OF_FRAMEWORKS = {"bad_request": 400, "not_found": 404, "method_not_allowed": 405}


class Error(NamedTuple):
    status: int
    code: str


class Source:
    """What the source can raise, by its syntax."""

    def __init__(self) -> None:
        self.trees = {
            str(path.relative_to(ROOT / "app")): ast.parse(path.read_text())
            for path in sorted((ROOT / "app").rglob("*.py"))
        }
        self.errors: dict[str, Error] = {}
        self._learn_errors()
        self.codes: dict[str, set[int]] = defaultdict(set)
        self.computed: set[str] = set()
        for name, tree in self.trees.items():
            if not name.startswith(ELSEWHERE):
                for node in ast.walk(tree):
                    if isinstance(node, ast.Call):
                        self._take_call(name, node)

    def _learn_errors(self) -> None:
        """By name: a class has the status and the code of its own, or of the one it is made of."""
        classes = [
            node
            for tree in self.trees.values()
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
        ]
        self.errors["TagbackError"] = Error(500, "internal_error")
        known = 0
        while known < len(self.errors):
            known = len(self.errors)
            for one in classes:
                self._learn(one)

    def _learn(self, one: ast.ClassDef) -> None:
        for base in one.bases:
            if isinstance(base, ast.Name) and base.id in self.errors:
                status, code = self.errors[base.id]
                own = dict(_assigned(one))
                self.errors[one.name] = Error(
                    int(own.get("status", status)), str(own.get("code", code))
                )

    def _take_call(self, module: str, call: ast.Call) -> None:
        name = call.func.id if isinstance(call.func, ast.Name) else None
        given = {one.arg: one.value for one in call.keywords}
        if name == "Problem":
            status = call.args[0]
            number = int(status.value) if isinstance(status, ast.Constant) else None
        elif name in self.errors:
            number = self.errors[name].status
        elif "code" in given and name == "problem":  # one of two classes
            number = None
        else:
            return
        code = given.get("code")
        if code is None:
            assert name is not None
            self.codes[self.errors[name].code].add(number or 0)
        elif isinstance(code, ast.Constant):
            self.codes[str(code.value)].add(number or 0)
        else:
            self.computed.add(f"{module}: {ast.unparse(code)}")


def _assigned(node: ast.ClassDef) -> Iterator[tuple[str, object]]:
    for line in node.body:
        if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant):
            for target in line.targets:
                if isinstance(target, ast.Name):
                    yield target.id, line.value.value


SOURCE = Source()
ROWS = {row["code"]: int(row["status"]) for row in catalogue()}


class TestTheCatalogue:
    def test_has_every_code_that_can_be_raised_and_no_other(self) -> None:
        computed = set[str]().union(*COMPUTED.values())
        assert SOURCE.codes.keys() | computed == ROWS.keys()

    def test_knows_what_a_code_that_is_no_literal_can_be(self) -> None:
        assert SOURCE.computed == COMPUTED.keys()

    def test_has_each_once_with_its_status(self) -> None:
        assert len(catalogue()) == len(ROWS)
        for code, statuses in SOURCE.codes.items():
            assert statuses == {ROWS[code]}, code
        assert STATUSES_OF_FRAMEWORKS.items() <= ROWS.items()

    async def test_is_where_a_problem_s_type_leads(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/nowhere")
        assert answer.json()["type"] == "/problems#not_found"
        page = await client.get(answer.json()["type"])
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        for code in ROWS:
            assert f'<tr id="{code}">' in page.text
        assert "<code>Idempotency-Key</code>" in page.text


REWARD = "either fixed_minor, or basis_points with max_minor"


class TestWhatIsWrongWithABody:
    @pytest.mark.parametrize(
        ("change", "errors"),
        [
            ({"reward": {}}, {"/reward": REWARD}),
            ({"reward": 5}, {"/reward": REWARD}),
            ({"reward": {"fixed_minor": 0}}, {"/reward/fixed_minor": "greater than"}),
            ({"reward": {"basis_points": 5}}, {"/reward/max_minor": "required"}),
            (
                {"reward": {"fixed_minor": 5, "max_minor": 5}},
                {"/reward/max_minor": "not permitted"},
            ),
            (
                {"reward": {"max_minor": "x"}, "title": "", "acceptors": [{"acquirer_id": "a"}]},
                {
                    "/title": "at least 1 character",
                    "/acceptors/0/acceptor_id": "required",
                    "/reward/basis_points": "required",
                    "/reward/max_minor": "minor units",
                },
            ),
            ({"hours": {"from": "08:00", "to": "noon"}}, {"/hours/to": "valid"}),
            ({"a/b~c": 1}, {"/a~1b~0c": "not permitted"}),
        ],
        ids=["neither", "no-object", "fixed", "share", "both", "many", "nested", "escaped"],
    )
    async def test_is_told_at_once_by_pointers_into_what_was_sent(
        self,
        client: httpx.AsyncClient,
        make_key: MakeKey,
        change: dict[str, Any],
        errors: dict[str, str],
    ) -> None:
        body = {
            "offer_ref": "spring",
            "title": "Spring",
            "hashtag": "spring",
            "starts_at": "2026-01-01T00:00:00Z",
            "ends_at": "2090-01-01T00:00:00Z",
            "time_zone": "UTC",
            "currency": "USD",
            "reward": {"fixed_minor": 500},
            **change,
        }
        client.headers["Authorization"] = f"Bearer {await make_key('operator')}"
        answer = await client.post("/v1/offers", json=body)
        assert answer.status_code == 422
        told = {one["pointer"]: one["detail"] for one in answer.json()["errors"]}
        assert told.keys() == errors.keys()
        for pointer, part in errors.items():
            assert part in told[pointer]

    async def test_is_told_so_of_a_change_too(
        self, client: httpx.AsyncClient, sessions: Sessions, make_key: MakeKey
    ) -> None:
        client.headers["Authorization"] = f"Bearer {await make_key('operator')}"
        path = f"/v1/offers/{await make_offer(sessions, 'tea', publish=False)}"
        for change, pointers in (
            ({"reward": {}, "titel": ""}, ["/reward", "/titel"]),
            ({"title": "", "redemptions_per_coupon": 0}, ["/title", "/redemptions_per_coupon"]),
        ):
            answer = await client.patch(path, json=change)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
            assert {one["pointer"] for one in answer.json()["errors"]} == set(pointers)

    async def test_is_told_no_more_than_a_hundred_times(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        client.headers["Authorization"] = f"Bearer {await make_key('operator')}"
        body = {f"field{number}": 1 for number in range(5_000)}
        answer = await client.post("/v1/partners", json=body)
        assert len(answer.json()["errors"]) == 100


class TestARoute:
    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("PUT", "/v1/offers", "GET, POST"),
            ("POST", "/v1/offers/0197e5a0-0000-7000-8000-000000000000", "GET, PATCH"),
            ("POST", "/healthz", "GET"),
        ],
    )
    async def test_says_which_methods_it_takes(
        self, client: httpx.AsyncClient, method: str, path: str, allowed: str
    ) -> None:
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert set(allowed.split(", ")) <= set(answer.headers["allow"].split(", "))
