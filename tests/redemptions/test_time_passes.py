"""What time does to purchases and coupons in the database, however often and late it is asked."""

import asyncio
from datetime import datetime, timedelta

from app.insight.verify import verify
from app.upkeep.jobs import run_job
from tests.builders import NOON, add_coupon, add_member, add_shop
from tests.till import COUPONS, STATE, Till, make_transaction, told

RESERVED = "SELECT sum(reserved_minor)::bigint FROM offer_counters"
WEEK = timedelta(days=7)
CLOSING = NOON + timedelta(days=30 + 30)  # thirty days of validity, thirty of settlement


async def all_agrees(till: Till) -> bool:
    async with till.sessions.begin() as session:
        return not any(finding.wrong for finding in await verify(session))


async def lapse(till: Till, now: datetime) -> int:
    return await run_job(till.sessions, "lapse", now=now)


async def close(till: Till, now: datetime) -> int:
    return await run_job(till.sessions, "close", now=now)


class TestLapse:
    async def test_gives_the_use_back_to_the_coupon(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("authorization", 4_000))
        assert await lapse(till, NOON + WEEK - timedelta(seconds=1)) == 0
        assert await lapse(till, NOON + WEEK) == 1
        assert await till.rows(STATE) == [("rejected", "lapsed", False, False, 0)]
        assert await till.rows(COUPONS) == [(0, 0)]
        (again,) = await till.take(make_transaction("clearing", 2_000, "p-2"))
        assert told(again) == ("applied", "earned", None, 200)
        assert await all_agrees(till)

    async def test_of_a_hotel_takes_thirty_days(self, till: Till) -> None:
        async with till.sessions.begin() as session:
            await add_shop(session, till.partner_id, "hotel", mcc="7011")
        await till.coupon()
        await till.take(make_transaction("authorization", 4_000, acceptor_id="hotel"))
        assert await lapse(till, NOON + timedelta(days=29)) == 0
        assert await lapse(till, NOON + timedelta(days=30)) == 1

    async def test_twice_and_in_two_places_at_once_is_once(self, till: Till) -> None:
        await till.coupon(redemptions_per_coupon=5)
        await till.take(*(make_transaction("authorization", 4_000, f"p-{n}") for n in range(5)))
        done = await asyncio.gather(*(lapse(till, NOON + WEEK) for _ in range(4)))
        assert sum(done) == 5
        assert await lapse(till, NOON + WEEK) == 0
        assert await till.rows(COUPONS) == [(0, 0)]

    async def test_of_more_than_a_step_takes_them_all(self, till: Till, monkeypatch) -> None:
        monkeypatch.setattr("app.upkeep.jobs.ROWS_MAX", 3)
        await till.coupon(redemptions_per_coupon=10)
        await till.take(*(make_transaction("authorization", 4_000, f"p-{n}") for n in range(8)))
        assert await lapse(till, NOON + WEEK) == 8

    async def test_is_no_answer_to_a_clearing_that_comes_late(self, till: Till) -> None:
        await till.coupon()
        await till.take(make_transaction("authorization", 4_000))
        await lapse(till, NOON + WEEK)
        (answer,) = await till.take(
            make_transaction("clearing", 4_000, occurred_at=NOON + timedelta(days=9))
        )
        assert told(answer) == ("applied", "earned", None, 400)
        assert await lapse(till, NOON + timedelta(days=99)) == 0
        assert await all_agrees(till)

    async def test_of_a_purchase_without_a_coupon_changes_nothing_that_counts(
        self, till: Till
    ) -> None:
        await till.take(make_transaction("authorization", 4_000))
        assert await lapse(till, NOON + WEEK) == 1
        assert await lapse(till, NOON + WEEK) == 0
        assert await till.rows(STATE) == []


class TestClose:
    async def test_gives_back_what_an_expired_coupon_did_not_spend(self, till: Till) -> None:
        await till.coupon(posted_at=NOON)
        assert await till.rows(RESERVED) == [(500,)]
        assert await close(till, CLOSING - timedelta(seconds=1)) == 0
        assert await close(till, CLOSING) == 1
        assert await till.rows(RESERVED) == [(0,)]
        assert await close(till, CLOSING) == 0
        assert await all_agrees(till)

    async def test_gives_back_the_rest_of_one_that_was_used(self, till: Till) -> None:
        await till.coupon(posted_at=NOON)
        await till.take(make_transaction("clearing", 4_000))
        await close(till, CLOSING)
        assert await till.rows(RESERVED) == [(400,)]
        assert await till.rows("SELECT reserved_minor, spent_minor FROM coupons") == [(400, 400)]
        assert await all_agrees(till)

    async def test_of_one_that_is_used_up_for_good_does_not_wait_for_its_last_day(
        self, till: Till
    ) -> None:
        await till.coupon(posted_at=NOON, refund_policy="burn")
        await till.take(make_transaction("clearing", 4_000), now=NOON)
        assert await close(till, NOON + timedelta(days=30, seconds=-1)) == 0
        assert await close(till, NOON + timedelta(days=30)) == 1

    async def test_waits_for_the_last_day_where_a_refund_brings_the_use_back(
        self, till: Till
    ) -> None:
        await till.coupon(posted_at=NOON)
        await till.take(make_transaction("clearing", 4_000), now=NOON)
        assert await close(till, CLOSING - timedelta(seconds=1)) == 0
        await till.take(make_transaction("refund", 4_000), now=NOON + timedelta(days=29))
        again = make_transaction("clearing", 4_000, "p-2", occurred_at=NOON + timedelta(days=29))
        (answer,) = await till.take(again, now=NOON + timedelta(days=40))
        assert told(answer) == ("applied", "earned", None, 400)
        assert await close(till, CLOSING) == 1

    async def test_waits_while_a_purchase_is_open(self, till: Till) -> None:
        await till.coupon(posted_at=NOON)
        late = NOON + timedelta(days=29)
        await till.take(make_transaction("authorization", 4_000, occurred_at=late))
        assert await close(till, CLOSING) == 0
        assert await lapse(till, CLOSING) == 1
        assert await close(till, CLOSING) == 1

    async def test_makes_a_clearing_too_late_and_keeps_a_refund_possible(self, till: Till) -> None:
        await till.coupon(posted_at=NOON, redemptions_per_coupon=2)
        await till.take(make_transaction("clearing", 4_000))
        await close(till, CLOSING)
        (late,) = await till.take(make_transaction("clearing", 4_000, "p-2"), now=CLOSING)
        assert told(late) == ("applied", "rejected", "late", 0)
        (refunded,) = await till.take(make_transaction("refund", 1_000), now=CLOSING)
        assert told(refunded) == ("applied", "earned", None, 300)
        # what a refund takes back stays with the coupon: the offer's place is not sold again
        assert await till.rows(RESERVED) == [(400,)]
        assert await all_agrees(till)

    async def test_of_many_offers_in_several_places_at_once_is_once_each(self, till: Till) -> None:
        offers = [await till.offer() for _ in range(4)]
        async with till.sessions.begin() as session:
            for number in range(10):
                member_id = await add_member(session, f"card-of-{number}")
                for terms in offers:
                    await add_coupon(session, member_id, terms, posted_at=NOON)
        done = await asyncio.gather(*(close(till, CLOSING) for _ in range(4)))
        assert sum(done) == 40
        assert await till.rows(RESERVED) == [(0,)]
        assert await all_agrees(till)
