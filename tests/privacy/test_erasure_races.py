"""He posts, pays and is adjusted in the moment in which he is erased."""

import asyncio
from typing import Any

import pytest
from person import traces_of
from sqlalchemy import text

from app.config import Settings
from app.errors import NotFound
from app.insight.verify import verify
from app.kit.db import Sessions
from app.ledger import adjustments
from app.ledger import service as ledger
from app.ledger.adjustments import NewAdjustment
from app.members import service as members
from app.members.schemas import MemberLine
from app.posts.enrol import Enroller
from app.privacy.erasure import erase
from tests.programme import (
    NOW,
    make_members,
    make_offer,
    make_post,
    make_shop,
    member_line,
    pay,
)

MEMBERS = 6


async def post(sessions: Sessions, settings: Settings, author: str) -> None:
    await Enroller(sessions, settings).enrol(
        [make_post(author, "Tea"), make_post(author, "Cake")], source="test", now=NOW
    )


async def adjust(sessions: Sessions, member_id: Any) -> None:
    given = NewAdjustment(str(member_id), member_id, 700, "USD", "programme", "a gift")
    try:
        async with sessions.begin() as session:
            await adjustments.adjust(session, given=given, operator="test", now=NOW)
    except NotFound:
        pass  # he was quicker


async def enrol_again(sessions: Sessions, account_id: str) -> None:
    line = MemberLine.model_validate(member_line(account_id, country="FR"))
    async with sessions.begin() as session:
        await members.save_members(session, rows=[line], now=NOW)


async def credit(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        batch = await ledger.create_batch(session, actor="test", now=NOW)
        if batch is not None:
            await ledger.acknowledge(
                session, actor="test", batch_id=batch.batch.id, failures={}, now=NOW
            )


class TestErasureAmongOthers:
    @pytest.mark.parametrize("first", ["erasure", "others"])
    async def test_leaves_nothing_half_done(
        self, sessions: Sessions, settings: Settings, first: str
    ) -> None:
        await make_offer(sessions, "Tea")
        await make_offer(sessions, "Cake")
        await make_shop(sessions, "counter")
        accounts = await make_members(sessions, MEMBERS)
        async with sessions.begin() as session:
            ids = [
                (await members.find_member(session, ref_or_id=f"m-{name}")).id for name in accounts
            ]
        for name in accounts[::2]:
            await post(sessions, settings, name)
            await pay(sessions, name, "authorization", 3_000, purchase_id=f"p-{name}")

        calls: list[Any] = []
        for name, member_id in zip(accounts, ids, strict=True):
            others = [
                post(sessions, settings, name),
                pay(sessions, name, "clearing", 3_000, purchase_id=f"p-{name}"),
                adjust(sessions, member_id),
                enrol_again(sessions, name),
                credit(sessions),
            ]
            own = erase(sessions, member_id=member_id, forfeit=True, actor="test", now=NOW)
            calls += [own, *others] if first == "erasure" else [*others, own]
        await asyncio.gather(*calls)

        async with sessions() as session:
            assert not [finding for finding in await verify(session) if finding.wrong]
        # a post that came after it is a stranger's who is left alone
        names = [f"{kind}{name}" for kind in ("m-", "c-", "h") for name in accounts]
        assert not any((await traces_of(sessions, *names)).values())
        left: dict[str, str] = {
            "coupons that can be used": "SELECT count(*) FROM coupons WHERE closed_at IS NULL",
            "replies that wait": "SELECT count(*) FROM replies WHERE state = 'queued'",
            "posts that are his, and loaded": "SELECT count(*) FROM decisions "
            "WHERE outcome <> 'opted_out' AND author_id NOT LIKE 'removed:%'",
            "money without a card": "SELECT (SELECT count(*) FROM redemptions "
            "WHERE owed_minor <> credited_minor) + (SELECT count(*) FROM adjustments "
            "WHERE amount_minor <> credited_minor)",
        }
        async with sessions.begin() as session:
            found = {what: await session.scalar(text(query)) for what, query in left.items()}
        assert found == dict.fromkeys(left, 0)
