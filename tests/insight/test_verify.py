"""`tagback ledger verify` finds whatever does not agree."""

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from app.database import Database
from app.insight.verify import CHECKS, EXAMPLES_MAX, Finding, verify
from app.kit.db import Sessions
from app.ledger import service as ledger
from tests.builders import NOON, add_coupon, add_member
from tests.support import Tagback
from tests.till import NOW, Till, make_transaction


@pytest.fixture
async def till(sessions: Sessions) -> Till:
    """Something of everything: earned, returned, rejected and pending redemptions, an acknowledged
    batch with a failure and an open one, yen beside dollars, an unmatched refund.
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
    async with sessions.begin() as session:
        batch = await ledger.create_batch(session, now=NOW)
        assert batch is not None
    ((failed,),) = await till.rows("SELECT id FROM credit_lines WHERE amount_minor = 100")
    async with sessions.begin() as session:
        await ledger.acknowledge(
            session, batch_id=batch.batch.id, failures={failed: "card closed"}, now=NOW
        )
    await till.take(make_transaction("refund", 2_000, "p-6", **yen))
    async with sessions.begin() as session:
        assert await ledger.create_batch(session, now=NOW) is not None
    await till.run(
        "INSERT INTO replies (id, network, root_id, post_id, posted_at, offer_id, recipient_id, "
        "kind, priority, locale, text, not_before, created_at, updated_at) "
        "SELECT gen_random_uuid(), network, root_id, post_id, now(), offer_id, author_id, "
        "'confirmation', 0, 'en', 'Done', now(), now(), now() FROM decisions"
    )
    return till


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
PURCHASES = "purchases are what their card transactions add up to"
SPENT = "coupons have spent what their redemptions owe"
USED = "coupons are used as often as their redemptions hold a use"
LOADED = "offers have loaded as many coupons as they count"
RESERVED = "offers have reserved what their coupons reserve"
DAYS = "posts are counted by day as they were decided"
HAS_COUPON = "decisions that loaded a coupon have it"
HAS_DECISION = "coupons were each loaded by one decision"
HAS_MEMBER = "decisions about a member have him"
HAS_POST = "decisions have their post"
IS_ANSWERED = "replies have their decision"

# what the owner of the schema can do, with all constraints but those that are named in the way
CORRUPTIONS = (
    (
        "UPDATE redemptions SET owed_minor = owed_minor + 1 WHERE owed_minor = 400",
        {OWES, REWARDS, SPENT},
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
    ("UPDATE purchases SET cleared_minor = cleared_minor + 1 WHERE ref = 'p-1'", {PURCHASES}),
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
    ("UPDATE decisions SET coupon_id = gen_random_uuid()", {HAS_COUPON, HAS_DECISION}),
    ("UPDATE decisions SET outcome = 'sold_out', coupon_id = NULL", {HAS_DECISION, DAYS}),
    ("UPDATE decisions SET member_id = gen_random_uuid()", {HAS_COUPON, HAS_MEMBER}),
    ("DELETE FROM posts", {HAS_POST, DAYS}),
    ("UPDATE replies SET root_id = 'another'", {IS_ANSWERED}),
    (
        """
        INSERT INTO decisions
        SELECT network, 'again', offer_id, offer_version, post_id, author_id, member_id, coupon_id,
               outcome, decided_at, seen
        FROM decisions
        """,
        {HAS_DECISION, DAYS},
    ),
)


class TestVerify:
    async def test_finds_nothing_wrong_with_what_the_service_wrote(self, till: Till) -> None:
        found = await findings(till)
        assert [finding for finding in found if finding.wrong] == []
        checked = {finding.name: finding.checked for finding in found}
        assert all(checked.values()), checked
        assert checked[OWES] == 7
        assert checked[BOOKED] == 5
        assert checked[REWARDS] == 2

    @pytest.mark.parametrize(("statement", "expected"), CORRUPTIONS)
    async def test_finds(
        self, till: Till, database: Database, statement: str, expected: set[str]
    ) -> None:
        engine = create_async_engine(database.owner_url)
        async with engine.begin() as connection:
            assert (await connection.execute(text(statement))).rowcount > 0
        await engine.dispose()
        assert await wrong(till) == expected

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
