"""A partner's request acts as the partner role, which the database confines to its own rows."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import PARTNER
from app.deps import SessionDep
from app.partners.auth import PrincipalDep


async def confine(session: AsyncSession, *, partner_id: UUID) -> None:
    """Until the transaction ends, whatever it goes on to execute."""
    await session.execute(text(f"SET LOCAL ROLE {PARTNER}"))
    await session.execute(
        text("SELECT set_config('tagback.partner_id', :partner_id, true)"),
        {"partner_id": str(partner_id)},
    )


async def release(session: AsyncSession) -> None:
    """What is yet to be written is written as the partner; what follows, as the service."""
    await session.flush()
    await session.execute(text("RESET ROLE"))


async def get_tenant_session(principal: PrincipalDep, session: SessionDep) -> AsyncSession:
    if principal.partner_id is not None:
        await confine(session, partner_id=principal.partner_id)
    return session


TenantSession = Annotated[AsyncSession, Depends(get_tenant_session, scope="function")]
