"""`tagback keys`: the first key can come from nowhere else."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer

from app.cli.running import run
from app.config import get_settings
from app.database import open_sessions
from app.kit import sealing
from app.kit.clock import now
from app.kit.pagination import Paging
from app.partners import keys
from app.partners.models import ApiKey
from app.partners.roles import Role

ACTOR = "command line"
PAGE_KEYS = 500

app = typer.Typer(help="Create, list, rotate and revoke API keys.")

KeyId = Annotated[UUID, typer.Argument(help="The id that `tagback keys list` shows.")]


@app.command()
def create(
    *,
    role: Annotated[Role, typer.Option(help="What the key may do.")],
    partner: Annotated[
        str | None, typer.Option(help="Ref or id: a partner's key needs it, an analyst's may.")
    ] = None,
    expires_days: Annotated[
        int | None, typer.Option(min=1, max=3_650, help="Days until it ends; never if unset.")
    ] = None,
    rate_limit: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, help="Requests a minute; the role's own if unset."),
    ] = None,
) -> None:
    """Create a key and print it, once, alone on the last line.

    Example: tagback keys create --role operator

    Example: tagback keys create --role partner --partner bakery --expires-days 365
    """
    new = run(_create(role, partner, expires_days, rate_limit))
    bound = f" of {new.partner_ref}" if new.partner_ref else ""
    print(f"{role}{bound}, id {new.record.id}: the key below is not shown again")
    print(new.key)


async def _create(
    role: Role, partner: str | None, expires_days: int | None, rate_limit: int | None
) -> keys.NewKey:
    at = now()
    async with open_sessions(get_settings()) as sessions, sessions.begin() as session:
        return await keys.create_key(
            session,
            actor=ACTOR,
            role=role,
            now=at,
            partner=partner,
            expires_at=at + timedelta(days=expires_days) if expires_days else None,
            rate_limit_per_minute=rate_limit,
        )


@app.command("list")
def list_keys() -> None:
    """List every key's id, beginning, role, partner, state and last use.

    Example: tagback keys list
    """
    run(_list())


async def _list() -> None:
    paging = Paging(PAGE_KEYS, after=None)
    async with open_sessions(get_settings()) as sessions, sessions() as session:
        while rows := await keys.list_keys(session, paging=paging):
            for key, partner_ref in rows:
                print(_describe(key, partner_ref, now()))
            paging = paging._replace(after=rows[-1].key.id)


def _describe(key: ApiKey, partner_ref: str | None, at: datetime) -> str:
    used = f"used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never used"
    if key.revoked_at is not None:
        state = "revoked"
    elif key.expires_at is None:
        state = "valid"
    elif key.expires_at <= at:
        state = "expired"
    else:
        state = f"valid until {key.expires_at:%Y-%m-%d %H:%M}"
    limit = f"  {key.rate_limit_per_minute:,} a minute" if key.rate_limit_per_minute else ""
    rotated = f"  in place of {key.rotated_from}" if key.rotated_from else ""
    return (
        f"{key.id}  {key.hint}…  {key.role:<9}  {partner_ref or '-':<16}  {state:<7}  {used}"
        f"{limit}{rotated}"
    )


@app.command()
def rotate(
    key_id: KeyId,
    *,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=168, help="How long the old key still works.")
    ] = 24,
    expires_days: Annotated[
        int | None,
        typer.Option(min=1, max=3_650, help="Of the new key; as long as the old one if unset."),
    ] = None,
) -> None:
    """Create a key in place of another and print it, once, alone on the last line.

    Both work until the overlap is over.

    Example: tagback keys rotate 01890a5d-ac96-774b-bcce-b302099a8057

    Example: tagback keys rotate 01890a5d-ac96-774b-bcce-b302099a8057 --overlap-hours 0
    """
    new = run(_rotate(key_id, overlap_hours, expires_days))
    print(f"id {new.record.id} in place of {key_id}: the key below is not shown again")
    print(new.key)


async def _rotate(key_id: UUID, overlap_hours: int, expires_days: int | None) -> keys.NewKey:
    at = now()
    async with open_sessions(get_settings()) as sessions, sessions.begin() as session:
        return await keys.rotate_key(
            session,
            actor=ACTOR,
            key_id=key_id,
            own_partner_id=None,
            overlap=timedelta(hours=overlap_hours),
            expires_at=at + timedelta(days=expires_days) if expires_days else None,
            now=at,
        )


@app.command()
def revoke(key_id: KeyId) -> None:
    """Revoke a key at once.

    Example: tagback keys revoke 01890a5d-ac96-774b-bcce-b302099a8057
    """
    run(_revoke(key_id))
    print(f"revoked {key_id}")


async def _revoke(key_id: UUID) -> None:
    async with open_sessions(get_settings()) as sessions, sessions.begin() as session:
        await keys.revoke_key(session, actor=ACTOR, key_id=key_id, now=now(), may_be_last=True)


@app.command("new-secret")
def new_secret() -> None:
    """Print a new key for TAGBACK_SECRET_KEYS, which seals secrets at rest.

    To replace one, put the new key in front of it, with a comma between: the first seals, any
    opens. What was sealed with a key opens with nothing else.

    Example: export TAGBACK_SECRET_KEYS=$(tagback keys new-secret)
    """
    print(sealing.new_key())
