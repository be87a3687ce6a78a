"""API keys: made, rotated with an overlap, limited, revoked."""

import hashlib
import secrets
import string
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Forbidden, Invalid, NotFound
from app.kit.ids import new_id
from app.kit.pagination import Paging
from app.partners import queries
from app.partners.models import ApiKey
from app.partners.queries import KeyRow
from app.partners.roles import Role
from app.partners.service import PartnerMissing, audit, find_partner

KEY_PREFIX = "tb_"
KEY_CHARACTERS = 40
HINT_CHARACTERS = 8
_ALPHABET = string.ascii_letters + string.digits


class NewKey(NamedTuple):
    """`key` is known here and nowhere else."""

    key: str
    record: ApiKey
    partner_ref: str | None


def hash_key(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


async def create_key(
    session: AsyncSession,
    *,
    actor: str,
    role: Role,
    now: datetime,
    partner: str | None = None,
    expires_at: datetime | None = None,
    rate_limit_per_minute: int | None = None,
) -> NewKey:
    """`partner` is a ref or an id: a partner's key needs it, an analyst's may have it, Invalid
    otherwise, as is an end that has passed. Raises NotFound when there is no such partner.
    """
    if role == "partner" and partner is None:
        raise PartnerMissing("a partner's key needs its partner")
    if partner is not None and role not in ("partner", "analyst"):
        raise Invalid(f"the role {role} is for the whole programme", code="partner_not_wanted")
    _check_end(expires_at, now)
    owner = await find_partner(session, ref_or_id=partner) if partner else None
    key_id = new_id()
    record = ApiKey(
        id=key_id,
        role=role,
        partner_id=owner.id if owner else None,
        created_at=now,
        expires_at=expires_at,
        family_id=key_id,
        rate_limit_per_minute=rate_limit_per_minute,
    )
    return await _save(session, record, owner.ref if owner else None, actor=actor)


async def _save(
    session: AsyncSession, record: ApiKey, partner_ref: str | None, *, actor: str
) -> NewKey:
    key = KEY_PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(KEY_CHARACTERS))
    record.hash = hash_key(key)
    record.hint = key[:HINT_CHARACTERS]
    session.add(record)
    await session.flush()
    await audit(
        session,
        actor=actor,
        action="api_key.create",
        subject_kind="api_key",
        subject_id=str(record.id),
        after={
            "role": record.role,
            "partner": partner_ref,
            "expires_at": _text(record.expires_at),
            "rotated_from": _text(record.rotated_from),
            "rate_limit_per_minute": record.rate_limit_per_minute,
        },
    )
    return NewKey(key, record, partner_ref)


async def rotate_key(
    session: AsyncSession,
    *,
    actor: str,
    key_id: UUID,
    own_partner_id: UUID | None,
    overlap: timedelta,
    expires_at: datetime | None,
    now: datetime,
) -> NewKey:
    """A new key in place of one that ends after the overlap, if it does not before. Unless it is
    told otherwise, the new one lives as long as the old one was made for; a partner
    (`own_partner_id`) does not make it longer.

    Raises NotFound, also for another partner's; Conflict for one that is revoked, expired or
    rotated already: of two who rotate at once one has the new key, and the other is told.
    """
    await queries.lock_family(session, key_id)
    row = await queries.key_by_id(session, key_id)
    if row is None or own_partner_id not in (None, row.key.partner_id):
        raise _no_key(key_id)
    old = row.key
    if old.revoked_at is not None:
        raise Conflict("this key was revoked", code="api_key_revoked")
    if await queries.is_rotated(session, key_id):
        raise Conflict("this key was rotated already", code="api_key_rotated")
    if old.expires_at is not None and old.expires_at <= now:
        raise Conflict("this key has expired", code="api_key_expired")
    _check_end(expires_at, now)
    usual_end = now + (old.expires_at - old.created_at) if old.expires_at else None
    if own_partner_id is not None and expires_at and usual_end and expires_at > usual_end:
        raise Forbidden("only the operator makes a key that lives longer", code="expiry_too_late")
    new = await _save(
        session,
        ApiKey(
            id=new_id(),
            role=old.role,
            partner_id=old.partner_id,
            created_at=now,
            expires_at=expires_at or usual_end,
            family_id=old.family_id,
            rotated_from=old.id,
            rate_limit_per_minute=old.rate_limit_per_minute,
        ),
        row.partner_ref,
        actor=actor,
    )
    before = old.expires_at
    old.expires_at = min(before or now + overlap, now + overlap)
    await audit(
        session,
        actor=actor,
        action="api_key.rotate",
        subject_kind="api_key",
        subject_id=str(key_id),
        before={"expires_at": _text(before)},
        after={"expires_at": _text(old.expires_at), "rotated_to": str(new.record.id)},
    )
    return new


async def set_limit(
    session: AsyncSession, *, actor: str, key_id: UUID, rate_limit_per_minute: int | None
) -> KeyRow:
    """Of the key and of all that were made from it by rotation; None: its role's. Raises
    NotFound.
    """
    await queries.lock_family(session, key_id)
    row = await get_key(session, key_id=key_id)
    before = row.key.rate_limit_per_minute
    if before == rate_limit_per_minute:
        return row
    await queries.set_family_limit(session, row.key.family_id, rate_limit_per_minute)
    await audit(
        session,
        actor=actor,
        action="api_key.change",
        subject_kind="api_key",
        subject_id=str(key_id),
        before={"rate_limit_per_minute": before},
        after={"rate_limit_per_minute": rate_limit_per_minute},
    )
    return await get_key(session, key_id=key_id)


async def revoke_key(
    session: AsyncSession,
    *,
    actor: str,
    key_id: UUID,
    now: datetime,
    may_be_last: bool = False,
) -> None:
    """A second time changes nothing. Raises NotFound; Conflict for the last usable operator key,
    unless it `may_be_last`: without one nobody could make the next over HTTP.
    """
    if not may_be_last:
        await queries.lock_operator_keys(session)
    await queries.lock_family(session, key_id)
    record = (await get_key(session, key_id=key_id)).key
    if record.revoked_at is not None:
        return
    if (
        not may_be_last
        and record.role == "operator"
        and not await queries.has_other_operator_key(session, key_id, now=now)
    ):
        raise Conflict(
            "the last operator key: make another first, or `tagback keys revoke` it",
            code="last_operator_key",
        )
    record.revoked_at = now
    await audit(
        session,
        actor=actor,
        action="api_key.revoke",
        subject_kind="api_key",
        subject_id=str(key_id),
        before={"revoked_at": None},
        after={"revoked_at": _text(now)},
    )


async def get_key(session: AsyncSession, *, key_id: UUID) -> KeyRow:
    row = await queries.key_by_id(session, key_id)
    if row is None:
        raise _no_key(key_id)
    return row


async def list_keys(session: AsyncSession, *, paging: Paging) -> list[KeyRow]:
    return await queries.list_keys(session, paging)


def _check_end(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and expires_at <= now:
        raise Invalid("expires_at has passed", code="expiry_passed")


def _no_key(key_id: UUID) -> NotFound:
    return NotFound(f"no key {key_id}", code="api_key_not_found")


def _text(value: datetime | UUID | None) -> str | None:
    if isinstance(value, datetime):
        return value.isoformat()
    return None if value is None else str(value)
