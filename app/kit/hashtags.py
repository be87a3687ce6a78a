import re
from typing import NamedTuple
from unicodedata import category, normalize

from app.kit.urls import URL


class Hashtag(NamedTuple):
    """`tag` is without the sign, `start` is the index of the sign and `end` is exclusive, both in
    code points of the text.
    """

    tag: str
    start: int
    end: int


def extract_hashtags(text: str) -> list[Hashtag]:
    """The hashtags of a text in its order, by the rules of twitter-text; a sign inside a URL makes
    none. Takes time in proportion to the text's length, whatever it holds. Text that a network
    has HTML-escaped must be unescaped first: `&#x` holds no hashtag and `&amp;#x` would.
    """
    if "#" not in text and "\uff03" not in text:
        return []
    if _SIGN_IN_A_WORD.search(text):
        text = URL.sub(_without_signs, text)
    return [
        Hashtag(found["tag"], found.start(), found.end("tag"))
        for found in _HASHTAG.finditer(text)
        if found["what_forbids_it"] is None
    ]


def tag_key(tag: str) -> str:
    """What all spellings of one hashtag have in common: NFKC and casefold, as the Unicode Standard
    defines a compatibility caseless match (D146). The key of a key is that key.
    """
    if tag.isascii():
        return tag.lower()
    # Folding can leave the normal form and normalising can bring capitals back: hence both twice.
    # NFD comes first because U+0345 folds to a letter, which must not change the order of marks.
    folded = normalize("NFKC", normalize("NFD", tag).casefold())
    return normalize("NFKC", folded.casefold())


def _letters_and_marks() -> str:
    """The inside of a `[…]` for the general categories L and M: `re` knows no property classes."""
    # Two characters for each code point, a capital and a small one: "LuLuLlMn…". Only the first two
    # planes need reading, which keeps the import short: 2 and 3 are ideographs throughout, 14 has
    # the ideographs' variation selectors, the rest is empty or private.
    categories = "".join(map(category, map(chr, range(0x20000))))
    runs = (run.span() for run in re.finditer("(?:[LM].)+", categories))
    ranges = [f"\\U{start // 2:08x}-\\U{end // 2 - 1:08x}" for start, end in runs]
    return "".join((*ranges, r"\U00020000-\U0003ffff", r"\U000e0100-\U000e01ef"))


def _without_signs(url: re.Match[str]) -> str:
    """A slash in a sign's place keeps every index and is, like the sign, no part of a word."""
    return url[0].replace("#", "/")


# To look for URLs takes longer than all else, and few texts have a sign that could be inside one.
_SIGN_IN_A_WORD = re.compile(r"#(?<=\S#)")

_ALPHA = _letters_and_marks()
# \d is the category Nd. Then underscore, zero-width non-joiner and joiner, kavyka, maqaf, geresh,
# gershayim, fullwidth tilde, wave dash, the kana voicing marks, katakana double hyphen and middle
# dot, ditto mark, the Tibetan tshegs, middle dot.
_NOT_ALPHA = (
    r"\d_\u200c\u200d\ua67e\u05be\u05f3\u05f4"
    r"\uff5e\u301c\u309b\u309c\u30a0\u30fb\u3003\u0f0b\u0f0c\u00b7"
)
# A sign stands at the start or after anything but a word or "&"; a variation selector, though a
# mark, ends an emoji, so a tag may follow it. A sign before U+20E3 or U+FE0F is itself an emoji.
# What comes right after a tag can forbid it, and is taken in so that it starts no tag of its own.
_HASHTAG = re.compile(
    rf"[#\uff03](?:(?<=[\ufe0e\ufe0f].)|(?<![&{_ALPHA}{_NOT_ALPHA}].))(?![\ufe0f\u20e3])"
    rf"(?P<tag>[{_NOT_ALPHA}]*[{_ALPHA}][{_ALPHA}{_NOT_ALPHA}]*)"
    r"(?P<what_forbids_it>[#\uff03]|://)?"
)
