"""The SQL of an enrolment: what is known of a batch's names, and what the batch makes of them."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import locks
from app.kit.arrays import as_arrays
from app.members.domain import AccountState, CardState, MemberState
from app.members.models import Card, Member

# what is known


async def lock_colliding_enrolments(session: AsyncSession) -> None:
    """Until the transaction ends."""
    await session.execute(
        text("SELECT pg_advisory_xact_lock(:key)"), {"key": locks.COLLIDING_ENROLMENTS}
    )


async def members_locked(session: AsyncSession, refs: Sequence[str]) -> dict[str, MemberState]:
    """Locked against other enrolments, not against coupons that refer to them; in the order of ids,
    as the authors of posts are locked.
    """
    found = await session.execute(
        select(
            Member.id,
            Member.ref,
            Member.locale,
            Member.time_zone,
            Member.country,
            Member.opted_out_at,
        )
        .where(Member.ref == func.any(list(refs)), Member.erased_at.is_(None))
        .order_by(Member.id)
        .with_for_update(key_share=True)
    )
    return {row.ref: MemberState(*row) for row in found}


async def accounts_by_key(
    session: AsyncSession, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], AccountState]:
    found = await session.execute(
        text(
            """
            SELECT network, account_id, member_id, handle FROM accounts
            WHERE (network, account_id) IN (
                SELECT * FROM unnest(CAST(:networks AS text[]), CAST(:account_ids AS text[]))
            )
            """
        ),
        as_arrays(("networks", "account_ids"), keys),
    )
    return {(row.network, row.account_id): AccountState(*row) for row in found}


async def unlinked_since(
    session: AsyncSession, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str, UUID], datetime]:
    """When each member who had one of these accounts has last unlinked it."""
    found = await session.execute(
        text(
            """
            SELECT network, account_id, member_id, unlinked_at FROM unlinked_accounts
            WHERE (network, account_id) IN (
                SELECT * FROM unnest(CAST(:networks AS text[]), CAST(:account_ids AS text[]))
            )
            """
        ),
        as_arrays(("networks", "account_ids"), keys),
    )
    return {(row.network, row.account_id, row.member_id): row.unlinked_at for row in found}


async def cards_by_ref(session: AsyncSession, refs: Sequence[str]) -> dict[str, CardState]:
    found = await session.execute(
        select(Card.ref, Card.member_id, Card.network, Card.last4).where(
            Card.ref == func.any(list(refs))
        )
    )
    return {row.ref: CardState(*row) for row in found}


async def consents_given(
    session: AsyncSession, member_ids: Sequence[UUID]
) -> set[tuple[UUID, datetime]]:
    found = await session.execute(
        text(
            "SELECT member_id, at FROM consents "
            "WHERE member_id = ANY(CAST(:member_ids AS uuid[])) AND act = 'given'"
        ),
        {"member_ids": list(member_ids)},
    )
    return {(row.member_id, row.at) for row in found}


# What a batch makes of them. Each writes in the order of its keys, so that two batches
# at once wait for each other and not in a ring.


async def insert_members(
    session: AsyncSession, members: Iterable[MemberState], *, now: datetime
) -> None:
    rows = [
        (member.id, member.ref, member.locale, member.time_zone, member.country)
        for member in sorted(members, key=lambda member: member.ref)
    ]
    await _run_if_any(
        session,
        """
        INSERT INTO members (id, ref, locale, time_zone, country, created_at)
        SELECT new.*, CAST(:now AS timestamptz) FROM unnest(
            CAST(:ids AS uuid[]), CAST(:refs AS text[]), CAST(:locales AS text[]),
            CAST(:time_zones AS text[]), CAST(:countries AS text[])
        ) AS new
        """,
        ("ids", "refs", "locales", "time_zones", "countries"),
        rows,
        now=now,
    )


async def update_members(session: AsyncSession, members: Iterable[MemberState]) -> None:
    """Their rows are locked already."""
    rows = [
        (member.id, member.locale, member.time_zone, member.country, member.opted_out_at)
        for member in members
    ]
    await _run_if_any(
        session,
        """
        UPDATE members SET locale = new.locale, time_zone = new.time_zone, country = new.country,
            opted_out_at = new.opted_out_at
        FROM unnest(
            CAST(:ids AS uuid[]), CAST(:locales AS text[]), CAST(:time_zones AS text[]),
            CAST(:countries AS text[]), CAST(:opted_out_at AS timestamptz[])
        ) AS new (id, locale, time_zone, country, opted_out_at)
        WHERE members.id = new.id
        """,
        ("ids", "locales", "time_zones", "countries", "opted_out_at"),
        rows,
    )


async def insert_accounts(
    session: AsyncSession, accounts: Iterable[AccountState], *, proved_by: str, now: datetime
) -> None:
    rows = sorted(
        (account.network, account.account_id, account.member_id, account.handle)
        for account in accounts
    )
    await _run_if_any(
        session,
        """
        INSERT INTO accounts
            (network, account_id, member_id, handle, proved_by, linked_at, look_back_at)
        SELECT new.*, CAST(:proved_by AS text), CAST(:now AS timestamptz),
            CAST(:now AS timestamptz)
        FROM unnest(
            CAST(:networks AS text[]), CAST(:account_ids AS text[]), CAST(:member_ids AS uuid[]),
            CAST(:handles AS text[])
        ) AS new
        """,
        ("networks", "account_ids", "member_ids", "handles"),
        rows,
        proved_by=proved_by,
        now=now,
    )


async def update_handles(session: AsyncSession, accounts: Iterable[AccountState]) -> None:
    """Their members' rows are locked already."""
    rows = [(account.network, account.account_id, account.handle) for account in accounts]
    await _run_if_any(
        session,
        """
        UPDATE accounts SET handle = new.handle
        FROM unnest(
            CAST(:networks AS text[]), CAST(:account_ids AS text[]), CAST(:handles AS text[])
        ) AS new (network, account_id, handle)
        WHERE accounts.network = new.network AND accounts.account_id = new.account_id
        """,
        ("networks", "account_ids", "handles"),
        rows,
    )


