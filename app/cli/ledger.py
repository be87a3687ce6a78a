"""`tagback ledger`: does it all add up?"""

import typer

from app.cli.running import run
from app.config import get_settings
from app.database import open_sessions
from app.insight import verify as checks
from app.insight.verify import Finding

app = typer.Typer(help="Verify that money, counters and rows agree.")


@app.command()
def verify() -> None:
    """Make every sum again from what it is made of, and say what does not agree.

    Nothing is changed; it may run while the service does. Exit status 1 when something is wrong.

    Example: tagback ledger verify
    """
    findings = run(_verify())
    for finding in findings:
        print(_describe(finding))
    wrong = sum(finding.wrong for finding in findings)
    checked = sum(finding.checked for finding in findings)
    print(f"{wrong:,} of {checked:,} wrong" if wrong else f"{checked:,} checked, all agree")
    if wrong:
        raise typer.Exit(1)


def _describe(finding: Finding) -> str:
    if not finding.wrong:
        return f"ok     {finding.checked:>11,}  {finding.name}"
    lines = [f"WRONG  {finding.wrong:>11,}  of {finding.checked:,}: {finding.name}"]
    lines += [f"       {example}" for example in finding.examples]
    if finding.wrong > len(finding.examples):
        lines.append(f"       and {finding.wrong - len(finding.examples):,} more")
    return "\n".join(lines)


async def _verify() -> list[Finding]:
    async with open_sessions(get_settings()) as sessions, sessions.begin() as session:
        return await checks.verify(session)
