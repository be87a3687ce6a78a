"""`tagback x`: the programme's account on X, what works there, and what it costs."""

import asyncio
import html
import json
import webbrowser
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

import typer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from app.cli import x_status
from app.cli.roles import ApiServer, open_socket
from app.cli.running import run
from app.cli.x_status import Line, cannot_do
from app.config import Settings, get_settings
from app.database import open_sessions
from app.errors import TagbackError
from app.insight import costs as spending
from app.kit import sealing
from app.kit.clock import now
from app.networks import X, accounts, queries
from app.networks.x.oauth import (
    ACCOUNT_SCOPES,
    Begun,
    Person,
    SignInRefusedError,
    SignInUnavailableError,
    Tokens,
    open_sign_in,
)
from app.replies import sending
from app.secret_keys import sealer_of

WAIT_SECONDS_MAX = 600.0
_DOLLAR = 1_000_000

app = typer.Typer(help="The programme's account on X, what works there, and what it costs.")


class SignInError(TagbackError):
    code = "sign_in"


# the account


@app.command()
def connect(
    *,
    port: Annotated[
        int, typer.Option(min=1, max=65_535, help="Of this machine, where X sends you back to.")
    ] = 8723,
    paste: Annotated[
        bool, typer.Option("--paste", help="The browser is on another machine: paste its address.")
    ] = False,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the address in a browser.")
    ] = False,
) -> None:
    """Sign in as the programme's own account, which posts the replies.

    Prints an address. Open it, signed in at X as the programme's account, and allow what it asks
    for. http://127.0.0.1:PORT/callback must be among the app's redirects in X's console. The tokens
    are kept in the database, sealed with TAGBACK_SECRET_KEYS, and renewed by themselves.

    Example: tagback x connect

    Example: tagback x connect --paste
    """
    person, tokens = run(_connect(port, paste=paste, open_browser=open_browser))
    print(f"connected @{person.handle} ({person.id})")
    missing = cannot_do(list(tokens.scopes))
    for what in missing:
        print(f"careful: it {what}, for that was not granted")
    if not missing:
        print("it posts, answers messages and stays signed in")
    if accounts.given_account(get_settings()) is not None:
        print("careful: TAGBACK_X_USER_TOKEN is set, and is used in its place")


async def _connect(port: int, *, paste: bool, open_browser: bool) -> tuple[Person, Tokens]:
    settings = get_settings()
    sealer = sealer_of(settings)
    redirect = f"http://127.0.0.1:{port}/callback"
    async with open_sessions(settings) as sessions, open_sign_in(settings) as sign_in:
        begun = sign_in.begin(redirect_uri=redirect, scopes=ACCOUNT_SCOPES)
        try:
            if paste:
                code = await _pasted(begun)
            else:
                code = await _redirected(begun, port, open_browser=open_browser)
            tokens = await sign_in.exchange(
                code, verifier=begun.verifier, redirect_uri=redirect, now=now()
            )
            person = await sign_in.whoami(tokens.access_token)
        except SignInRefusedError as error:
            raise SignInError(f"{error}: try again, a code is good for 30 seconds") from error
        except SignInUnavailableError as error:
            raise SignInError(f"X could not be asked: {error}; try again") from error
        async with sessions.begin() as session:
            await accounts.connect(session, person=person, tokens=tokens, sealer=sealer, now=now())
            await sending.restart(session, now=now())
            await queries.record_usage(
                session,
                network=X,
                kind="user_read",
                units=1,
                price_microusd=settings.x_price_user_read_microusd,
                now=now(),
            )
    return person, tokens


async def _pasted(begun: Begun) -> str:
    print(f"Open this address, signed in as the programme's account:\n\n{begun.url}\n")
    print("When X has sent you on to a page that does not open, paste that page's address:")
    address = await asyncio.to_thread(input)
    query = dict(parse_qsl(urlsplit(address.strip()).query))
    if query.get("state") != begun.state:
        raise SignInError("that is not the address that this sign-in ended at")
    return _code(query)


async def _redirected(begun: Begun, port: int, *, open_browser: bool) -> str:
    """Whoever comes without the state of this sign-in is told so, and waited on."""
    came: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    async def callback(request: Request) -> HTMLResponse:
        query = dict(request.query_params)
        if query.get("state") != begun.state:
            return _page("This is not the sign-in that was begun.", status=400)
        if not came.done():
            came.set_result(query)
        return _page("Thank you. Go back to the terminal; this page may be closed.")

    stop = asyncio.Event()
    with open_socket("127.0.0.1", port) as listening:
        server = ApiServer(Starlette(routes=[Route("/callback", callback)]), lifespan="off")
        serving = asyncio.create_task(server.run_until(stop, listening))
        await server.is_ready.wait()
        print(f"Open this address, signed in as the programme's account:\n\n{begun.url}\n")
        print(f"Waiting for X to send you back to port {port} …", flush=True)
        if open_browser:
            await asyncio.to_thread(webbrowser.open, begun.url)
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                return _code(await came)
        except TimeoutError:
            raise SignInError("nobody came back from X within ten minutes") from None
        finally:
            stop.set()
            await serving


