"""What the listener owes: posts that came while something was not in place, whatever fails then."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from app.kit.db import Sessions
from tests.posts.test_listener import (
    ALWAYS,
    APP,
    QUICK,
    a_minute_ago,
    connected,
    count,
    coupons,
    listening_to,
    people,
    post,
    rows,
    rules,
    subscriptions,
    told,
)
from tests.programme import make_members, make_offer
from tests.stand_in import PROGRAMME, StandIn, StartX
from tests.support import until

SUBSCRIBE = "POST /2/activity/subscriptions"
TAGS_ALONE: dict[str, Any] = {"x_hashtag_stream": True, "x_mentions_by": "off"}
# Where nothing but a gap that somebody has told of makes a pass.
NO_CLOCK = replace(QUICK, gaps_every_seconds=600.0, retry_seconds_max=0.2)


async def goes_wrong(x: StandIn, kind: str, on: str, **more: Any) -> None:
    fault = {"kind": kind, "on": on, **more}
    (await x.client.post("/sandbox/faults", json=fault)).raise_for_status()


async def moves_along(sessions: Sessions, source: str) -> None:
    """The cursor, so the gap that a connection begins with is closed."""
    since = datetime.now(UTC) - timedelta(seconds=29.5)
    query = f"SELECT count(*) FROM cursors WHERE source = '{source}' AND posted_at > '{since}'"

    async def has_moved() -> bool:
        return await rows(sessions, query) == [(1,)]

    await until(has_moved)


class TestRules:
    async def test_what_is_posted_before_x_heeds_a_new_rule_is_found(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        (author,) = await make_members(sessions, 1)
        x = await start_x(keep_alive_seconds=0.05, rules_effective_seconds=0.5)
        await people(x, [author])

        async def has_cake() -> bool:
            return "Cake" in str(await rules(x))

        pace = replace(NO_CLOCK, rules_heeded_seconds=0.6)
        async with listening_to(sessions, told(x, **TAGS_ALONE), pace):
            await moves_along(sessions, "x:tagged")
            await make_offer(sessions, "Cake", **ALWAYS)
            await until(has_cake)
            await post(x, author, "#Cake", created_at=a_minute_ago())
            await coupons(sessions, 1)
        assert await rows(sessions, "SELECT source FROM posts") == [("x:gap",)]

    async def test_posts_are_found_while_rules_cannot_be_made(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        (author,) = await make_members(sessions, 1)
        x = await start_x(keep_alive_seconds=0.05)
        await people(x, [author])
        pace = replace(QUICK, rules_heeded_seconds=0.0)
        async with listening_to(sessions, told(x, **TAGS_ALONE), pace):
            await moves_along(sessions, "x:tagged")
            route = "POST /2/tweets/search/stream/rules"
            await goes_wrong(x, "internal_error", route, times=None)
            await make_offer(sessions, "Cake", **ALWAYS)
            await post(x, author, "#Cake", created_at=a_minute_ago())
            await coupons(sessions, 1)


class TestSubscriptions:
    async def test_mentions_that_x_refuses_to_tell_of_are_read_and_asked_for_again(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        authors = await make_members(sessions, 5)
        x = await start_x()
        await people(x, authors)
        await goes_wrong(x, "forbidden", SUBSCRIBE, times=None)

        async def are_told_of() -> bool:
            return ("post.mention.create", PROGRAMME, "tagback") in await subscriptions(x)

        async with listening_to(sessions, told(x), replace(QUICK, retry_seconds_max=0.2)):
            for number, author in enumerate(authors):  # more than the passes of a connection
                await post(x, author, "#Tea @TagbackDemo", created_at=a_minute_ago())
                await coupons(sessions, number + 1)
            await x.client.delete("/sandbox/faults")
            await until(are_told_of)

    async def test_a_gap_is_owed_though_the_next_subscription_fails(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        (author,) = await make_members(sessions, 1)
        x = await start_x(keep_alive_seconds=0.05)
        await people(x, [author])
        async with listening_to(sessions, told(x), NO_CLOCK):
            await connected(x, "activity_stream")
            await moves_along(sessions, "x:mentions")
            await goes_wrong(x, "lose", "activity_stream")
            await post(x, author, "#Tea @TagbackDemo", created_at=a_minute_ago())
            await goes_wrong(x, "internal_error", SUBSCRIBE, after=1)
            known = (await x.client.get("/2/activity/subscriptions", headers=APP)).json()["data"]
            ids = ",".join(one["subscription_id"] for one in known)
            await x.client.delete("/2/activity/subscriptions", params={"ids": ids}, headers=APP)
            await coupons(sessions, 1)


class TestMentionsThatAreOff:
    async def test_deletions_and_messages_are_heard_of_all_the_same(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        (author,) = await make_members(sessions, 1)
        x = await start_x()
        await people(x, [author])

        async def are_gone() -> bool:
            return await count(sessions, "removed_posts") == 1

        async with listening_to(sessions, told(x, **TAGS_ALONE)):
            await connected(x, "filtered_stream")
            await connected(x, "activity_stream")
            wanted = [
                ("dm.received", PROGRAMME, "tagback"),
                ("post.delete", author, "tagback"),
            ]

            async def are_in_step() -> bool:
                return await subscriptions(x) == wanted

            await until(are_in_step)
            post_id = await post(x, author, "#Tea")
            await coupons(sessions, 1)
            (await x.client.delete(f"/sandbox/posts/{post_id}")).raise_for_status()
            await until(are_gone)


class TestTheAccount:
    async def connect(self, sessions: Sessions, account_id: str) -> None:
        await rows(
            sessions,
            "INSERT INTO network_accounts (network, account_id, handle, scopes, access_token, "
            f"expires_at, connected_at, updated_at) VALUES ('x', '{account_id}', 'TagbackDemo', "
            "'{}', '', now(), now(), now()) ON CONFLICT (network) DO UPDATE "
            "SET account_id = EXCLUDED.account_id RETURNING 1",
        )

    async def test_that_is_connected_instead_is_listened_as(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        x = await start_x()

        async def is_heard(account_id: str) -> None:
            async def holds() -> bool:
                wanted = [
                    (kind, account_id, "tagback") for kind in ("dm.received", "post.mention.create")
                ]
                return await subscriptions(x) == wanted

            await until(holds)

        await self.connect(sessions, PROGRAMME)
        async with listening_to(sessions, told(x, x_account_id=None)):
            await is_heard(PROGRAMME)
            await self.connect(sessions, "1000000000000000777")
            await is_heard("1000000000000000777")
            await connected(x, "activity_stream")

    async def test_is_not_waited_for_by_who_hears_hashtags(
        self, sessions: Sessions, start_x: StartX
    ) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        x = await start_x()
        async with listening_to(sessions, told(x, x_account_id=None, x_hashtag_stream=True)):
            await connected(x, "filtered_stream")
            await self.connect(sessions, PROGRAMME)
            await connected(x, "activity_stream")


class TestALongGap:
    async def test_is_closed_part_by_part(self, sessions: Sessions, start_x: StartX) -> None:
        await make_offer(sessions, "Tea", **ALWAYS)
        authors = await make_members(sessions, 2)
        x = await start_x()
        await people(x, authors)
        now = datetime.now(UTC)
        await rows(
            sessions,
            "INSERT INTO cursors (source, posted_at, updated_at) VALUES ('x:tagged', "
            f"'{now - timedelta(days=3)}', now()) RETURNING 1",
        )
        for author, days in zip(authors, (2.5, 0.5), strict=True):
            posted_at = now - timedelta(days=days)
            await post(x, author, "#Tea", created_at=posted_at.isoformat())
        await goes_wrong(x, "internal_error", "GET /2/tweets/search/recent", after=1, times=None)

        async def has_moved() -> bool:
            query = "SELECT posted_at FROM cursors WHERE source = 'x:tagged'"
            ((cursor,),) = await rows(sessions, query)
            return bool(cursor > now - timedelta(days=2.2))

        async with listening_to(sessions, told(x, **TAGS_ALONE)):
            await coupons(sessions, 1)
            await until(has_moved)
            await x.client.delete("/sandbox/faults")
            await coupons(sessions, 2)
