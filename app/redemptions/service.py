"""From card transactions to rewards: the one path for a single request, a batch and a file; and
what time does to purchases and coupons.

The number of statements does not depend on the number of transactions.
"""

import asyncio
import random
from collections import Counter as Counts
from collections.abc import Awaitable, Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar
from uuid import UUID

import asyncpg
import msgspec
import structlog
from prometheus_client import Counter
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Unavailable
from app.kit.db import Sessions, sqlstate
from app.ledger import service as ledger
from app.members import service as members
from app.notifications import service as notifications
from app.notifications.queries import NewEvent
from app.offers import announcing
from app.offers import service as offers
from app.partners import service as partners
from app.partners.service import ConfirmedPlace
from app.redemptions import queries
from app.redemptions.books import Books, Holder, Pair, new_purchase
from app.redemptions.domain import (
    SETTLEMENT_DAYS,
    UNLINKED_REFUND_DAYS,
    Coupon,
    Purchase,
    examine,
)
from app.redemptions.transactions import Answer, Transaction

ATTEMPTS_MAX = 6
PAUSE_SECONDS_MAX = 0.1  # before the second attempt; it doubles with each
# the same transaction from two sides, a ring of locks, a serialisation failure
_SAME_TRANSACTION = "pk_card_transactions"
_TRY_AGAIN = ("40P01", "40001")

_ignored = Counter(
    "tagback_transactions_ignored", "Card transactions that are not for us.", ["reason"]
)
log = structlog.get_logger(__name__)

Result = TypeVar("Result")


class _Arrival(NamedTuple):
    """A transaction that is new, of a card and a place that we know."""

    transaction: Transaction
    holder: Holder
    place: ConfirmedPlace

    @property
    def pair(self) -> Pair:
        return self.holder.member_id, self.place.partner_id


class _CouponsMovedError(Exception):
    """A purchase was given a coupon that was loaded after this batch had read the coupons."""


class Examined(NamedTuple):
    coupon: Coupon
    rules: list[tuple[str, bool]]


async def record_committed(
    sessions: Sessions, *, transactions: Sequence[Transaction], now: datetime
) -> list[Answer]:
    """Like `record`, in a transaction of its own. When another process brought the same ones in
    this moment, they are read again. Raises Unavailable when that does not end.
    """
    answers = await committed(
        sessions, lambda session: record(session, transactions=transactions, now=now)
    )
    for answer in answers:
        if answer.status == "ignored":
            _ignored.labels(answer.reason).inc()
    return answers


async def committed(
    sessions: Sessions, step: Callable[[AsyncSession], Awaitable[Result]]
) -> Result:
    """What the step comes to in a transaction of its own; it is done again when others were in its
    way. Raises Unavailable when that does not end.
    """
    for attempt in range(ATTEMPTS_MAX):
        try:
            async with sessions.begin() as session:
                return await step(session)
        except (DBAPIError, asyncpg.PostgresError, _CouponsMovedError) as error:
            if not _may_go_well_again(error):
                raise
            log.info("redemptions_again", attempt=attempt, reason=type(error).__name__)
            jitter = random.random()  # noqa: S311 - nothing to guess
            await asyncio.sleep(PAUSE_SECONDS_MAX * 2**attempt * jitter)
    raise Unavailable("purchases could not be recorded now: try again")


def _may_go_well_again(error: Exception) -> bool:
    if isinstance(error, _CouponsMovedError):
        return True
    if isinstance(error, asyncpg.UniqueViolationError):
        return error.constraint_name == _SAME_TRANSACTION
    return sqlstate(error) in _TRY_AGAIN


async def record(
    session: AsyncSession, *, transactions: Sequence[Transaction], now: datetime
) -> list[Answer]:
    """What each comes to, in the order given. One that was seen before is answered as the first
    time and changes nothing; one that is not for us is answered and not stored.
    """
    books = await _open(session, transactions, now)
    arrivals = _arrivals(books, transactions)
    if arrivals:
        await _read(session, books, arrivals)
    answers = [books.take(transaction) for transaction in transactions]
    await _write(session, books)
    return answers


