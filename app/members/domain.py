"""What a batch of member lines changes, decided over plain values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

from app.kit.ids import new_id
from app.members.schemas import CardIn, MemberLine

CLOCKS_DIFFER_MAX = timedelta(minutes=5)

Outcome = Literal["created", "changed", "unchanged", "rejected"]
RejectionCode = Literal["consent_in_future", "member_erased", "account_taken", "card_taken"]

_REASONS: dict[RejectionCode, str] = {
    "consent_in_future": "consented_at is in the future",
    "member_erased": "the member was erased after this consent",
    "account_taken": "the account belongs to another member",
    "card_taken": "the card belongs to another member",
}


class SavedMember(NamedTuple):
    """`code` and `reason` are set when the line was rejected."""

    outcome: Outcome
    member_id: UUID | None = None
    code: RejectionCode | None = None
    reason: str | None = None


class Summary(NamedTuple):
    purchases: int
    first_at: datetime
    last_at: datetime


@dataclass(slots=True)
class MemberState:
    id: UUID
    ref: str
    locale: str | None
    time_zone: str | None
    country: str | None
    opted_out_at: datetime | None
    is_new: bool = False
    is_changed: bool = False


@dataclass(slots=True)
class AccountState:
    network: str
    account_id: str
    member_id: UUID
    handle: str | None
    is_new: bool = False
    is_changed: bool = False


@dataclass(slots=True)
class CardState:
    ref: str
    member_id: UUID
    network: str | None
    last4: str | None
    is_new: bool = False
    is_changed: bool = False


@dataclass(slots=True)
class Enrolment:
    """What is known of the names in a batch; `take` brings it to what the batch makes of it."""

    members: dict[str, MemberState]
    accounts: dict[tuple[str, str], AccountState]
    cards: dict[str, CardState]
    consents: set[tuple[UUID, datetime]]
    unlinked: Mapping[tuple[str, str, UUID], datetime]
    erased: Mapping[str, datetime]  # when members of these refs were, also of who is here again
    new_consents: list[tuple[UUID, datetime]] = field(default_factory=list)

    def take(self, line: MemberLine, *, now: datetime) -> SavedMember:
        """A line that is rejected leaves everything as it was."""
        member = self.members.get(line.member_ref)
        account = self.accounts.get((line.account.network, line.account.id))
        card = self.cards.get(line.card.card_ref)
        if line.consented_at > now + CLOCKS_DIFFER_MAX:
            return _rejected("consent_in_future")
        erased_at = self.erased.get(line.member_ref)
        if erased_at is not None and line.consented_at <= erased_at:
            return _rejected("member_erased")
        if account and (member is None or account.member_id != member.id):
            return _rejected("account_taken")
        if card and (member is None or card.member_id != member.id):
            return _rejected("card_taken")
        is_new = member is None
        if member is None:
            member = MemberState(
                new_id(),
                line.member_ref,
                line.locale,
                line.time_zone,
                line.country,
                opted_out_at=None,
                is_new=True,
            )
            self.members[line.member_ref] = member
        changes = [
            self._consent(member, line.consented_at),
            _update(member, locale=line.locale, time_zone=line.time_zone, country=line.country),
            self._link(member, account, line),
            self._add(member, card, line.card),
        ]
        if is_new:
            outcome: Outcome = "created"
        else:
            outcome = "changed" if any(changes) else "unchanged"
        return SavedMember(outcome, member.id)

    def _consent(self, member: MemberState, at: datetime) -> bool:
        if (member.id, at) in self.consents:
            return False
        self.consents.add((member.id, at))
        self.new_consents.append((member.id, at))
        if member.opted_out_at is not None and at > member.opted_out_at:
            member.opted_out_at = None
            member.is_changed = True
        return True

    def _link(self, member: MemberState, known: AccountState | None, line: MemberLine) -> bool:
        given = line.account
        if known is not None:
            return _update(known, handle=given.handle)
        # What a member has unlinked stays so, unless he has consented since.
        unlinked_at = self.unlinked.get((given.network, given.id, member.id))
        if unlinked_at is not None and line.consented_at <= unlinked_at:
            return False
        self.accounts[given.network, given.id] = AccountState(
            given.network, given.id, member.id, given.handle, is_new=True
        )
        return True

    def _add(self, member: MemberState, known: CardState | None, given: CardIn) -> bool:
        # A card that was replaced or removed since stays so: the file may be an old one.
        if known is not None:
            return _update(known, network=given.network, last4=given.last4)
        self.cards[given.card_ref] = CardState(
            given.card_ref, member.id, given.network, given.last4, is_new=True
        )
        return True


def _rejected(code: RejectionCode) -> SavedMember:
    return SavedMember("rejected", code=code, reason=_REASONS[code])


def _update(state: MemberState | AccountState | CardState, **given: str | None) -> bool:
    """What a line leaves out stays as it is."""
    changed = {
        name: value
        for name, value in given.items()
        if value is not None and getattr(state, name) != value
    }
    for name, value in changed.items():
        setattr(state, name, value)
    state.is_changed = state.is_changed or bool(changed)
    return bool(changed)


def summarise(
    purchases: Iterable[tuple[UUID, UUID, datetime]],
) -> dict[tuple[UUID, UUID], Summary]:
    """By member and partner, in that order: whoever writes them all locks rows in one order."""
    found: dict[tuple[UUID, UUID], Summary] = {}
    for member_id, partner_id, at in purchases:
        known = found.get((member_id, partner_id), Summary(0, at, at))
        found[member_id, partner_id] = Summary(
            known.purchases + 1, min(known.first_at, at), max(known.last_at, at)
        )
    return dict(sorted(found.items()))
