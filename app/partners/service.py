"""Partners, the places where they take cards, and who did what."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Invalid, NotFound, PreconditionFailed
from app.kit.ids import new_id
from app.kit.pagination import Paging
from app.partners import queries
from app.partners.domain import Place, settle_claims
from app.partners.models import Acceptor, Partner
from app.partners.queries import Audited, ConfirmedAcceptor
from app.partners.schemas import AcceptorDetails, MerchantLine, PartnerChange

DETAILS = tuple(AcceptorDetails.model_fields)


class PartnerMissing(Invalid):
    code = "partner_missing"


class SavedAcceptor(NamedTuple):
    """`reason` is set when it was rejected; `partner_made` when it was the first to name one."""

    outcome: Literal["created", "changed", "unchanged", "rejected"]
    reason: str | None = None
    partner_made: bool = False


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


async def change_partner(
    session: AsyncSession,
    *,
    actor: str,
    partner_id: UUID,
    changes: PartnerChange,
    if_match: str | None = None,
) -> Partner:
    """Raises NotFound, Invalid for a limit without its currency, and PreconditionFailed when the
    partner is no longer as `if_match` has it.
    """
    partner = await queries.partner_by_id_locked(session, partner_id)
    if partner is None:
        raise _no_partner(str(partner_id))
    if if_match is not None and if_match.removeprefix("W/") not in ("*", etag(partner)):
        raise PreconditionFailed("the partner has changed: read it again")
    given = changes.model_dump(exclude_unset=True)
    before = {name: getattr(partner, name) for name in given}
    if given == before:
        return partner
    for name, value in given.items():
        setattr(partner, name, value)
    if (partner.credit_limit_minor is None) != (partner.credit_currency is None):
        raise Invalid("credit_limit_minor and credit_currency come together")
    await session.flush()
    await audit(
        session,
        actor=actor,
        action="partner.change",
        subject_kind="partner",
        subject_id=str(partner_id),
        before=before,
        after=given,
    )
    return partner


def etag(partner: Partner) -> str:
    shown = (partner.name, partner.credit_limit_minor, partner.credit_currency)
    return f'"{hashlib.sha256(repr(shown).encode()).hexdigest()[:16]}"'


async def ensure_partner(
    session: AsyncSession, *, ref: str, name: str | None = None, actor: str = "import"
) -> Partner:
    """The partner of that ref, made if there is none; a known one keeps its name."""
    found, _ = await ensure_partners(session, names={ref: name or ref}, actor=actor)
    return found[ref]


async def ensure_partners(
    session: AsyncSession, *, names: Mapping[str, str], actor: str
) -> tuple[dict[str, Partner], set[str]]:
    """By ref, and which of them were made; `names` are for those."""
    made = await queries.insert_partners(session, names)
    found = await queries.partners_by_ref(session, names)
    await audit_all(
        session,
        entries=[
            Audited(
                actor,
                "partner.create",
                "partner",
                str(found[ref].id),
                None,
                {"ref": ref, "name": names[ref]},
            )
            for ref in sorted(made)
        ],
    )
    return found, made


async def find_partner(session: AsyncSession, *, ref_or_id: str) -> Partner:
    """Raises NotFound; under a partner's own rights also for every other partner."""
    try:
        partner_id = UUID(ref_or_id)
    except ValueError:
        partner_id = None
    partner = await queries.partner_by_ref_or_id(session, ref_or_id, partner_id)
    if partner is None:
        raise _no_partner(ref_or_id)
    return partner


def _no_partner(ref_or_id: str) -> NotFound:
    return NotFound(f"no partner {ref_or_id}", code="partner_not_found")


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


# acceptors, but for proposals


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
        wanted = line.model_dump(include=set(DETAILS))
        if standing.get(name) == wanted:
            results.append(SavedAcceptor("unchanged"))
            continue
        results.append(SavedAcceptor("changed" if name in standing else "created"))
        standing[name] = wanted
        changed[name] = line
    if changed:
        made = await _write_acceptors(session, list(changed.values()), before, actor=actor, now=now)
        for position, line in enumerate(rows):
            if results[position].outcome != "rejected" and line.partner in made:
                made.remove(line.partner)
                results[position] = results[position]._replace(partner_made=True)
    return results


def _standing(acceptor: Acceptor) -> dict[str, Any] | None:
    """What a line must equal to change nothing: no line equals what is only proposed."""
    if acceptor.state != "confirmed":
        return None
    return {name: getattr(acceptor, name) for name in DETAILS}


async def _write_acceptors(
    session: AsyncSession,
    lines: Sequence[MerchantLine],
    before: Mapping[tuple[str, str, str], Acceptor],
    *,
    actor: str,
    now: datetime,
) -> set[str]:
    """The refs of the partners that were made for it."""
    partners, made = await ensure_partners(
        session, names={line.partner: line.partner for line in lines}, actor=actor
    )
    rows = []
    entries = []
    for line in lines:
        known = before.get((line.partner, line.acquirer_id, line.acceptor_id))
        row_id = known.id if known else new_id()
        details = line.model_dump(include=set(DETAILS))
        rows.append(ConfirmedAcceptor(id=row_id, partner_id=partners[line.partner].id, **details))
        was = {name: getattr(known, name) for name in (*DETAILS, "state")} if known else None
        entries.append(Audited(actor, "acceptor.save", "acceptor", str(row_id), was, details))
    await queries.upsert_confirmed_acceptors(session, rows, now=now)
    await queries.insert_audit_entries(session, entries)
    return made
