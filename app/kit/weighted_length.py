import re
from unicodedata import normalize

from app.kit.urls import URL

WEIGHTED_LENGTH_MAX = 280
LINK_WEIGHT = 23
# First and last code points of what counts 1 (alphabets up to Georgian, general punctuation); all
# else counts 2. twitter-text gives these weights in hundredths.
LIGHT_RANGES = ((0, 4351), (8192, 8205), (8208, 8223), (8242, 8247))

_HEAVY = re.compile("[^" + "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in LIGHT_RANGES) + "]")
_A_LINK = "x" * LINK_WEIGHT
_AN_EMOJI = "\U0001f600"

_PICTURE = (
    r"[\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u27bf\u2934\u2935"
    r"\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_DRESSED = rf"{_PICTURE}[\ufe0f\U0001f3fb-\U0001f3ff]*"
_EMOJI = re.compile(
    r"[#*0-9]\ufe0f?\u20e3"  # keycaps
    r"|[\u00a9\u00ae]\ufe0f"
    r"|[\U0001f1e6-\U0001f1ff]{2}"  # flags of countries
    r"|\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"  # and of their parts
    rf"|{_DRESSED}(?:\u200d{_DRESSED})*"
)


def weighted_length(text: str) -> int:
    """How many of X's 280 characters a text takes, by twitter-text's configuration 3: after NFC, a
    code point counts 1 or 2, a link 23, and an emoji 2 however many code points are joined in it.

    It knows how emoji are joined, not which of them exist: two joined into one that no font has
    count 2 where X counts 5. What it takes for a link: `URL`.
    """
    text = URL.sub(_link_or_text, normalize("NFC", text))
    text = _EMOJI.sub(_AN_EMOJI, text)
    return len(text) + len(_HEAVY.findall(text))


def _link_or_text(found: re.Match[str]) -> str:
    """A host whose ASCII form breaks the limits of DNS makes no link, however short it looks."""
    try:
        (found["host"] or "").encode("idna")
    except UnicodeError:
        return found[0]
    return _A_LINK
