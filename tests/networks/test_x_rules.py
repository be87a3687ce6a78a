"""Rules of the filtered stream: which, and what changes."""

import random

from app.networks.x.rules import NewRule, Rule, plan, queries

TEA = "(#Tea) -is:retweet"


def after(present: list[Rule], wanted: set[str], **limits: int) -> tuple[list[Rule], int]:
    """What X has when the plan is carried out, and how many rules were touched."""
    todo = plan(
        present,
        wanted,
        rules_max=limits.get("rules_max", 1_000),
        chars_max=limits.get("chars_max", 1_024),
    )
    kept = [rule for rule in present if rule.id not in todo.delete]
    numbers = [int(rule.id) for rule in present]
    first = max(numbers, default=0) + 1
    added = [Rule(str(first + n), new.value, new.tag) for n, new in enumerate(todo.add)]
    return kept + added, len(todo.add) + len(todo.delete)


def tags_of(rules: list[Rule]) -> set[str]:
    return {word.strip("()#") for rule in rules for word in rule.value.split() if "#" in word}


class TestAPlan:
    def test_begins_with_one_rule(self) -> None:
        assert plan([], {"Tea"}, rules_max=5) == ([NewRule(TEA, "tagback:1")], [], [])

    def test_of_what_is_there_already_changes_nothing(self) -> None:
        rules, _ = after([], {"Tea", "Cake", "Coffee"})
        assert plan(rules, {"Coffee", "Tea", "Cake"}, rules_max=5) == ([], [], [])
        assert plan(rules, {"coffee", "TEA", "cake"}, rules_max=5).delete == ["1"]

    def test_deletes_what_is_not_ours_and_what_is_not_wanted(self) -> None:
        present = [
            Rule("1", "#Strangers", None),
            Rule("2", "cats has:images", "cats"),
            Rule("3", TEA, "tagback:1"),
            Rule("4", "(#Old) -is:retweet", "tagback:2"),
            Rule("5", "(#Tea OR from:me) -is:retweet", "tagback:3"),
            Rule("6", "(#Cake) -is:retweet", "tagback:1"),
        ]
        todo = plan(present, {"Tea"}, rules_max=5)
        assert todo.add == []
        assert sorted(todo.delete) == ["1", "2", "4", "5", "6"]

    def test_of_a_change_that_was_half_made_makes_the_other_half(self) -> None:
        both = "(#Tea OR #Cake) -is:retweet"
        present = [Rule("1", TEA, "tagback:1"), Rule("2", both, "tagback:1")]
        assert plan(present, {"Tea", "Cake"}, rules_max=5) == ([], ["1"], [])

    def test_of_one_new_tag_touches_one_rule(self) -> None:
        chance = random.Random(1)
        wanted = {f"tag{chance.randrange(10**9)}" for _ in range(2_000)}
        rules, _ = after([], wanted)
        assert 20 < len(rules) < 40
        assert tags_of(rules) == wanted
        assert all(len(rule.value) <= 1_024 for rule in rules)
        for number in range(50):
            wanted.add(f"new{number}")
            rules, touched = after(rules, wanted)
            assert touched <= 2
        for gone in sorted(wanted)[:50]:
            wanted.discard(gone)
            rules, touched = after(rules, wanted)
            assert touched <= 2
        assert tags_of(rules) == wanted
        assert len({rule.tag for rule in rules}) == len(rules)

    def test_names_the_tags_for_which_there_is_no_room(self) -> None:
        todo = plan([], {"aaaaaaaa", "bbbbbbbb", "c" * 50}, rules_max=1, chars_max=30)
        assert [rule.value for rule in todo.add] == ["(#aaaaaaaa) -is:retweet"]
        assert todo.left_out == ["bbbbbbbb", "c" * 50]

    def test_of_nothing_deletes_all(self) -> None:
        assert plan([Rule("1", TEA, "tagback:1")], set(), rules_max=5) == ([], ["1"], [])


class TestQueries:
    def test_hold_all_tags_within_their_length(self) -> None:
        wanted = {f"offer{number}" for number in range(200)}
        found = queries(wanted)
        assert all(len(query) <= 512 for query in found)
        assert tags_of([Rule("1", query, None) for query in found]) == wanted
        assert len(found) == -(-sum(len(tag) + 5 for tag in wanted) // (512 - 14 + 4))

    def test_of_no_tags_are_none(self) -> None:
        assert queries(set()) == []
