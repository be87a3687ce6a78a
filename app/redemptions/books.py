"""What the database knew of a batch once its rows were locked, and what the batch makes of it.
No I/O: the events are decided one after the other, each on what those before it have left.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from app.kit.ids import new_id
from app.ledger.service import Reward
from app.offers.terms import customer_kind
from app.partners.service import ConfirmedPlace
from app.redemptions.domain import (
    Coupon,
    Event,
    Purchase,
    account,
    decide,
    find_refunded,
    happen,
    lapse,
    net,
)
from app.redemptions.queries import KnownRedemption, NewTransaction
from app.redemptions.transactions import (
    Answer,
    AnswerStatus,
    IgnoredReason,
    RejectedReason,
    Transaction,
)

# A thousand events of the largest amount: no purchase, and near to what the database can hold.
SUM_MINOR_MAX = 10**18

Pair = tuple[UUID, UUID]  # member, partner


class Holder(NamedTuple):
    """Of a former holder only the purchases he made while his card was linked are still looked
    after: what he was credited for may yet be refunded.
    """

    member_id: UUID
    is_former: bool


@dataclass(slots=True)
class Books:
    now: datetime
    seen: dict[str, tuple[Transaction, Answer]]
    holders: dict[str, Holder]  # by card ref
    places: dict[tuple[str, str], ConfirmedPlace]  # by acquirer id and acceptor id
    purchases: dict[str, Purchase] = field(default_factory=dict)  # by ref
    new_purchases: set[UUID] = field(default_factory=set)
    redemptions: dict[UUID, KnownRedemption] = field(default_factory=dict)  # by purchase
    coupons: dict[Pair, dict[UUID, Coupon]] = field(default_factory=dict)
    last_purchase_at: dict[Pair, datetime] = field(default_factory=dict)
    by_card: dict[tuple[str, UUID], list[str]] = field(default_factory=lambda: defaultdict(list))

    # what is to be written
    transactions: list[NewTransaction] = field(default_factory=list)
    touched: dict[UUID, str] = field(default_factory=dict)  # purchases: their refs by id
    touched_coupons: dict[UUID, Coupon] = field(default_factory=dict)
    rewards: list[Reward] = field(default_factory=list)
    first_cleared: list[tuple[UUID, UUID, datetime]] = field(default_factory=list)
    # redemptions that are news to a partner who wants to be told
    news: set[UUID] = field(default_factory=set)

    def add_purchases(self, purchases: Iterable[Purchase]) -> None:
        for purchase in purchases:
            self.purchases[purchase.ref] = purchase
            self.by_card[purchase.card_ref, purchase.partner_id].append(purchase.ref)

    def take(self, transaction: Transaction) -> Answer:
        known = self.seen.get(transaction.id)
        if known is not None:
            return known[1] if known[0] == transaction else _rejected(transaction, "id_reused")
        holder = self.holders.get(transaction.card_ref)
        place = self.places.get((transaction.acquirer_id, transaction.acceptor_id))
        if holder is None:
            return _ignored(transaction, "not_linked")
        if place is None:
            return _ignored(transaction, "not_registered")
        purchase = self._purchase_of(transaction, place)
        if purchase is None and holder.is_former:
            return _ignored(transaction, "not_linked")
        answer = self._apply(transaction, holder, place, purchase)
        self.seen[transaction.id] = (transaction, answer)
        return answer

    def _purchase_of(self, transaction: Transaction, place: ConfirmedPlace) -> Purchase | None:
        if transaction.purchase_id is not None:
            return self.purchases.get(transaction.purchase_id)
        of_card = self.by_card.get((transaction.card_ref, place.partner_id), ())
        return find_refunded(
            (self.purchases[ref] for ref in of_card),
            amount_minor=transaction.amount_minor,
            currency=transaction.currency,
            refunded_at=transaction.occurred_at,
        )

    def _apply(
        self,
        transaction: Transaction,
        holder: Holder,
        place: ConfirmedPlace,
        before: Purchase | None,
    ) -> Answer:
        if before is None:
            answer = Answer(transaction.id, "unmatched", currency=transaction.currency)
            self._keep(transaction, place, None, answer)
            return answer
        named = (holder.member_id, place.partner_id, transaction.currency)
        if named != (before.member_id, before.partner_id, before.currency):
            return _rejected(transaction, "purchase_mismatch")
        after = happen(self._introduce(before), _event(transaction, place))
        if max(after.sums[:4]) > SUM_MINOR_MAX:
            return _rejected(transaction, "purchase_too_large")
        self._owe(transaction, after, self._settle(before, after))
        answer = self._answer(transaction, after)
        self._keep(transaction, place, after.id, answer)
        return answer

    def _introduce(self, purchase: Purchase) -> Purchase:
        """What kind of customer made it is said when it is first heard of."""
        if purchase.id not in self.new_purchases or purchase.id in self.touched:
            return purchase
        kind = customer_kind(
            last_purchase_at=self.last_purchase_at.get((purchase.member_id, purchase.partner_id)),
            at=purchase.occurred_at,
        )
        return purchase._replace(customer_kind=kind)

    def lapse(self, purchase: Purchase) -> bool:
        """Whether it did: another process may have been quicker, or a clearing. No money moves."""
        after = lapse(purchase, now=self.now)
        if after == purchase:
            return False
        difference_minor = self._settle(purchase, after)
        if difference_minor:
            raise AssertionError("a purchase that has not cleared owes nothing")
        return True

    def _settle(self, before: Purchase, after: Purchase) -> int:
        """By how much what the purchase owes has changed."""
        pair = (after.member_id, after.partner_id)
        coupons = self.coupons.get(pair, {})
        known = self.redemptions.get(after.id)
        held = None if known is None else known.redemption
        redemption = decide(before=before, after=after, redemption=held, coupons=coupons.values())
        changed = account(coupons, before=held, after=redemption)
        coupons |= changed
        self.touched_coupons |= changed
        self.purchases[after.ref] = after
        self.touched[after.id] = after.ref
        if before.sums.cleared_minor == 0 < after.sums.cleared_minor:
            self.first_cleared.append((*pair, after.occurred_at))
            last_at = self.last_purchase_at.get(pair, after.occurred_at)
            self.last_purchase_at[pair] = max(last_at, after.occurred_at)
        if redemption is None:
            return 0
        redemption_id = new_id() if known is None else known.id
        self.redemptions[after.id] = KnownRedemption(redemption_id, redemption)
        is_news = redemption != held or _kept_and_refunded(before) != _kept_and_refunded(after)
        if is_news and coupons[redemption.coupon_id].terms.has_webhooks:
            self.news.add(redemption_id)
        return redemption.owed_minor - (0 if held is None else held.owed_minor)

    def _owe(self, transaction: Transaction, purchase: Purchase, difference_minor: int) -> None:
        if difference_minor:
            self.rewards.append(
                Reward(
                    transaction_id=transaction.id,
                    redemption_id=self.redemptions[purchase.id].id,
                    partner_id=purchase.partner_id,
                    member_id=purchase.member_id,
                    amount_minor=difference_minor,
                    currency=purchase.currency,
                    at=self.now,
                )
            )

    def _answer(self, transaction: Transaction, purchase: Purchase) -> Answer:
        status: AnswerStatus = "applied"
        known = self.redemptions.get(purchase.id)
        if known is None:
            return Answer(
                transaction.id, status, purchase_id=purchase.ref, currency=purchase.currency
            )
        redemption = known.redemption
        coupon = self.coupons[purchase.member_id, purchase.partner_id][redemption.coupon_id]
        return Answer(
            id=transaction.id,
            status=status,
            decision=redemption.state,
            reason=redemption.reason,
            purchase_id=purchase.ref,
            coupon_id=str(coupon.id),
            offer_id=str(coupon.terms.offer_id),
            reward_minor=redemption.owed_minor,
            currency=purchase.currency,
        )

    def _keep(
        self,
        transaction: Transaction,
        place: ConfirmedPlace,
        purchase_id: UUID | None,
        answer: Answer,
    ) -> None:
        self.transactions.append(
            NewTransaction(
                id=transaction.id,
                type=transaction.type,
                purchase_ref=transaction.purchase_id,
                purchase_id=purchase_id,
                card_ref=transaction.card_ref,
                acceptor_id=place.acceptor_id,
                amount_minor=transaction.amount_minor,
                currency=transaction.currency,
                occurred_at=transaction.occurred_at,
                received_at=self.now,
                answer=msgspec.json.encode(answer).decode(),
            )
        )


def new_purchase(transaction: Transaction, holder: Holder, place: ConfirmedPlace) -> Purchase:
    """As it is before its first event; the kind of its customer is for the books to say."""
    if transaction.purchase_id is None:
        raise ValueError("a refund without a link makes no purchase")
    return Purchase(
        id=new_id(),
        ref=transaction.purchase_id,
        member_id=holder.member_id,
        partner_id=place.partner_id,
        currency=transaction.currency,
        occurred_at=transaction.occurred_at,
        card_ref=transaction.card_ref,
        acceptor_id=place.acceptor_id,
        channel=place.channel,
        customer_kind="new",
    )


def _kept_and_refunded(purchase: Purchase) -> tuple[int, int]:
    return net(purchase.sums), purchase.sums.cleared_minor


def _event(transaction: Transaction, place: ConfirmedPlace) -> Event:
    return Event(
        type=transaction.type,
        amount_minor=transaction.amount_minor,
        occurred_at=transaction.occurred_at,
        card_ref=transaction.card_ref,
        acceptor_id=place.acceptor_id,
        channel=place.channel,
        mcc=place.mcc,
    )


def _ignored(transaction: Transaction, reason: IgnoredReason) -> Answer:
    return Answer(transaction.id, "ignored", reason=reason)


def _rejected(transaction: Transaction, reason: RejectedReason) -> Answer:
    return Answer(transaction.id, "rejected", reason=reason)
