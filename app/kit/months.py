import re
from datetime import UTC, date, datetime
from typing import Annotated, NamedTuple, Self

from pydantic import Field

PATTERN = r"^(20\d\d)-(0[1-9]|1[0-2])$"
_MONTH = re.compile(PATTERN)
# parsed by `Month`, which says better what is wrong than a pattern does
MonthName = Annotated[str, Field(json_schema_extra={"pattern": PATTERN})]


class Month(NamedTuple):
    """Of UTC."""

    year: int
    number: int

    @classmethod
    def parse(cls, value: str) -> Self:
        """From `2026-07`. Raises ValueError."""
        found = _MONTH.fullmatch(value)
        if found is None:
            raise ValueError("a month as in 2026-07")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of(cls, moment: datetime) -> Self:
        moment = moment.astimezone(UTC)
        return cls(moment.year, moment.month)

    def __str__(self) -> str:
        return f"{self.year}-{self.number:02}"

    @property
    def next(self) -> "Month":
        year, before = divmod(self.year * 12 + self.number, 12)
        return Month(year, before + 1)

    @property
    def first_day(self) -> date:
        return date(self.year, self.number, 1)

    @property
    def starts_at(self) -> datetime:
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def ends_at(self) -> datetime:
        return self.next.starts_at
