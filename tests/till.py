"""A shop with its customers, for tests that buy something on a real database."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.kit import db
from app.kit.db import Sessions
from app.offers.terms import Terms
from app.redemptions.domain import TransactionType
from app.redemptions.service import record_committed
from app.redemptions.transactions import Answer, Transaction
from tests.builders import NOON, add_coupon, add_member, add_offer, add_partner, add_shop

NOW = NOON + timedelta(days=10)
STATE = "SELECT state, reason, decided, holds_use, owed_minor FROM redemptions"
COUPONS = "SELECT spent_minor, uses FROM coupons ORDER BY id"
POSTED = (
    "SELECT coalesce(sum(CASE WHEN debit_account = 'partner_payable' THEN amount_minor "
    "ELSE -amount_minor END), 0)::bigint FROM transfers"
)
_numbers = count(1)


def make_transaction(
    event_type: TransactionType, amount_minor: int, purchase: str | None = "p-1", **changes: Any
) -> Transaction:
    """At NOON with `card-1` in `shop`, unless told otherwise; each with an id of its own."""
    usual: dict[str, Any] = {
        "id": f"t-{next(_numbers)}",
        "type": event_type,
        "purchase_id": purchase,
        "card_ref": "card-1",
        "acquirer_id": "acq",
        "acceptor_id": "shop",
        "amount_minor": amount_minor,
        "currency": "USD",
        "occurred_at": NOON,
    }
    return Transaction(**usual | changes)


def told(answer: Answer) -> tuple[str, str | None, str | None, int]:
    return answer.status, answer.decision, answer.reason, answer.reward_minor


@dataclass
class Till:
    sessions: Sessions
    partner_id: UUID
    shop_id: UUID
    member_id: UUID

    @classmethod
    async def open(cls, sessions: Sessions) -> "Till":
        """A partner with one shop, and one member with one card."""
        async with sessions.begin() as session:
            partner_id = await add_partner(session)
            shop_id = await add_shop(session, partner_id)
            return cls(sessions, partner_id, shop_id, await add_member(session))

    async def offer(self, **terms: Any) -> Terms:
        async with self.sessions.begin() as session:
            return await add_offer(session, self.partner_id, **terms)

    async def coupon(
        self, *, member_id: UUID | None = None, posted_at: datetime | None = None, **terms: Any
    ) -> UUID:
        """Of an offer of its own with these terms."""
        offer = await self.offer(**terms)
        async with self.sessions.begin() as session:
            return await add_coupon(
                session, member_id or self.member_id, offer, posted_at=posted_at
            )

    async def take(self, *transactions: Transaction, now: datetime = NOW) -> list[Answer]:
        """In one batch."""
        return await record_committed(self.sessions, transactions=transactions, now=now)

    async def take_each(self, *transactions: Transaction) -> list[Answer]:
        """Each in a request of its own."""
        return [(await self.take(transaction))[0] for transaction in transactions]

    async def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        async with self.sessions.begin() as session:
            return [tuple(row) for row in await session.execute(text(query), values)]

    async def run(self, statement: str, **values: Any) -> None:
        async with self.sessions.begin() as session:
            await session.execute(text(statement), values)


@contextmanager
def counted_statements(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every statement and every COPY of these sessions."""
    seen: list[str] = []
    engine = sessions.kw["bind"]
    assert isinstance(engine, AsyncEngine)

    def on_statement(_c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        seen.append(statement)

    copy_rows = db.copy_rows

    async def copy_and_count(session: Any, table: str, columns: Any, rows: Any) -> None:
        if rows:
            seen.append(f"COPY {table}")
        await copy_rows(session, table, columns, rows)

    event.listen(engine.sync_engine, "before_cursor_execute", on_statement)
    for module in ("app.redemptions.queries", "app.ledger.queries"):
        monkeypatch.setattr(f"{module}.copy_rows", copy_and_count)
    try:
        yield seen
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", on_statement)
