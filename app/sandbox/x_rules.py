"""X's routes for the rules of the filtered stream."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from msgspec import Struct

from app.sandbox.gate import PROBLEMS, SandboxDep, answer, gate, invalid, read_json
from app.sandbox.posts import XId, rfc3339
from app.sandbox.records import Entry, Rule
from app.sandbox.rule_language import RuleError, parse_rule
from app.sandbox.state import State

router = APIRouter(prefix="/2/tweets/search/stream/rules")

_PAGE_MAX = 1_000


class NewRule(Struct, forbid_unknown_fields=True):
    value: str
    tag: str | None = None


class RulesToDelete(Struct, forbid_unknown_fields=True):
    ids: list[XId] = []
    values: list[str] = []


class RulesChange(Struct, forbid_unknown_fields=True):
    add: list[NewRule] | None = None
    delete: RulesToDelete | None = None


@router.get("", dependencies=gate("app"))
async def list_rules(
    request: Request,
    sandbox: SandboxDep,
    ids: str | None = None,
    max_results: Annotated[int, Query(ge=1, le=_PAGE_MAX)] = _PAGE_MAX,
    pagination_token: Annotated[str, Query(pattern="^[0-9]{16}$")] = "0" * 16,
) -> Response:
    state = sandbox.state
    wanted = ids.split(",") if ids else list(state.rules)
    rules = [state.rules[rule_id] for rule_id in wanted if rule_id in state.rules]
    start = int(pagination_token)
    end = start + max_results
    page = [show_rule(rule) for rule in rules[start:end]]
    meta: dict[str, Any] = {"sent": rfc3339(state.now()), "result_count": len(page)}
    if rules[end:]:
        meta["next_token"] = f"{end:016}"
    return answer(request, ({"data": page} if page else {}) | {"meta": meta})


@router.get("/counts", dependencies=gate("app"))
async def count_rules(request: Request, sandbox: SandboxDep) -> Response:
    """The two limits and the number of all rules are strings here, as in OpenAPI 2.167."""
    state = sandbox.state
    mine = {"client_app_id": state.settings.app_id, "rule_count": len(state.rules)}
    data = {
        "cap_per_client_app": str(state.profile.rules_max),
        "cap_per_project": str(state.profile.rules_max),
        "project_rules_count": str(len(state.rules)),
        "client_app_rules_count": mine,
        "all_project_client_apps": [mine],
    }
    return answer(request, {"data": data})


@router.post("", dependencies=gate("app"))
async def change_rules(
    request: Request, sandbox: SandboxDep, *, dry_run: bool = False, delete_all: bool = False
) -> Response:
    """A rule that cannot be added stops no other one. With `dry_run` nothing is changed."""
    state = sandbox.state
    change = await read_json(request, RulesChange)
    if delete_all:
        change = RulesChange(delete=RulesToDelete(ids=list(state.rules)))
    if bool(change.add) == bool(change.delete):
        raise invalid("$: either add, with a rule at least, or delete")
    if change.add:
        data, errors, summary = _add(state, change.add, dry_run=dry_run)
    else:
        data = []
        errors, summary = _delete(state, change.delete or RulesToDelete(), dry_run=dry_run)
    body: dict[str, Any] = {"meta": {"sent": rfc3339(state.now()), "summary": summary}}
    if data:
        body["data"] = [show_rule(rule) for rule in data]
    if errors:
        body["errors"] = errors
    return answer(request, body)


def show_rule(rule: Rule) -> dict[str, str]:
    return {"id": rule.id, "value": rule.value, **({"tag": rule.tag} if rule.tag else {})}


def _add(
    state: State, wanted: list[NewRule], *, dry_run: bool
) -> tuple[list[Rule], list[dict[str, Any]], dict[str, int]]:
    known = {rule.value: rule.id for rule in state.rules.values()}
    added: list[Rule] = []
    errors: list[dict[str, Any]] = []
    for new in wanted:
        value = new.value.strip()
        if problem := _rule_problem(state, value, known):
            errors.append(problem)
            continue
        rule = Rule(id=state.new_id(), value=value, created_at=state.now(), tag=new.tag)
        known[value] = rule.id
        added.append(rule)
        if not dry_run:
            state.record(Entry(rule=rule))
    summary = {
        "created": len(added),
        "not_created": len(errors),
        "valid": len(added),
        "invalid": len(errors),
    }
    return added, errors, summary


def _rule_problem(state: State, value: str, known: dict[str, str]) -> dict[str, Any] | None:
    if value in known:
        return {
            "value": value,
            "id": known[value],
            "title": "DuplicateRule",
            "type": f"{PROBLEMS}duplicate-rules",
        }
    if len(known) >= state.profile.rules_max:
        return {
            "title": "RulesCapExceeded",
            "detail": f"{value}: rules are limited to {state.profile.rules_max}",
            "type": f"{PROBLEMS}rule-cap",
        }
    fault = ""
    try:
        parse_rule(value)
    except RuleError as error:
        fault = str(error)
    if len(value) > state.profile.rule_length_max:
        fault = f"a rule is limited to {state.profile.rule_length_max} characters"
    if not fault:
        return None
    return {
        "detail": f"{value}: {fault}",
        "title": "UnprocessableEntity",
        "type": f"{PROBLEMS}invalid-rules",
    }


def _delete(
    state: State, wanted: RulesToDelete, *, dry_run: bool
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    by_value = {rule.value: rule.id for rule in state.rules.values()}
    ids = dict.fromkeys((*wanted.ids, *(by_value.get(value, value) for value in wanted.values)))
    gone = [rule_id for rule_id in ids if rule_id not in state.rules]
    if not dry_run:
        for rule_id in ids.keys() - gone:
            state.record(Entry(rule_deleted=rule_id))
    errors = [invalid("Rule does not exist", value=rule_id).body for rule_id in gone]
    return errors, {"deleted": len(ids) - len(gone), "not_deleted": len(gone)}
