"""A member is erased: nothing tells who he was, in any table, and all the money is as it was."""

from datetime import date, datetime, timedelta
from itertools import chain
from typing import Any
from uuid import uuid4

import pytest
from person import NOTE, Person, claim, live, open_programme, traces_of
from sqlalchemy import text

from app.claims import service as claims
from app.config import Settings
from app.errors import Conflict, NotFound
from app.insight import attribution
from app.insight.attribution import Asked
from app.insight.verify import verify
from app.kit.db import Sessions
from app.kit.months import Month
from app.ledger import invoices
from app.ledger import service as ledger
from app.members import service as members
from app.members.linking import Holder, link_by_network
from app.members.schemas import AccountIn, CardIn, MemberLine
from app.posts.enrol import Enroller
from app.privacy.erasure import erase
from tests.programme import NOW, make_members, make_post, member_line, pay

SECOND = timedelta(seconds=1)
LATER = NOW + timedelta(days=1)


async def erased(sessions: Sessions, person: Person, *, forfeit: bool = False) -> None:
    await erase(sessions, member_id=person.member_id, forfeit=forfeit, actor="test", now=NOW)


async def rows(sessions: Sessions, query: str, **values: Any) -> list[tuple[Any, ...]]:
    async with sessions.begin() as session:
        return [tuple(row) for row in await session.execute(text(query), values)]


async def disagreements(sessions: Sessions) -> list[str]:
    async with sessions() as session:
        return [finding.name for finding in await verify(session) if finding.wrong]


async def figures(sessions: Sessions) -> Any:
    """What analysts and partners see, but for minutes, which are of days once he is erased."""
    await attribution.flush(sessions)
    async with sessions.begin() as session:
        month = await invoices.invoices(session, month=Month.of(NOW))
        by = [
            (await attribution.attribution(session, Asked(group_by=dimensions))).items
            for dimensions in (["offer", "day"], ["offer", "customer_kind", "day"])
        ]
    return month, [
        {name: value for name, value in row.items() if not name.endswith("_minutes")}
        for row in chain.from_iterable(by)
    ]


async def post(
    sessions: Sessions, settings: Settings, author: str, *, now: datetime = LATER
) -> str:
    made = make_post(author, "Tea", posted_at=now - timedelta(minutes=1))
    (result,) = await Enroller(sessions, settings).enrol([made], source="test", now=now)
    return result.outcomes[0]


async def enrol(sessions: Sessions, account_id: str, consented_at: Any) -> members.SavedMember:
    line = MemberLine.model_validate(member_line(account_id, consented_at=consented_at.isoformat()))
    async with sessions.begin() as session:
        return (await members.save_members(session, rows=[line], now=LATER))[0]


@pytest.fixture
async def ann(sessions: Sessions, settings: Settings) -> Person:
    await open_programme(sessions)
    return await live(sessions, settings, "7770001112")


@pytest.fixture
async def bob(sessions: Sessions, settings: Settings, ann: Person) -> Person:
    del ann
    return await live(sessions, settings, "8880002223")


@pytest.fixture
async def buyer(sessions: Sessions, settings: Settings) -> Person:
    """Has a coupon for tea, and has done nothing else."""
    await open_programme(sessions)
    (account_id,) = await make_members(sessions, 1)
    assert await post(sessions, settings, account_id, now=NOW) == "loaded"
    async with sessions.begin() as session:
        member = await members.find_member(session, ref_or_id=f"m-{account_id}")
    return Person(member.id, account_id)


