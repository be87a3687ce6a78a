"""`tagback explain`: why a post loaded a coupon or did not, why a purchase earned or did not."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from app.cli.running import run
from app.config import get_settings
from app.database import open_sessions
from app.insight import explain

app = typer.Typer(help="Say why a post or a transaction came to what it did.")

AsJson = Annotated[bool, typer.Option("--json", help="The whole answer as JSON.")]
Locale = Annotated[Literal["en", "fr"], typer.Option(help="The language of the sentence.")]


@app.command()
def post(post_id: str, *, as_json: AsJson = False, locale: Locale = "en") -> None:
    """Say why a post did or did not load a coupon.

    Example: tagback explain post 1900000000000000001
    """
    answer = run(_post(post_id, locale))
    if as_json:
        _print_json(answer)
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(answer["sentence"], markup=False)
    if not answer["known"]:
        raise typer.Exit(1)
    for offer in answer["offers"]:
        console.print(
            f"\n[bold]{escape(offer['offer'])}[/bold] (#{offer['hashtag']}): {offer['outcome']}"
        )
        for rule in offer["rules"]:
            passed = "" if rule["applies"] else "not "
            _print_rule(console, {**rule, "rule": passed + rule["rule"]})


async def _post(post_id: str, locale: str) -> dict[str, Any]:
    async with open_sessions(get_settings()) as sessions, sessions() as session:
        return await explain.explain_post(session, post_id=post_id, locale=locale)


@app.command()
def transaction(transaction_id: str, *, as_json: AsJson = False, locale: Locale = "en") -> None:
    """Say why a purchase did or did not earn a reward, by any of its transactions.

    Example: tagback explain transaction T000123-1
    """
    answer = run(_transaction(transaction_id, locale))
    if as_json:
        _print_json(answer)
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(answer["sentence"], markup=False)
    if not answer["known"]:
        raise typer.Exit(1)
    for coupon in answer["coupons"]:
        used = " (this one)" if coupon["is_used"] else ""
        console.print(f"\n[bold]{escape(coupon['offer'])}[/bold] (#{coupon['hashtag']}){used}")
        for rule in coupon["rules"]:
            _print_rule(console, rule)


async def _transaction(transaction_id: str, locale: str) -> dict[str, Any]:
    async with open_sessions(get_settings()) as sessions, sessions() as session:
        return await explain.explain_transaction(
            session, transaction_id=transaction_id, locale=locale
        )


def _print_rule(console: Console, rule: dict[str, Any]) -> None:
    """A check mark for a rule that let it pass, a cross for the one that did not."""
    stopped = rule["applies"] and rule["rule"] != "loaded"
    saw = ", ".join(
        f"{name} {_shown(value)}" for name, value in rule["saw"].items() if value is not None
    )
    mark = "[bold red]✗[/bold red]" if stopped else "[green]✓[/green]"
    console.print(f"  {mark} {rule['rule']:20} [dim]{escape(saw)}[/dim]")


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    return str(value)


def _print_json(answer: dict[str, Any]) -> None:
    print(msgspec.json.encode(answer).decode())