def _page(words: str, *, status: int = 200) -> HTMLResponse:
    return HTMLResponse(f"<!doctype html><title>Tagback</title><p>{html.escape(words)}</p>", status)


def _code(query: Mapping[str, str]) -> str:
    if "code" not in query:
        raise SignInError(f"X gave no access: {query.get('error', 'no reason given')}")
    return query["code"]


@app.command()
def disconnect() -> None:
    """Give the account's access back to X, and forget its tokens.

    Replies that wait are kept, and expire when their posts are too old.

    Example: tagback x disconnect
    """
    print(run(_disconnect()))


async def _disconnect() -> str:
    settings = get_settings()
    sealer = sealer_of(settings)
    async with open_sessions(settings) as sessions, open_sign_in(settings) as sign_in:
        async with sessions.begin() as session:
            account = await accounts.find(session)
            tokens = await accounts.disconnect(session, sealer=sealer)
        if account is None:
            return "no account was connected"
        problem = "its tokens were sealed with another key" if not tokens else None
        for token in tokens:
            try:
                await sign_in.revoke(token)
            except (SignInRefusedError, SignInUnavailableError) as error:
                problem = str(error)
            else:
                break
    if problem is not None:
        return (
            f"forgot @{account.handle}, but X did not take its access back ({problem}): end it at "
            "x.com, Settings, Security, Connected apps"
        )
    return f"disconnected @{account.handle}"


@app.command("new-key")
def new_key() -> None:
    """Print a new key for TAGBACK_SECRET_KEYS, as `tagback keys new-secret` does.

    To replace one, put the new key in front of it, with a comma between: the first seals, any
    opens. Whoever has a key and the database can act as the account.

    Example: export TAGBACK_SECRET_KEYS=$(tagback x new-key)
    """
    print(sealing.new_key())


# what works


@app.command()
def status(
    *, as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False
) -> None:
    """Say what works: account, scopes, subscriptions, webhook, rules, limits left, money spent.

    It asks X who the account is, which costs one user read. Exit status 1 when something that is
    set up does not work.

    Example: tagback x status

    Example: tagback x status --json
    """
    lines = run(_status())
    works = all(line.state != "not ok" for line in lines)
    if as_json:
        print(json.dumps({"works": works, "lines": [line._asdict() for line in lines]}))
    else:
        for line in lines:
            print(_shown(line))
    if not works:
        raise typer.Exit(1)


async def _status() -> list[Line]:
    settings = get_settings()
    async with open_sessions(settings) as sessions:
        return await x_status.look(sessions, settings)


def _shown(line: Line) -> str:
    todo = f"\n{'':12} {'':13} → {line.todo}" if line.todo else ""
    return f"{line.state:<12} {line.name:<13} {line.told}{todo}"


# what it costs


@app.command()
def cost(
    *,
    month: Annotated[
        str | None, typer.Option(help="Of UTC, as in 2026-11; the present one if unset.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what X has cost: by kind, a coupon, an offer; a forecast, and what is left.

    Prices are settings (TAGBACK_X_PRICE_…): what X puts on its invoice may differ.

    Example: tagback x cost

    Example: tagback x cost --month 2026-11 --json
    """
    found = run(_cost(month, get_settings()))
    if as_json:
        print(json.dumps(found, default=str))
        return
    for line in _cost_lines(found):
        print(line)


async def _cost(month: str | None, settings: Settings) -> dict[str, Any]:
    async with open_sessions(settings) as sessions, sessions() as session:
        wanted = spending.month_named(month, now())
        return await spending.costs(session, month=wanted, settings=settings, now=now())


def _cost_lines(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['month']}: {_usd(found['spent_microusd'])} spent"]
    if found["forecast_microusd"] != found["spent_microusd"]:
        lines[0] += f", {_usd(found['forecast_microusd'])} by its end if it goes on like this"
    lines += [
        f"  {one['kind']:<16} {one['units']:>9,}  {_usd(one['micro_usd']):>12}"
        for one in found["by_kind"]
    ]
    if found["ceiling_microusd"] is None:
        lines.append("no ceiling is set: TAGBACK_X_MONTHLY_CEILING_USD")
    else:
        lines.append(
            f"ceiling {_usd(found['ceiling_microusd'])}, {_usd(found['left_microusd'])} left; "
            f"for invitations {_usd(found['strangers_ceiling_microusd'])}, "
            f"{_usd(found['strangers_left_microusd'])} left"
        )
    for name, count, each in (
        ("coupons", "coupons", "microusd_per_coupon"),
        ("confirmed coupons", "confirmed_coupons", "microusd_per_confirmed_coupon"),
    ):
        if found[count]:
            lines.append(f"{found[count]:,} {name}, {_usd(found[each], digits=4)} each")
    lines += [
        f"  #{offer['hashtag']:<24} {_usd(offer['spent_microusd']):>12}: replies "
        f"{_usd(offer['replies_microusd'])}, reads {_usd(offer['reads_microusd'])}, "
        f"{offer['confirmed_coupons']:,} confirmed of {offer['coupons']:,} coupons"
        for offer in found["by_offer"]
    ]
    return lines


def _usd(microusd: int, *, digits: int = 2) -> str:
    return f"${microusd / _DOLLAR:,.{digits}f}"