class TestErasure:
    async def test_leaves_no_trace_of_one_and_all_of_another(
        self, sessions: Sessions, ann: Person, bob: Person
    ) -> None:
        of_bob = await traces_of(sessions, *bob.traces)
        assert all((await traces_of(sessions, *ann.traces)).values())
        await erased(sessions, ann)
        await attribution.flush(sessions)
        # the ids of transactions are money's, and whom they are of only the issuer knows
        kept = {
            "card_transactions.id", "card_transactions.purchase_ref", "card_transactions.answer",
            "purchases.ref", "transfers.cause_id",
        }  # fmt: skip
        left = await traces_of(sessions, *ann.traces)
        assert {trace: found - kept for trace, found in left.items() if found - kept} == {}
        assert await traces_of(sessions, *bob.traces) == of_bob
        told = await traces_of(sessions, "America/Toronto", "fr-CA", "9731", NOTE)
        assert await rows(
            sessions, "SELECT last4, network, state FROM cards JOIN members m ON m.id = member_id "
            "WHERE m.id = :id", id=ann.member_id,
        ) == [(None, None, "removed")] * 2  # fmt: skip
        assert {len(found) for found in told.values()} <= {1, 2}  # bob's alone
        assert await rows(
            sessions, "SELECT note FROM claims WHERE member_id = :id", id=ann.member_id
        ) == [("",)]
        assert await rows(
            sessions, "SELECT count(*) FROM consents WHERE member_id = :id", id=ann.member_id
        ) == [(0,)]
        # of a post's time the day alone: by its second, the post itself would be found
        midnight = NOW.replace(hour=0)
        for table, column in (
            ("coupons", "posted_at"),
            ("posts", "posted_at"),
            ("decisions", "decided_at"),
            ("replies", "created_at"),
            ("sales", "posted_at"),
        ):
            blurred = f"SELECT count(*) > 0 FROM {table} WHERE {column} = :midnight"
            assert await rows(sessions, blurred, midnight=midnight) == [(True,)], table
        exact = "SELECT count(*) FROM coupons WHERE member_id = :id AND posted_at <> :midnight"
        assert await rows(sessions, exact, id=ann.member_id, midnight=midnight) == [(0,)]

    async def test_reaches_the_post_of_an_account_that_another_has_now(
        self, sessions: Sessions, buyer: Person
    ) -> None:
        (other,) = await make_members(sessions, 1)
        async with sessions.begin() as session:
            taken = {"member_id": buyer.member_id, "network": "x", "account_id": buyer.account_id}
            await members.remove_account(session, actor="test", **taken, now=NOW)
            now_his = await members.find_member(session, ref_or_id=f"m-{other}")
            account = AccountIn(network="x", id=buyer.account_id)
            await members.add_account(
                session, actor="test", member_id=now_his.id, account=account, now=NOW
            )
        await erased(sessions, buyer)
        left = (await traces_of(sessions, buyer.account_id))[buyer.account_id]
        assert left == {"accounts.account_id"}
        assert await disagreements(sessions) == []

    async def test_keeps_every_sum(self, sessions: Sessions, ann: Person, bob: Person) -> None:
        del bob
        before = await figures(sessions)
        loaded = await rows(sessions, "SELECT coupons_loaded FROM offer_counters ORDER BY 1")
        await erased(sessions, ann)
        assert await disagreements(sessions) == []
        assert await figures(sessions) == before
        assert (
            await rows(sessions, "SELECT coupons_loaded FROM offer_counters ORDER BY 1") == loaded
        )
        assert await rows(
            sessions, "SELECT count(*) FROM coupons WHERE member_id = :id AND closed_at IS NULL",
            id=ann.member_id,
        ) == [(0,)]  # fmt: skip
        # his unused coupon's reserve is the offer's again, and the other one's is spent
        assert await rows(sessions, "SELECT reserved_minor FROM offer_counters ORDER BY 1") == [
            (500,), (1_000,),
        ]  # fmt: skip

    async def test_leaves_no_hour_of_a_post_in_the_counts(
        self, sessions: Sessions, buyer: Person
    ) -> None:
        await pay(sessions, buyer.account_id, "clearing", 4_000)
        await attribution.flush(sessions)
        counted = "SELECT sum(posts), sum(coupons), sum(reach) FROM post_hours"
        before = await rows(sessions, counted)
        await erased(sessions, buyer, forfeit=True)
        await attribution.flush(sessions)
        assert await rows(sessions, counted) == before
        assert await rows(sessions, "SELECT hour FROM post_hours WHERE posts > 0") == [
            (NOW.replace(hour=0),)
        ]
        assert await rows(sessions, "SELECT posted_at FROM sales") == [(NOW.replace(hour=0),)]
        async with sessions.begin() as session:
            asked = Asked(since=date(2026, 7, 15), until=date(2026, 7, 15))
            (row,) = (await attribution.attribution(session, asked)).items
        # twelve hours, in a bucket that ends before thirteen
        assert 600 < row["median_minutes"] < 800
        assert await disagreements(sessions) == []

    async def test_is_written_down_without_saying_whose_it_was(
        self, sessions: Sessions, ann: Person
    ) -> None:
        await erased(sessions, ann)
        entry = "SELECT actor, subject_id, before, after FROM audit_entries WHERE action = :action"
        assert await rows(sessions, entry, action="member.erase") == [
            ("test", str(ann.member_id), None, {"given_up_minor": {}})
        ]

    async def test_again_changes_nothing_and_of_nobody_is_refused(
        self, sessions: Sessions, ann: Person
    ) -> None:
        await erased(sessions, ann)
        before = await rows(sessions, "SELECT xmin::text, t::text FROM members t")
        await erased(sessions, ann)
        assert await rows(sessions, "SELECT xmin::text, t::text FROM members t") == before
        with pytest.raises(NotFound):
            await erase(sessions, member_id=uuid4(), forfeit=False, actor="test", now=NOW)

    async def test_alone_makes_consents_go(self, sessions: Sessions, ann: Person) -> None:
        async with sessions.begin() as session:
            await session.execute(text("SELECT erase_consents(:id)"), {"id": ann.member_id})
        assert await rows(sessions, "SELECT count(*) > 0 FROM consents") == [(True,)]

    async def test_of_consents_is_of_who_is_erased_whatever_the_engine_says(
        self, sessions: Sessions, ann: Person
    ) -> None:
        async with sessions() as session:
            await session.execute(text("CREATE TEMP TABLE members (id uuid, erased_at date)"))
            await session.execute(text("GRANT SELECT ON members TO PUBLIC"))
            await session.execute(
                text("INSERT INTO members VALUES (:id, now())"), {"id": ann.member_id}
            )
            await session.execute(text("SELECT erase_consents(:id)"), {"id": ann.member_id})
            left = text("SELECT count(*) > 0 FROM consents WHERE member_id = :id")
            assert await session.scalar(left, {"id": ann.member_id})


