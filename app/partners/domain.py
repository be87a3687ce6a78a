"""Whose place is it: decided over plain values."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.partners.schemas import MerchantLine

Place = tuple[str, str]  # acquirer id, acceptor id


class Claim(NamedTuple):
    """What one line of a file comes to. `reason` tells why it was not taken."""

    line: MerchantLine
    reason: str | None = None


def settle_claims(lines: Sequence[MerchantLine], confirmed: Mapping[Place, str]) -> list[Claim]:
    """`confirmed` tells whose each place is already, by the partner's ref. The first line to name
    a free place has it; a later line of the same partner corrects the first.
    """
    owners = dict(confirmed)
    claims = []
    for line in lines:
        owner = owners.setdefault((line.acquirer_id, line.acceptor_id), line.partner)
        reason = None if owner == line.partner else "confirmed for another partner"
        claims.append(Claim(line, reason))
    return claims
