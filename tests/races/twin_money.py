"""The twin's half about money. What a purchase earns is decided by the service's own pure rules, so
that the two differ in how they read and write, and in nothing else.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.db import Sessions, copy_rows
from app.kit.ids import new_id
from app.ledger import queries as credits_
from app.ledger import service as ledger
from app.members import service as members
from app.offers import service as offers
from app.partners import service as partners
from app.partners.service import ConfirmedPlace
from app.redemptions import queries
from app.redemptions.books import Holder, new_purchase
from app.redemptions.domain import (
    SETTLEMENT_DAYS,
    Coupon,
    Event,
    Purchase,
    account,
    decide,
    find_refunded,
    happen,
    lapse,
)
from app.redemptions.transactions import Answer, AnswerStatus, Transaction
from tests.programme import NOW


async def rows(session: AsyncSession, query: str, **values: Any) -> Sequence[Row[Any]]:
    return (await session.execute(text(query), values)).all()


async def run(session: AsyncSession, statement: str, **values: Any) -> None:
    await session.execute(text(statement), values)


class TwinMoney:
    sessions: Sessions

    # purchases

    async def pay(self, transaction: Transaction, *, now: datetime = NOW) -> Answer | None:
        async with self.sessions.begin() as session:
            if await rows(
                session, "SELECT 1 FROM card_transactions WHERE id = :id", id=transaction.id
            ):
                return None
            place_key = (transaction.acquirer_id, transaction.acceptor_id)
            places = await partners.find_confirmed_acceptors(session, places=[place_key])
            holders = await members.find_card_holders(session, card_refs=[transaction.card_ref])
            place, holder = places[place_key], holders[transaction.card_ref]
            before = await self._purchase_of(session, transaction, place)
            if before is None and transaction.purchase_id is not None:
                made = new_purchase(transaction, Holder(holder.member_id, is_former=False), place)
                names = Purchase._fields[:-1]
                await copy_rows(session, "purchases", names, [made[:-1]])
                before = made
            owed_minor = 0
            if before is not None:
                after = happen(before, _event(transaction, place))
                owed_minor = await self._settle(session, before, after, transaction, now)
            status: AnswerStatus = "unmatched" if before is None else "applied"
            answer = Answer(transaction.id, status, reward_minor=owed_minor)
            await self._keep(session, transaction, place, before, answer, now)
        return answer

    async def _purchase_of(
        self, session: AsyncSession, transaction: Transaction, place: ConfirmedPlace
    ) -> Purchase | None:
        if transaction.purchase_id is not None:
            known = await rows(
                session,
                "SELECT id FROM purchases WHERE ref = :ref ORDER BY id LIMIT 1",
                ref=transaction.purchase_id,
            )
            return await queries.purchase_by_id(session, known[0].id) if known else None
        of_card = await rows(
            session,
            "SELECT id FROM purchases WHERE card_ref = :card AND partner_id = :partner",
            card=transaction.card_ref,
            partner=place.partner_id,
        )
        return find_refunded(
            [await queries.purchase_by_id(session, row.id) for row in of_card],
            amount_minor=transaction.amount_minor,
            currency=transaction.currency,
            refunded_at=transaction.occurred_at,
        )

    async def _settle(
        self,
        session: AsyncSession,
        before: Purchase,
        after: Purchase,
        cause: Transaction | None,
        now: datetime,
    ) -> int:
        """What the purchase owes from now on."""
        coupons = await self._coupons_of(session, after)
        known = (await queries.redemptions_of(session, [after.id])).get(after.id)
        held = None if known is None else known.redemption
        redemption = decide(before=before, after=after, redemption=held, coupons=coupons.values())
        changed = account(coupons, before=held, after=redemption)
        await queries.update_purchases(session, [after])
        await queries.update_coupons(
            session, [(one.id, one.spent_minor, one.uses) for one in changed.values()]
        )
        if redemption is None:
            return 0
        redemption_id = new_id() if known is None else known.id
        values = redemption._asdict()
        if known is None:
            await run(
                session,
                "INSERT INTO redemptions (id, purchase_id, coupon_id, state, reason, decided, "
                "holds_use, owed_minor, created_at, updated_at) VALUES (:id, :purchase_id, "
                ":coupon_id, :state, :reason, :decided, :holds_use, :owed_minor, :now, :now)",
                id=redemption_id,
                purchase_id=after.id,
                now=now,
                **values,
            )
        else:
            await run(
                session,
                "UPDATE redemptions SET coupon_id = :coupon_id, state = :state, reason = :reason, "
                "decided = :decided, holds_use = :holds_use, owed_minor = :owed_minor, "
                "updated_at = :now WHERE id = :id",
                id=redemption_id,
                now=now,
                **values,
            )
        await queries.add_changes(session, [redemption_id])
        difference_minor = redemption.owed_minor - (0 if held is None else held.owed_minor)
        if difference_minor and cause is not None:
            reward = ledger.Reward(
                transaction_id=cause.id,
                redemption_id=redemption_id,
                partner_id=after.partner_id,
                member_id=after.member_id,
                amount_minor=difference_minor,
                currency=after.currency,
                at=now,
            )
            await ledger.post_rewards(session, rows=[reward])
        return redemption.owed_minor

    async def _coupons_of(self, session: AsyncSession, purchase: Purchase) -> dict[UUID, Coupon]:
        pair = (purchase.member_id, purchase.partner_id)
        found = await queries.read_coupons(session, [pair], lock=False)
        versions = {(one.offer_id, one.offer_version) for one in found}
        terms = await offers.read_terms(session, versions=versions)
        return {
            one.id: Coupon(one.id, terms[one.offer_id, one.offer_version], *one[5:])
            for one in found
        }

    async def _keep(
        self,
        session: AsyncSession,
        transaction: Transaction,
        place: ConfirmedPlace,
        purchase: Purchase | None,
        answer: Answer,
        now: datetime,
    ) -> None:
        kept = queries.NewTransaction(
            id=transaction.id,
            type=transaction.type,
            purchase_ref=transaction.purchase_id,
            purchase_id=None if purchase is None else purchase.id,
            card_ref=transaction.card_ref,
            acceptor_id=place.acceptor_id,
            amount_minor=transaction.amount_minor,
            currency=transaction.currency,
            occurred_at=transaction.occurred_at,
            received_at=now,
            answer=msgspec.json.encode(answer).decode(),
        )
        await queries.add_transactions(session, [kept])

    # time

    async def run_job(self, name: str, *, now: datetime = NOW) -> None:
        jobs = {"lapse": self._lapse, "close": self._close, "schedule": self.start_what_is_due}
        await jobs[name](now)

    async def start_what_is_due(self, now: datetime) -> None:
        raise NotImplementedError

    async def _lapse(self, now: datetime) -> None:
        async with self.sessions.begin() as session:
            due = await queries.due_to_lapse(session, now=now, most=100)
        for ref, _, _ in due:
            async with self.sessions.begin() as session:
                (known,) = await rows(session, "SELECT id FROM purchases WHERE ref = :r", r=ref)
                before = await queries.purchase_by_id(session, known.id)
                await self._settle(session, before, lapse(before, now=now), None, now)

    async def _close(self, now: datetime) -> None:
        settled_before = now - timedelta(days=SETTLEMENT_DAYS)
        async with self.sessions.begin() as session:
            due = await queries.closable_coupons(session, settled_before=settled_before, most=100)
        for coupon_id, offer_id in due:
            async with self.sessions.begin() as session:
                (coupon,) = await rows(
                    session,
                    "SELECT reserved_minor, spent_minor FROM coupons WHERE id = :id",
                    id=coupon_id,
                )
                (counter,) = await rows(
                    session,
                    "SELECT reserved_minor FROM offer_counters WHERE offer_id = :id",
                    id=offer_id,
                )
                await run(
                    session,
                    "UPDATE coupons SET reserved_minor = :spent, closed_at = :now WHERE id = :id",
                    id=coupon_id,
                    spent=coupon.spent_minor,
                    now=now,
                )
                unspent_minor = coupon.reserved_minor - coupon.spent_minor
                await run(
                    session,
                    "UPDATE offer_counters SET reserved_minor = :reserved WHERE offer_id = :id",
                    id=offer_id,
                    reserved=counter.reserved_minor - unspent_minor,
                )

    # credits

    async def make_batch(self) -> None:
        async with self.sessions.begin() as session:
            due = await rows(
                session,
                "SELECT r.id, r.owed_minor, r.credited_minor, p.member_id, p.card_ref, p.currency "
                "FROM redemptions r JOIN purchases p ON p.id = r.purchase_id "
                "WHERE r.owed_minor <> r.credited_minor ORDER BY r.id",
            )
            if not due:
                return
            batch_id = new_id()
            await run(
                session,
                "INSERT INTO credit_batches (id, created_at) VALUES (:id, :now)",
                id=batch_id,
                now=NOW,
            )
            for one in due:
                await run(
                    session,
                    "INSERT INTO credit_lines (id, batch_id, redemption_id, member_id, card_ref, "
                    "amount_minor, currency) VALUES (:id, :batch_id, :redemption_id, :member_id, "
                    ":card_ref, :amount_minor, :currency)",
                    id=new_id(),
                    batch_id=batch_id,
                    redemption_id=one.id,
                    member_id=one.member_id,
                    card_ref=one.card_ref,
                    amount_minor=one.owed_minor - one.credited_minor,
                    currency=one.currency,
                )
                await run(
                    session,
                    "UPDATE redemptions SET credited_minor = :credited WHERE id = :id",
                    id=one.id,
                    credited=one.owed_minor,
                )

    async def acknowledge(self, batch_id: UUID) -> None:
        async with self.sessions.begin() as session:
            (batch,) = await rows(
                session, "SELECT state FROM credit_batches WHERE id = :id", id=batch_id
            )
            if batch.state == "acknowledged":
                return
            await credits_.close_lines(session, batch_id=batch_id, failures={})
            await credits_.post_credits(session, batch_id=batch_id, now=NOW)
            await run(
                session,
                "UPDATE credit_batches SET state = 'acknowledged', acknowledged_at = :now "
                "WHERE id = :id",
                id=batch_id,
                now=NOW,
            )


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
