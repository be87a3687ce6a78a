"""`tagback ledger verify` finds whatever does not agree."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from app.claims import service as claims
from app.claims.service import NewClaim
from app.database import Database
from app.insight import attribution
from app.insight.verify import CHECKS, EXAMPLES_MAX, Finding, verify
from app.kit.db import Sessions
from app.ledger import service as ledger
from app.ledger.adjustments import NewAdjustment, adjust
from tests.builders import NOON, add_coupon, add_member
from tests.support import Tagback
from tests.till import NOW, Till, make_transaction


@pytest.fixture
async def till(sessions: Sessions) -> Till:
    """Something of everything: earned, returned, rejected and pending redemptions, an acknowledged
    batch with a failure and an open one, yen beside dollars, an unmatched refund; adjustments of
    both kinds, one that failed, and an accepted claim beside an open one.
    """
    till = await Till.open(sessions)
    await till.coupon(redemptions_per_coupon=5)
    await till.coupon(currency="JPY", refund_policy="burn")
    yen = {"currency": "JPY"}
    await till.take(
        make_transaction("authorization", 4_000, "p-1"),
        make_transaction("clearing", 4_000, "p-1"),
        make_transaction("clearing", 3_000, "p-2"),
        make_transaction("refund", 3_000, "p-2"),
        make_transaction("authorization", 2_000, "p-3"),
        make_transaction("reversal", 2_000, "p-3"),
        make_transaction("decline", 2_000, "p-4"),
        make_transaction("authorization", 2_000, "p-5"),
        make_transaction("clearing", 2_000, "p-6", **yen),
        make_transaction("clearing", 1_000, "p-7"),
        make_transaction("refund", 99_999, None, occurred_at=NOON + timedelta(days=1)),
    )
    await give(till, "case-1", 70, redemption_of="p-1")
    await give(till, "case-2", 30)
    await give(till, "case-3", -20, funded_by="partner", partner_id=till.partner_id)
    async with sessions.begin() as session:
        batch = await ledger.create_batch(session, actor="test", now=NOW)
        assert batch is not None
    failed = await till.rows("SELECT id FROM credit_lines WHERE amount_minor IN (30, 100)")
    async with sessions.begin() as session:
        failures = {line_id: "card closed" for (line_id,) in failed}
        await ledger.acknowledge(
            session, batch_id=batch.batch.id, failures=failures, actor="test", now=NOW
        )
    await claim(till, "call-1", paid_minor=50)
    await claim(till, "call-2")
    await till.take(make_transaction("refund", 2_000, "p-6", **yen))
    async with sessions.begin() as session:
        assert await ledger.create_batch(session, actor="test", now=NOW) is not None
    await till.run(
        "INSERT INTO replies (id, network, root_id, post_id, posted_at, offer_id, recipient_id, "
        "kind, priority, locale, text, not_before, created_at, updated_at) "
        "SELECT gen_random_uuid(), network, root_id, post_id, now(), offer_id, author_id, "
        "'confirmation', 0, 'en', 'Done', now(), now(), now() FROM decisions"
    )
    await attribution.flush(sessions)
    return till


async def give(
    till: Till, ref: str, amount_minor: int, *, redemption_of: str | None = None, **more: Any
) -> None:
    if redemption_of is not None:
        ((more["redemption_id"],),) = await till.rows(
            "SELECT r.id FROM redemptions r JOIN purchases p ON p.id = r.purchase_id "
            "WHERE p.ref = :ref",
            ref=redemption_of,
        )
    usual = {"currency": "USD", "funded_by": "programme", "reason": "As agreed"}
    given: dict[str, Any] = {"ref": ref, "member_id": till.member_id, "amount_minor": amount_minor}
    async with till.sessions.begin() as session:
        await adjust(session, given=NewAdjustment(**given, **usual | more), operator="t", now=NOW)


async def claim(till: Till, ref: str, *, paid_minor: int | None = None) -> None:
    given = NewClaim(ref, till.member_id, None, 4_000, "USD", NOON, "My lunch")
    async with till.sessions.begin() as session:
        made, _ = await claims.make(session, given=given, partner=None, actor="t", now=NOW)
        if paid_minor is not None:
            await claims.accept(
                session,
                claim_id=made.id,
                amount_minor=paid_minor,
                funded_by="programme",
                partner=None,
                reason="Yes",
                actor="t",
                now=NOW,
            )


async def findings(till: Till) -> list[Finding]:
    async with till.sessions.begin() as session:
        return await verify(session)


async def wrong(till: Till) -> set[str]:
    return {finding.name for finding in await findings(till) if finding.wrong}


OWES = "redemptions owe what their rewards add up to"
CREDITED = "redemptions were credited what their lines add up to"
BOOKED = "acknowledged credit lines, and no others, have their transfer"
WHOSE = "transfers are in the currency, of the member and of the partner of their purchase"
REWARDS = "rewards add up in every currency"
CREDITS = "credits add up in every currency"
ADJUSTED = "adjustments, and nothing else that is called so, have their transfer"
ADJUSTMENTS = "adjustments add up in every currency"
ADJUSTMENT_CREDITED = "adjustments were credited what their lines add up to"
OF_ADJUSTMENT = (
    "transfers of an adjustment are in its currency, of its member, partner and redemption"
)
CLAIMED = "accepted claims, and no others, were paid by an adjustment to their member"
PURCHASES = "purchases are what their card transactions add up to"
SPENT = "coupons have spent what their redemptions owe"
USED = "coupons are used as often as their redemptions hold a use"
LOADED = "offers have loaded as many coupons as they count"
RESERVED = "offers have reserved what their coupons reserve"
DAYS = "posts are counted by day as they were decided"
HOURS = "posts are counted by hour as they were decided"
SOLD = "sales are what their redemptions are"
BY_DAY = "sales add up by day"
BY_HOUR = "sales add up by hour"
BY_PART = "sales add up by channel, customer kind and country"
HAS_COUPON = "decisions that loaded a coupon have it"
HAS_DECISION = "coupons were each loaded by one decision"
HAS_MEMBER = "decisions about a member have him"
HAS_POST = "decisions have their post"
IS_ANSWERED = "replies have their decision"
ONE_COUPON = "members have one coupon of an offer"
ONE_DECISION = "posts are decided once for an offer, whatever their edits"
ONE_TRANSACTION = "card transactions are taken once"
ONE_REDEMPTION = "purchases have one redemption"
ONE_CAUSE = "transfers have a cause of their own"

ANOTHER_COUPON = """
    INSERT INTO coupons (id, offer_id, offer_version, member_id, network, post_id, posted_at,
                         loaded_at, valid_until, reserved_minor, uses_max)
    SELECT gen_random_uuid(), offer_id, offer_version, member_id, network, post_id, posted_at,
           loaded_at, valid_until, reserved_minor, uses_max
    FROM coupons WHERE uses_max = 5
