"""The service, driven by the names that the model uses."""

import asyncio
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, TypeVar, cast
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.config import Settings
from app.errors import Conflict, Invalid
from app.insight.verify import verify
from app.kit.db import Sessions
from app.ledger import adjustments
from app.ledger import service as ledger
from app.members import service as members
from app.members.cards import add_card, remove_card
from app.members.schemas import CardIn, MemberLine
from app.networks.post import Post as NetworkPost
from app.offers import service as offers
from app.offers.changing import change
from app.offers.schemas import OfferChange, OfferIn
from app.partners import service as partners
from app.partners.schemas import MerchantLine
from app.posts import lookback
from app.posts.enrol import Enroller
from app.redemptions.service import record_committed
from app.redemptions.transactions import Transaction
from app.upkeep.jobs import run_job
from tests.money.things import Adjustment, Answer, Event, Offer, Post, Shop, Terms
from tests.programme import OPERATOR

Found = TypeVar("Found")

_COUPONS = """
    SELECT m.ref, o.ref, c.reserved_minor, c.spent_minor, c.uses, c.closed_at IS NOT NULL
    FROM coupons c JOIN members m ON m.id = c.member_id JOIN offers o ON o.id = c.offer_id
"""
_OFFERS = """
    SELECT o.ref, c.coupons_loaded, c.reserved_minor
    FROM offers o JOIN offer_counters c ON c.offer_id = o.id
"""
_PURCHASES = """
    SELECT p.ref, p.net_minor, o.ref, r.state, r.reason, coalesce(r.owed_minor, 0),
           coalesce(r.holds_use, false), coalesce(r.credited_minor, 0), coalesce((
               SELECT sum(CASE debit_account WHEN 'partner_payable' THEN amount_minor
                          ELSE -amount_minor END)
               FROM transfers t WHERE t.redemption_id = r.id AND t.code = 'reward'
           ), 0)::bigint
    FROM purchases p LEFT JOIN redemptions r ON r.purchase_id = p.id
    LEFT JOIN coupons c ON c.id = r.coupon_id LEFT JOIN offers o ON o.id = c.offer_id
"""


