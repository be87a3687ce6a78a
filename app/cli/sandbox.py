"""`tagback sandbox`: a small X of one's own."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import SecretStr

from app.cli.roles import address, open_socket
from app.cli.running import run
from app.config import get_settings
from app.errors import TagbackError
from app.sandbox.main import SandboxServer, SandboxSettings


def sandbox(
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 is a free one.")] = 8100,
    profile: Annotated[
        Literal["self_serve", "enterprise"],
        typer.Option(help="X's limits and mention rule, or room for anything."),
    ] = "self_serve",
    data: Annotated[
        Path | None, typer.Option(help="A file that keeps posts and replies over a restart.")
    ] = None,
    field_names: Annotated[
        Literal["2.166", "2.167"],
        typer.Option(help="Names of fields as in this edition of X's OpenAPI document."),
    ] = "2.166",
) -> None:
    """Run a stand-in for X on this machine, with a timeline to look at and to post on.

    Point the service at it with TAGBACK_X_BASE_URL. It takes the tokens and the secret that the
    service is given by TAGBACK_X_APP_TOKEN, TAGBACK_X_USER_TOKEN and TAGBACK_X_CONSUMER_SECRET.

    Example: tagback sandbox --profile enterprise --data /tmp/x.ndjson
    """
    run(_serve(SandboxSettings(profile=profile, data_file=data, field_names=field_names), port))


async def _serve(plain: SandboxSettings, port: int) -> None:
    settings = get_settings()
    try:
        server = SandboxServer(
            replace(
                plain,
                account_id=settings.x_account_id or plain.account_id,
                handle=settings.x_handle or plain.handle,
                app_token=_given(settings.x_app_token) or plain.app_token,
                user_token=_given(settings.x_user_token) or plain.user_token,
                consumer_secret=_given(settings.x_consumer_secret) or plain.consumer_secret,
            ),
            port=port,
        )
    except ValueError as error:
        raise TagbackError(str(error)) from error
    with open_socket("127.0.0.1", port) as listening:
        print(f"The stand-in for X is ready at {address(listening)}", flush=True)
        await server.serve(sockets=[listening])


def _given(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
