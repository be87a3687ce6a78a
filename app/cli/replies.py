"""`tagback replies`: the red button, and what it stops."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from app.cli.keys import ACTOR
from app.cli.running import run
from app.config import get_settings
from app.database import open_sessions
from app.kit.clock import now
from app.offers import service as offers
from app.replies import service
from app.replies.service import Scope

app = typer.Typer(help="Pause, resume and count replies.")

_CHANNELS = {"post": "posts", "dm": "messages"}

Offer = Annotated[
    str | None,
    typer.Option("--offer", metavar="ID|REF", help="This offer's alone; all if unset."),
]


@app.command()
def pause(*, offer: Offer = None) -> None:
    """Send no more replies; those already on their way arrive.

    What waits is kept, and expires when its post is too old to answer.

    Example: tagback replies pause

    Example: tagback replies pause --offer summer-tea
    """
    waiting = run(_pause(offer))
    print(f"paused {_named(offer)}; {waiting} in all wait to be sent")


async def _pause(offer: str | None) -> int:
    async with open_sessions(get_settings()) as sessions, sessions.begin() as session:
        scope = await _scope(session, offer)
        await service.pause(session, scope=scope, actor=ACTOR, now=now())
        return await service.waiting_count(session)


@app.command()
def resume(*, offer: Offer = None) -> None:
    """Send replies again: lift a pause, and what X has stopped for want of credits or access.

    A pause of all and the pause of an offer are two: each is lifted by itself.

    Example: tagback replies resume
    """
    waiting = run(_resume(offer))
    print(f"resumed {_named(offer)}; {waiting} in all wait to be sent")


async def _resume(offer: str | None) -> int:
    async with open_sessions(get_settings()) as sessions, sessions.begin() as session:
        scope = await _scope(session, offer)
        await service.resume(session, scope=scope, actor=ACTOR, now=now())
        return await service.waiting_count(session)


async def _scope(session: AsyncSession, offer: str | None) -> Scope:
    return "all" if offer is None else await offers.find_named(session, id_or_ref=offer)


@app.command()
def status() -> None:
    """Show how many replies wait, were sent or were not, and what holds them back.

    Example: tagback replies status
    """
    found = run(_summary())
    for kind, states in found["replies"].items():
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        print(f"{kind}s: {counts}")
    if not found["replies"]:
        print("no replies yet")
    for scope, since in found["pauses"].items():
        what = "all replies" if scope == "all" else f"replies about offer {scope}"
        print(f"paused since {since:%Y-%m-%d %H:%M} UTC: {what}")
    for network, channels in found["windows"].items():
        for channel, window in channels.items():
            for line in _window_lines(f"{network} {_CHANNELS[channel]}", window):
                print(line)
    for announcement in found["announcements"]:
        where = f", post {announcement.sent_post_id}" if announcement.sent_post_id else ""
        print(f"announcement {announcement.id}: {announcement.state}{where}")


def _window_lines(name: str, window: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{name}: {window['remaining']:,} more until {window['resets_at']:%H:%M}, "
        f"{window['day_remaining']:,} until {window['day_resets_at']:%Y-%m-%d %H:%M} UTC"
    )
    if window["stopped_reason"]:
        yield f"{name}: STOPPED, {window['stopped_reason']}; then tagback replies resume"
    if window["held_reason"]:
        yield f"{name}: HELD, {window['held_reason']}; see tagback x cost"


async def _summary() -> dict[str, Any]:
    async with open_sessions(get_settings()) as sessions, sessions() as session:
        return await service.summary(session)


def _named(offer: str | None) -> str:
    return "all replies" if offer is None else f"replies about offer {offer}"