class TestWhoIsErased:
    async def test_is_not_brought_back_by_an_older_line(
        self, sessions: Sessions, ann: Person
    ) -> None:
        await erased(sessions, ann)
        saved = await enrol(sessions, ann.account_id, NOW)
        assert (saved.outcome, saved.code) == ("rejected", "member_erased")
        again = await enrol(sessions, ann.account_id, NOW + SECOND)
        assert again.outcome == "created"
        assert again.member_id != ann.member_id
        # nor does the older line give the new member what the erased one had
        saved = await enrol(sessions, ann.account_id, NOW - SECOND)
        assert (saved.outcome, saved.code) == ("rejected", "member_erased")

    @pytest.mark.parametrize("later", [0, 1])
    async def test_comes_back_by_a_link_that_was_made_after_it(
        self, sessions: Sessions, ann: Person, later: int
    ) -> None:
        await erased(sessions, ann)
        name = ann.account_id

        async def follow_link() -> None:
            async with sessions.begin() as session:
                await link_by_network(
                    session,
                    holder=Holder(f"m-{name}", None, None, None),
                    account=AccountIn(network="x", id=name, handle="ann"),
                    card=CardIn(card_ref=f"c-{name}", last4="9731"),
                    vouched_at=NOW + later * SECOND,
                    text_version="1",
                    now=LATER,
                )

        if later:
            await follow_link()
        else:
            with pytest.raises(Conflict) as refused:
                await follow_link()
            assert refused.value.code == "handoff_expired"
        assert await rows(sessions, "SELECT count(*) FROM accounts") == [(later,)]

    async def test_is_left_alone_until_he_consents_anew(
        self, sessions: Sessions, settings: Settings, ann: Person
    ) -> None:
        await erased(sessions, ann)
        before = await rows(sessions, "SELECT count(*) FROM replies")
        assert await post(sessions, settings, ann.account_id) == "opted_out"
        assert await rows(sessions, "SELECT count(*) FROM replies") == before
        await enrol(sessions, ann.account_id, NOW + SECOND)
        assert await post(sessions, settings, ann.account_id) == "loaded"
        assert await disagreements(sessions) == []

    async def test_gets_no_reply_that_was_waiting(self, sessions: Sessions, buyer: Person) -> None:
        waiting = "SELECT state FROM replies WHERE kind = 'confirmation'"
        assert await rows(sessions, waiting) == [("queued",)]
        await erased(sessions, buyer)
        assert await rows(sessions, waiting) == [("expired",)]

    async def test_buys_unseen(self, sessions: Sessions, ann: Person) -> None:
        again: dict[str, Any] = {
            "id": f"t-{ann.account_id}-1", "purchase_id": f"p-{ann.account_id}",
        }  # fmt: skip
        first = await pay(sessions, ann.account_id, "clearing", 4_000, **again)
        await erased(sessions, ann)
        # a replay is answered as the first time; what is new is nobody's
        assert await pay(sessions, ann.account_id, "clearing", 4_000, **again) == first
        for kind, purchase in (("clearing", "new"), ("refund", again["purchase_id"])):
            answer = await pay(sessions, ann.account_id, kind, 1_000, purchase_id=purchase)
            assert (answer.status, answer.reason) == ("ignored", "not_linked")
        assert await disagreements(sessions) == []


