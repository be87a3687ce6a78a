"""What each partner owes for a month: a reading of the transfers, so it agrees with the ledger to
the cent. Once it is final it never changes.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Invalid
from app.ledger import queries
from app.ledger.queries import InvoiceRow

FINAL_AFTER = timedelta(hours=1)
_MONTH = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])")


class Month(NamedTuple):
    """Of UTC."""

    year: int
    number: int

    @classmethod
    def parse(cls, value: str) -> Self:
        """From `2026-07`. Raises Invalid."""
        found = _MONTH.fullmatch(value)
        if found is None:
            raise Invalid("a month as in 2026-07")
        return cls(int(found[1]), int(found[2]))

    @property
    def starts_at(self) -> datetime:
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    def is_final(self, now: datetime) -> bool:
        """Whether all that began in it has been written, however often it had to be tried."""
        return now >= self.ends_at + FINAL_AFTER

    @property
    def ends_at(self) -> datetime:
        year, before = divmod(self.year * 12 + self.number, 12)
        return datetime(year, before + 1, 1, tzinfo=UTC)


async def invoices(
    session: AsyncSession, *, month: Month, partner_id: UUID | None = None
) -> list[InvoiceRow]:
    """One for each partner and currency that has a transfer in it, by the partner's ref; one
    partner's, or all.
    """
    return await queries.invoices(
        session, since=month.starts_at, until=month.ends_at, partner_id=partner_id
    )
