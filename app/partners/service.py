"""Partners, the places where they take cards, the keys of all who call, and who did what."""

import hashlib
import secrets
import string
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Forbidden, Invalid, NotFound
from app.kit.constraints import violated_constraint
from app.kit.ids import new_id
from app.kit.pagination import Paging
from app.partners import queries
from app.partners.domain import Place, settle_claims
from app.partners.models import Acceptor, ApiKey, Partner
from app.partners.queries import AcceptorRow, Audited, ConfirmedAcceptor, KeyRow
from app.partners.roles import Role
from app.partners.schemas import AcceptorDetails, MerchantLine

KEY_PREFIX = "tb_"
KEY_CHARACTERS = 40
HINT_CHARACTERS = 8
_ALPHABET = string.ascii_letters + string.digits
_DETAILS = tuple(AcceptorDetails.model_fields)


class PartnerMissing(Invalid):
    code = "partner_missing"


class NewKey(NamedTuple):
    """`key` is known here and nowhere else."""

    key: str
    record: ApiKey
    partner_ref: str | None


class SavedAcceptor(NamedTuple):
    """`reason` is set when it was rejected."""

    outcome: Literal["created", "changed", "unchanged", "rejected"]
    reason: str | None = None


class ConfirmedPlace(NamedTuple):
    acceptor_id: UUID
    partner_id: UUID
    channel: str
    mcc: str
    country: str


async def audit(
    session: AsyncSession,
    *,
    actor: str,
    action: str,
    subject_kind: str,
    subject_id: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """`before` and `after` are JSON, and hold no secret and no personal data."""
    entry = Audited(
        actor,
        action,
        subject_kind,
        subject_id,
        None if before is None else dict(before),
        None if after is None else dict(after),
    )
    await audit_all(session, entries=[entry])


async def audit_all(session: AsyncSession, *, entries: Sequence[Audited]) -> None:
    """One statement."""
    await queries.insert_audit_entries(session, entries)


# partners


async def create_partner(
    session: AsyncSession,
    *,
    actor: str,
    ref: str,
    name: str,
    credit_limit_minor: int | None = None,
    credit_currency: str | None = None,
) -> Partner:
    """Raises Conflict when the ref is taken."""
    values = {
        "ref": ref,
        "name": name,
        "credit_limit_minor": credit_limit_minor,
        "credit_currency": credit_currency,
    }
    partner = await queries.insert_partner(session, values)
    if partner is None:
        raise Conflict(f"there is a partner {ref} already", code="partner_exists")
    await audit(
        session,
        actor=actor,
        action="partner.create",
        subject_kind="partner",
        subject_id=str(partner.id),
        after=values,
    )
    return partner


async def ensure_partner(session: AsyncSession, *, ref: str, name: str | None = None) -> Partner:
    """The partner of that ref, made if there is none; a known one keeps its name."""
    return (await queries.ensure_partners(session, {ref: name or ref}))[ref]


async def find_partner(session: AsyncSession, *, ref_or_id: str) -> Partner:
    """Raises NotFound; under a partner's own rights also for every other partner."""
    try:
        partner_id = UUID(ref_or_id)
    except ValueError:
        partner_id = None
    partner = await queries.partner_by_ref_or_id(session, ref_or_id, partner_id)
    if partner is None:
        raise NotFound(f"no partner {ref_or_id}", code="partner_not_found")
    return partner


async def covers(
    session: AsyncSession, *, partner_id: UUID, amount_minor: int | None, currency: str
) -> bool:
    """Whether the partner's credit limit covers an offer's budget; one without a budget, never."""
    partner = await session.get_one(Partner, partner_id)
    return (
        amount_minor is not None
        and partner.credit_limit_minor is not None
        and partner.credit_currency == currency
        and amount_minor <= partner.credit_limit_minor
    )


async def list_partners(session: AsyncSession, *, paging: Paging) -> Sequence[Partner]:
    return await queries.list_partners(session, paging)


# keys


async def create_key(
    session: AsyncSession,
    *,
    actor: str,
    role: Role,
    partner: str | None = None,
    expires_at: datetime | None = None,
) -> NewKey:
    """`partner` is a ref or an id: a partner's key needs it, an analyst's may have it, Invalid
    otherwise. Raises NotFound when there is no such partner.
    """
    if role == "partner" and partner is None:
        raise PartnerMissing("a partner's key needs its partner")
    if partner is not None and role not in ("partner", "analyst"):
        raise Invalid(f"the role {role} is for the whole programme", code="partner_not_wanted")
    owner = await find_partner(session, ref_or_id=partner) if partner else None
    key = KEY_PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(KEY_CHARACTERS))
    values = {
        "hash": hash_key(key),
        "hint": key[:HINT_CHARACTERS],
        "role": role,
        "partner_id": owner.id if owner else None,
        "expires_at": expires_at,
    }
    record = await queries.insert_key(session, values)
    await audit(
        session,
        actor=actor,
        action="api_key.create",
        subject_kind="api_key",
        subject_id=str(record.id),
        after={"role": role, "partner": owner.ref if owner else None},
    )
    return NewKey(key, record, owner.ref if owner else None)


