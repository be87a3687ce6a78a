"""`tagback offers`: what an operator does with an offer that a card-holder sees at once."""

from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from app.cli.keys import ACTOR
from app.cli.running import run
from app.config import get_settings
from app.database import open_sessions
from app.errors import Invalid
from app.kit import fields
from app.kit.clock import now
from app.offers import service as offers
from app.replies import announcing
from app.replies.announcing import Announcement

app = typer.Typer(help="Announce an offer on the programme's profile.")

_words = TypeAdapter(fields.Words)


@app.callback()
def _offers() -> None:
    """Partners and operators make and change offers by the API and by `tagback import offers`."""


@app.command()
def announce(
    offer: Annotated[str, typer.Argument(help="Its id, or its hashtag.")],
    *,
    text: Annotated[
        str | None, typer.Option(help="Your own words; made from the offer's terms if unset.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Even if it was within a day.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the text, no more.")] = False,
) -> None:
    """Post about an offer on the programme's own profile.

    The text says what one gets, where, how and until when, in the programme's language, and ends
    with a reference. The worker sends it within X's limits; `tagback replies status` shows it.

    Example: tagback offers announce CoffeeFriday --dry-run

    Example: tagback offers announce CoffeeFriday

    Example: tagback offers announce 01890a5d-ac96-774b-bcce-b302099a8057 --text "Friday is coffee
    day: post #CoffeeFriday and mention @TagbackDemo"
    """
    made = run(_announce(offer, text, again=again, dry_run=dry_run))
    print(made.text)
    if made.warning:
        print(f"careful: {made.warning}")
    print("nothing was posted" if made.reply_id is None else f"queued as {made.reply_id}")


async def _announce(offer: str, text: str | None, *, again: bool, dry_run: bool) -> Announcement:
    settings = get_settings()
    try:
        words = None if text is None else _words.validate_python(text)
    except ValidationError as error:
        raise Invalid(f"--text: {fields.explain(error)}") from None
    async with open_sessions(settings) as sessions, sessions.begin() as session:
        offer_id = await offers.find(session, id_or_hashtag=offer, now=now())
        return await announcing.announce(
            session,
            offer_id=offer_id,
            words=words,
            again=again,
            is_dry_run=dry_run,
            actor=ACTOR,
            settings=settings,
            now=now(),
        )
