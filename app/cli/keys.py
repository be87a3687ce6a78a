"""`tagback keys`: the first key can come from nowhere else."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

import typer

from app.cli.running import run
from app.config import get_settings
from app.database import open_sessions
from app.kit import sealing
from app.kit.clock import now
from app.kit.pagination import Paging
from app.partners import service
from app.partners.models import ApiKey
from app.partners.roles import Role

ACTOR = "command line"
PAGE_KEYS = 500

app = typer.Typer(help="Create, list and revoke API keys.")


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
) -> None:
    """Create a key and print it, once, alone on the last line.

    Example: tagback keys create --role operator

    Example: tagback keys create --role partner --partner bakery --expires-days 365
    """
    new = run(_create(role, partner, expires_days))
    bound = f" of {new.partner_ref}" if new.partner_ref else ""
    print(f"{role}{bound}, id {new.record.id}: the key below is not shown again")
    print(new.key)


async def _create(role: Role, partner: str | None, expires_days: int | None) -> service.NewKey:
    async with open_sessions(get_settings()) as sessions, sessions.begin() as session:
        return await service.create_key(
            session,
            actor=ACTOR,
            role=role,
            partner=partner,
            expires_at=now() + timedelta(days=expires_days) if expires_days else None,
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
        while rows := await service.list_keys(session, paging=paging):
            for key, partner_ref in rows:
                print(_describe(key, partner_ref))
            paging = paging._replace(after=rows[-1].key.id)


def _describe(key: ApiKey, partner_ref: str | None) -> str:
    used = f"used {key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never used"
    if key.revoked_at is not None:
        state = "revoked"
    elif key.expires_at is not None and key.expires_at <= now():
        state = "expired"
    else:
        state = "valid"
    return f"{key.id}  {key.hint}…  {key.role:<9}  {partner_ref or '-':<16}  {state:<7}  {used}"


@app.command()
def revoke(
    key_id: Annotated[UUID, typer.Argument(help="The id that `tagback keys list` shows.")],
) -> None:
    """Revoke a key at once.

    Example: tagback keys revoke 01890a5d-ac96-774b-bcce-b302099a8057
    """
    run(_revoke(key_id))
    print(f"revoked {key_id}")


async def _revoke(key_id: UUID) -> None:
    async with open_sessions(get_settings()) as sessions, sessions.begin() as session:
        await service.revoke_key(session, actor=ACTOR, key_id=key_id, now=now())


@app.command("new-secret")
def new_secret() -> None:
    """Print a new key for TAGBACK_SECRET_KEYS, which seals secrets at rest.

    To replace one, put the new key in front of it, with a comma between: the first seals, any
    opens. What was sealed with a key opens with nothing else.

    Example: export TAGBACK_SECRET_KEYS=$(tagback keys new-secret)
    """
    print(sealing.new_key())
