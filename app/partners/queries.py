"""All SQL on partners, their acceptors, keys and the audit log."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, or_, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.arrays import as_arrays
from app.kit.ids import new_id
from app.kit.pagination import Paging
from app.partners.models import Acceptor, ApiKey, AuditEntry, Partner


class KeyRow(NamedTuple):
    key: ApiKey
    partner_ref: str | None


class AcceptorRow(NamedTuple):
    acceptor: Acceptor
    partner_ref: str


class ConfirmedAcceptor(NamedTuple):
    id: UUID
    partner_id: UUID
    acquirer_id: str
    acceptor_id: str
    name: str
    channel: str
    mcc: str
    country: str


# partners


async def insert_partner(session: AsyncSession, values: dict[str, Any]) -> Partner | None:
    """None when the ref is taken."""
    return await session.scalar(
        postgresql.insert(Partner)
        .values(values)
        .on_conflict_do_nothing(index_elements=["ref"])
        .returning(Partner)
    )


async def insert_partners(session: AsyncSession, names: Mapping[str, str]) -> set[str]:
    """Names by ref; answers the refs of those that were new."""
    rows = [(new_id(), ref, name) for ref, name in sorted(names.items())]
    made = await session.scalars(
        text(
            """
            INSERT INTO partners (id, ref, name)
            SELECT * FROM unnest(
                CAST(:ids AS uuid[]), CAST(:refs AS text[]), CAST(:names AS text[])
            )
            ON CONFLICT (ref) DO NOTHING
            RETURNING ref
            """
        ),
        as_arrays(("ids", "refs", "names"), rows),
    )
    return set(made)


async def partners_by_ref(session: AsyncSession, refs: Collection[str]) -> dict[str, Partner]:
    found = await session.scalars(select(Partner).where(Partner.ref == func.any(list(refs))))
    return {partner.ref: partner for partner in found}


async def partner_by_id_locked(session: AsyncSession, partner_id: UUID) -> Partner | None:
    return await session.scalar(select(Partner).where(Partner.id == partner_id).with_for_update())


async def partner_by_ref_or_id(
    session: AsyncSession, ref: str, partner_id: UUID | None
) -> Partner | None:
    """A ref may have the shape of an id: then it goes first."""
    return await session.scalar(
        select(Partner)
        .where(or_(Partner.ref == ref, Partner.id == partner_id))
        .order_by(Partner.ref != ref)
        .limit(1)
    )


async def list_partners(session: AsyncSession, paging: Paging) -> Sequence[Partner]:
    query = select(Partner).order_by(Partner.id).limit(paging.limit + 1)
    if paging.after is not None:
        query = query.where(Partner.id > paging.after)
    return (await session.scalars(query)).all()


# keys

_KEYS = select(ApiKey, Partner.ref).outerjoin(Partner, Partner.id == ApiKey.partner_id)


async def key_by_hash(session: AsyncSession, hashed: bytes) -> ApiKey | None:
    return await session.scalar(select(ApiKey).where(ApiKey.hash == hashed))


async def lock_family(session: AsyncSession, key_id: UUID) -> None:
    """Of that key: those that were made from each other by rotation, in the order of their ids."""
    family = select(ApiKey.family_id).where(ApiKey.id == key_id).scalar_subquery()
    await session.execute(
        select(ApiKey.id).where(ApiKey.family_id == family).order_by(ApiKey.id).with_for_update()
    )


async def lock_operator_keys(session: AsyncSession) -> None:
    await session.execute(
        select(ApiKey.id).where(ApiKey.role == "operator").order_by(ApiKey.id).with_for_update()
    )


async def has_other_operator_key(session: AsyncSession, key_id: UUID, *, now: datetime) -> bool:
    """One that still works."""
    found = await session.scalar(
        select(ApiKey.id)
        .where(
            ApiKey.role == "operator",
            ApiKey.id != key_id,
            ApiKey.revoked_at.is_(None),
            or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now),
        )
        .limit(1)
    )
    return found is not None


async def is_rotated(session: AsyncSession, key_id: UUID) -> bool:
    found = await session.scalar(select(ApiKey.id).where(ApiKey.rotated_from == key_id))
    return found is not None


async def set_family_limit(
    session: AsyncSession, family_id: UUID, rate_limit_per_minute: int | None
) -> None:
    await session.execute(
        update(ApiKey)
        .where(ApiKey.family_id == family_id)
        .values(rate_limit_per_minute=rate_limit_per_minute)
    )


async def key_by_id(session: AsyncSession, key_id: UUID) -> KeyRow | None:
    found = await session.execute(
        _KEYS.where(ApiKey.id == key_id), execution_options={"populate_existing": True}
    )
    row = found.one_or_none()
    return KeyRow(*row) if row else None


async def list_keys(session: AsyncSession, paging: Paging) -> list[KeyRow]:
    query = _KEYS.order_by(ApiKey.id).limit(paging.limit + 1)
    if paging.after is not None:
        query = query.where(ApiKey.id > paging.after)
    return [KeyRow(key, ref) for key, ref in await session.execute(query)]


async def touch_key(session: AsyncSession, key_id: UUID, *, now: datetime) -> None:
    await session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now))


# acceptors


async def lock_acceptors(session: AsyncSession) -> None:
    """Nobody else changes an acceptor until this transaction ends; all may still read."""
    await session.execute(text("LOCK TABLE acceptors IN SHARE ROW EXCLUSIVE MODE"))


async def insert_acceptor(session: AsyncSession, values: dict[str, Any]) -> Acceptor | None:
    """None when the partner has it already."""
    return await session.scalar(
        postgresql.insert(Acceptor)
        .values(values)
        .on_conflict_do_nothing(index_elements=["partner_id", "acquirer_id", "acceptor_id"])
        .returning(Acceptor)
    )


async def acceptor_of_partner(
    session: AsyncSession, *, partner_id: UUID, acquirer_id: str, acceptor_id: str
) -> Acceptor:
    return (
        await session.scalars(
            select(Acceptor).where(
                Acceptor.partner_id == partner_id,
                Acceptor.acquirer_id == acquirer_id,
                Acceptor.acceptor_id == acceptor_id,
            )
        )
    ).one()


async def acceptor_by_id_locked(session: AsyncSession, acceptor_id: UUID) -> AcceptorRow | None:
    found = await session.execute(
        select(Acceptor, Partner.ref)
        .join(Partner, Partner.id == Acceptor.partner_id)
        .where(Acceptor.id == acceptor_id)
        .with_for_update(of=Acceptor)
    )
    row = found.one_or_none()
    return AcceptorRow(*row) if row else None


async def acceptors_by_names(
    session: AsyncSession, names: Sequence[tuple[str, str]]
) -> list[AcceptorRow]:
    """Of whichever partners; `names` are pairs of acquirer id and acceptor id."""
    wanted = text(
        "(acceptors.acquirer_id, acceptors.acceptor_id) IN "
        "(SELECT * FROM unnest(CAST(:acquirers AS text[]), CAST(:acceptors AS text[])))"
    ).bindparams(acquirers=[name[0] for name in names], acceptors=[name[1] for name in names])
    found = await session.execute(
        select(Acceptor, Partner.ref).join(Partner, Partner.id == Acceptor.partner_id).where(wanted)
    )
    return [AcceptorRow(*row) for row in found]


async def upsert_confirmed_acceptors(
    session: AsyncSession, rows: Sequence[ConfirmedAcceptor], *, now: datetime
) -> None:
    """`rows` holds a place of a partner once."""
    await session.execute(
        text(
            """
            INSERT INTO acceptors AS known
                (id, partner_id, acquirer_id, acceptor_id, name, channel, mcc, country,
                 state, confirmed_at)
            SELECT new.*, 'confirmed', CAST(:now AS timestamptz)
            FROM unnest(
                CAST(:id AS uuid[]), CAST(:partner_id AS uuid[]), CAST(:acquirer_id AS text[]),
                CAST(:acceptor_id AS text[]), CAST(:name AS text[]), CAST(:channel AS text[]),
                CAST(:mcc AS text[]), CAST(:country AS text[])
            ) AS new
            ON CONFLICT (partner_id, acquirer_id, acceptor_id) DO UPDATE SET
                name = excluded.name, channel = excluded.channel, mcc = excluded.mcc,
                country = excluded.country, state = excluded.state, refusal = NULL,
                confirmed_at = coalesce(known.confirmed_at, excluded.confirmed_at)
            """
        ),
        {**as_arrays(ConfirmedAcceptor._fields, rows), "now": now},
    )


async def list_acceptors(
    session: AsyncSession, paging: Paging, *, partner_id: UUID | None, state: str | None
) -> list[AcceptorRow]:
    query = (
        select(Acceptor, Partner.ref)
        .join(Partner, Partner.id == Acceptor.partner_id)
        .order_by(Acceptor.id)
        .limit(paging.limit + 1)
    )
    if partner_id is not None:
        query = query.where(Acceptor.partner_id == partner_id)
    if state is not None:
        query = query.where(Acceptor.state == state)
    if paging.after is not None:
        query = query.where(Acceptor.id > paging.after)
    return [AcceptorRow(*row) for row in await session.execute(query)]


async def acceptor_by_id(session: AsyncSession, acceptor_id: UUID) -> AcceptorRow | None:
    found = await session.execute(
        select(Acceptor, Partner.ref)
        .join(Partner, Partner.id == Acceptor.partner_id)
        .where(Acceptor.id == acceptor_id),
        execution_options={"populate_existing": True},
    )
    row = found.one_or_none()
    return AcceptorRow(*row) if row else None


async def correct_acceptor(
    session: AsyncSession, acceptor_id: UUID, values: Mapping[str, Any]
) -> bool:
    """Proposes it anew; False when it is confirmed, or not there."""
    changed = await session.execute(
        update(Acceptor)
        .where(Acceptor.id == acceptor_id, Acceptor.state != "confirmed")
        .values(**values, state="proposed", refusal=None)
        .returning(Acceptor.id)
    )
    return changed.first() is not None


async def delete_acceptor(session: AsyncSession, acceptor_id: UUID) -> bool:
    """False when it is confirmed, or not there."""
    gone = await session.execute(
        delete(Acceptor)
        .where(Acceptor.id == acceptor_id, Acceptor.state != "confirmed")
        .returning(Acceptor.id)
    )
    return gone.first() is not None


# audit log


class AuditFilter(NamedTuple):
    """`since` is in it, `until` is not."""

    subject_kind: str | None = None
    subject_id: str | None = None
    actor: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def page_audit_entries(
    session: AsyncSession, wanted: AuditFilter, *, before: int | None, limit: int
) -> Sequence[AuditEntry]:
    """The newest first."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    for name in ("subject_kind", "subject_id", "actor", "action"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(getattr(AuditEntry, name) == value)
    if wanted.since is not None:
        query = query.where(AuditEntry.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(AuditEntry.at < wanted.until)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    return (await session.scalars(query)).all()


class Audited(NamedTuple):
    actor: str
    action: str
    subject_kind: str
    subject_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


async def insert_audit_entries(session: AsyncSession, entries: Sequence[Audited]) -> None:
    # A partner's request may write here and not read, so nothing is asked back.
    rows = [(*entry[:4], _json(entry.before), _json(entry.after)) for entry in entries]
    await session.execute(
        text(
            """
            INSERT INTO audit_entries (actor, action, subject_kind, subject_id, before, after)
            SELECT actor, action, subject_kind, subject_id, before::jsonb, after::jsonb
            FROM unnest(
                CAST(:actor AS text[]), CAST(:action AS text[]), CAST(:subject_kind AS text[]),
                CAST(:subject_id AS text[]), CAST(:before AS text[]), CAST(:after AS text[])
            ) AS new (actor, action, subject_kind, subject_id, before, after)
            """
        ),
        as_arrays(Audited._fields, rows),
    )


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)
