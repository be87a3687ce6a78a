"""What of X works, what does not, and what to do about it: the lines of `tagback x status`."""

from collections.abc import Awaitable
from typing import Any, Literal, NamedTuple

import httpx

from app.config import Settings, SettingsError
from app.kit.clock import now
from app.kit.db import Sessions
from app.kit.months import Month
from app.networks import X, accounts, lease_queries, queries
from app.networks.accounts import AccountRefusedError, AccountUnavailableError, open_account
from app.networks.models import NetworkAccount
from app.networks.x.activity import MENTION, Activity
from app.networks.x.calls import CallError, open_app
from app.networks.x.connections import open_connections
from app.networks.x.oauth import (
    ACCOUNT_SCOPES,
    SignInRefusedError,
    SignInUnavailableError,
    open_sign_in,
)
from app.networks.x.stream_rules import StreamRules
from app.posts.listening import LEASE, way_of_events, webhook_url
from app.replies import sending, service
from app.secret_keys import can_seal

State = Literal["ok", "not ok", "not set up"]

_DOLLAR = 1_000_000


class Line(NamedTuple):
    """`todo`: what to do, where there is something."""

    name: str
    state: State
    told: str
    todo: str | None = None


async def look(sessions: Sessions, settings: Settings) -> list[Line]:
    """Asks X who the account is, which costs a user read, and what it has set up."""
    lines = await _account_lines(sessions, settings)
    lines += await _app_lines(settings, await _account_id(sessions, settings))
    lines.append(await _listener_line(sessions, settings))
    return [*lines, *await _limit_lines(sessions), await _money_line(sessions, settings)]


async def _account_id(sessions: Sessions, settings: Settings) -> str | None:
    async with sessions() as session:
        return (await accounts.identity(session, settings=settings)).account_id


# the account


async def _account_lines(sessions: Sessions, settings: Settings) -> list[Line]:
    async with sessions() as session:
        connected = await accounts.find(session)
    if accounts.given_account(settings) is not None:
        told = "by TAGBACK_X_USER_TOKEN and TAGBACK_X_ACCOUNT_ID, which somebody else renews"
        return [Line("account", "ok", told)]
    if not can_seal(settings) or settings.x_client_id is None:
        todo = "set TAGBACK_X_CLIENT_ID and TAGBACK_SECRET_KEYS, then tagback x connect"
        return [Line("account", "not set up", "no app to sign in with", todo)]
    if connected is None:
        return [Line("account", "not set up", "none is connected", "tagback x connect")]
    return [
        await _works(sessions, settings, connected),
        _scopes(connected),
        _expiry(connected),
    ]


async def _works(sessions: Sessions, settings: Settings, connected: NetworkAccount) -> Line:
    name = f"@{connected.handle} ({connected.account_id})"
    try:
        async with open_account(settings, sessions) as account, open_sign_in(settings) as sign_in:
            me = await sign_in.whoami(await account.access_token())
    except AccountRefusedError as error:
        return Line("account", "not ok", f"{name}: {error.detail}", "tagback x connect")
    except (AccountUnavailableError, SignInUnavailableError) as error:
        return Line("account", "not ok", f"{name}: {error}", "try again in a minute")
    except SignInRefusedError as error:
        return Line("account", "not ok", f"{name}: {error}", "tagback x connect")
    async with sessions.begin() as session:
        await queries.record_usage(
            session,
            network=X,
            kind="user_read",
            units=1,
            price_microusd=settings.x_price_user_read_microusd,
            now=now(),
        )
    return Line("account", "ok", f"@{me.handle} ({me.id})")


def _scopes(connected: NetworkAccount) -> Line:
    if missing := [scope for scope in ACCOUNT_SCOPES if scope not in connected.scopes]:
        told = f"without {', '.join(missing)}: {', '.join(cannot_do(connected.scopes))}"
        return Line("scopes", "not ok", told, "tagback x connect, and allow all of it")
    return Line("scopes", "ok", " ".join(connected.scopes))


def cannot_do(scopes: list[str]) -> list[str]:
    wanted = {
        "cannot post": {"tweet.read", "tweet.write", "users.read"},
        "cannot answer messages": {"dm.read", "dm.write"},
        "cannot stay signed in": {"offline.access"},
    }
    return [what for what, needed in wanted.items() if not needed <= set(scopes)]


def _expiry(connected: NetworkAccount) -> Line:
    until = f"{connected.expires_at:%Y-%m-%d %H:%M} UTC"
    if connected.refresh_token is None:
        return Line("token", "not ok", f"ends {until}", "tagback x connect, and allow all of it")
    return Line("token", "ok", f"good until {until}, and renewed before")


# the app


async def _app_lines(settings: Settings, account_id: str | None) -> list[Line]:
    if settings.x_app_token is None:
        return [Line("app", "not set up", "nothing is heard from X", "set TAGBACK_X_APP_TOKEN")]
    async with open_app(settings) as client:
        activity = Activity(client)
        return [
            await _asked("subscriptions", _subscriptions(activity, settings, account_id)),
            await _asked("webhook", _webhook(activity, settings)),
            await _asked("rules", _rules(client, settings)),
            await _asked("connections", _connections(client)),
        ]


