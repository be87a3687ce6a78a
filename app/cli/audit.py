"""`tagback audit`: who changed what."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from app.cli.running import run
from app.config import get_settings
from app.database import open_sessions
from app.kit.pagination import LIMIT_MAX, Paging
from app.partners import audit_log
from app.partners.models import AuditEntry
from app.partners.queries import AuditFilter
from app.partners.schemas import AuditEntryOut

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


def audit(
    *,
    subject_kind: Annotated[str | None, typer.Option(help="As in offer or api_key.")] = None,
    subject_id: Annotated[str | None, typer.Option(help="Of what was changed.")] = None,
    actor: Annotated[str | None, typer.Option(help="As in key:ID, or command line.")] = None,
    action: Annotated[str | None, typer.Option(help="As in offer.publish.")] = None,
    since: Annotated[datetime | None, typer.Option(formats=_TIMES, help="Of UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=_TIMES, help="Of UTC.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=LIMIT_MAX, help="At most so many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show who changed what, the newest first, with what was before and after.

    Example: tagback audit

    Example: tagback audit --subject-kind offer --since 2026-07-01 --json
    """
    wanted = AuditFilter(subject_kind, subject_id, actor, action, _utc(since), _utc(until))
    entries = run(_entries(wanted, limit))
    if as_json:
        for entry in entries:
            print(AuditEntryOut.of(entry).model_dump_json())
        return
    # in a pipe too, no cell is cut
    console = Console(width=None if Console().is_terminal else 10_000)
    console.print(_table(entries))


def _utc(at: datetime | None) -> datetime | None:
    return at.replace(tzinfo=UTC) if at else None


async def _entries(wanted: AuditFilter, limit: int) -> Sequence[AuditEntry]:
    async with open_sessions(get_settings()) as sessions, sessions() as session:
        paging = Paging(limit, after=None)
        return (await audit_log.list_entries(session, wanted=wanted, paging=paging))[:limit]


def _table(entries: Sequence[AuditEntry]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("at", "actor", "action", "subject", "changed"):
        table.add_column(name, overflow="fold")
    for entry in entries:
        subject = f"{entry.subject_kind} {entry.subject_id}"
        changed = _changes(entry.before or {}, entry.after or {})
        table.add_row(f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.actor, entry.action, subject, changed)
    return table


def _changes(before: dict[str, Any], after: dict[str, Any]) -> str:
    names = dict.fromkeys((*before, *after))
    return ", ".join(
        f"{name}: {_text(before.get(name))} → {_text(after.get(name))}"
        if name in before
        else f"{name}: {_text(after.get(name))}"
        for name in names
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
