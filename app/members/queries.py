"""All SQL on members, their accounts, cards, consents and purchase summaries, but for that of an
enrolment, which has a module of its own.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Integer, bindparam, or_, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.arrays import as_arrays
from app.kit.pagination import Paging
from app.members.domain import Summary
from app.members.erasure_queries import digest_of_account
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

# as the row is now, whatever the session has read of it before it was locked
_LOCKED = (
    select(Member)
    .where(Member.erased_at.is_(None))
    .with_for_update(key_share=True)
    .execution_options(populate_existing=True)
)

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
    """Their members cannot be erased until the transaction ends: who waits for an erasure finds the
    member's row changed, and so does not find him.
    """
    found = await session.execute(
        text(
            """
            SELECT card.ref, member.id, member.country, member.time_zone
            FROM cards AS card JOIN members AS member ON member.id = card.member_id
            WHERE card.ref = ANY(CAST(:card_refs AS text[]))
                AND card.state IN ('active', 'replaced') AND member.erased_at IS NULL
            ORDER BY member.id FOR KEY SHARE OF member
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
    session: AsyncSession, *, network: str, account_ids: Collection[str]
) -> list[UUID]:
    found = await session.scalars(
        text(
            """
            SELECT id FROM members WHERE id IN (
                SELECT member_id FROM accounts
                WHERE network = :network AND account_id = ANY(CAST(:account_ids AS text[]))
            )
            ORDER BY id FOR NO KEY UPDATE
            """
        ),
        {"network": network, "account_ids": list(account_ids)},
    )
    return list(found)


