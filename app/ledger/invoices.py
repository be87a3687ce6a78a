"""What each partner owes for a month: a reading of the transfers, so it agrees with the ledger to
the cent. Once it is final it never changes.
"""

from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Invalid
from app.kit import months
from app.ledger import queries
from app.ledger.queries import InvoiceRow

FINAL_AFTER = timedelta(hours=1)


class Month(months.Month):
    @classmethod
    def parse(cls, value: str) -> Self:
        """From `2026-07`. Raises Invalid."""
        try:
            return super().parse(value)
        except ValueError as error:
            raise Invalid(str(error)) from error

    def is_final(self, now: datetime) -> bool:
        """Whether all that began in it has been written, however often it had to be tried."""
        return now >= self.ends_at + FINAL_AFTER


async def invoices(
    session: AsyncSession, *, month: Month, partner_id: UUID | None = None
) -> list[InvoiceRow]:
    """One for each partner and currency that has a transfer in it, by the partner's ref; one
    partner's, or all.
    """
    return await queries.invoices(
        session, since=month.starts_at, until=month.ends_at, partner_id=partner_id
    )
