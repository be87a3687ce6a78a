"""When a person's words mean that the programme shall leave him alone. Pure."""

import re
from collections.abc import Iterable
from unicodedata import combining, normalize

from app.kit.hashtags import tag_key

# English and French, as people write it, with or without accents.
_WORDS = (
    "stop",
    "stop it",
    "stop all",
    "unsubscribe",
    "unsubscribe me",
    "opt out",
    "optout",
    "arrêt",
    "arrête",
    "arrêter",
    "arrêtez",
    "désabonner",
    "désabonne-moi",
    "désabonnez-moi",
    "désabonnement",
    "me désabonner",
    "se désabonner",
)
_PLEASE = ("please", "pls", "s'il vous plaît", "s'il te plaît", "svp", "stp", "merci", "thanks")
# Mentions, and all that is neither letter nor digit: signs, blanks, emoji.
# Possessive, so that the name in "@stop" is never read as the word.
_ASIDE = r"(?:[@\uff20]\w++|[\W_])*+"


def _unaccented(word: str) -> str:
    return "".join(sign for sign in normalize("NFD", word) if not combining(sign))


def _spelled(word: str) -> str:
    """Its parts with anything between them: "opt-out" is "opt out"."""
    return r"[\W_]+".join(map(re.escape, re.split(r"[\W_]+", word)))


def _any_of(words: Iterable[str]) -> str:
    return "|".join(sorted({_spelled(form) for w in words for form in (w, _unaccented(w))}))


_POLITELY = rf"(?:(?:{_any_of(_PLEASE)})\b{_ASIDE})?+"
_is_stop = re.compile(rf"{_ASIDE}{_POLITELY}(?:{_any_of(_WORDS)})\b{_ASIDE}{_POLITELY}").fullmatch


def asks_to_stop(text: str) -> bool:
    """Whether, mentions, punctuation and a "please" aside, the whole text is such a word, in
    capitals or not. Takes time in proportion to the text.
    """
    return _is_stop(tag_key(text)) is not None
