"""What a person is told, in English and French. Pure: the same facts give the same words.

A reply holds no link, and nothing that a network would turn into one: a link costs 13 times more.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Literal, NamedTuple
from unicodedata import category, normalize
from uuid import UUID
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_time
from babel.numbers import format_percent

from app.kit.money import BASIS_POINTS, display
from app.kit.weighted_length import WEIGHTED_LENGTH_MAX, weighted_length
from app.offers.terms import Terms
from app.replies.sentences import ANNOUNCEMENTS, FAREWELLS, PHRASES, SENTENCES

Kind = Literal["confirmation", "invitation", "refusal"]
Locale = Literal["en", "fr"]


class OfferFacts(NamedTuple):
    """What a sentence may say of an offer. Amounts are minor units of `currency`; `ends_at` and
    `valid_until` (of a coupon, where there is one) are the first moments when it is over.
    """

    title: str
    partner: str
    currency: str
    fixed_minor: int | None
    basis_points: int | None
    max_minor: int | None
    min_spend_minor: int
    channel: str
    time_zone: str
    starts_at: datetime
    ends_at: datetime
    valid_until: datetime | None


def facts_of(terms: Terms, *, valid_until: datetime | None) -> OfferFacts:
    return OfferFacts(
        title=terms.title,
        partner=terms.partner,
        currency=terms.currency,
        fixed_minor=terms.fixed_minor,
        basis_points=terms.basis_points,
        max_minor=terms.max_minor,
        min_spend_minor=terms.min_spend_minor,
        channel=terms.channel,
        time_zone=terms.time_zone,
        starts_at=terms.starts_at,
        ends_at=terms.ends_at,
        valid_until=valid_until,
    )


_KINDS: Mapping[str, Kind | None] = {
    "repost": None,
    "suspected_abuse": None,
    "opted_out": None,
    "too_many_offers": "refusal",
    "not_started": "refusal",
    "ended": "refusal",
    "paused": "refusal",
    "outside_hours": "refusal",
    "not_linked": "invitation",
    "card_inactive": "refusal",
    "already_loaded": "refusal",
    "not_eligible": "refusal",
    "too_frequent": "refusal",
    "sold_out": "refusal",
    "budget_spent": "refusal",
    "loaded": "confirmation",
}

REFERENCE_LENGTH = 8
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
ROOM = WEIGHTED_LENGTH_MAX - len(" ()") - REFERENCE_LENGTH  # beside the reference
_TITLE_WEIGHT_MIN = 24
_PARTNER_WEIGHT_MIN = 24
_MOMENT = timedelta(microseconds=1)
_YEAR_MATTERS_AFTER = timedelta(days=300)


def kind_of(outcome: str) -> Kind | None:
    """None: nothing is answered. Raises KeyError for what is no outcome."""
    return _KINDS[outcome]


def locale_for(*candidates: str | None, default: str) -> Locale:
    """The language of the first tag (`fr-CA`, `en_GB`) that has sentences, else of `default`, else
    English.
    """
    for tag in (*candidates, default):
        match re.split("[-_]", (tag or "").strip().lower(), maxsplit=1)[0]:
            case "en":
                return "en"
            case "fr":
                return "fr"
    return "en"


def reference(id: UUID) -> str:  # noqa: A002 - the id of whatever the reply is about
    """Eight letters and digits from 40 of the random bits of a UUID version 7: they tell any two
    replies of a programme's last days apart, and a person can read them out.
    """
    bits = id.int
    return (
        _PAIRS[bits >> 30 & 1023]
        + _PAIRS[bits >> 20 & 1023]
        + _PAIRS[bits >> 10 & 1023]
        + _PAIRS[bits & 1023]
    )


@lru_cache(maxsize=4_096)
def sentence(outcome: str, *, facts: OfferFacts, locale: str) -> str:
    """Whole, with the offer's names as they are. Raises KeyError for an unknown outcome or
    locale.
    """
    words = SENTENCES[locale][outcome]
    return _render(words, facts, locale, title=facts.title, partner=facts.partner)


def compose(outcome: str, *, facts: OfferFacts, locale: str, reference: str) -> str:
    """The text of a reply: the sentence, shortened where it must be, and the reference, within
    X's 280. It links to nothing whatever the offer is called. Takes a microsecond for facts seen
    before, 0.1 ms or more for new ones.
    """
    return with_reference(_fitted(SENTENCES[locale][outcome], facts, locale), reference)


def announcement(facts: OfferFacts, *, hashtag: str, handle: str, locale: str) -> str:
    """What the programme's own profile says of an offer, within X's 280 with a reference."""
    sentence = ANNOUNCEMENTS[locale].replace("{hashtag}", hashtag).replace("{handle}", handle)
    return _fitted(sentence, facts, locale)


def farewell(*, locale: str) -> str:
    return FAREWELLS[locale]


def with_reference(text: str, reference: str) -> str:
    return f"{text} ({reference})"


def without_reference(text: str) -> str:
    return text[: -len(" ()") - REFERENCE_LENGTH]


@lru_cache(maxsize=16_384)
def _fitted(sentence: str, facts: OfferFacts, locale: str) -> str:
    title, partner = _without_links(facts.title), _without_links(facts.partner)
    text = _render(sentence, facts, locale, title=title, partner=partner)
    if excess := _excess(text):
        title = _cut(title, max(_TITLE_WEIGHT_MIN, weighted_length(title) - excess))
        text = _render(sentence, facts, locale, title=title, partner=partner)
    if excess := _excess(text):
        partner = _cut(partner, max(_PARTNER_WEIGHT_MIN, weighted_length(partner) - excess))
        text = _render(sentence, facts, locale, title=title, partner=partner)
    return _cut(text, ROOM)


def _excess(text: str) -> int:
    return max(0, weighted_length(text) - ROOM)


def _render(sentence: str, facts: OfferFacts, locale: str, *, title: str, partner: str) -> str:
    phrases = PHRASES[locale]
    minimum = until = ""
    if facts.min_spend_minor:
        amount = _amount(facts.min_spend_minor, facts.currency, locale)
        minimum = phrases["minimum"].format(amount=amount)
    if facts.valid_until is not None:
        far = facts.valid_until - facts.starts_at > _YEAR_MATTERS_AFTER
        until = phrases["until"].format(day=_last_day(facts.valid_until, facts, locale, year=far))
    return sentence.format(
        title=title,
        partner=partner,
        reward=_reward(facts, locale),
        where=phrases[facts.channel],
        minimum=minimum,
        until=until,
        starts=_moment(facts.starts_at, facts, locale),
        ended=_last_day(facts.ends_at, facts, locale),
        last_day=_last_day(facts.ends_at, facts, locale),
    )


def _reward(facts: OfferFacts, locale: str) -> str:
    most = facts.max_minor if facts.fixed_minor is None else facts.fixed_minor
    amount = _amount(most or 0, facts.currency, locale)
    if facts.basis_points is None:
        return PHRASES[locale]["fixed"].format(amount=amount)
    share = Decimal(facts.basis_points) / BASIS_POINTS
    percent = format_percent(share, locale=locale, decimal_quantization=False)
    return PHRASES[locale]["share"].format(percent=percent, amount=amount)


def _amount(minor: int, currency: str, locale: str) -> str:
    """French writes `$US`, which X would link as a share's name."""
    shown = display(minor, currency, locale).replace("\u202f", "\u00a0")
    return re.sub(r"\$(?=[A-Z])", "$\u00a0", shown)


