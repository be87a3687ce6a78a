"""Rows for the outbox, and what became of them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.kit.db import Sessions
from app.kit.ids import new_id
from app.replies import service
from app.replies.queries import NewReply, priority_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OFFER = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


def reply(**more: Any) -> NewReply:
    """A confirmation of OFFER to a post of its own, of NOW, unless told otherwise."""
    reply_id = new_id()
    at = more.pop("at", NOW)
    kind = more.get("kind", "confirmation")
    values: dict[str, Any] = {
        "id": reply_id,
        "network": "x",
        "root_id": str(reply_id.int % 10**18),
        "post_id": str(reply_id.int % 10**18),
        "posted_at": at,
        "offer_id": OFFER,
        "recipient_id": str(reply_id.int % 10**17),
        "kind": kind,
        "priority": priority_of(kind),
        "locale": "en",
        "text": f"Done! ({reply_id})",
        "state": "queued",
        "not_before": at,
        "created_at": at,
        "updated_at": at,
    }
    return NewReply(**(values | more))


async def queue(sessions: Sessions, *rows: NewReply) -> None:
    async with sessions.begin() as session:
        await session.execute(text("SELECT 1"))
        await service.queue(session, rows=rows)


async def rows(sessions: Sessions) -> dict[UUID, dict[str, Any]]:
    async with sessions() as session:
        found = await session.execute(text("SELECT * FROM replies"))
        return {row["id"]: dict(row) for row in found.mappings()}


async def states(sessions: Sessions, queued: Sequence[NewReply]) -> list[str]:
    """In the order given."""
    async with sessions() as session:
        rows = await session.execute(text("SELECT id, state FROM replies"))
        found = {row.id: row.state for row in rows}
    return [found[one.id] for one in queued]
