"""Offers start and end by the clock, in a process that was there all along."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from app.config import Settings
from app.kit.db import Sessions
from app.offers import service as offers
from app.posts.enrol import Enroller
from tests.programme import make_members, make_offer, make_post

MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
def enroller(sessions: Sessions, settings: Settings) -> Enroller:
    return Enroller(sessions, settings)


async def post_at(enroller: Enroller, author: str, now: datetime) -> str:
    post = make_post(author, "tea", posted_at=now)
    (result,) = await enroller.enrol([post], source="test", now=now)
    return result.outcomes[0]


async def state_at(sessions: Sessions, offer_id: UUID, now: datetime) -> str:
    async with sessions.begin() as session:
        offer, _, _ = await offers.get(session, offer_id=offer_id)
        return offers.shown_state(offer, now)


class TestAnOffer:
    @pytest.mark.parametrize(
        ("starts_at", "ends_at", "zone"),
        [
            ("2026-08-01T09:00:00Z", "2026-08-01T10:00:00Z", "UTC"),
            ("2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00", "Europe/Paris"),
        ],
    )
    async def test_starts_and_ends_while_one_process_runs(
        self, sessions: Sessions, enroller: Enroller, statements: list[str], starts_at: str,
        ends_at: str, zone: str,
    ) -> None:  # fmt: skip
        offer_id = await make_offer(
            sessions, "Tea", starts_at=starts_at, ends_at=ends_at, time_zone=zone
        )
        starts, ends = datetime.fromisoformat(starts_at), datetime.fromisoformat(ends_at)
        moments = {
            starts - MICROSECOND: ("not_started", "scheduled"),
            starts: ("loaded", "live"),
            ends - MICROSECOND: ("loaded", "live"),
            ends: ("ended", "ended"),
            ends + timedelta(days=30): ("ended", "ended"),
            ends + timedelta(days=30, microseconds=1): ("no_offer", "ended"),
        }
        authors = await make_members(sessions, len(moments))
        statements.clear()
        found = {}
        for author, moment in zip(authors, moments, strict=True):
            now = moment.astimezone(UTC)
            outcome = await post_at(enroller, author, now)
            found[moment] = (outcome, await state_at(sessions, offer_id, now))
        assert found == moments
        # nothing had to tell the process: it read the offers once
        assert sum("FROM offers o JOIN partners p" in one for one in statements) == 1

    async def test_hands_its_hashtag_to_the_next_at_the_moment_it_ends(
        self, sessions: Sessions, enroller: Enroller
    ) -> None:
        change = datetime(2026, 8, 1, tzinfo=UTC)
        first = await make_offer(
            sessions, "Tea", offer_ref="july", starts_at="2026-07-01T00:00:00Z",
            ends_at="2026-08-01T00:00:00Z",
        )  # fmt: skip
        second = await make_offer(
            sessions, "Tea", offer_ref="august", starts_at="2026-08-01T00:00:00Z",
            ends_at="2026-09-01T00:00:00Z",
        )  # fmt: skip
        (author,) = await make_members(sessions, 1)
        for moment in (change - MICROSECOND, change):
            assert await post_at(enroller, author, moment) == "loaded"
        states = [await state_at(sessions, offer_id, change) for offer_id in (first, second)]
        assert states == ["ended", "live"]