class TestMoneyUnderWay:
    async def refused(self, sessions: Sessions, person: Person, *, forfeit: bool = False) -> str:
        with pytest.raises(Conflict) as conflict:
            await erased(sessions, person, forfeit=forfeit)
        assert await rows(sessions, "SELECT count(*) FROM members WHERE erased_at IS NULL") != [
            (0,)
        ]
        return conflict.value.code

    async def test_of_a_reward_is_waited_for_or_given_up(
        self, sessions: Sessions, buyer: Person
    ) -> None:
        await pay(sessions, buyer.account_id, "clearing", 4_000)
        assert await self.refused(sessions, buyer) == "money_under_way"
        before = await figures(sessions)
        await erased(sessions, buyer, forfeit=True)
        assert await figures(sessions) == before
        assert await disagreements(sessions) == []
        async with sessions.begin() as session:
            assert await ledger.create_batch(session, actor="test", now=LATER) is None
            due = await ledger.balance(session, account="member_due", member_id=buyer.member_id)
            paid = await ledger.balance(session, account="issuer_settlement")
            kept = await ledger.balance(session, account="programme")
        assert (due, paid, kept) == ({"USD": 0}, {"USD": 0}, {"USD": 500})
        given_up = "SELECT after FROM audit_entries WHERE action = 'member.erase'"
        assert await rows(sessions, given_up) == [({"given_up_minor": {"USD": 500}},)]

    async def test_that_he_owes_is_forgiven(self, sessions: Sessions, buyer: Person) -> None:
        bought = await pay(sessions, buyer.account_id, "clearing", 4_000)
        async with sessions.begin() as session:
            batch = await ledger.create_batch(session, actor="test", now=NOW)
            assert batch
            await ledger.acknowledge(
                session, actor="test", batch_id=batch.batch.id, failures={}, now=NOW
            )
        await pay(sessions, buyer.account_id, "refund", 4_000, purchase_id=bought.purchase_id)
        assert await self.refused(sessions, buyer) == "money_under_way"
        await erased(sessions, buyer, forfeit=True)
        assert await disagreements(sessions) == []
        async with sessions.begin() as session:
            assert await ledger.balance(session, account="programme") == {"USD": -500}
            due = await ledger.balance(session, account="member_due", member_id=buyer.member_id)
        assert due == {"USD": 0}

    async def test_in_an_open_batch_is_the_issuers_to_settle(
        self, sessions: Sessions, buyer: Person
    ) -> None:
        await pay(sessions, buyer.account_id, "clearing", 4_000)
        async with sessions.begin() as session:
            batch = await ledger.create_batch(session, actor="test", now=NOW)
        assert batch
        for forfeit in (False, True):
            assert await self.refused(sessions, buyer, forfeit=forfeit) == "credit_batch_open"
        async with sessions.begin() as session:
            await ledger.acknowledge(
                session, actor="test", batch_id=batch.batch.id, failures={}, now=NOW
            )
        await erased(sessions, buyer)
        assert await disagreements(sessions) == []

    async def test_of_a_purchase_that_has_not_cleared(
        self, sessions: Sessions, buyer: Person
    ) -> None:
        bought = await pay(sessions, buyer.account_id, "authorization", 4_000)
        assert bought.decision == "pending"
        assert await self.refused(sessions, buyer) == "money_under_way"
        await erased(sessions, buyer, forfeit=True)
        assert await disagreements(sessions) == []

    async def test_of_a_claim_that_is_open(self, sessions: Sessions, buyer: Person) -> None:
        claim_id = await claim(sessions, buyer.member_id, "case-1")
        assert await self.refused(sessions, buyer) == "money_under_way"
        async with sessions.begin() as session:
            await claims.refuse(session, claim_id=claim_id, reason="no", actor="test", now=NOW)
        await erased(sessions, buyer)
        assert await rows(sessions, "SELECT count(*) FROM claims") == [(0,)]
