"""All SQL on the names of erased members, of which the digest is kept alone."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

ERASED = "erased:"  # and something random: what a member, and a card of his, is called then


def _digest_of_member(ref: str) -> str:
    """SQL, of SQL for a ref."""
    return f"sha256(convert_to(concat('member ', {ref}), 'UTF8'))"


def digest_of_account(network: str, account_id: str) -> str:
    """SQL, of SQL for its network and its id."""
    return f"sha256(convert_to(concat('account ', {network}, ' ', {account_id}), 'UTF8'))"


async def erased_since(session: AsyncSession, refs: Collection[str]) -> dict[str, datetime]:
    """When members of these refs were erased last."""
    found = await session.execute(
        text(
            f"""
            SELECT asked.ref, erased_at FROM unnest(CAST(:refs AS text[])) AS asked (ref)
            JOIN erased_names ON digest = {_digest_of_member("asked.ref")}
            """  # noqa: S608 - a name of a column
        ),
        {"refs": list(refs)},
    )
    return {row.ref: row.erased_at for row in found}


async def remember(
    session: AsyncSession, *, member_id: UUID, accounts: Collection[tuple[str, str]], now: datetime
) -> None:
    """Of a member who still has his ref, the digests of it and of these accounts."""
    await session.execute(
        text(
            f"""
            INSERT INTO erased_names (digest, erased_at)
            SELECT {_digest_of_member("ref")}, CAST(:now AS timestamptz)
            FROM members WHERE id = :member_id
            UNION
            SELECT {digest_of_account("account.network", "account.id")}, CAST(:now AS timestamptz)
            FROM unnest(CAST(:networks AS text[]), CAST(:ids AS text[])) AS account (network, id)
            ON CONFLICT (digest) DO UPDATE SET erased_at = EXCLUDED.erased_at
            """  # noqa: S608 - names of columns
        ),
        {
            "member_id": member_id,
            "networks": [network for network, _ in accounts],
            "ids": [account_id for _, account_id in accounts],
            "now": now,
        },
    )