async def find_former_holders(session: AsyncSession, card_refs: Sequence[str]) -> dict[str, UUID]:
    found = await session.execute(
        text(
            "SELECT card.ref, card.member_id FROM cards AS card "
            "JOIN members AS member ON member.id = card.member_id "
            "WHERE card.ref = ANY(CAST(:refs AS text[])) AND card.state = 'removed' "
            "AND member.erased_at IS NULL ORDER BY member.id FOR KEY SHARE OF member"
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


# one member


async def list_members(
    session: AsyncSession, paging: Paging, *, ref: str | None
) -> Sequence[Member]:
    query = (
        select(Member).where(Member.erased_at.is_(None)).order_by(Member.id).limit(paging.limit + 1)
    )
    if ref is not None:
        query = query.where(Member.ref == ref)
    if paging.after is not None:
        query = query.where(Member.id > paging.after)
    return (await session.scalars(query)).all()


async def member_by_id(session: AsyncSession, member_id: UUID) -> Member | None:
    return await session.scalar(
        select(Member).where(Member.id == member_id, Member.erased_at.is_(None))
    )


async def member_by_ref_or_id(
    session: AsyncSession, ref: str, member_id: UUID | None
) -> Member | None:
    """A ref may have the shape of an id: then it goes first."""
    return await session.scalar(
        select(Member)
        .where(or_(Member.ref == ref, Member.id == member_id), Member.erased_at.is_(None))
        .order_by(Member.ref != ref)
        .limit(1)
    )


async def insert_member(session: AsyncSession, values: dict[str, Any]) -> None:
    """Unless the ref is known."""
    await session.execute(postgresql.insert(Member).values(values).on_conflict_do_nothing())


async def member_by_ref_locked(session: AsyncSession, ref: str) -> Member | None:
    return await session.scalar(_LOCKED.where(Member.ref == ref))


async def member_by_id_locked(session: AsyncSession, member_id: UUID) -> Member | None:
    return await session.scalar(_LOCKED.where(Member.id == member_id))


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


async def account_keys_of(
    session: AsyncSession, member_ids: Collection[UUID]
) -> list[tuple[str, str]]:
    """Network and id of every account that these members have."""
    found = await session.execute(
        text(
            "SELECT network, account_id FROM accounts "
            "WHERE member_id = ANY(CAST(:member_ids AS uuid[]))"
        ),
        {"member_ids": list(member_ids)},
    )
    return [(row.network, row.account_id) for row in found]


async def delete_account(
    session: AsyncSession, *, member_id: UUID, network: str, account_id: str, now: datetime
) -> bool:
    """Whether it was the member's, who is locked; kept in mind for issuers' older lines."""
    deleted = await session.scalar(
        text(
            """
            WITH gone AS (
                DELETE FROM accounts WHERE network = :network AND account_id = :account_id
                    AND member_id = :member_id RETURNING network, account_id, member_id
            )
            INSERT INTO unlinked_accounts (network, account_id, member_id, unlinked_at)
            SELECT gone.*, CAST(:now AS timestamptz) FROM gone
            ON CONFLICT (network, account_id, member_id)
                DO UPDATE SET unlinked_at = EXCLUDED.unlinked_at
            RETURNING 1
            """
        ),
        {"network": network, "account_id": account_id, "member_id": member_id, "now": now},
    )
    return deleted is not None


async def newest_accounts(session: AsyncSession, *, network: str, most: int) -> list[str]:
    found = await session.scalars(
        select(Account.account_id)
        .where(Account.network == network)
        .order_by(Account.linked_at.desc(), Account.account_id)
        .limit(most)
    )
    return list(found)


# "stop"


async def find_stopped(
    session: AsyncSession, *, network: str, account_ids: Collection[str]
) -> set[str]:
    """An account whose member was erased is left alone too."""
    found = await session.scalars(
        text(
            f"""
            SELECT account_id FROM stopped_accounts
            WHERE network = :network AND account_id = ANY(CAST(:account_ids AS text[]))
            UNION
            SELECT asked.account_id FROM unnest(CAST(:account_ids AS text[])) AS asked (account_id)
            JOIN erased_names ON digest = {digest_of_account(":network", "asked.account_id")}
            """  # noqa: S608 - names of columns
        ),
        {"network": network, "account_ids": list(account_ids)},
    )
    return set(found)


async def mark_stopped(
    session: AsyncSession,
    accounts: Collection[tuple[str, str]],
    *,
    told_by: str,
    now: datetime,
) -> None:
    await session.execute(
        text(
            """
            INSERT INTO stopped_accounts (network, account_id, told_by, stopped_at)
            SELECT told.*, CAST(:told_by AS text), CAST(:now AS timestamptz)
            FROM unnest(CAST(:networks AS text[]), CAST(:account_ids AS text[])) AS told
            ON CONFLICT (network, account_id) DO UPDATE SET stopped_at = EXCLUDED.stopped_at
            """
        ),
        {
            **as_arrays(("networks", "account_ids"), sorted(accounts)),
            "told_by": told_by,
            "now": now,
        },
    )


async def set_opted_out(
    session: AsyncSession, member_ids: Collection[UUID], *, now: datetime
) -> list[UUID]:
    """Answers who had not said so before. Their rows are locked already."""
    new = await session.scalars(
        text(
            "UPDATE members SET opted_out_at = :now WHERE id = ANY(CAST(:member_ids AS uuid[])) "
            "AND opted_out_at IS NULL RETURNING id"
        ),
        {"member_ids": list(member_ids), "now": now},
    )
    return list(new)


async def clear_stops(session: AsyncSession, consents: Sequence[tuple[UUID, datetime]]) -> None:
    """Of all accounts of members who have consented since, said by the accounts or followed from an
    erasure. The members' rows are locked already, and accounts that are new are written.
    """
    await session.execute(
        text(
            f"""
            WITH known_again AS (
                DELETE FROM erased_names USING
                    unnest(CAST(:member_ids AS uuid[]), CAST(:at AS timestamptz[]))
                        AS consent (member_id, at)
                    JOIN accounts ON accounts.member_id = consent.member_id
                WHERE digest = {digest_of_account("accounts.network", "accounts.account_id")}
                    AND erased_at < consent.at
            )
            DELETE FROM stopped_accounts WHERE (network, account_id) IN (
                SELECT stopped.network, stopped.account_id
                FROM unnest(CAST(:member_ids AS uuid[]), CAST(:at AS timestamptz[]))
                    AS consent (member_id, at)
                JOIN accounts ON accounts.member_id = consent.member_id
                JOIN stopped_accounts AS stopped
                    ON stopped.network = accounts.network
                    AND stopped.account_id = accounts.account_id
                    AND stopped.stopped_at < consent.at
                ORDER BY stopped.network, stopped.account_id FOR UPDATE OF stopped
            )
            """  # noqa: S608 - names of columns
        ),
        as_arrays(("member_ids", "at"), consents),
    )
