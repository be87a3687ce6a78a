"""Random steps, interleaved, on the model and on the service; after each the two must agree."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    multiple,
    precondition,
    rule,
)

from tests.money.model import Model
from tests.money.service import Service
from tests.money.things import DAY, Adjustment, Event, Kind, Offer, Post, Purchase, Shop, Terms

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
MANY = 8  # what ends things comes when there is something to end
MOMENT = timedelta(microseconds=1)  # no two things happen at once
MEMBERS = {"ann": ["ann-1", "ann-2"], "bob": ["bob-1"]}
STRANGER, STRANGERS_CARD = "zoe", "zoe-1"
SHOPS = [
    Shop("cafe", "grove", "in_store", 7),
    Shop("web", "grove", "online", 7),
    Shop("inn", "grove", "in_store", 30),
    Shop("bakery", "mill", "in_store", 7),
]
CARDS = ["ann-1", "ann-1", "ann-2", "bob-1", "bob-1", STRANGERS_CARD]

amounts = st.sampled_from([1_000, 2_000, 5_000, 333, 1, 99_999])
currencies = st.sampled_from(["USD", "USD", "USD", "JPY"])
ages = st.sampled_from([0, 0, 0, 0, 0, 1, 6, 20, 45, 170]).map(lambda days: days * DAY)
later_kinds = st.sampled_from(
    ["refund", "refund", "clearing", "reversal", "chargeback", "authorization", "decline"]
)
rewards = st.sampled_from([(500, None, 0), (None, 1_000, 300), (None, 333, 5_000)])


@st.composite
def terms(draw: st.DrawFn, *, for_all: bool = False) -> Terms:
    """`for_all`: what most can load and use."""
    fixed, basis_points, most = draw(rewards)
    return Terms(
        currency="USD" if for_all else draw(currencies),
        fixed=fixed,
        basis_points=basis_points or 0,
        most=most,
        min_spend=draw(st.sampled_from([0, 0, 1_500])),
        channel=draw(st.sampled_from(["any", "any", "any", "in_store", "online"])),
        shops=draw(st.sampled_from([None, None, frozenset({"cafe", "web"})])),
        valid_days=90 if for_all else draw(st.sampled_from([30, 30, 30, 90, 7, 0])),
        uses=draw(st.sampled_from([1, 2, 3])),
        burns=draw(st.booleans()),
        customers=None
        if for_all
        else draw(st.sampled_from([None] * 7 + ["new", "returning", "lapsed"])),
    )


def _of_own_shops(terms: Terms, partner: str) -> Terms:
    own = {shop.name for shop in SHOPS if shop.partner == partner}
    return terms if terms.shops is None or terms.shops <= own else terms._replace(shops=None)


class MoneyMachine(RuleBasedStateMachine):
    """`open_service` gives a service whose database is empty."""

    open_service: Callable[[], Service]

    offers = Bundle("offers")
    posts = Bundle("posts")
    purchases = Bundle("purchases")
    transactions = Bundle("transactions")

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.model = Model(MEMBERS, SHOPS)
        self.service = type(self).open_service()
        self.service.open_shops(SHOPS, START)
        self.service.enrol(MEMBERS, START)
        self.made = 0
        self.in_flight: list[int] = []

    def _tick(self) -> datetime:
        self.now += MOMENT
        return self.now

    def _name(self, prefix: str) -> str:
        self.made += 1
        return f"{prefix}{self.made}"

    @initialize(
        target=offers,
        of_grove=st.lists(terms(for_all=True), min_size=2, max_size=3),
        of_mill=terms(),
    )
    def open_a_programme(self, of_grove: list[Terms], of_mill: Terms) -> Any:
        """Offers that everybody has had a coupon of for ten days, as far as they let him."""
        offers = [
            self._publish(partner, terms, starts=-30, lasts=60)
            for partner, terms in (*(("grove", one) for one in of_grove), ("mill", of_mill))
        ]
        for offer in offers:
            names = [self._name("p") for _ in MEMBERS]
            self._post(
                [
                    Post(name, name, member, self._tick() - 10 * DAY, (offer.name,))
                    for name, member in zip(names, MEMBERS, strict=True)
                ]
            )
        return multiple(*offers)

    # time

    @rule(hours=st.sampled_from([1, 1, 1, 24, 24, 7 * 24, 7 * 24, 31 * 24, 61 * 24]))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(name=st.sampled_from(["lapse", "close", "schedule", "look back"]))
    def run_job(self, name: str) -> None:
        if name == "look back":
            self.model.look_back(self.now)
            self.service.look_back(self.now)
            self._compare()
            return
        found = self.service.run_job(name, self.now)
        if name == "lapse":
            assert found == self.model.lapse(self.now)
        elif name == "close":
            assert found == self.model.close(self.now)

    # offers

    @rule(
        target=offers,
        partner=st.sampled_from(["grove", "grove", "mill"]),
        terms=terms(),
        starts=st.sampled_from([-30, -30, -30, 2]),
        lasts=st.sampled_from([60, 10]),
        coupons_max=st.sampled_from([None, None, 1, 2]),
        coupons_paid=st.sampled_from([None, None, 1, 2]),
    )
    def publish(
        self,
        partner: str,
        terms: Terms,
        starts: int,
        lasts: int,
        coupons_max: int | None,
        coupons_paid: int | None,
    ) -> Offer:
        return self._publish(
            partner,
            terms,
            starts=starts,
            lasts=lasts,
            coupons_max=coupons_max,
            coupons_paid=coupons_paid,
        )

    def _publish(
        self,
        partner: str,
        terms: Terms,
        *,
        starts: int,
        lasts: int,
        coupons_max: int | None = None,
        coupons_paid: int | None = None,
    ) -> Offer:
        """Days from now; the budget is for so many coupons."""
        begins = self._tick() + starts * DAY
        offer = Offer(
            name=self._name("o"),
            partner=partner,
            starts=begins,
            ends=begins + lasts * DAY,
            terms=_of_own_shops(terms, partner),
            coupons_max=coupons_max,
            budget=coupons_paid and coupons_paid * terms.largest * terms.uses,
        )
        self.model.publish(offer)
        self.service.publish(offer, self.now)
        return offer

    @rule(offer=offers, what=st.sampled_from(["pause", "resume", "end"]))
    def change(self, offer: Offer, what: str) -> None:
        now = self._tick()
        allowed = getattr(self.service, what)(offer, now)
        if what == "end":
            self.model.end(offer, now)
        else:
            assert allowed == getattr(self.model, what)(offer, now)

    @rule(offer=offers, terms=terms())
    def revise(self, offer: Offer, terms: Terms) -> None:
        now = self._tick()
        new = _of_own_shops(terms._replace(currency=offer.terms.currency), offer.partner)
        allowed = self.service.revise(offer, new, now)
        assert allowed == self.model.revise(offer, new, now)

    @rule(offer=offers)
    def grow(self, offer: Offer) -> None:
        now = self._tick()
        allowed = self.model.grow(offer, now)
        assert self.service.grow(offer, now) == allowed

    # posts

    @rule(
        target=posts,
        authors=st.lists(st.sampled_from([*MEMBERS, *MEMBERS, STRANGER]), min_size=1, max_size=3),
        named=st.lists(offers, min_size=1, max_size=3, unique_by=lambda offer: offer.name),
        age=ages,
        is_repost=st.sampled_from([False] * 9 + [True]),
    )
    def post(
        self, authors: list[str], named: list[Offer], age: timedelta, *, is_repost: bool
    ) -> Any:
        batch = []
        for author in authors:
            name = self._name("p")
            at = self._tick() - age
            batch.append(Post(name, name, author, at, tuple(o.name for o in named), is_repost))
        self._post(batch)
        return multiple(*batch)

    @rule(post=posts, more=st.none() | offers)
    def edit_or_send_again(self, post: Post, more: Offer | None) -> None:
        if more is not None:
            added = tuple(dict.fromkeys((*post.offers, more.name)))
            post = post._replace(id=self._name("p"), at=self._tick(), offers=added)
        self._post([post])

    def _post(self, posts: list[Post]) -> None:
        expected = self.model.post(posts, self.now)
        found = self.service.post(posts, self.now)
        note(f"outcomes: {expected}")
        assert found == expected
        self._compare()

    @precondition(lambda self: STRANGER not in self.model.members)
    @rule()
    def link_the_stranger(self) -> None:
        now = self._tick()
        self.model.link(STRANGER, STRANGERS_CARD, now)
        self.service.enrol({STRANGER: [STRANGERS_CARD]}, now)

    @precondition(lambda self: len(self.model.purchases) > MANY)
    @rule(what=st.sampled_from(["ann", "bob", "ann-2", "bob-1"]))
    def leave(self, what: str) -> None:
        """A member says stop, or gives up a card."""
        if what in MEMBERS:
            self.model.silent.add(what)
            self.service.stop(what, self._tick())
        else:
            self.model.removed_cards.add(what)
            self.service.remove_card(self.model.cards[what], what, self._tick())

    # purchases

    @rule(
        target=purchases,
        kinds=st.sampled_from(
            [
                ["authorization"],
                ["clearing"],
                ["authorization", "clearing"],
                ["decline", "authorization"],
                ["refund", "clearing"],
                ["clearing", "authorization", "refund"],
            ]
        ),
        amount=amounts,
        card=st.sampled_from(CARDS),
        shop=st.sampled_from(SHOPS),
        currency=currencies,
        age=ages,
    )
    def buy(
        self,
        kinds: list[Kind],
        amount: int,
        card: str,
        shop: Shop,
        currency: str,
        age: timedelta,
    ) -> Any:
        return self._purchase(self._buy(kinds, amount, card, shop, currency, age))

    def _buy(
        self,
        kinds: list[Kind],
        amount: int,
        card: str,
        shop: Shop,
        currency: str,
        age: timedelta,
    ) -> str:
        ref = self._name("b")
        self._pay(
            [
                (
                    self._name("t"),
                    ref,
                    Event(kind, amount, self._tick() - age, shop, card),
                    currency,
                )
                for kind in kinds
            ]
        )
        return ref

    def _purchase(self, ref: str) -> Any:
        """None of a card that is not linked."""
        return self.model.purchases.get(ref, multiple())

    @rule(
        target=purchases,
        offer=offers,
        card=st.sampled_from(["ann-1", "bob-1"]),
        amount=st.sampled_from([2_000, 5_000, 333, 99_999]),
        kinds=st.sampled_from([["clearing"], ["authorization", "clearing"], ["authorization"]]),
        then=st.lists(st.tuples(later_kinds, st.sampled_from([1, 2, 4])), max_size=3),
    )
    def buy_what_is_offered(
        self,
        offer: Offer,
        card: str,
        amount: int,
        kinds: list[Kind],
        then: list[tuple[Kind, int]],
    ) -> Any:
        """And what comes of it, each event in a request of its own and for a part of the amount."""
        terms = offer.terms
        shops = [
            shop
            for shop in SHOPS
            if shop.partner == offer.partner
            and terms.channel in ("any", shop.channel)
            and (terms.shops is None or shop.name in terms.shops)
        ]
        shop = shops[0] if shops else SHOPS[0]
        ref = self._buy(kinds, amount, card, shop, terms.currency, timedelta())
        for kind, part in then:
            event = Event(kind, amount // part, self._tick(), shop, card)
            self._pay([(self._name("t"), ref, event, terms.currency)])
        return self._purchase(ref)

    @rule(
        target=transactions,
        purchase=purchases,
        kinds=st.lists(later_kinds, min_size=1, max_size=3),
        amount=amounts,
        elsewhere=st.sampled_from([None] * 6 + ["cafe", "web", "bakery"]),
        with_card=st.sampled_from([None] * 8 + ["ann-2", "bob-1"]),
        age=ages,
    )
    def go_on(
        self,
        purchase: Purchase,
        kinds: list[Kind],
        amount: int,
        elsewhere: str | None,
        with_card: str | None,
        age: timedelta,
    ) -> Any:
        made = purchase.made
        shop = made.shop if elsewhere is None else self.model.shops[elsewhere]
        asked = [
            (
                self._name("t"),
                purchase.ref,
                Event(kind, amount, self._tick() - age, shop, with_card or made.card),
                purchase.currency,
            )
            for kind in kinds
        ]
        self._pay(asked)
        return multiple(*asked)

    @rule(amount=amounts, card=st.sampled_from(CARDS), shop=st.sampled_from(SHOPS), age=ages)
    def refund_without_a_link(self, amount: int, card: str, shop: Shop, age: timedelta) -> None:
        event = Event("refund", amount, self._tick() - age, shop, card)
        self._pay([(self._name("t"), None, event, "USD")])

    @rule(asked=transactions, more=st.sampled_from([0, 0, 1]))
    def send_again(self, asked: tuple[str, str | None, Event, str], more: int) -> None:
        id_, ref, event, currency = asked
        self._pay([(id_, ref, event._replace(amount=event.amount + more), currency)])

    def _pay(self, asked: list[tuple[str, str | None, Event, str]]) -> None:
        expected = [self.model.pay(*one, self.now) for one in asked]
        found = self.service.pay(asked, self.now)
        note(f"answers: {expected}")
        assert found == expected
        self._compare()

    # credits

    @rule(
        member=st.sampled_from(list(MEMBERS)),
        amount=st.sampled_from([500, 1, -200]),
        funded_by=st.sampled_from(["programme", "partner"]),
        asks=st.sampled_from([1, 1, 2]),
    )
    def adjust(self, member: str, amount: int, funded_by: str, asks: int) -> None:
        adjustment = Adjustment(self._name("a"), member, amount, "USD", funded_by)
        for _ in range(asks):
            self.model.adjust(adjustment)
            self.service.adjust(adjustment, "grove", self._tick())

    @rule(answer=st.sampled_from(["none yet", "all booked", "some failed"]))
    def pay_out(self, answer: str) -> None:
        lines = self.model.make_batch()
        assert self.service.make_batch(self._tick()) == lines
        if lines:
            self.in_flight.append(len(self.model.batches) - 1)
        if answer != "none yet" and self.in_flight:
            number = self.in_flight.pop()
            refs = [line.cause.ref for line in self.model.batches[number]]
            failed = set(refs[::2]) if answer == "some failed" else set()
            self.model.acknowledge(number, failed)
            self.service.acknowledge(number, failed, self._tick())
        self._compare()

    # agreement

    def _compare(self) -> None:
        model, found = self.model, self.service.rows()
        assert found["coupons"] == {
            key: (
                coupon.reserved,
                model.spent(coupon),
                model.used(coupon),
                coupon.closed,
            )
            for key, coupon in model.coupons.items()
        }
        assert found["offers"] == {
            name: (
                sum(coupon.offer is offer for coupon in model.coupons.values()),
                sum(c.reserved for c in model.coupons.values() if c.offer is offer),
            )
            for name, offer in model.offers.items()
        }
        assert found["purchases"] == {
            ref: (
                purchase.net,
                purchase.coupon and purchase.coupon.offer.name,
                purchase.state,
                purchase.reason,
                purchase.owed,
                purchase.holds_use,
                purchase.credited,
                purchase.owed,  # posted to the ledger
            )
            for ref, purchase in model.purchases.items()
        }

    def teardown(self) -> None:
        self._compare()
        for currency in ("USD", "JPY"):
            by_partners = self.model.rewarded(currency) + self.model.adjusted(currency, "partner")
            by_programme = self.model.adjusted(currency, "programme")
            paid = self.model.paid(currency)
            assert self.service.balance("partner_payable", currency) == -by_partners
            assert self.service.balance("programme", currency) == -by_programme
            assert self.service.balance("member_due", currency) == (
                by_partners + by_programme - paid
            )
            assert self.service.balance("issuer_settlement", currency) == paid
        assert self.service.disagreements() == []
