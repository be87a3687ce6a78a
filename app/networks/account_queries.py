"""All SQL on the programme's own accounts. A sealed token is never the same twice, which makes it
the name of what was read: whoever has connected the account again meanwhile is not overruled.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.networks.models import NetworkAccount


async def get(session: AsyncSession, network: str) -> NetworkAccount | None:
    return await session.get(NetworkAccount, network)


async def upsert(
    session: AsyncSession,
    *,
    network: str,
    account_id: str,
    handle: str,
    scopes: Sequence[str],
    access_token: bytes,
    refresh_token: bytes | None,
    expires_at: datetime,
    now: datetime,
) -> None:
    await session.execute(
        text(
            """
            INSERT INTO network_accounts (network, account_id, handle, scopes, access_token,
                refresh_token, expires_at, connected_at, updated_at)
            VALUES (:network, :account_id, :handle, :scopes, :access_token, :refresh_token,
                :expires_at, :now, :now)
            ON CONFLICT (network) DO UPDATE
            SET account_id = EXCLUDED.account_id, handle = EXCLUDED.handle,
                scopes = EXCLUDED.scopes, access_token = EXCLUDED.access_token,
                refresh_token = EXCLUDED.refresh_token, expires_at = EXCLUDED.expires_at,
                refreshing_until = NULL, problem = NULL, connected_at = EXCLUDED.connected_at,
                updated_at = EXCLUDED.updated_at
            """
        ),
        {
            "network": network,
            "account_id": account_id,
            "handle": handle,
            "scopes": list(scopes),
            "access_token": access_token,
            "refresh_token": refresh_token,
            "expires_at": expires_at,
            "now": now,
        },
    )


async def remove(session: AsyncSession, network: str) -> None:
    await session.execute(delete(NetworkAccount).where(NetworkAccount.network == network))


async def claim_renewal(
    session: AsyncSession, *, network: str, refresh_token: bytes, now: datetime, until: datetime
) -> bool:
    """False when somebody else has claimed it, or the token is not the account's any more."""
    claimed = await session.scalar(
        text(
            "UPDATE network_accounts SET refreshing_until = :until "
            "WHERE network = :network AND refresh_token = :refresh_token AND problem IS NULL "
            "AND (refreshing_until IS NULL OR refreshing_until <= :now) RETURNING 1"
        ),
        {"network": network, "refresh_token": refresh_token, "now": now, "until": until},
    )
    return claimed is not None


async def give_up_renewal(session: AsyncSession, *, network: str, refresh_token: bytes) -> None:
    await session.execute(
        text(
            "UPDATE network_accounts SET refreshing_until = NULL "
            "WHERE network = :network AND refresh_token = :refresh_token"
        ),
        {"network": network, "refresh_token": refresh_token},
    )


async def write_renewed(
    session: AsyncSession,
    *,
    network: str,
    instead_of: bytes,
    access_token: bytes,
    refresh_token: bytes,
    scopes: Sequence[str],
    expires_at: datetime,
    now: datetime,
) -> None:
    """Tokens that the network has just given are good, whatever was said of those before."""
    await session.execute(
        text(
            "UPDATE network_accounts SET access_token = :access_token, "
            "refresh_token = :refresh_token, scopes = :scopes, expires_at = :expires_at, "
            "refreshing_until = NULL, problem = NULL, updated_at = :now "
            "WHERE network = :network AND refresh_token = :instead_of"
        ),
        {
            "network": network,
            "instead_of": instead_of,
            "access_token": access_token,
            "refresh_token": refresh_token,
            "scopes": list(scopes),
            "expires_at": expires_at,
            "now": now,
        },
    )


async def set_problem(
    session: AsyncSession, *, network: str, problem: str, access_token: bytes | None = None
) -> bool:
    """Of what was read as `access_token` alone, where it is given. False when there is no such
    account, or a problem already.
    """
    changed = await session.scalar(
        text(
            "UPDATE network_accounts SET problem = :problem, refreshing_until = NULL, "
            "updated_at = now() WHERE network = :network AND problem IS NULL "
            "AND access_token = coalesce(CAST(:access_token AS bytea), access_token) RETURNING 1"
        ),
        {"network": network, "problem": problem, "access_token": access_token},
    )
    return changed is not None
