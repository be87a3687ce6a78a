"""`tagback serve`."""

from typing import Annotated

import typer

from app.cli.roles import ROLES, serve_roles
from app.cli.running import run
from app.config import get_settings
from app.errors import TagbackError


class UnknownRole(TagbackError):
    code = "unknown_role"


def serve(
    *,
    roles: Annotated[
        str | None, typer.Option(help=f"Which of {', '.join(ROLES)}; all of them if unset.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Overrides TAGBACK_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Overrides TAGBACK_PORT; 0 is a free one.")
    ] = None,
) -> None:
    """Run the service until it is told to stop.

    Example: tagback serve

    Example: tagback serve --roles api --host 0.0.0.0 --port 8080
    """
    chosen = list(ROLES) if roles is None else [role.strip() for role in roles.split(",")]
    for role in chosen:
        if role not in ROLES:
            raise UnknownRole(f"no role {role!r}, only {', '.join(ROLES)}")
    given = {"host": host, "port": port}
    settings = get_settings().model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    run(serve_roles(settings, list(dict.fromkeys(chosen))))
