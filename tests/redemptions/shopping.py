"""A purchase and its coupons as plain values, event by event."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from app.offers.terms import largest_reward
from app.redemptions.domain import (
    Coupon,
    Event,
    Purchase,
    Redemption,
    Sums,
    TransactionType,
    account,
    decide,
    happen,
)
from tests.builders import NOON, PARTNER_ID, SHOP_ID, make_terms

OTHER_SHOP_ID = UUID(int=0xC)


def make_coupon(number: int = 1, **changes: Any) -> Coupon:
    """Loaded an hour before NOON, good for 30 days, for one purchase; terms may be changed too."""
    of_terms = {name: changes.pop(name) for name in list(changes) if hasattr(make_terms(), name)}
    terms = make_terms(offer_id=UUID(int=number), **of_terms)
    uses_max = terms.redemptions_per_coupon
    usual = Coupon(
        id=UUID(int=number),
        terms=terms,
        posted_at=NOON - timedelta(hours=1),
        valid_until=NOON + timedelta(days=30),
        reserved_minor=largest_reward(terms) * uses_max,
        spent_minor=0,
        uses=0,
        uses_max=uses_max,
        is_closed=False,
    )
    return usual._replace(**changes)


def happened(
    event_type: TransactionType, amount_minor: int, *, after: timedelta = timedelta(), **where: Any
) -> Event:
    return Event(
        type=event_type,
        amount_minor=amount_minor,
        occurred_at=where.get("at", NOON + after),
        card_ref="card-1",
        acceptor_id=where.get("acceptor_id", SHOP_ID),
        channel=where.get("channel", "in_store"),
        mcc=where.get("mcc", "5812"),
    )


class Shopping:
    """A purchase and the coupons of its member, event by event."""

    def __init__(self, *coupons: Coupon, currency: str = "USD") -> None:
        self.coupons = {coupon.id: coupon for coupon in coupons}
        self.currency = currency
        self.purchase: Purchase | None = None
        self.redemption: Redemption | None = None

    def take(self, *events: Event) -> Redemption | None:
        for event in events:
            before = self.purchase or Purchase(
                id=UUID(int=0xD),
                ref="p-1",
                member_id=UUID(int=0xE),
                partner_id=PARTNER_ID,
                currency=self.currency,
                occurred_at=event.occurred_at,
                card_ref=event.card_ref,
                acceptor_id=event.acceptor_id,
                channel=event.channel,
                customer_kind="new",
            )
            after = happen(before, event)
            redemption = decide(
                before=before,
                after=after,
                redemption=self.redemption,
                coupons=list(self.coupons.values()),
            )
            self.coupons |= account(self.coupons, before=self.redemption, after=redemption)
            self.purchase, self.redemption = after, redemption
            for coupon in self.coupons.values():
                assert 0 <= coupon.spent_minor <= coupon.reserved_minor
                assert 0 <= coupon.uses <= coupon.uses_max
        return self.redemption

    @property
    def sums(self) -> Sums:
        assert self.purchase is not None
        return self.purchase.sums

    def told(self) -> tuple[str | None, str | None, int]:
        """State, reason and what is owed."""
        if self.redemption is None:
            return None, None, 0
        return self.redemption.state, self.redemption.reason, self.redemption.owed_minor


def told_after(coupon: Coupon, *events: Event, currency: str = "USD") -> tuple[Any, Any, int]:
    shopping = Shopping(coupon, currency=currency)
    shopping.take(*events)
    return shopping.told()
