"""All SQL on members, their accounts, cards, consents and purchase summaries."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Integer, bindparam, func, or_, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit import locks
from app.kit.arrays import as_arrays
from app.kit.pagination import Paging
from app.members.domain import AccountState, CardState, MemberState, Summary
from app.members.models import Account, Card, Member


class Author(NamedTuple):
    member_id: UUID
    locale: str | None
    country: str | None
    opted_out: bool
    has_active_card: bool


class LinkedAccount(NamedTuple):
    network: str
    account_id: str
    linked_at: datetime
    look_back_at: datetime


class CardHolder(NamedTuple):
    member_id: UUID
    country: str | None
    time_zone: str | None


# The number is in the statement's text: a plan for any LIMIT would read all that are due.
MOST = bindparam("most", type_=Integer(), literal_execute=True)
TO_LOOK_BACK = text(
    """
    SELECT network, account_id, linked_at, look_back_at FROM accounts
    WHERE look_back_at <= :now ORDER BY look_back_at LIMIT :most
    """
).bindparams(MOST)


# asked by the thousand


async def find_authors(
    session: AsyncSession, *, network: str, account_ids: Sequence[str]
) -> dict[str, Author]:
    found = await session.execute(
        text(
            """
            SELECT account.account_id, member.id, member.locale, member.country,
                member.opted_out_at IS NOT NULL,
                EXISTS (
                    SELECT FROM cards
                    WHERE cards.member_id = member.id AND cards.state = 'active'
                )
            FROM accounts AS account JOIN members AS member ON member.id = account.member_id
            WHERE account.network = :network
                AND account.account_id = ANY(CAST(:account_ids AS text[]))
            """
        ),
        {"network": network, "account_ids": list(account_ids)},
    )
    return {row[0]: Author(*row[1:]) for row in found}


async def count_accounts(
    session: AsyncSession, *, network: str, member_ids: Collection[UUID]
) -> dict[UUID, int]:
    found = await session.execute(
        text(
            "SELECT member_id, count(*) AS accounts FROM accounts "
            "WHERE network = :network AND member_id = ANY(CAST(:member_ids AS uuid[])) "
            "GROUP BY member_id"
        ),
        {"network": network, "member_ids": list(member_ids)},
    )
    return {row.member_id: row.accounts for row in found}


async def find_card_holders(
    session: AsyncSession, *, card_refs: Sequence[str]
) -> dict[str, CardHolder]:
    found = await session.execute(
        text(
            """
            SELECT card.ref, member.id, member.country, member.time_zone
            FROM cards AS card JOIN members AS member ON member.id = card.member_id
            WHERE card.ref = ANY(CAST(:card_refs AS text[]))
                AND card.state IN ('active', 'replaced')
            """
        ),
        {"card_refs": list(card_refs)},
    )
    return {row[0]: CardHolder(*row[1:]) for row in found}


async def to_look_back(session: AsyncSession, *, now: datetime, most: int) -> list[LinkedAccount]:
    due = [
        LinkedAccount(*row)
        for row in await session.execute(TO_LOOK_BACK, {"now": now, "most": most})
    ]
    return [account for account in due if account.network == due[0].network]


async def set_look_backs(
    session: AsyncSession, *, network: str, at: Sequence[tuple[str, datetime | None]]
) -> int:
    """Skips an account that somebody is changing, and so waits for nobody: it is due still."""
    done = await session.scalars(
        text(
            """
            WITH next AS (
                SELECT * FROM unnest(CAST(:account_ids AS text[]), CAST(:at AS timestamptz[]))
                    AS next (account_id, at)
            ), free AS (
                SELECT account_id FROM accounts
                WHERE network = :network AND account_id IN (SELECT account_id FROM next)
                FOR NO KEY UPDATE SKIP LOCKED
            )
            UPDATE accounts SET look_back_at = next.at
            FROM next JOIN free ON free.account_id = next.account_id
            WHERE accounts.network = :network AND accounts.account_id = next.account_id
            RETURNING 1
            """
        ),
        {"network": network, **as_arrays(("account_ids", "at"), at)},
    )
    return len(done.all())


async def lock_members_of(
    session: AsyncSession, *, network: str, account_ids: Sequence[str]
) -> None:
    await session.execute(
        text(
            """
            SELECT 1 FROM members WHERE id IN (
                SELECT member_id FROM accounts
                WHERE network = :network AND account_id = ANY(CAST(:account_ids AS text[]))
            )
            ORDER BY id FOR NO KEY UPDATE
            """
        ),
        {"network": network, "account_ids": list(account_ids)},
    )


async def find_former_holders(session: AsyncSession, card_refs: Sequence[str]) -> dict[str, UUID]:
    found = await session.execute(
        text(
            "SELECT ref, member_id FROM cards "
            "WHERE ref = ANY(CAST(:refs AS text[])) AND state = 'removed'"
        ),
        {"refs": list(card_refs)},
    )
    return {row.ref: row.member_id for row in found}


async def purchase_summaries(
    session: AsyncSession, *, pairs: Sequence[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID], Summary]:
    found = await session.execute(
        text(
            """
            SELECT member_id, partner_id, purchases, first_at, last_at
            FROM purchase_summaries
            WHERE (member_id, partner_id) IN (
                SELECT * FROM unnest(CAST(:member_ids AS uuid[]), CAST(:partner_ids AS uuid[]))
            )
            """
        ),
        as_arrays(("member_ids", "partner_ids"), pairs),
    )
    return {(row[0], row[1]): Summary(*row[2:]) for row in found}


async def add_to_summaries(
    session: AsyncSession, summaries: dict[tuple[UUID, UUID], Summary]
) -> None:
    """Rows are locked in the order given."""
    rows = [(*pair, *summary) for pair, summary in summaries.items()]
    await session.execute(
        text(
            """
            INSERT INTO purchase_summaries AS known
                (member_id, partner_id, purchases, first_at, last_at)
            SELECT * FROM unnest(
                CAST(:member_ids AS uuid[]), CAST(:partner_ids AS uuid[]),
                CAST(:purchases AS bigint[]), CAST(:first_at AS timestamptz[]),
                CAST(:last_at AS timestamptz[])
            )
            ON CONFLICT (member_id, partner_id) DO UPDATE SET
                purchases = known.purchases + excluded.purchases,
                first_at = least(known.first_at, excluded.first_at),
                last_at = greatest(known.last_at, excluded.last_at)
            """
        ),
        as_arrays(("member_ids", "partner_ids", "purchases", "first_at", "last_at"), rows),
    )


# enrolment: what is known of a batch's names


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
        .where(Member.ref == func.any(list(refs)))
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


# enrolment: what a batch makes of them. Each writes in the order of its keys, so that two batches
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


# one member


async def list_members(
    session: AsyncSession, paging: Paging, *, ref: str | None
) -> Sequence[Member]:
    query = select(Member).order_by(Member.id).limit(paging.limit + 1)
    if ref is not None:
        query = query.where(Member.ref == ref)
    if paging.after is not None:
        query = query.where(Member.id > paging.after)
    return (await session.scalars(query)).all()


async def member_by_id(session: AsyncSession, member_id: UUID) -> Member | None:
    return await session.get(Member, member_id)


async def member_by_ref_or_id(
    session: AsyncSession, ref: str, member_id: UUID | None
) -> Member | None:
    """A ref may have the shape of an id: then it goes first."""
    return await session.scalar(
        select(Member)
        .where(or_(Member.ref == ref, Member.id == member_id))
        .order_by(Member.ref != ref)
        .limit(1)
    )


async def member_by_id_locked(session: AsyncSession, member_id: UUID) -> Member | None:
    return await session.scalar(
        select(Member).where(Member.id == member_id).with_for_update(key_share=True)
    )


async def card_by_ref(session: AsyncSession, ref: str) -> Card | None:
    return await session.scalar(select(Card).where(Card.ref == ref))


async def insert_card(session: AsyncSession, values: dict[str, Any]) -> Card | None:
    """None when the ref is known."""
    return await session.scalar(
        postgresql.insert(Card).values(values).on_conflict_do_nothing().returning(Card)
    )


async def cards_of(session: AsyncSession, member_id: UUID) -> Sequence[Card]:
    query = select(Card).where(Card.member_id == member_id).order_by(Card.added_at, Card.ref)
    return (await session.scalars(query)).all()


async def account_by_key(session: AsyncSession, network: str, account_id: str) -> Account | None:
    return await session.get(Account, (network, account_id))


async def insert_account(session: AsyncSession, values: dict[str, Any]) -> Account | None:
    """None when the account is known."""
    return await session.scalar(
        postgresql.insert(Account).values(values).on_conflict_do_nothing().returning(Account)
    )


async def accounts_of(session: AsyncSession, member_id: UUID) -> Sequence[Account]:
    query = (
        select(Account)
        .where(Account.member_id == member_id)
        .order_by(Account.linked_at, Account.network, Account.account_id)
    )
    return (await session.scalars(query)).all()
