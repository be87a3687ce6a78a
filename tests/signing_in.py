"""The programme's account, connected at the stand-in as an operator connects it."""

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr
from sqlalchemy import text

from app.config import Settings
from app.kit import clock
from app.kit.db import Sessions
from app.kit.sealing import new_key
from app.networks import accounts
from app.networks.x.oauth import ACCOUNT_SCOPES, open_sign_in
from app.secret_keys import sealer_of
from tests.stand_in import StandIn

REDIRECT = "http://127.0.0.1:8723/callback"
LIFE = timedelta(hours=2)


async def allow(x: StandIn, url: str, *, decision: str = "allow") -> str:
    """The address that the person who opens `url` is sent back to."""
    form = {**dict(parse_qsl(urlsplit(url).query)), "handle": "TagbackDemo", "decision": decision}
    answer = await x.client.post("/i/oauth2/authorize", data=form)
    assert answer.status_code == 302, answer.text
    return str(answer.headers["location"])


def connectable(x: StandIn, **changed: Any) -> Settings:
    """Of a service that knows the app, and no token."""
    update = {
        "x_user_token": None,
        "x_account_id": None,
        "x_client_id": "sandbox-client-id",
        "x_client_secret": SecretStr("sandbox-client-secret"),
        "secret_keys": SecretStr(new_key()),
        **changed,
    }
    return x.settings.model_copy(update=update)


async def connect_at(
    x: StandIn, sessions: Sessions, *scopes: str, life: timedelta = LIFE, **changed: Any
) -> Settings:
    """`life`: how much of its two hours the token has left."""
    settings = connectable(x, **changed)
    async with open_sign_in(settings) as sign_in:
        begun = sign_in.begin(redirect_uri=REDIRECT, scopes=scopes or ACCOUNT_SCOPES)
        back = dict(parse_qsl(urlsplit(await allow(x, begun.url)).query))
        tokens = await sign_in.exchange(
            back["code"], verifier=begun.verifier, redirect_uri=REDIRECT, now=clock.now()
        )
        person = await sign_in.whoami(tokens.access_token)
    async with sessions.begin() as session:
        await accounts.connect(
            session, person=person, tokens=tokens, sealer=sealer_of(settings), now=clock.now()
        )
    await age(sessions, life)
    return settings


async def age(sessions: Sessions, left: timedelta) -> None:
    """The time that is left of the token's life, as far as is known here."""
    now = clock.now()
    async with sessions.begin() as session:
        await session.execute(
            text("UPDATE network_accounts SET expires_at = :until, updated_at = :since"),
            {"until": now + left, "since": now + left - LIFE},
        )


async def account_row(sessions: Sessions) -> dict[str, Any]:
    async with sessions() as session:
        found = await session.execute(text("SELECT * FROM network_accounts"))
        return dict(found.mappings().one())