async def _listener_line(sessions: Sessions, settings: Settings) -> Line:
    async with sessions() as session:
        is_held = await lease_queries.is_held(session, name=LEASE)
    if is_held:
        return Line("listener", "ok", "one process listens")
    if settings.x_app_token is None or not (
        settings.x_hashtag_stream or settings.x_mentions_by != "off"
    ):
        return Line("listener", "not set up", "it has nothing to listen to")
    return Line("listener", "not ok", "no process listens", "tagback serve --roles listener")


async def _asked(name: str, question: Awaitable[Line]) -> Line:
    try:
        return await question
    except CallError as error:
        return Line(name, "not ok", error.detail, "is TAGBACK_X_APP_TOKEN the app's?")


async def _subscriptions(activity: Activity, settings: Settings, account_id: str | None) -> Line:
    found = await activity.read()
    ours = sorted({one.to.event_type for one in found if one.to.user_id == account_id})
    told = f"{len(found)}, of this account: {', '.join(ours) or 'none'}"
    if settings.x_mentions_by == "off":
        return Line("subscriptions", "ok" if found else "not set up", told)
    if MENTION not in ours:
        todo = "the listener subscribes when it starts: tagback serve --roles listener"
        return Line("subscriptions", "not ok", told, todo)
    return Line("subscriptions", "ok", told)


async def _webhook(activity: Activity, settings: Settings) -> Line:
    try:
        way = way_of_events(settings)
    except SettingsError as error:
        return Line("webhook", "not ok", str(error), "set them, or another TAGBACK_X_MENTIONS_BY")
    found = await activity.webhooks()
    if way != "webhook":
        told = "X tells by stream" if way == "stream" else "nothing is heard"
        if found:
            told += f"; {found[0].url} is not used"
        return Line("webhook", "not set up", told)
    wanted = webhook_url(settings)
    mine = next((one for one in found if one.url == wanted), None)
    if mine is None:
        todo = "the listener registers it when it starts: tagback serve --roles listener"
        return Line("webhook", "not ok", f"X has none at {wanted}", todo)
    if not mine.valid:
        todo = "X must reach it by https: is the API up, and TAGBACK_X_CONSUMER_SECRET right?"
        return Line("webhook", "not ok", f"{mine.url} is not valid", todo)
    return Line("webhook", "ok", mine.url)


async def _rules(client: httpx.AsyncClient, settings: Settings) -> Line:
    rules = await StreamRules(client, rules_max=settings.x_stream_rules_max).read()
    told = f"{len(rules):,} of the filtered stream"
    if not settings.x_hashtag_stream:
        return Line("rules", "not set up", f"{told}; only mentions are heard")
    if not rules:
        return Line("rules", "not ok", told, "is an offer live? The listener makes its rules")
    return Line("rules", "ok", told)


async def _connections(client: httpx.AsyncClient) -> Line:
    found = [one.endpoint_name for one in await open_connections(client)]
    return Line("connections", "ok", f"{len(found)} open: {', '.join(found) or 'none'}")


# what may still be sent


async def _limit_lines(sessions: Sessions) -> list[Line]:
    async with sessions() as session:
        found = (await service.summary(session))["windows"].get(X, {})
    return [_limit_line(channel, window) for channel, window in found.items()]


def _limit_line(channel: str, window: dict[str, Any]) -> Line:
    name = {"post": "posts", "dm": "messages"}[channel]
    if window["stopped_reason"]:
        return Line(
            name, "not ok", f"stopped: {window['stopped_reason']}", "tagback replies resume"
        )
    if window["held_reason"]:
        todo = "raise TAGBACK_X_MONTHLY_CEILING_USD, or wait for the next month"
        return Line(name, "not ok", window["held_reason"], todo)
    told = (
        f"{window['remaining']:,} more until {window['resets_at']:%H:%M}, "
        f"{window['day_remaining']:,} until {window['day_resets_at']:%Y-%m-%d %H:%M} UTC"
    )
    return Line(name, "ok", told)


async def _money_line(sessions: Sessions, settings: Settings) -> Line:
    month = Month.of(now())
    async with sessions() as session:
        spent = await sending.spent_in(session, network=X, month=month)
    told = f"${spent.all / _DOLLAR:,.2f} in {month}"
    ceilings = sending.ceilings_of(settings)
    if ceilings is None:
        return Line("money", "not set up", told, "TAGBACK_X_MONTHLY_CEILING_USD sets a ceiling")
    told += f" of ${ceilings.all / _DOLLAR:,.2f}"
    if spent.all >= ceilings.all:
        return Line("money", "not ok", told, "raise TAGBACK_X_MONTHLY_CEILING_USD, or wait")
    return Line("money", "ok", told)
