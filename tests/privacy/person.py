"""Somebody who has done everything that leaves a trace here, and where his traces are."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.claims import service as claims
from app.claims.service import NewClaim
from app.config import Settings
from app.insight import attribution
from app.kit.db import Sessions
from app.ledger import service as ledger
from app.linking.models import LinkSession
from app.members import cards
from app.members import service as members
from app.members.schemas import AccountIn, CardIn
from app.posts.enrol import Enroller
from app.replies import service as replies
from tests.programme import NOW, link, make_offer, make_post, make_shop, pay

NOTE = "I bought it in the rain"


@dataclass
class Person:
    """`traces`: what would tell who he is, wherever it stands."""

    member_id: UUID
    account_id: str
    traces: set[str] = field(default_factory=set)


async def open_programme(sessions: Sessions) -> None:
    await make_offer(sessions, "Tea")
    await make_offer(sessions, "Cake")
    await make_shop(sessions, "counter")
    await make_shop(sessions, "elsewhere", partner="bakery")


async def live(sessions: Sessions, settings: Settings, account_id: str) -> Person:
    """All that he was due has been credited; he has a coupon left, and has said stop."""
    traces: set[str] = {account_id}

    async def post(tag: str, **fields: Any) -> None:
        made = make_post(account_id, tag, author_followers=4_711, **fields)
        traces.update((made.id, made.root_id))
        await Enroller(sessions, settings).enrol([made], source="test", now=NOW)

    await post("Tea", posted_at=NOW - timedelta(minutes=50))  # he is invited
    await link(sessions, account_id, locale="fr-CA", country="CA", time_zone="America/Toronto")
    traces.update(f"{kind}{account_id}" for kind in ("m-", "h", "c-"))
    member_id = await _find(sessions, f"m-{account_id}")
    await post("Tea")
    await post("Tea")  # he is told that he has it already
    await post("Cake")
    for index, kind in enumerate(("authorization", "clearing")):
        name = {"id": f"t-{account_id}-{index}", "purchase_id": f"p-{account_id}"}
        await pay(sessions, account_id, kind, 4_000, **name)
    await pay(sessions, account_id, "clearing", 900, acceptor_id="elsewhere")
    await pay(sessions, account_id, "refund", 77_000, purchase_id=None)
    await _credit(sessions)
    await _claim(sessions, member_id, account_id)
    await _credit(sessions)
    async with sessions.begin() as session:
        other = AccountIn(network="x", id=f"9{account_id}", handle="other")
        await members.add_account(
            session, actor="test", member_id=member_id, account=other, now=NOW
        )
        await members.remove_account(
            session, actor="test", member_id=member_id, network="x", account_id=other.id, now=NOW
        )
        new = CardIn(card_ref=f"d-{account_id}", network="visa", last4="9731")
        await cards.replace_card(
            session, actor="test", member_id=member_id, old_ref=f"c-{account_id}", card=new, now=NOW
        )
        traces |= {other.id, new.card_ref}
    await _write_down(sessions, settings, member_id, account_id, traces)
    await attribution.flush(sessions)
    return Person(member_id, account_id, traces)


async def _find(sessions: Sessions, ref: str) -> UUID:
    async with sessions.begin() as session:
        return (await members.find_member(session, ref_or_id=ref)).id


async def _credit(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        batch = await ledger.create_batch(session, actor="test", now=NOW)
        assert batch is not None
        await ledger.acknowledge(
            session, actor="test", batch_id=batch.batch.id, failures={}, now=NOW
        )


async def claim(sessions: Sessions, member_id: UUID, ref: str, **fields: Any) -> UUID:
    given = {
        "ref": ref, "member_id": member_id, "transaction_id": None, "amount_minor": 1_000,
        "currency": "USD", "occurred_at": NOW, "note": NOTE,
    }  # fmt: skip
    async with sessions.begin() as session:
        made, _ = await claims.make(
            session, given=NewClaim(**given | fields), partner=None, actor="test", now=NOW
        )
    return made.id


async def _claim(sessions: Sessions, member_id: UUID, account_id: str) -> None:
    """One is paid, one is refused."""
    said = f"receipt-{account_id}"
    paid, refused = [
        await claim(sessions, member_id, f"{n}-{member_id}", transaction_id=f"{said}-{n}")
        for n in range(2)
    ]
    async with sessions.begin() as session:
        await claims.accept(
            session, claim_id=paid, amount_minor=100, funded_by="programme", partner=None,
            reason="it rained", actor="test", now=NOW,
        )  # fmt: skip
        await claims.refuse(session, claim_id=refused, reason="unknown", actor="test", now=NOW)


async def _write_down(
    sessions: Sessions, settings: Settings, member_id: UUID, account_id: str, traces: set[str]
) -> None:
    """What was sent to him, that he has said stop, and a browser that he signs in with."""
    async with sessions.begin() as session:
        await session.execute(
            text(
                "UPDATE replies SET state = 'sent', sent_post_id = '5' || post_id, "
                "text = 'for h' || recipient_id || '; ' || text WHERE recipient_id = :id"
            ),
            {"id": account_id},
        )
        await members.stop_accounts(
            session, network="x", account_ids=[account_id], told_by="message", now=NOW
        )
        await replies.queue_farewell(
            session, network="x", account_id=account_id, message_id=f"88{account_id}",
            sent_at=NOW, locale="fr", now=NOW, settings=settings,
        )  # fmt: skip
        session.add(
            LinkSession(
                id_hash=account_id.encode(), network="x", account_id=account_id,
                handle=f"h{account_id}", proved_at=NOW, member_id=member_id, sign_ins=1,
                handoff={"sub": f"m-{account_id}", "card_ref": f"c-{account_id}"},
                created_at=NOW, expires_at=NOW + timedelta(minutes=15),
            )
        )  # fmt: skip
    traces |= {f"88{account_id}", f"receipt-{account_id}"}


async def traces_of(sessions: Sessions, *traces: str) -> dict[str, set[str]]:
    """In which columns of which tables each of these stands: every column there is, as text."""
    async with sessions.begin() as session:
        tables = await session.scalars(
            text(
                "SELECT DISTINCT table_name FROM information_schema.columns "
                "WHERE table_schema = 'public' ORDER BY 1"
            )
        )
        pattern = "|".join(re.escape(trace) for trace in traces)
        found: dict[str, set[str]] = {trace: set() for trace in traces}
        for table in tables.all():
            rows = await session.execute(
                text(
                    f"SELECT DISTINCT cell.key, cell.value FROM {table} t, "
                    "jsonb_each_text(to_jsonb(t)) AS cell WHERE cell.value ~ :pattern"
                ),
                {"pattern": pattern},
            )
            for column, value in rows:
                for trace in traces:
                    if trace in value:
                        found[trace].add(f"{table}.{column}")
    return found
