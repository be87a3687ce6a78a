"""`tagback sandbox`: a small X of one's own."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import SecretStr

from app.cli.roles import address, open_socket
from app.cli.running import run
from app.config import Settings, get_settings
from app.errors import TagbackError
from app.sandbox.faults import OPTIONS, PUSH_KINDS, REQUEST_KINDS, parse_fault
from app.sandbox.main import SandboxServer, SandboxSettings


def _lines_of(meanings: Mapping[str, str]) -> str:
    return "\n".join(f"  {name:24}{meaning}" for name, meaning in meanings.items())


_PLAIN = SandboxSettings()
_FAULTS_TAUGHT = f"""KIND[@PLACE][,option=value…]

Of what is pushed, PLACE being filtered_stream, activity_stream, webhook, or push for any:
{_lines_of(PUSH_KINDS)}

Of requests, PLACE being a route as in "POST /2/tweets", or request for any:
{_lines_of(REQUEST_KINDS)}

Options:
{_lines_of(OPTIONS)}"""


Profile = Annotated[
    Literal["self_serve", "enterprise"],
    typer.Option(help="X's limits and mention rule, or room for anything."),
]
Data = Annotated[
    Path | None,
    typer.Option(help="A file that keeps people, posts, replies and rules over a restart."),
]
TagbackUrl = Annotated[
    str | None,
    typer.Option(
        help="Where the issuer's links lead; not given, TAGBACK_PUBLIC_URL or port 8000 here."
    ),
]
RedirectUris = Annotated[
    list[str] | None,
    typer.Option(
        help="Where people may be sent back to after signing in, to the letter; may be given"
        " again. Not given, any address of this machine."
    ),
]
Lingers = Annotated[
    float, typer.Option(min=0, help="How long a stream that broke counts as a connection.")
]
RulesEffective = Annotated[
    float, typer.Option(min=0, help="How long a stream rule takes to be heeded. X: about 20.")
]
SearchDelay = Annotated[
    float, typer.Option(min=0, help="How old a post is before mentions and search find it.")
]
Window = Annotated[
    int, typer.Option(min=1, help="How long a quarter of an hour of the rate limits is.")
]
FieldNames = Annotated[
    Literal["2.166", "2.167"],
    typer.Option(help="Names of fields as in this edition of X's OpenAPI document."),
]
ProblemHost = Annotated[
    Literal["api.twitter.com", "api.x.com", "alternating"],
    typer.Option(help="Where the types of X's problems are."),
]
Faults = Annotated[
    list[str] | None,
    typer.Option(
        help="Something that goes wrong: KIND[@PLACE][,option=value…]; may be given again."
        " `--fault list` teaches them."
    ),
]


def sandbox(
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 is a free one.")] = 8100,
    profile: Profile = _PLAIN.profile,
    data: Data = None,
    tagback_url: TagbackUrl = None,
    redirect_uri: RedirectUris = None,
    connection_lingers_seconds: Lingers = _PLAIN.connection_lingers_seconds,
    rules_effective_seconds: RulesEffective = _PLAIN.rules_effective_seconds,
    search_delay_seconds: SearchDelay = _PLAIN.search_delay_seconds,
    window_seconds: Window = _PLAIN.window_seconds,
    field_names: FieldNames = _PLAIN.field_names,
    problem_host: ProblemHost = _PLAIN.problem_host,
    fault: Faults = None,
) -> None:
    """Run a stand-in for X on this machine, with a timeline to look at and to post on.

    Point the service at it with TAGBACK_X_BASE_URL. It takes what the service is given by
    TAGBACK_X_APP_TOKEN, TAGBACK_X_USER_TOKEN, TAGBACK_X_CONSUMER_SECRET, TAGBACK_X_CLIENT_ID,
    TAGBACK_X_CLIENT_SECRET, TAGBACK_X_ACCOUNT_ID, TAGBACK_X_HANDLE and TAGBACK_HANDOFF_SECRET.

    Pages: / is the timeline, /issuer makes hand-off links in place of a bank's app.

    To make things happen: POST /sandbox/people, /sandbox/posts and /sandbox/messages; DELETE
    /sandbox/posts/{id} and /sandbox/people/{id}/grants. To see what became of them: GET
    /sandbox/state, /sandbox/replies and /sandbox/messages.

    While it runs, faults come and go by POST, GET and DELETE /sandbox/faults.

    Example: tagback sandbox --profile enterprise --data /tmp/x.ndjson

    Example: tagback sandbox --fault "drop@filtered_stream,times=forever,probability=0.001"
    """
    if "list" in (fault or ()):
        print(_FAULTS_TAUGHT)
        return
    settings = get_settings()
    try:
        told = SandboxSettings(
            profile=profile,
            data_file=data,
            redirect_uris=tuple(redirect_uri or ()),
            connection_lingers_seconds=connection_lingers_seconds,
            rules_effective_seconds=rules_effective_seconds,
            search_delay_seconds=search_delay_seconds,
            window_seconds=window_seconds,
            field_names=field_names,
            problem_host=problem_host,
            faults=tuple(map(parse_fault, fault or ())),
        )
        told = replace(told, **_shared(settings), tagback_url=_tagback_url(tagback_url, settings))
        server = SandboxServer(told, port=port)
    except ValueError as error:
        raise TagbackError(str(error)) from error
    run(_serve(server, port))


async def _serve(server: SandboxServer, port: int) -> None:
    with open_socket("127.0.0.1", port) as listening:
        print(f"The stand-in for X is ready at {address(listening)}", flush=True)
        await server.serve(sockets=[listening])


def _shared(settings: Settings) -> dict[str, Any]:
    """What the service is given too; what is not given stays well known."""
    shared: dict[str, str | SecretStr | None] = {
        "account_id": settings.x_account_id,
        "handle": settings.x_handle,
        "app_token": settings.x_app_token,
        "user_token": settings.x_user_token,
        "consumer_secret": settings.x_consumer_secret,
        "client_id": settings.x_client_id,
        "client_secret": settings.x_client_secret,
        "handoff_secret": settings.handoff_secret,
    }
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in shared.items()
        if value
    }


def _tagback_url(given: str | None, settings: Settings) -> str:
    if given or settings.public_url:
        return given or str(settings.public_url)
    return _PLAIN.tagback_url
