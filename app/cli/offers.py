"""`tagback offers`: what an operator does with an offer that a card-holder sees at once, and what
an offer would have done.
"""

from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from app.cli.keys import ACTOR
from app.cli.running import run
from app.config import get_settings
from app.database import open_sessions
from app.errors import Invalid
from app.insight.dry_run import DAYS_MAX, Wanted, dry_run
from app.insight.schemas import DryRunOut
from app.kit import fields, money
from app.kit.clock import now
from app.offers import service as offers
from app.offers.schemas import OfferChange
from app.replies import announcing
from app.replies.announcing import Announcement

app = typer.Typer(help="Announce an offer; see what it would have done.")

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


@app.command("dry-run")
def show_dry_run(
    offer: Annotated[str, typer.Argument(help="Its id, or its ref.")],
    *,
    changes: Annotated[
        str | None, typer.Option(help="Terms to try, as JSON, as PATCH takes them.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=DAYS_MAX, help="How far back.")] = DAYS_MAX,
    as_json: Annotated[bool, typer.Option("--json", help="The whole answer as JSON.")] = False,
) -> None:
    """Show what the last days' posts and purchases would have done under an offer's terms.

    Nothing is changed; the offer may be a draft.

    Example: tagback offers dry-run friday

    Example: tagback offers dry-run friday --changes '{"min_spend_minor": 2000}' --json
    """
    found = run(_dry_run(offer, changes, days))
    if as_json:
        print(found.model_dump_json())
        return
    for name, value in _figures(found):
        print(f"{name:<32}{value:>14}")
    for assumption in found.assumptions:
        print(f"- {assumption}")


async def _dry_run(offer: str, changes: str | None, days: int) -> DryRunOut:
    settings = get_settings()
    try:
        wanted = OfferChange.model_validate_json(changes or "{}")
    except ValidationError as error:
        raise Invalid(f"--changes: {fields.explain(error)}") from None
    async with open_sessions(settings) as sessions:
        async with sessions() as session:
            offer_id = await offers.find_named(session, id_or_ref=offer)
        found = await dry_run(
            sessions,
            wanted=Wanted(offer_id, wanted, days, partner_id=None),
            settings=settings,
            now=now(),
        )
    return DryRunOut.model_validate(found)


def _figures(found: DryRunOut) -> list[tuple[str, str]]:
    def amount(minor: int | None) -> str:
        return "-" if minor is None else money.display(minor, found.currency)

    def number(value: int | None) -> str:
        return "-" if value is None else f"{value:,}"

    sold_out, spent = found.would_be_sold_out_at, found.would_be_budget_spent_at
    share = "-" if found.reward_share is None else f"{found.reward_share:.1%}"
    return [
        (f"#{found.hashtag}: posts", number(found.posts)),
        *((f"  {outcome}", number(posts)) for outcome, posts in found.outcomes.items()),
        ("coupons", number(found.coupons)),
        ("sold out", "-" if sold_out is None else f"{sold_out:%d %b %H:00}"),
        ("budget spent", "-" if spent is None else f"{spent:%d %b %H:00}"),
        ("purchases of their holders", number(found.purchases)),
        ("  rewarded", number(found.redemptions)),
        *((f"  {reason}", number(number_of)) for reason, number_of in found.not_rewarded.items()),
        ("sales", amount(found.sales_minor)),
        ("average basket", amount(found.average_basket_minor)),
        ("rewards", amount(found.reward_minor)),
        ("rewards as a share of sales", share),
    ]
