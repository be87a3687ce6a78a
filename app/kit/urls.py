import re

# A host may be of any script after a protocol and of Latin letters without one. Every top-level
# domain of two letters or more is believed: a list of the real ones would age.
_ACCENTED = r"\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff"
_LATIN = rf"a-z0-9_\-{_ACCENTED}"
_ANY_SCRIPT = r"[^\s\x00-,./:-@\[-^`{-~\u2000-\u206f\u3000-\u303f\uff00-\uffef]"
_PATH = rf"[{_LATIN}\u0400-\u04ff!*';:=+,.$/%#\[\]\u2013~@|&]"
_PATH_END = rf"[{_LATIN}\u0400-\u04ff=+#/)]"
_QUERY = r"(?:\?[a-z0-9!?*'@();:&=+$/%#\[\]\-_.,~|]*(?<=[a-z0-9\-_&=#/]))?"
_NO_WORD_BEFORE = r"(?<![a-z0-9@\uff20$#\uff03])"

URL = re.compile(
    rf"{_NO_WORD_BEFORE}https?://t\.co/[a-z0-9]++{_QUERY}"
    rf"|(?:{_NO_WORD_BEFORE}https?://(?P<host>(?:{_ANY_SCRIPT}{{1,63}}\.)+[^\W\d_]{{2,63}}+)"
    rf"|{_NO_WORD_BEFORE}(?<![{_LATIN}./])(?:[{_LATIN}]{{1,63}}\.)+[a-z]{{2,63}}+)"
    rf"(?![0-9a-z@+\-])(?::[0-9]+)?(?:/(?:{_PATH}|\({_PATH}*\))*(?<={_PATH_END}))?{_QUERY}",
    re.IGNORECASE,
)
"""What X takes for a link in a text, near enough: with `http(s)://`, or a bare `shop.example/path`.
A link on t.co ends with its slug. Searching takes time in proportion to the text.
"""