async def _open(session: AsyncSession, transactions: Sequence[Transaction], now: datetime) -> Books:
    seen = await queries.seen_transactions(session, {one.id for one in transactions})
    books = Books(now, {row.id: _as_answered(row) for row in seen}, holders={}, places={})
    fresh = [one for one in transactions if one.id not in books.seen]
    if not fresh:
        return books
    cards = sorted({one.card_ref for one in fresh})
    holders = await members.find_card_holders(session, card_refs=cards)
    books.holders = {ref: Holder(held.member_id, is_former=False) for ref, held in holders.items()}
    unknown = [ref for ref in cards if ref not in holders]
    if unknown:
        former = await members.find_former_holders(session, card_refs=unknown)
        books.holders |= {
            ref: Holder(member_id, is_former=True) for ref, member_id in former.items()
        }
    places = {(one.acquirer_id, one.acceptor_id) for one in fresh if one.card_ref in books.holders}
    if places:
        books.places = await partners.find_confirmed_acceptors(session, places=sorted(places))
    return books


def _as_answered(row: queries.SeenTransaction) -> tuple[Transaction, Answer]:
    transaction = msgspec.convert({**row._asdict(), "purchase_id": row.purchase_ref}, Transaction)
    return transaction, msgspec.convert(row.answer, Answer)


def _arrivals(books: Books, transactions: Sequence[Transaction]) -> list[_Arrival]:
    """The first of each id."""
    found: dict[str, _Arrival] = {}
    for transaction in transactions:
        holder = books.holders.get(transaction.card_ref)
        place = books.places.get((transaction.acquirer_id, transaction.acceptor_id))
        if transaction.id not in books.seen and holder is not None and place is not None:
            found.setdefault(transaction.id, _Arrival(transaction, holder, place))
    return list(found.values())


async def _read(session: AsyncSession, books: Books, arrivals: Sequence[_Arrival]) -> None:
    """Locks and reads all that the arrivals may change, in the order that all keep to."""
    pairs = sorted({arrival.pair for arrival in arrivals})
    coupons = await queries.read_coupons(session, pairs, lock=True)
    summaries = await members.purchase_summaries(session, pairs=pairs)
    books.last_purchase_at = {pair: summary.last_at for pair, summary in summaries.items()}
    missing: dict[str, Purchase] = {}
    for transaction, holder, place in arrivals:
        ref = transaction.purchase_id
        if ref is not None and ref not in missing and not holder.is_former:
            missing[ref] = new_purchase(transaction, holder, place)
    if missing:
        books.new_purchases = await queries.add_purchases(session, missing.values())
    refs = {ref for one in arrivals if (ref := one.transaction.purchase_id) is not None}
    await _read_purchases(
        session, books, coupons, pairs=set(pairs), refs=refs, refunds=_refund_keys(arrivals)
    )


async def _read_purchases(
    session: AsyncSession,
    books: Books,
    coupons: Sequence[queries.KnownCoupon],
    *,
    pairs: AbstractSet[Pair],
    refs: Collection[str],
    refunds: Sequence[queries.RefundKey] = (),
) -> None:
    """Once the coupons of these pairs are locked."""
    purchases = await queries.lock_purchases(session, refs=refs, refunds=refunds)
    books.add_purchases(purchases)
    if purchases:
        books.redemptions = await queries.redemptions_of(session, [one.id for one in purchases])
    if coupons:
        books.coupons = await _with_terms(session, coupons)
    known = {one.id for one in coupons}
    # of another member's or partner's purchase, which is only named by mistake, none is asked
    own = {one.id for one in purchases if (one.member_id, one.partner_id) in pairs}
    held = {books.redemptions[one].redemption.coupon_id for one in own & books.redemptions.keys()}
    if not held <= known:
        raise _CouponsMovedError


async def lapse_purchases(session: AsyncSession, *, now: datetime, most: int) -> int:
    """Gives back the uses of purchases that nobody has cleared in time, `most` at a time; answers
    how many lapsed.
    """
    due = await queries.due_to_lapse(session, now=now, most=most)
    if not due:
        return 0
    books = Books(now, seen={}, holders={}, places={})
    pairs = sorted({(one.member_id, one.partner_id) for one in due})
    coupons = await queries.read_coupons(session, pairs, lock=True)
    await _read_purchases(session, books, coupons, pairs=set(pairs), refs={one.ref for one in due})
    lapsed = [books.lapse(purchase) for purchase in list(books.purchases.values())]
    await _write(session, books)
    return sum(lapsed)


