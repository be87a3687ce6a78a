"""`tagback ledger`: does it all add up, what do partners owe, and money outside the rules."""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import typer
from pydantic import ValidationError

from app.cli.keys import ACTOR
from app.cli.running import run
from app.config import get_settings
from app.database import open_sessions
from app.errors import Invalid
from app.insight import verify as checks
from app.insight.verify import Finding
from app.kit import fields, money
from app.kit.clock import now
from app.ledger import adjustments, invoices
from app.ledger.adjustments import FundedBy, NewAdjustment
from app.ledger.invoices import Month
from app.ledger.schemas import AdjustmentIn, InvoiceOut
from app.members import service as members
from app.partners import service as partners

app = typer.Typer(help="Verify that all adds up; adjust; invoice partners.")


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


@app.command()
def adjust(
    *,
    ref: Annotated[str, typer.Option(help="Your own name for it: a retry pays nothing twice.")],
    member: Annotated[str, typer.Option(help="The member's ref or id.")],
    amount_minor: Annotated[
        int, typer.Option(help="In minor units: 500 is $5.00; -500 takes $5.00 back.")
    ],
    currency: Annotated[str, typer.Option(help="ISO 4217, as in USD.")],
    funded_by: Annotated[FundedBy, typer.Option(help="Who pays, or gets it back.")],
    reason: Annotated[str, typer.Option(help="One line, kept in the ledger for good.")],
    partner: Annotated[
        str | None, typer.Option(help="Ref or id: needed when a partner pays.")
    ] = None,
    redemption: Annotated[
        UUID | None, typer.Option(metavar="ID", help="What it is about; its partner is known.")
    ] = None,
) -> None:
    """Give a member money outside the rules, or take it back.

    It is written to the ledger at once, cannot be changed, and reaches the card by the next credit
    batch. To undo one, make another of the opposite amount. Not sure whether it went through? Run
    the same command again: the same ref is paid once, and with other contents it is refused.

    Example: tagback ledger adjust --ref case-117 --member M1 --amount-minor 500 --currency USD
    --funded-by programme --reason "Coupon did not load"

    Example: tagback ledger adjust --ref case-118 --member M1 --amount-minor -500 --currency USD
    --funded-by partner --partner corner-coffee --reason "Paid by mistake"
    """
    given: dict[str, Any] = {
        "ref": ref,
        "amount_minor": amount_minor,
        "currency": currency,
        "funded_by": funded_by,
        "reason": reason,
        "redemption_id": redemption,
    }
    adjustment_id, is_new = run(_adjust(given, member, partner))
    amount = money.display(amount_minor, currency)
    print(f"{amount} to {member}, adjustment {adjustment_id}{'' if is_new else ', made before'}")


async def _adjust(given: dict[str, Any], member: str, partner: str | None) -> tuple[UUID, bool]:
    async with open_sessions(get_settings()) as sessions, sessions.begin() as session:
        given["member_id"] = (await members.find_member(session, ref_or_id=member)).id
        if partner is not None:
            given["partner_id"] = (await partners.find_partner(session, ref_or_id=partner)).id
        try:
            wanted = AdjustmentIn.model_validate(given)
        except ValidationError as error:
            raise Invalid(fields.explain(error)) from None
        adjustment, is_new = await adjustments.adjust(
            session, given=NewAdjustment(**wanted.model_dump()), operator=ACTOR, now=now()
        )
        return adjustment.id, is_new


@app.command()
def invoice(
    *,
    month: Annotated[
        str | None, typer.Option(help="Of UTC, as in 2026-07; the last one if unset.")
    ] = None,
    partner: Annotated[str | None, typer.Option(help="Ref or id of one; all if unset.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show what each partner owes for a month: rewards, less those taken back, and adjustments.

    It is read from the ledger's transfers: an hour after the month is over it is final, and all
    months together are the balance of what partners owe.

    Example: tagback ledger invoice --month 2026-07

    Example: tagback ledger invoice --month 2026-07 --json > invoices.ndjson
    """
    wanted = month or f"{now().replace(day=1) - timedelta(days=1):%Y-%m}"
    rows = run(_invoices(wanted, partner))
    if as_json:
        for row in rows:
            print(row.model_dump_json())
        return
    heads = ("partner", "rewards", "taken back", "adjustments", "payable", "redemptions")
    lines = [heads, *(_invoice_line(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    for name, *figures in lines:
        shown = "  ".join(
            figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)
        )
        print(f"{name.ljust(widths[0])}  {shown}")
    final = "" if Month.parse(wanted).is_final(now()) else ", not final yet"
    print(f"{wanted}: {len(rows)} invoice{'' if len(rows) == 1 else 's'}{final}")


async def _invoices(month: str, partner: str | None) -> list[InvoiceOut]:
    wanted = Month.parse(month)
    async with open_sessions(get_settings()) as sessions, sessions() as session:
        whose = None
        if partner is not None:
            whose = (await partners.find_partner(session, ref_or_id=partner)).id
        rows = await invoices.invoices(session, month=wanted, partner_id=whose)
        is_final = wanted.is_final(now())
        return [InvoiceOut.of(row, month=month, is_final=is_final) for row in rows]


def _invoice_line(row: InvoiceOut) -> tuple[str, ...]:
    amounts = (row.rewards_minor, row.taken_back_minor, row.adjustments_minor, row.payable_minor)
    shown = (money.display(amount, row.currency) for amount in amounts)
    return row.partner, *shown, f"{row.redemptions:,}"
