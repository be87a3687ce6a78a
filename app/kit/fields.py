"""What several contexts' fields must be like, whether they come by HTTP or in a file."""

import re
import zoneinfo
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

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


def explain(error: ValidationError) -> str:
    """Every failure, with its field and without its value."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        ": ".join(filter(None, (_dotted(one["loc"]), one["msg"].removeprefix("Value error, "))))
        for one in found
    )


def _dotted(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in place)


def _in_minor_units(value: object) -> object:
    """5.00 means 500 to whoever writes it: as an integer it would be 5."""
    if isinstance(value, bool | float) or (
        isinstance(value, str) and not _INTEGER.fullmatch(value.strip())
    ):
        raise ValueError("an integer in minor units, such as 500 for 5.00")
    return value


InMinorUnits = BeforeValidator(_in_minor_units)  # after the bounds, which the schema then shows
