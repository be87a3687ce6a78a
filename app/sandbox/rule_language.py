"""The part of X's rule language that a programme needs: words, "phrases", #tags, @handles, `from:`,
`to:`, `lang:`, `is:`, negation, OR and brackets. What X would know beyond that is refused here, so
that nothing is taken for something else. Pure.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

_DEPTH_MAX = 20
_PIECE = re.compile(r'\s*(-?\(|\)|-?"[^"]*"|[^\s()"]+)')
_WORDS = re.compile(r"\w+")
_HANDLE = re.compile(r"[A-Za-z0-9_]{1,20}")
_LANG = re.compile("[a-z]{2,3}")
_KINDS = frozenset({"retweet", "quote", "reply"})


class RuleError(ValueError):
    """The rule is none; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a rule looks at: handles and tags in lower case, without their signs.

    `words`: of the post and of the one it quotes or reposts, see `words_of`; so are `tags` and
    `mentions`. `author` and `answered`: handle and id.
    """

    words: str
    tags: frozenset[str]
    mentions: frozenset[str]
    author: frozenset[str]
    answered: frozenset[str]
    lang: str
    kinds: frozenset[str]


Matches = Callable[[Subject], bool]


@dataclass(frozen=True)
class _Clause:
    """`stands_alone`: narrows a rule down enough to be one, as X wants of at least one clause."""

    matches: Matches
    stands_alone: bool


def words_of(text: str) -> str:
    """Words in a form in which a phrase is looked for by `in`."""
    return f" {' '.join(_WORDS.findall(text.casefold()))} "


def parse_rule(value: str) -> Matches:
    """Raises RuleError."""
    pieces: list[str] = []
    end = 0
    while value[end:].strip():
        found = _PIECE.match(value, end)
        if found is None:
            raise RuleError(f"a quotation mark is never closed (at position {end + 1})")
        pieces.append(found[1])
        end = found.end()
    parser = _Parser(pieces)
    rule = parser.either(depth=0)
    if parser.rest:
        raise RuleError("a bracket is closed that was never opened")
    if not rule.stands_alone:
        raise RuleError(
            "a rule needs a clause that stands alone, and so does each side of OR: a word, a"
            " phrase, #tag, @handle, from: or to:, not negated"
        )
    return rule.matches


class _Parser:
    """What stands side by side binds closer than OR."""

    def __init__(self, pieces: list[str]) -> None:
        self.rest = pieces[::-1]

    def either(self, depth: int) -> _Clause:
        if depth > _DEPTH_MAX:
            raise RuleError(f"brackets are more than {_DEPTH_MAX} deep")
        sides = [self._all(depth)]
        while self.rest and self.rest[-1] == "OR":
            self.rest.pop()
            sides.append(self._all(depth))
        if len(sides) == 1:
            return sides[0]
        return _Clause(
            lambda subject: any(side.matches(subject) for side in sides),
            all(side.stands_alone for side in sides),
        )

    def _all(self, depth: int) -> _Clause:
        parts: list[_Clause] = []
        while self.rest and self.rest[-1] not in ("OR", ")"):
            parts.append(self._one(depth))
        if not parts:
            raise RuleError("something is missing: a rule, a side of OR or a bracket is empty")
        if len(parts) == 1:
            return parts[0]
        return _Clause(
            lambda subject: all(part.matches(subject) for part in parts),
            any(part.stands_alone for part in parts),
        )

    def _one(self, depth: int) -> _Clause:
        piece = self.rest.pop()
        negated = piece.startswith("-")
        piece = piece.removeprefix("-")
        if piece == "(":
            clause = self.either(depth + 1)
            if not self.rest:
                raise RuleError("a bracket is never closed")
            self.rest.pop()
        else:
            clause = _clause(piece)
        if not negated:
            return clause
        return _Clause(lambda subject: not clause.matches(subject), stands_alone=False)


def _clause(piece: str) -> _Clause:
    if piece.startswith('"'):
        return _phrase(piece)
    if piece.startswith("#"):
        tag = piece[1:].casefold()
        if not tag:
            raise RuleError("# is followed by no tag")
        return _Clause(lambda subject: tag in subject.tags, stands_alone=True)
    if piece.startswith("@"):
        handle = _handle(piece[1:], piece)
        return _Clause(lambda subject: handle in subject.mentions, stands_alone=True)
    operator, colon, value = piece.partition(":")
    if colon:
        return _operator(operator, value, piece)
    if piece.lower() in ("and", "or"):
        raise RuleError(f"ambiguous use of {piece}: OR is written large, and needs no word")
    return _phrase(piece)


def _operator(operator: str, value: str, piece: str) -> _Clause:
    match operator:
        case "from":
            handle = _handle(value, piece)
            return _Clause(lambda subject: handle in subject.author, stands_alone=True)
        case "to":
            handle = _handle(value, piece)
            return _Clause(lambda subject: handle in subject.answered, stands_alone=True)
        case "is" if value in _KINDS:
            return _Clause(lambda subject: value in subject.kinds, stands_alone=False)
        case "lang" if _LANG.fullmatch(value):
            return _Clause(lambda subject: value == subject.lang, stands_alone=False)
        case _:
            raise RuleError(f"reference to an invalid operator: {piece}")


def _phrase(piece: str) -> _Clause:
    phrase = words_of(piece)
    if not phrase.strip():
        raise RuleError(f"{piece} holds no word")
    return _Clause(lambda subject: phrase in subject.words, stands_alone=True)


def _handle(value: str, piece: str) -> str:
    handle = value.removeprefix("@")
    if not _HANDLE.fullmatch(handle):
        raise RuleError(f"{piece} names no handle")
    return handle.lower()