async def insert_cards(session: AsyncSession, cards: Iterable[CardState], *, now: datetime) -> None:
    rows = [
        (card.ref, card.member_id, card.network, card.last4)
        for card in sorted(cards, key=lambda card: card.ref)
    ]
    await _run_if_any(
        session,
        """
        INSERT INTO cards (ref, member_id, network, last4, added_at)
        SELECT new.*, CAST(:now AS timestamptz) FROM unnest(
            CAST(:refs AS text[]), CAST(:member_ids AS uuid[]), CAST(:networks AS text[]),
            CAST(:last4 AS text[])
        ) AS new
        """,
        ("refs", "member_ids", "networks", "last4"),
        rows,
        now=now,
    )


async def update_cards(session: AsyncSession, cards: Iterable[CardState]) -> None:
    """Their members' rows are locked already."""
    rows = [(card.ref, card.network, card.last4) for card in cards]
    await _run_if_any(
        session,
        """
        UPDATE cards SET network = new.network, last4 = new.last4
        FROM unnest(CAST(:refs AS text[]), CAST(:networks AS text[]), CAST(:last4 AS text[]))
            AS new (ref, network, last4)
        WHERE cards.ref = new.ref
        """,
        ("refs", "networks", "last4"),
        rows,
    )


async def insert_consents(
    session: AsyncSession,
    consents: Sequence[tuple[UUID, datetime]],
    *,
    act: str,
    text_version: str,
) -> None:
    await _run_if_any(
        session,
        """
        INSERT INTO consents (member_id, at, act, text_version)
        SELECT new.*, CAST(:act AS text), CAST(:text_version AS text)
        FROM unnest(CAST(:member_ids AS uuid[]), CAST(:at AS timestamptz[])) AS new
        """,
        ("member_ids", "at"),
        consents,
        act=act,
        text_version=text_version,
    )


async def _run_if_any(
    session: AsyncSession,
    statement: str,
    names: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    **scalars: object,
) -> None:
    if rows:
        await session.execute(text(statement), {**as_arrays(names, rows), **scalars})
