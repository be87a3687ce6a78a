"""Who changed what: read by the operator, written by `service.audit`, changed by nobody."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.pagination import Paging
from app.partners import queries
from app.partners.models import AuditEntry
from app.partners.queries import AuditFilter

_ID_MAX = 2**63 - 1


async def list_entries(
    session: AsyncSession, *, wanted: AuditFilter, paging: Paging
) -> Sequence[AuditEntry]:
    """The newest first; `limit + 1` of them. A cursor is the number of an entry, as a UUID."""
    before = None if paging.after is None else min(paging.after.int, _ID_MAX)
    return await queries.page_audit_entries(session, wanted, before=before, limit=paging.limit + 1)