def hash_key(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


async def revoke_key(session: AsyncSession, *, actor: str, key_id: UUID, now: datetime) -> None:
    """A second time changes nothing. Raises NotFound."""
    record = await queries.key_by_id_locked(session, key_id)
    if record is None:
        raise NotFound(f"no key {key_id}", code="api_key_not_found")
    if record.revoked_at is not None:
        return
    record.revoked_at = now
    await audit(
        session,
        actor=actor,
        action="api_key.revoke",
        subject_kind="api_key",
        subject_id=str(key_id),
    )


async def list_keys(session: AsyncSession, *, paging: Paging) -> list[KeyRow]:
    return await queries.list_keys(session, paging)


# acceptors


async def register_acceptor(
    session: AsyncSession,
    *,
    actor: str,
    own_partner_id: UUID | None,
    partner: str | None,
    details: AcceptorDetails,
    is_confirmed: bool,
    now: datetime,
) -> AcceptorRow:
    """By a partner for itself (`own_partner_id`), or by the operator for the `partner` that he
    names by ref or id; only he may confirm at once.
    """
    if own_partner_id is not None and is_confirmed:
        raise Forbidden("a partner proposes a place, the operator confirms it")
    named = partner or (str(own_partner_id) if own_partner_id else None)
    if named is None:
        raise PartnerMissing("name the partner")
    owner = await find_partner(session, ref_or_id=named)
    acceptor = await propose_acceptor(session, actor=actor, partner_id=owner.id, details=details)
    if is_confirmed:
        return await confirm_acceptor(session, actor=actor, acceptor_id=acceptor.id, now=now)
    return AcceptorRow(acceptor, owner.ref)


async def propose_acceptor(
    session: AsyncSession, *, actor: str, partner_id: UUID, details: AcceptorDetails
) -> Acceptor:
    """Many may propose a place. The same proposal again is the first one; Conflict when the partner
    has the place with other details.
    """
    values = {name: getattr(details, name) for name in _DETAILS}
    acceptor = await queries.insert_acceptor(session, {**values, "partner_id": partner_id})
    if acceptor is not None:
        await audit(
            session,
            actor=actor,
            action="acceptor.propose",
            subject_kind="acceptor",
            subject_id=str(acceptor.id),
            after=values,
        )
        return acceptor
    known = await queries.acceptor_of_partner(
        session,
        partner_id=partner_id,
        acquirer_id=details.acquirer_id,
        acceptor_id=details.acceptor_id,
    )
    if any(getattr(known, name) != value for name, value in values.items()):
        raise Conflict("this place is registered with other details", code="acceptor_exists")
    return known


async def confirm_acceptor(
    session: AsyncSession, *, actor: str, acceptor_id: UUID, now: datetime
) -> AcceptorRow:
    """A second time changes nothing. Raises NotFound, and Conflict when the place was confirmed for
    another partner.
    """
    row = await queries.acceptor_by_id_locked(session, acceptor_id)
    if row is None:
        raise NotFound(f"no merchant {acceptor_id}", code="acceptor_not_found")
    if row.acceptor.state == "confirmed":
        return row
    try:
        async with session.begin_nested():
            row.acceptor.state = "confirmed"
            row.acceptor.confirmed_at = now
    except IntegrityError as error:
        if violated_constraint(error) != "uq_acceptors_confirmed":
            raise
        raise Conflict("confirmed for another partner", code="acceptor_taken") from error
    await audit(
        session,
        actor=actor,
        action="acceptor.confirm",
        subject_kind="acceptor",
        subject_id=str(acceptor_id),
    )
    return row


async def list_acceptors(
    session: AsyncSession,
    *,
    paging: Paging,
    partner: str | None = None,
    state: str | None = None,
) -> list[AcceptorRow]:
    """Of one partner, by ref or id, or of all. Raises NotFound when there is no such partner."""
    owner = await find_partner(session, ref_or_id=partner) if partner else None
    return await queries.list_acceptors(
        session, paging, partner_id=owner.id if owner else None, state=state
    )


async def find_confirmed_acceptors(
    session: AsyncSession, *, places: Sequence[Place]
) -> dict[Place, ConfirmedPlace]:
    """By acquirer id and acceptor id; one statement for any number."""
    rows = await queries.acceptors_by_names(session, places)
    return {
        (found.acquirer_id, found.acceptor_id): ConfirmedPlace(
            found.id, found.partner_id, found.channel, found.mcc, found.country
        )
        for found, _ in rows
        if found.state == "confirmed"
    }


async def save_acceptors(
    session: AsyncSession, *, rows: Sequence[MerchantLine], now: datetime, actor: str = "import"
) -> list[SavedAcceptor]:
    """The operator's own file: partners are made as needed, places confirmed at once, a place of
    another partner is rejected. One result a row, in order; a fixed number of statements.
    """
    await queries.lock_acceptors(session)
    known = await queries.acceptors_by_names(
        session, [(row.acquirer_id, row.acceptor_id) for row in rows]
    )
    claims = settle_claims(
        rows,
        {
            (found.acquirer_id, found.acceptor_id): partner_ref
            for found, partner_ref in known
            if found.state == "confirmed"
        },
    )
    before = {
        (partner_ref, found.acquirer_id, found.acceptor_id): found for found, partner_ref in known
    }
    standing = {name: _standing(found) for name, found in before.items()}
    results = []
    changed: dict[tuple[str, str, str], MerchantLine] = {}
    for line, reason in claims:
        if reason is not None:
            results.append(SavedAcceptor("rejected", reason))
            continue
        name = (line.partner, line.acquirer_id, line.acceptor_id)
        wanted = line.model_dump(include=set(_DETAILS))
        if standing.get(name) == wanted:
            results.append(SavedAcceptor("unchanged"))
            continue
        results.append(SavedAcceptor("changed" if name in standing else "created"))
        standing[name] = wanted
        changed[name] = line
    if changed:
        await _write_acceptors(session, list(changed.values()), before, actor=actor, now=now)
    return results


def _standing(acceptor: Acceptor) -> dict[str, Any] | None:
    """What a line must equal to change nothing: no line equals what is only proposed."""
    if acceptor.state != "confirmed":
        return None
    return {name: getattr(acceptor, name) for name in _DETAILS}


async def _write_acceptors(
    session: AsyncSession,
    lines: Sequence[MerchantLine],
    before: Mapping[tuple[str, str, str], Acceptor],
    *,
    actor: str,
    now: datetime,
) -> None:
    partners = await queries.ensure_partners(
        session, {line.partner: line.partner for line in lines}
    )
    rows = []
    entries = []
    for line in lines:
        known = before.get((line.partner, line.acquirer_id, line.acceptor_id))
        row_id = known.id if known else new_id()
        details = line.model_dump(include=set(_DETAILS))
        rows.append(ConfirmedAcceptor(id=row_id, partner_id=partners[line.partner].id, **details))
        was = {name: getattr(known, name) for name in (*_DETAILS, "state")} if known else None
        entries.append(Audited(actor, "acceptor.save", "acceptor", str(row_id), was, details))
    await queries.upsert_confirmed_acceptors(session, rows, now=now)
    await queries.insert_audit_entries(session, entries)