def _last_day(end: datetime, facts: OfferFacts, locale: str, *, year: bool = False) -> str:
    return _day((end - _MOMENT).astimezone(ZoneInfo(facts.time_zone)), locale, year=year)


def _moment(at: datetime, facts: OfferFacts, locale: str) -> str:
    local = at.astimezone(ZoneInfo(facts.time_zone))
    day = _day(local, locale)
    if not (local.hour or local.minute):
        return day
    time = format_time(local.time(), "short", locale=locale).replace("\u202f", "\u00a0")
    return PHRASES[locale]["moment"].format(day=day, time=time)


def _day(local: datetime, locale: str, *, year: bool = False) -> str:
    pattern = PHRASES[locale]["day_of_year" if year else "day"]
    day = format_date(local.date(), pattern, locale=locale)
    return re.sub("^1 ", "1er ", day) if locale == "fr" else day


_UNSEEN = re.compile(
    "[\ud800-\udfff\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufffe\uffff]"
)
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
# "@" always, "#" unless it numbers something ("#1 coffee"), "$" before a letter; they may stand
# in a row, and the last may be the one that counts.
_SIGNS = re.compile(
    r"[@\uff20#\uff03$]*[@\uff20](?=\S)"
    r"|[#\uff03$]*[#\uff03](?=\S)(?!\d+(?:\s|$))"
    r"|\$+(?=[^\W\d_])"
)
_DOT_OF_A_HOST = re.compile(r"(?<=\S)\.(?=[^\W\d_])")


def _without_links(name: str) -> str:
    """A name that neither X nor a reader's eye takes for a link, a mention, a hashtag or a share:
    signs go, and a dot inside a word becomes a middle dot.
    """
    name = normalize("NFC", _BLANKS.sub(" ", _UNSEEN.sub("", name))).strip()
    return _DOT_OF_A_HOST.sub("·", _SIGNS.sub("", name))


def _cut(text: str, weight_max: int) -> str:
    if weighted_length(text) <= weight_max:
        return text
    end = min(len(text), weight_max)
    while end and weighted_length(_whole(text, end) + "…") > weight_max:
        end -= 1
    return _whole(text, end) + "…"


def _whole(text: str, end: int) -> str:
    """The first `end` code points at most, with no letter parted from its marks."""
    while 0 < end < len(text) and _clings(text[end - 1], text[end]):
        end -= 1
    return text[:end].rstrip()


def _clings(left: str, right: str) -> bool:
    joiner = "\u200d"
    is_skin = "\U0001f3fb" <= right <= "\U0001f3ff"
    return joiner in (left, right) or is_skin or category(right).startswith("M")