async def close_coupons(session: AsyncSession, *, now: datetime, most: int) -> int:
    """Gives back to their offers what coupons had reserved and did not spend, once nothing more is
    to come: used up or expired for SETTLEMENT_DAYS, with no purchase open. Up to twice `most` at a
    time; answers how many closed.
    """
    settled_before = now - timedelta(days=SETTLEMENT_DAYS)
    found = await queries.closable_coupons(session, settled_before=settled_before, most=most)
    if not found:
        return 0
    await offers.lock_all(session, offer_ids={offer_id for _, offer_id in found})
    coupon_ids = [coupon_id for coupon_id, _ in found]
    await queries.lock_coupons(session, coupon_ids)
    closed = await queries.close_coupons(
        session, coupon_ids, settled_before=settled_before, now=now
    )
    unspent_minor: dict[UUID, int] = {}
    for offer_id, minor in closed:
        unspent_minor[offer_id] = unspent_minor.get(offer_id, 0) + minor
    await offers.give_back(session, unspent_minor=unspent_minor)
    numbers = Counts(offer_id for offer_id, _ in closed)
    await announcing.announce_closed(session, numbers, now=now)
    return len(closed)


def _refund_keys(arrivals: Sequence[_Arrival]) -> list[queries.RefundKey]:
    window = timedelta(days=UNLINKED_REFUND_DAYS)
    return [
        queries.RefundKey(one.card_ref, place.partner_id, one.occurred_at - window, one.occurred_at)
        for one, _, place in arrivals
        if one.purchase_id is None
    ]


async def _with_terms(
    session: AsyncSession, coupons: Sequence[queries.KnownCoupon]
) -> dict[Pair, dict[UUID, Coupon]]:
    versions = {(one.offer_id, one.offer_version) for one in coupons}
    terms = await offers.read_terms(session, versions=versions)
    found: dict[Pair, dict[UUID, Coupon]] = {}
    for one in coupons:
        found.setdefault((one.member_id, one.partner_id), {})[one.id] = Coupon(
            id=one.id,
            terms=terms[one.offer_id, one.offer_version],
            posted_at=one.posted_at,
            valid_until=one.valid_until,
            reserved_minor=one.reserved_minor,
            spent_minor=one.spent_minor,
            uses=one.uses,
            uses_max=one.uses_max,
            is_closed=one.is_closed,
        )
    return found


async def examine_purchase(session: AsyncSession, *, purchase_id: UUID) -> list[Examined]:
    """Each coupon that the buyer has of the partner's offers, and how each rule stands to it."""
    purchase = await queries.purchase_by_id(session, purchase_id)
    pair = (purchase.member_id, purchase.partner_id)
    known = await queries.read_coupons(session, [pair], lock=False)
    if not known:
        return []
    coupons = (await _with_terms(session, known))[pair]
    redemptions = await queries.redemptions_of(session, [purchase_id])
    own = redemptions[purchase_id].redemption if purchase_id in redemptions else None
    return [Examined(coupon, examine(coupon, purchase, own)) for coupon in coupons.values()]


async def _write(session: AsyncSession, books: Books) -> None:
    touched = {books.purchases[ref].id: books.purchases[ref] for ref in books.touched.values()}
    redemptions = {
        purchase_id: known
        for purchase_id, known in books.redemptions.items()
        if purchase_id in touched
    }
    # first, since its key is what two processes with the same transactions collide on
    await queries.add_transactions(session, books.transactions)
    await queries.update_purchases(session, list(touched.values()))
    await queries.save_redemptions(session, list(redemptions.items()), now=books.now)
    await queries.update_coupons(
        session,
        [(one.id, one.spent_minor, one.uses) for one in books.touched_coupons.values()],
    )
    await ledger.post_rewards(session, rows=books.rewards)
    await queries.add_changes(session, [known.id for known in redemptions.values()])
    await members.record_purchases(session, rows=books.first_cleared)
    if books.news:
        await _announce(session, books)


async def _announce(session: AsyncSession, books: Books) -> None:
    """One event a redemption and batch, of the state that the batch leaves it in. The purchases are
    locked.
    """
    await notifications.announce(
        session,
        events=[
            NewEvent(
                partner_id=partner_id,
                event=f"redemption.{data['state']}",
                subject=f"redemption:{data['id']}",
                data=data,
            )
            for partner_id, data in await queries.read_told(session, books.news)
        ],
        now=books.now,
    )
