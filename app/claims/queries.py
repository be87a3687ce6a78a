"""All SQL on claims."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from app.claims.models import Claim
from app.kit.pagination import Paging


async def insert_claim(session: AsyncSession, values: dict[str, Any]) -> Claim | None:
    """None when the ref is taken, or the member has claimed this transaction before."""
    return await session.scalar(
        postgresql.insert(Claim).values(values).on_conflict_do_nothing().returning(Claim)
    )


async def claim_by_ref(session: AsyncSession, ref: str) -> Claim | None:
    return await session.scalar(select(Claim).where(Claim.ref == ref))


async def claim_by_id(session: AsyncSession, claim_id: UUID) -> Claim | None:
    return await session.get(Claim, claim_id)


async def claim_by_id_locked(session: AsyncSession, claim_id: UUID) -> Claim | None:
    return await session.scalar(select(Claim).where(Claim.id == claim_id).with_for_update())


async def page_claims(
    session: AsyncSession, *, paging: Paging, member_id: UUID | None, state: str | None
) -> Sequence[Claim]:
    query = select(Claim).order_by(Claim.id).limit(paging.limit + 1)
    if member_id is not None:
        query = query.where(Claim.member_id == member_id)
    if state is not None:
        query = query.where(Claim.state == state)
    if paging.after is not None:
        query = query.where(Claim.id > paging.after)
    return (await session.scalars(query)).all()
