"""The command line, one module per command group."""

import sys
from pkgutil import resolve_name

import typer

from app.errors import TagbackError

# Where each command is, and what `tagback --help` says of it: modules are imported only for the
# command that is asked for, so that help comes at once.
COMMANDS = {
    "serve": ("app.cli.serve:serve", "Run the service."),
    "import": ("app.cli.imports:import_file", "Load a file of members, merchants and more."),
    "export": ("app.cli.export:export", "Write redemptions, coupons, posts or credits."),
    "explain": ("app.cli.explain:app", "Say why a post or a transaction came to what it did."),
    "ledger": ("app.cli.ledger:app", "Verify that all adds up; adjust; invoice partners."),
    "attribution": ("app.cli.attribution:app", "Make the figures of attribution anew."),
    "offers": ("app.cli.offers:app", "Announce an offer; see what it would have done."),
    "replies": ("app.cli.replies:app", "Pause, resume and count replies."),
    "x": ("app.cli.x:app", "Connect the account on X; see what works and what it costs."),
    "jobs": ("app.cli.jobs:app", "Run what time does to offers, purchases and coupons."),
    "clock": ("app.cli.clock:app", "Show and move the test clock."),
    "members": ("app.cli.members:app", "Show or erase all that is kept of a member."),
    "keys": ("app.cli.keys:app", "Create, list, rotate and revoke API keys."),
    "audit": ("app.cli.audit:audit", "Show who changed what."),
    "demo": ("app.cli.demo.command:demo", "Watch the whole way, from posts to credits."),
    "sandbox": ("app.cli.sandbox:sandbox", "Run a stand-in for X."),
    "db": ("app.cli.db:app", "Bring the database's schema up to date."),
}
START = "Start here: tagback keys create --role operator, then tagback serve"


def make_app(wanted: str | None) -> typer.Typer:
    """Only the command `wanted` can be run; the others are there to be listed."""
    app = typer.Typer(
        name="tagback",
        help="A hashtag becomes money back on a card.",
        epilog=START,
        no_args_is_help=True,
        add_completion=False,
        # Rich tracebacks show variables, which hold keys and people's data.
        pretty_exceptions_enable=False,
    )
    for name, (target, summary) in COMMANDS.items():
        found = resolve_name(target) if name == wanted else _listed
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name, no_args_is_help=True)
        else:
            app.command(name, help=None if name == wanted else summary)(found)
    return app


def _listed() -> None:
    raise AssertionError("a command that is only listed was run")


def main() -> None:
    wanted = next((given for given in sys.argv[1:] if not given.startswith("-")), None)
    try:
        make_app(wanted)()
    except TagbackError as error:
        print(f"tagback: {error.detail}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("tagback: stopped", file=sys.stderr)
        sys.exit(130)