"""

# what the owner of the schema can do, with all constraints but those that he drops in the way
CORRUPTIONS = (
    (
        "UPDATE redemptions SET owed_minor = owed_minor + 1 WHERE owed_minor = 400",
        {OWES, REWARDS, SPENT, SOLD},
    ),
    (
        "UPDATE transfers SET amount_minor = 399 WHERE amount_minor = 400 AND code = 'reward'",
        {OWES, REWARDS},
    ),
    ("DELETE FROM transfers WHERE code = 'reward' AND amount_minor = 400", {OWES, REWARDS}),
    (
        "UPDATE redemptions SET credited_minor = credited_minor + 1 WHERE owed_minor = 400",
        {CREDITED},
    ),
    (
        "UPDATE credit_lines SET amount_minor = 401 WHERE amount_minor = 400",
        {CREDITED, BOOKED, CREDITS},
    ),
    ("UPDATE credit_lines SET state = 'pending' WHERE amount_minor = 400", {BOOKED, CREDITS}),
    ("DELETE FROM transfers WHERE code = 'credit' AND amount_minor = 400", {BOOKED, CREDITS}),
    (
        "UPDATE transfers SET cause_id = 'no line' WHERE code = 'credit' AND amount_minor = 400",
        {BOOKED},
    ),
    (
        "UPDATE transfers SET currency = 'EUR' WHERE code = 'reward' AND amount_minor = 400",
        {WHOSE, REWARDS},
    ),
    (
        "UPDATE transfers SET currency = 'EUR' WHERE code = 'credit' AND amount_minor = 400",
        {WHOSE, CREDITS},
    ),
    ("DELETE FROM transfers WHERE code = 'credit' AND amount_minor = 70", {BOOKED, CREDITS}),
    (
        "UPDATE credit_lines SET amount_minor = -19 WHERE amount_minor = -20",
        {ADJUSTMENT_CREDITED, BOOKED, CREDITS},
    ),
    ("UPDATE adjustments SET credited_minor = 0 WHERE amount_minor = 70", {ADJUSTMENT_CREDITED}),
    (
        """
        UPDATE credit_lines SET state = 'pending', failure = NULL
        WHERE amount_minor = 30 AND state = 'failed'
        """,
        {ADJUSTMENT_CREDITED},
    ),
    (
        "DELETE FROM transfers WHERE code = 'adjustment' AND amount_minor = 70",
        {ADJUSTED, ADJUSTMENTS},
    ),
    (
        "UPDATE transfers SET amount_minor = 71 WHERE code = 'adjustment' AND amount_minor = 70",
        {ADJUSTED, ADJUSTMENTS},
    ),
    (
        """
        UPDATE transfers SET debit_account = credit_account, credit_account = debit_account
        WHERE code = 'adjustment' AND amount_minor = 20
        """,
        {ADJUSTED, ADJUSTMENTS},
    ),
    (
        """
        UPDATE transfers SET credit_account = 'programme'
        WHERE code = 'adjustment' AND amount_minor = 20
        """,
        {ADJUSTED},
    ),
    ("UPDATE adjustments SET reason = 'Another' WHERE amount_minor = 70", {ADJUSTED}),
    (
        "UPDATE transfers SET cause_id = 'none' WHERE code = 'adjustment' AND amount_minor = 70",
        {ADJUSTED},
    ),
    (
        "UPDATE transfers SET partner_id = NULL WHERE code = 'adjustment' AND amount_minor = 70",
        {WHOSE, OF_ADJUSTMENT},
    ),
    (
        "UPDATE transfers SET redemption_id = NULL WHERE code = 'credit' AND amount_minor = 70",
        {OF_ADJUSTMENT},
    ),
    (
        """
        INSERT INTO members (id, ref) VALUES (gen_random_uuid(), 'another');
        UPDATE claims SET member_id = (SELECT id FROM members WHERE ref = 'another')
        WHERE state = 'accepted'
        """,
        {CLAIMED},
    ),
    (
        """
        ALTER TABLE claims DROP CONSTRAINT ck_claims_accepted;
        UPDATE claims SET adjustment_id = NULL WHERE state = 'accepted'
        """,
        {CLAIMED},
    ),
    ("UPDATE purchases SET cleared_minor = cleared_minor + 1 WHERE ref = 'p-1'", {PURCHASES, SOLD}),
    ("UPDATE purchases SET authorised_minor = 0 WHERE ref = 'p-1'", {PURCHASES}),
    ("UPDATE purchases SET reversed_minor = 0 WHERE ref = 'p-3'", {PURCHASES}),
    ("UPDATE purchases SET refunded_minor = 0 WHERE ref = 'p-2'", {PURCHASES}),
    ("UPDATE purchases SET declined_at = NULL WHERE ref = 'p-4'", {PURCHASES}),
    (
        "DELETE FROM card_transactions WHERE type = 'authorization' AND amount_minor = 4000",
        {PURCHASES},
    ),
    ("UPDATE coupons SET spent_minor = spent_minor + 1", {SPENT}),
    ("UPDATE coupons SET uses = 0", {USED}),
    ("UPDATE redemptions SET holds_use = false WHERE owed_minor = 400", {USED}),
    ("UPDATE offer_counters SET coupons_loaded = coupons_loaded + 1", {LOADED}),
    ("UPDATE offer_counters SET reserved_minor = reserved_minor - 1", {RESERVED}),
    ("UPDATE coupons SET reserved_minor = reserved_minor + 1", {RESERVED}),
    ("UPDATE post_days SET posts = posts + 1", {DAYS}),
    ("DELETE FROM post_days", {DAYS}),
    ("UPDATE post_hours SET posts = posts + 1", {HOURS}),
    ("UPDATE sales SET buyer = 'another'", {SOLD}),
    ("UPDATE sales SET spend_minor = spend_minor + 1", {SOLD, BY_DAY, BY_HOUR, BY_PART}),
    ("UPDATE sales_days SET refunds = refunds + 1", {BY_DAY}),
    ("DELETE FROM sales_hours", {BY_HOUR}),
    ("UPDATE sales_part_days SET delays = array_fill(1, ARRAY[53])", {BY_PART}),
    ("UPDATE decisions SET coupon_id = gen_random_uuid()", {HAS_COUPON, HAS_DECISION}),
    ("UPDATE decisions SET outcome = 'sold_out', coupon_id = NULL", {HAS_DECISION, DAYS, HOURS}),
    ("UPDATE decisions SET member_id = gen_random_uuid()", {HAS_COUPON, HAS_MEMBER}),
    ("DELETE FROM posts", {HAS_POST, DAYS, HOURS}),
    ("UPDATE replies SET root_id = 'another'", {IS_ANSWERED}),
    (
        """
        INSERT INTO decisions
        SELECT network, 'again', offer_id, offer_version, post_id, author_id, member_id, coupon_id,
               outcome, decided_at, seen
        FROM decisions
        """,
        {HAS_DECISION, DAYS, HOURS},
    ),
    (
        f"ALTER TABLE coupons DROP CONSTRAINT uq_coupons_member_id_offer_id; {ANOTHER_COUPON}",
        {ONE_COUPON, LOADED, RESERVED, HAS_DECISION},
    ),
    (
        """
        ALTER TABLE decisions DROP CONSTRAINT pk_decisions;
        INSERT INTO decisions SELECT * FROM decisions
        """,
        {ONE_DECISION, HAS_DECISION, DAYS, HOURS},
    ),
    (
        """
        ALTER TABLE card_transactions DROP CONSTRAINT pk_card_transactions;
        INSERT INTO card_transactions SELECT * FROM card_transactions WHERE purchase_id IS NULL
        """,
        {ONE_TRANSACTION},
    ),
    (
        """
        ALTER TABLE redemptions DROP CONSTRAINT uq_redemptions_purchase_id;
        INSERT INTO redemptions (id, purchase_id, coupon_id, state, reason, decided, holds_use,
                                 created_at, updated_at)
        SELECT gen_random_uuid(), purchase_id, coupon_id, state, reason, decided, false, now(),
               now()
        FROM redemptions WHERE state = 'rejected'
        """,
        {ONE_REDEMPTION, SOLD},
    ),
    (
        """
        ALTER TABLE transfers DROP CONSTRAINT uq_transfers_cause_kind_cause_id_code;
        INSERT INTO transfers (debit_account, credit_account, amount_minor, currency, code,
                               cause_kind, cause_id, partner_id, member_id, adjustment_id,
                               operator, reason, at)
        SELECT debit_account, credit_account, amount_minor, currency, code, cause_kind, cause_id,
               partner_id, member_id, adjustment_id, operator, reason, at
        FROM transfers WHERE code = 'adjustment' AND amount_minor = 30
        """,
        {ONE_CAUSE, ADJUSTMENTS},
    ),
)


class TestVerify:
    async def test_finds_nothing_wrong_with_what_the_service_wrote(self, till: Till) -> None:
        found = await findings(till)
        assert [finding for finding in found if finding.wrong] == []
        checked = {finding.name: finding.checked for finding in found}
        assert all(checked.values()), checked
        assert checked[OWES] == 7
        assert checked[BOOKED] == 10
        assert checked[REWARDS] == 2

    @pytest.mark.parametrize(("statement", "expected"), CORRUPTIONS)
    async def test_finds(
        self, till: Till, database: Database, statement: str, expected: set[str]
    ) -> None:
        engine = create_async_engine(database.owner_url)
        async with engine.begin() as connection:
            for one in statement.split(";"):
                done = await connection.execute(text(one))
            assert done.rowcount > 0
        await engine.dispose()
        assert await wrong(till) == expected

    async def test_finds_a_second_coupon_that_a_broken_index_does_not_know(
        self, till: Till, server: Any, database: Database
    ) -> None:
        name = make_url(database.url).database
        engine = create_async_engine(server.url("postgres", name), isolation_level="AUTOCOMMIT")
        index = (
            "UPDATE pg_index SET indisready = NOT indisready "
            "WHERE indexrelid = 'uq_coupons_member_id_offer_id'::regclass"
        )
        async with engine.connect() as connection:
            for statement in (
                index,
                ANOTHER_COUPON,
                index,
                "COMMENT ON TABLE coupons IS 'broken: not for another test'",
            ):
                await connection.execute(text(statement))
        await engine.dispose()
        async with till.sessions.begin() as session:
            # as in a table of millions, where the index is the shorter way
            await session.execute(text("SET LOCAL seq_page_cost = 1000000"))
            found = {finding.name for finding in await verify(session) if finding.wrong}
        assert found == {ONE_COUPON, LOADED, RESERVED, HAS_DECISION}

    def test_has_a_corruption_for_each_check(self) -> None:
        found = set().union(*(expected for _, expected in CORRUPTIONS))
        assert found == {check.name for check in CHECKS}

    async def test_names_at_most_twenty_of_each(self, till: Till) -> None:
        terms = await till.offer()
        async with till.sessions.begin() as session:
            for number in range(EXAMPLES_MAX + 5):
                member_id = await add_member(session, f"c-{number}")
                await add_coupon(session, member_id, terms)
        await till.run("UPDATE coupons SET spent_minor = 1 WHERE spent_minor = 0")
        (finding,) = [one for one in await findings(till) if one.name == SPENT]
        assert len(finding.examples) == EXAMPLES_MAX
        assert finding.wrong >= EXAMPLES_MAX + 5
        assert finding.examples[0].endswith(": 1, but 0")

    async def test_changes_nothing_and_sees_one_moment(self, till: Till) -> None:
        async with till.sessions.begin() as session:
            await verify(session)
            found = await session.execute(
                text(
                    "SELECT current_setting('transaction_read_only'), "
                    "current_setting('transaction_isolation')"
                )
            )
            assert found.one() == ("on", "repeatable read")


class TestTheCommand:
    async def test_says_how_many_it_checked(self, till: Till, tagback: Tagback) -> None:
        checked = sum(finding.checked for finding in await findings(till))
        ran = await tagback("ledger", "verify")
        assert ran.status == 0
        for check in CHECKS:
            assert check.name in ran.out
        assert ran.out.splitlines()[-1] == f"{checked} checked, all agree"

    async def test_says_what_is_wrong(self, till: Till, tagback: Tagback) -> None:
        await till.run("UPDATE coupons SET uses = 0")
        ((coupon_id,),) = await till.rows("SELECT id FROM coupons WHERE uses_max = 5")
        ran = await tagback("ledger", "verify")
        assert ran.status == 1
        assert f"2  of 2: {USED}" in ran.out
        assert f"{coupon_id}: 0, but 3" in ran.out