class Service:
    def __init__(self, runner: asyncio.Runner, sessions: Sessions, settings: Settings) -> None:
        self._runner = runner
        self._sessions = sessions
        self._settings = settings
        self._enroller = Enroller(sessions, settings)
        self._offer_ids: dict[str, UUID] = {}
        self._members: dict[str, UUID] = {}
        self._batches: list[UUID] = []

    def _run(self, step: Coroutine[Any, Any, Found]) -> Found:
        return self._runner.run(step)

    # the world

    def open_shops(self, shops: list[Shop], now: datetime) -> None:
        rows = [
            MerchantLine.model_validate(
                {
                    "partner": shop.partner,
                    "acquirer_id": "ACQ",
                    "acceptor_id": shop.name,
                    "name": shop.name.title(),
                    "channel": shop.channel,
                    "mcc": "7011" if shop.hold_days == 30 else "5814",
                    "country": "US",
                }
            )
            for shop in shops
        ]

        async def step() -> None:
            async with self._sessions.begin() as session:
                await partners.save_acceptors(session, rows=rows, now=now)

        self._run(step())

    def enrol(self, cards_of: dict[str, list[str]], now: datetime) -> None:
        rows = [
            MemberLine.model_validate(
                {
                    "member_ref": member,
                    "account": {"network": "x", "id": account(member)},
                    "card": {"card_ref": cards[0]},
                    "consented_at": now.isoformat(),
                }
            )
            for member, cards in cards_of.items()
        ]

        async def step() -> None:
            async with self._sessions.begin() as session:
                for saved, (member, cards) in zip(
                    await members.save_members(session, rows=rows, now=now),
                    cards_of.items(),
                    strict=True,
                ):
                    assert saved.member_id is not None
                    self._members[member] = saved.member_id
                    for card in cards[1:]:
                        await add_card(
                            session,
                            member_id=saved.member_id,
                            card=CardIn(card_ref=card),
                            actor="test",
                            now=now,
                        )

        self._run(step())

    # what may happen

    def publish(self, offer: Offer, now: datetime) -> None:
        given = OfferIn.model_validate(
            {
                "offer_ref": offer.name,
                "title": offer.name,
                "hashtag": offer.name,
                "starts_at": offer.starts.isoformat(),
                "ends_at": offer.ends.isoformat(),
                "time_zone": "UTC",
                "currency": offer.terms.currency,
                "coupons_max": offer.coupons_max,
                "budget_minor": offer.budget,
                **_fields(offer.terms),
            }
        )

        async def step(session: AsyncSession) -> UUID:
            partner = await partners.ensure_partner(session, ref=offer.partner)
            (made, _, _), _ = await offers.create(
                session, partner_id=partner.id, offer=given, actor="test"
            )
            await offers.publish(session, offer_id=made.id, by=OPERATOR, now=now)
            return made.id

        self._offer_ids[offer.name] = self._in_transaction(step)

    def revise(self, offer: Offer, terms: Terms, now: datetime) -> bool:
        return self._change(offer, _fields(terms), now)

    def grow(self, offer: Offer, now: datetime) -> bool:
        """To the caps that it has in the model."""
        caps = {"coupons_max": offer.coupons_max, "budget_minor": offer.budget}
        return self._change(offer, caps, now)

    def _change(self, offer: Offer, fields: dict[str, Any], now: datetime) -> bool:
        changes = OfferChange.model_validate(fields)
        return self._is_allowed(
            lambda session, offer_id: change(
                session, offer_id=offer_id, changes=changes, by=OPERATOR, now=now
            ),
            offer,
        )

    def pause(self, offer: Offer, now: datetime) -> bool:
        return self._is_allowed(
            lambda session, offer_id: offers.pause(
                session, offer_id=offer_id, by=OPERATOR, now=now
            ),
            offer,
        )

    def resume(self, offer: Offer, now: datetime) -> bool:
        return self._is_allowed(
            lambda session, offer_id: offers.resume(
                session, offer_id=offer_id, by=OPERATOR, now=now
            ),
            offer,
        )

    def end(self, offer: Offer, now: datetime) -> bool:
        return self._is_allowed(
            lambda session, offer_id: offers.end(session, offer_id=offer_id, by=OPERATOR, now=now),
            offer,
        )

    def _is_allowed(self, step: Any, offer: Offer) -> bool:
        offer_id = self._offer_ids[offer.name]
        try:
            self._in_transaction(lambda session: step(session, offer_id))
        except (Conflict, Invalid):
            return False
        return True

    def _in_transaction(self, step: Any) -> Any:
        async def run() -> Any:
            async with self._sessions.begin() as session:
                return await step(session)

        return self._run(run())

    def stop(self, member: str, now: datetime) -> None:
        member_id = self._members[member]
        self._in_transaction(lambda session: members.opt_out(session, member_id=member_id, now=now))

    def remove_card(self, member: str, card: str, now: datetime) -> None:
        member_id = self._members[member]
        self._in_transaction(
            lambda session: remove_card(
                session, member_id=member_id, card_ref=card, actor="test", now=now
            )
        )

    def post(self, posts: list[Post], now: datetime) -> dict[str, tuple[str, ...]]:
        given = [
            NetworkPost(
                network="x",
                id=post.id,
                root_id=post.root,
                author_id=account(post.author),
                posted_at=post.at,
                tags=post.offers,
                mentions_programme=False,
                is_repost=post.is_repost,
                lang="en",
            )
            for post in posts
        ]
        enrolled = self._run(self._enroller.enrol(given, source="test", now=now))
        return {post.id: one.outcomes for post, one in zip(posts, enrolled, strict=True)}

    def pay(self, asked: list[tuple[str, str | None, Event, str]], now: datetime) -> list[Answer]:
        transactions = [
            Transaction(
                id=id_,
                type=event.kind,
                purchase_id=ref,
                card_ref=event.card,
                acquirer_id="ACQ",
                acceptor_id=event.shop.name,
                amount_minor=event.amount,
                currency=currency,
                occurred_at=event.at,
            )
            for id_, ref, event, currency in asked
        ]
        answers = self._run(record_committed(self._sessions, transactions=transactions, now=now))
        return [Answer(one.status, one.decision, one.reason, one.reward_minor) for one in answers]

    def run_job(self, name: str, now: datetime) -> int:
        return self._run(run_job(self._sessions, name, now=now))

    def look_back(self, now: datetime) -> None:
        self._run(lookback.look_back(self._sessions, self._settings, now=now))

    def adjust(self, adjustment: Adjustment, partner: str, now: datetime) -> None:
        async def step(session: AsyncSession) -> None:
            payer = await partners.ensure_partner(session, ref=partner)
            given = adjustments.NewAdjustment(
                ref=adjustment.ref,
                member_id=self._members[adjustment.member],
                amount_minor=adjustment.owed,
                currency=adjustment.currency,
                funded_by=cast("adjustments.FundedBy", adjustment.funded_by),
                reason="kindness",
                partner_id=payer.id if adjustment.funded_by == "partner" else None,
            )
            await adjustments.adjust(session, given=given, operator="test", now=now)

        self._in_transaction(step)

    def make_batch(self, now: datetime) -> int:
        made = self._in_transaction(
            lambda session: ledger.create_batch(session, actor="test", now=now)
        )
        if made is None:
            return 0
        self._batches.append(made.batch.id)
        return int(made.lines)

    def acknowledge(self, number: int, failed: set[str], now: datetime) -> None:
        batch_id = self._batches[number]

        async def step(session: AsyncSession) -> None:
            lines = await session.execute(
                text(
                    "SELECT l.id FROM credit_lines l "
                    "LEFT JOIN redemptions r ON r.id = l.redemption_id "
                    "LEFT JOIN purchases p ON p.id = r.purchase_id "
                    "LEFT JOIN adjustments a ON a.id = l.adjustment_id "
                    "WHERE l.batch_id = :batch_id AND coalesce(p.ref, a.ref) = ANY(:failed)"
                ),
                {"batch_id": batch_id, "failed": list(failed)},
            )
            failures = {line_id: "no such card" for (line_id,) in lines}
            await ledger.acknowledge(
                session, batch_id=batch_id, failures=failures, actor="test", now=now
            )

        self._in_transaction(step)

    # what there is

    def rows(self) -> dict[str, dict[Any, Any]]:
        async def step(session: AsyncSession) -> dict[str, dict[Any, Any]]:
            coupons = await session.execute(text(_COUPONS))
            counters = await session.execute(text(_OFFERS))
            purchases = await session.execute(text(_PURCHASES))
            return {
                "coupons": {(row[0], row[1]): tuple(row[2:]) for row in coupons},
                "offers": {row[0]: tuple(row[1:]) for row in counters},
                "purchases": {row[0]: tuple(row[1:]) for row in purchases},
            }

        found: dict[str, dict[Any, Any]] = self._in_transaction(step)
        return found

    def balance(self, account_name: Any, currency: str) -> int:
        found = self._in_transaction(lambda session: ledger.balance(session, account=account_name))
        return int(found.get(currency, 0))

    def disagreements(self) -> list[str]:
        found = self._in_transaction(verify)
        return [f"{finding.name}: {finding.examples}" for finding in found if finding.wrong]


def _fields(terms: Terms) -> dict[str, Any]:
    """As a partner writes them."""
    if terms.fixed is not None:
        reward: dict[str, Any] = {"fixed_minor": terms.fixed}
    else:
        reward = {"basis_points": terms.basis_points, "max_minor": terms.most}
    return {
        "reward": reward,
        "min_spend_minor": terms.min_spend,
        "channel": terms.channel,
        "acceptors": terms.shops
        and [{"acquirer_id": "ACQ", "acceptor_id": shop} for shop in sorted(terms.shops)],
        "coupon_valid_days": terms.valid_days,
        "redemptions_per_coupon": terms.uses,
        "audience": terms.customers and {"customers": [terms.customers]},
        "refund_policy": "burn" if terms.burns else "restore",
    }


def account(member: str) -> str:
    """His id on the network."""
    return str(1_000 + sum(member.encode()))
