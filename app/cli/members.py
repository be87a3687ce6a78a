"""`tagback members`: what a person may ask for who wants to know, or to be forgotten."""

from typing import Annotated

import typer
from pydantic_core import to_json

from app.cli.running import run
from app.config import get_settings
from app.database import open_sessions
from app.kit.clock import now
from app.members import service
from app.privacy import erasure
from app.privacy.export import Export
from app.privacy.export import export as export_member

ACTOR = "command line"

app = typer.Typer(help="Show or erase all that is kept of a member.")

Ref = Annotated[str, typer.Argument(metavar="REF", help="The member's ref, or id.")]


@app.command()
def export(ref: Ref) -> None:
    """Print all that is kept of a member, as one JSON document.

    Example: tagback members export M1 > M1.json
    """
    found = run(_export(ref))
    print(to_json(found._asdict(), indent=1).decode())


async def _export(ref: str) -> Export:
    async with open_sessions(get_settings()) as sessions:
        async with sessions() as session:
            member = await service.find_member(session, ref_or_id=ref)
        async with sessions() as session:
            return await export_member(session, member_id=member.id, now=now())


@app.command()
def erase(
    ref: Ref,
    *,
    forfeit: Annotated[
        bool, typer.Option(help="Give up what is owed and not yet credited, and what may yet be.")
    ] = False,
) -> None:
    """Erase all that identifies a member, for good.

    Example: tagback members erase M1

    Example: tagback members erase M1 --forfeit
    """
    member_id = run(_erase(ref, forfeit=forfeit))
    print(f"erased {member_id}")


async def _erase(ref: str, *, forfeit: bool) -> str:
    async with open_sessions(get_settings()) as sessions:
        async with sessions() as session:
            member = await service.find_member(session, ref_or_id=ref)
        await erasure.erase(sessions, member_id=member.id, forfeit=forfeit, actor=ACTOR, now=now())
        return str(member.id)
