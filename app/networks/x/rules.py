"""Which rules of the filtered stream bring the posts with these tags, and which queries of recent
search. Pure.

A rule or a query names many tags, `(#tea OR #cake) -is:retweet`, for X limits their number and
their length. What X holds already is left as it is where it can be: a rule whose tags are all still
wanted stays, one that has some to spare is made again without them, and a new tag goes where there
is room. So the same tags change nothing, and one tag changes one rule.

All rules of the app are ours: X gives one set to an app, and one that is left over from whoever
used it before would bring us strangers' posts, at our expense. Hence what we did not write goes.
"""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from app.kit.hashtags import tag_key

RULE_CHARS_MAX = 1_024
QUERY_CHARS_MAX = 512
TAG = "tagback"
_WITHOUT_REPOSTS = " -is:retweet"
_OR = " OR "

_is_ours = re.compile(rf"\((#\S+(?: OR #\S+)*)\){_WITHOUT_REPOSTS}").fullmatch


class Rule(NamedTuple):
    """A rule that X has."""

    id: str
    value: str
    tag: str | None


class NewRule(NamedTuple):
    value: str
    tag: str


class Plan(NamedTuple):
    """What to change; `left_out` are tags for which X has no room."""

    add: list[NewRule]
    delete: list[str]
    left_out: list[str]


def expression(tags: Sequence[str]) -> str:
    return f"({_OR.join('#' + tag for tag in tags)}){_WITHOUT_REPOSTS}"


def plan(
    present: Sequence[Rule],
    wanted: Collection[str],
    *,
    rules_max: int,
    chars_max: int = RULE_CHARS_MAX,
) -> Plan:
    """`wanted`: tags as written, without the sign."""
    missing = {tag_key(tag): tag for tag in sorted(wanted)}
    kept: dict[str, list[str]] = {}  # by the rule's own tag
    ids: dict[str, Rule] = {}
    delete: list[str] = []
    # of two in one slot, as when only the first half of a change was made, the one that brings more
    for rule in sorted(present, key=lambda rule: -len(_keys_of(rule) & missing.keys())):
        tags = tags_of(rule.value)
        slot = rule.tag or ""
        if tags is None or slot in kept or not _is_slot(slot):
            delete.append(rule.id)
            continue
        still = [missing.pop(key) for key in map(tag_key, tags) if key in missing]
        if not still:
            delete.append(rule.id)
            continue
        kept[slot], ids[slot] = still, rule
    left_out = _place(list(missing.values()), kept, rules_max=rules_max, chars_max=chars_max)
    add = []
    for slot, tags in kept.items():
        value = expression(tags)
        if slot not in ids:
            add.append(NewRule(value, slot))
        elif ids[slot].value != value:
            add.append(NewRule(value, slot))
            delete.append(ids[slot].id)
    return Plan(add, delete, left_out)


def queries(tags: Collection[str], *, chars_max: int = QUERY_CHARS_MAX) -> list[str]:
    """For recent search, as few as will do."""
    wanted = {tag_key(tag): tag for tag in sorted(tags)}
    packed: dict[str, list[str]] = {}
    _place(list(wanted.values()), packed, rules_max=len(wanted), chars_max=chars_max)
    return [expression(group) for group in packed.values()]


def _place(
    tags: Sequence[str], groups: dict[str, list[str]], *, rules_max: int, chars_max: int
) -> list[str]:
    """Each tag to the first group with room, else to a new one of the lowest free number; answers
    those that have no place.
    """
    room = {slot: chars_max - len(expression(group)) for slot, group in groups.items()}
    left_out = []
    number = 0
    for tag in tags:
        needed = len(tag) + 1 + len(_OR)
        slot = next((slot for slot, free in room.items() if free >= needed), None)
        if slot is None and len(groups) < rules_max and len(expression([tag])) <= chars_max:
            number += 1
            while f"{TAG}:{number}" in groups:
                number += 1
            slot = f"{TAG}:{number}"
            groups[slot] = [tag]
            room[slot] = chars_max - len(expression([tag]))
        elif slot is None:
            left_out.append(tag)
        else:
            groups[slot].append(tag)
            room[slot] -= needed
    return left_out


def tags_of(value: str) -> list[str] | None:
    """None of a rule that is not of our making."""
    found = _is_ours(value)
    return [part.removeprefix("#") for part in found[1].split(_OR)] if found else None


def _keys_of(rule: Rule) -> set[str]:
    return {tag_key(tag) for tag in tags_of(rule.value) or ()}


def _is_slot(tag: str) -> bool:
    return re.fullmatch(rf"{TAG}:[1-9][0-9]*", tag) is not None
