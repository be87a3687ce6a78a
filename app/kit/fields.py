"""What several contexts' fields must be like, whether they come by HTTP or in a file."""

import re
import zoneinfo
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
)

from app.kit.cards import looks_like_card_number
from app.kit.money import is_currency

_YEARS = (2000, 2101)
_NAME_CHARACTERS_MAX = 100
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_INTEGER = re.compile(r"-?\d+")
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")


def _looks_like_rfc_3339(value: object) -> object:
    # pydantic would also take seconds since 1970, and guess the unit from the size.
    if isinstance(value, str) and _DATE_TIME.match(value):
        return value
    raise ValueError("a time as in 2026-01-31T09:30:00Z")


def is_no_card_number(value: str) -> str:
    if looks_like_card_number(value):
        raise ValueError("looks like a card number")
    return value


def _known_currency(code: str) -> str:
    if not is_currency(code):
        raise ValueError("no ISO 4217 currency")
    return code


@lru_cache(maxsize=1)
def _time_zones() -> set[str]:
    return zoneinfo.available_timezones()


def _known_time_zone(value: str) -> str:
    if value not in _time_zones():
        raise ValueError("no IANA time zone, such as Europe/Paris")
    return value


def _to_utc(value: datetime) -> datetime:
    # what is further off is a broken date, and arithmetic with it leaves the calendar
    if not _YEARS[0] <= value.year < _YEARS[1]:
        raise ValueError(f"a year from {_YEARS[0]} to {_YEARS[1] - 1}")
    return value.astimezone(UTC)


def _is_one_line(value: str) -> str:
    # PostgreSQL takes no NUL; other control characters are never meant
    if _CONTROLS.search(value):
        raise ValueError("must be one line without control characters")
    return value


ShortText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_is_one_line),
    AfterValidator(is_no_card_number),
]
Words = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000),
    AfterValidator(_is_one_line),
    AfterValidator(is_no_card_number),
]
ExternalId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[!-~]+$")]
# what a caller names a request by, so that sending it again does nothing again
Ref = Annotated[ExternalId, AfterValidator(is_no_card_number)]
Currency = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z]{3}$"),
    AfterValidator(_known_currency),
    Field(json_schema_extra={"format": "iso-4217"}),
]
NetworkName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
TimeZone = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64),
    AfterValidator(_known_time_zone),
    Field(json_schema_extra={"format": "iana-time-zone"}),
]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]  # ISO 3166-1 alpha-2
Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_looks_like_rfc_3339, json_schema_input_type=datetime),
    AfterValidator(_to_utc),
]


class Failure(NamedTuple):
    """`place` leads to the field in what was given; `reason` repeats no value."""

    place: list[str | int]
    reason: str


def failures(error: ValidationError, given: object = None) -> list[Failure]:
    """Every one of them; without `given`, the branch of a union is part of a place."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [failure(one["loc"], given, kind=one["type"], reason=one["msg"]) for one in found]


def failure(place: Sequence[str | int], given: Any, *, kind: str, reason: str) -> Failure:  # noqa: ANN401
    """One of pydantic's. What names no part of what was given is left out of its place."""
    found: list[str | int] = []
    for at, part in enumerate(place):
        try:
            given = given if given is None else given[part]
        except (LookupError, TypeError):
            if kind != "missing" or at < len(place) - 1:
                continue
        found.append(part)
    return Failure(found, reason.removeprefix("Value error, "))


def explain(error: ValidationError, given: object = None) -> str:
    """Every failure, with its field and without its value."""
    return "; ".join(
        ": ".join(filter(None, (_dotted(one.place), one.reason))) for one in failures(error, given)
    )


def pointer(place: Sequence[str | int]) -> str:
    """RFC 6901. A name may be what nobody should have sent, too."""
    return "".join("/" + _pointer_part(str(part)) for part in place)


def _pointer_part(name: str) -> str:
    if looks_like_card_number(name):
        return "(hidden)"
    return name[:_NAME_CHARACTERS_MAX].replace("~", "~0").replace("/", "~1")


def _dotted(place: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in place)


def _in_minor_units(value: object) -> object:
    """5.00 means 500 to whoever writes it: as an integer it would be 5."""
    if isinstance(value, bool | float) or (
        isinstance(value, str) and not _INTEGER.fullmatch(value.strip())
    ):
        raise ValueError("an integer in minor units, such as 500 for 5.00")
    return value


InMinorUnits = BeforeValidator(_in_minor_units)  # after the bounds, which the schema then shows
