"""A post that was deleted on X is forgotten here, and what it earned stays."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.config import Settings
from app.insight import explain
from app.insight.verify import verify
from app.kit.db import Sessions
from app.kit.lines import Line
from app.networks.post import Post, PostRemoved
from app.offers import queries as offers
from app.posts import events, lookback, removal, removal_queries
from app.posts.enrol import Enroller
from app.posts.loader import PostLoader
from tests.programme import NOW, link, make_members, make_offer, make_post
from tests.support import Analyse

LATER = NOW + timedelta(minutes=10)


async def enrol(sessions: Sessions, settings: Settings, *posts: Post) -> list[tuple[str, ...]]:
    results = await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)
    return [result.outcomes for result in results]


async def remove(sessions: Sessions, settings: Settings, *ids: str) -> None:
    for post_id in ids:
        async with sessions.begin() as session:
            await events.take(session, PostRemoved("x", post_id), settings=settings, now=NOW)


async def forget(sessions: Sessions, now: datetime = LATER) -> int:
    async with sessions.begin() as session:
        return await removal.forget_removed(session, now=now, most=100)


async def rows(sessions: Sessions, query: str, **values: Any) -> list[Any]:
    async with sessions.begin() as session:
        return [tuple(row) for row in await session.execute(text(query), values)]


async def whole_database(sessions: Sessions) -> str:
    """Every row of every table, but for what is remembered of removals, as text."""
    tables = await rows(
        sessions,
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' "
        "AND tablename NOT IN ('removed_posts', 'accounts', 'members', 'cards', "
        "'pseudonym_secrets')",
    )
    found = []
    for (table,) in tables:
        found += await rows(sessions, f"SELECT t::text FROM {table} t")
    return "\n".join(row for (row,) in found)


async def disagreements(sessions: Sessions) -> list[str]:
    async with sessions() as session:
        return [finding.name for finding in await verify(session) if finding.wrong]


async def explained(sessions: Sessions, post_id: str) -> str:
    async with sessions() as session:
        answer = await explain.explain_post(session, post_id=post_id)
    assert not answer["known"]
    sentence: str = answer["sentence"]
    return sentence


class TestAPostRemovedAfterItLoaded:
    async def test_is_forgotten_and_its_coupon_stays(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        post = make_post(author, "Tea", author_followers=4711, lang="fr")
        other = make_post((await make_members(sessions, 1))[0], "Tea")
        await enrol(sessions, settings, post, other)
        money = "SELECT reserved_minor, coupons_loaded FROM offer_counters"
        before = await rows(sessions, money)
        await remove(sessions, settings, post.id)
        assert "deleted" in await explained(sessions, post.id)
        assert await forget(sessions) == 1
        left = await whole_database(sessions)
        assert post.id not in left
        assert author not in left
        assert other.id in left
        ((tags, lang, reach),) = await rows(
            sessions, "SELECT tags, lang, reach FROM posts WHERE post_id LIKE 'removed:%'"
        )
        assert (tags, lang, reach) == ([], None, None)
        assert await rows(sessions, money) == before
        together = await rows(
            sessions,
            "SELECT d.outcome, r.state FROM coupons c JOIN posts p USING (network, post_id) "
            "JOIN decisions d USING (network, post_id) JOIN replies r ON r.root_id = d.root_id "
            "AND r.post_id = p.post_id AND r.recipient_id = p.author_id "
            "WHERE p.author_id = d.author_id AND p.post_id LIKE 'removed:%'",
        )
        assert together == [("loaded", "expired")]
        assert await disagreements(sessions) == []
        assert "deleted" in await explained(sessions, post.id)

    async def test_goes_with_all_its_versions_whichever_was_named(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        await make_offer(sessions, "Cake")
        authors = await make_members(sessions, 2)
        for author in authors:
            first = make_post(author, "Tea")
            edit = make_post(author, "Tea", "Cake", root_id=first.id)
            await enrol(sessions, settings, first)
            await enrol(sessions, settings, edit)
            await remove(sessions, settings, edit.id if author == authors[0] else first.id)
        await forget(sessions)
        posts = await rows(sessions, "SELECT post_id, root_id, author_id FROM posts")
        assert len(posts) == 4
        assert all(name.startswith("removed:") for row in posts for name in row)
        assert len({author for *_, author in posts}) == 2
        assert await disagreements(sessions) == []

    async def test_is_not_decided_again_when_its_author_links(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        post = make_post("4242", "Tea")
        assert await enrol(sessions, settings, post) == [("not_linked",)]
        await remove(sessions, settings, post.id)
        await forget(sessions)
        await link(sessions, "4242")
        while await lookback.look_back(sessions, settings, now=LATER):
            pass
        assert await rows(sessions, "SELECT outcome FROM decisions") == [("not_linked",)]

    async def test_has_its_refusal_told_and_is_not_told_another(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        assert await enrol(sessions, settings, make_post(author, "Tea")) == [("loaded",)]
        for step in range(3):
            post = make_post(author, "Tea")
            assert await enrol(sessions, settings, post) == [("already_loaded",)]
            await remove(sessions, settings, post.id)
            assert await forget(sessions, LATER + timedelta(minutes=step)) == 1
        kinds = await rows(sessions, "SELECT kind, count(*) FROM replies GROUP BY 1 ORDER BY 1")
        assert kinds == [("confirmation", 1), ("refusal", 1)]

    async def test_waits_until_no_batch_can_store_it_any_more(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        post = make_post(author, "Tea")
        await remove(sessions, settings, post.id)
        assert await forget(sessions, NOW + timedelta(minutes=1)) == 0

    async def test_is_remembered_for_eight_days(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await remove(sessions, settings, "123")
        assert await forget(sessions) == 1
        assert await forget(sessions, LATER + timedelta(days=7)) == 0
        assert await forget(sessions, LATER + timedelta(days=8)) == 1
        assert await rows(sessions, "SELECT * FROM removed_posts") == []

    async def test_that_was_rejected_is_forgotten_too(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await rows(
            sessions,
            "INSERT INTO rejected_posts (network, post_id, source, reason) "
            "VALUES ('x', '77', 'test', 'no') RETURNING id",
        )
        await remove(sessions, settings, "77")
        await forget(sessions)
        ((post_id,),) = await rows(sessions, "SELECT post_id FROM rejected_posts")
        assert post_id.startswith("removed:")


class TestAPostRemovedBeforeItCame:
    async def test_is_not_kept_in_any_version(self, sessions: Sessions, settings: Settings) -> None:
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        post = make_post(author, "Tea")
        edit = make_post(author, "Tea", root_id=post.id)
        await remove(sessions, settings, post.id)
        other = make_post((await make_members(sessions, 1))[0], "Tea")
        assert await enrol(sessions, settings, post, other, edit) == [
            ("removed",),
            ("loaded",),
            ("removed",),
        ]
        left = await whole_database(sessions)
        assert post.id not in left
        assert author not in left

    async def test_comes_in_vain_once_it_was_forgotten(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        post = make_post(author, "Tea")
        await enrol(sessions, settings, post)
        await remove(sessions, settings, post.id)
        await forget(sessions)
        assert await enrol(sessions, settings, post) == [("removed",)]
        assert post.id not in await whole_database(sessions)


class TestTheJob:
    async def test_finds_the_few_that_are_due_by_their_index(
        self, sessions: Sessions, analyse: Analyse
    ) -> None:
        await rows(
            sessions,
            "INSERT INTO removed_posts (network, post_id, removed_at, forgotten_at) "
            "SELECT 'x', n::text, now(), CASE WHEN n > 5 THEN now() END "
            "FROM generate_series(1, 20000) n RETURNING 1",
        )
        await analyse("removed_posts")
        plan = await rows(sessions, f"EXPLAIN {removal_queries.DUE.text}", before=NOW, most=100)
        assert "ix_removed_posts_due" in str(plan)


class TestWhoElseIsAtIt:
    async def test_a_batch_that_decides_about_the_post_is_waited_for(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        offer_id = await make_offer(sessions, "Tea")
        (author,) = await make_members(sessions, 1)
        post = make_post(author, "Tea")
        await enrol(sessions, settings, post)
        await remove(sessions, settings, post.id)
        async with sessions.begin() as deciding:
            await offers.lock_counters(deciding, [offer_id])
            async with sessions() as session:
                await session.execute(text("SET LOCAL lock_timeout = '200ms'"))
                with pytest.raises(DBAPIError, match="lock timeout"):
                    await removal.forget_removed(session, now=LATER, most=100)
        assert await forget(sessions) == 1


class TestAListeningTool:
    async def test_tells_of_a_removal_as_of_a_post(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        line = b'{"data":{"event_type":"post.delete","payload":{"id":"5","author_id":"6"}}}'
        load = PostLoader(settings, source="api")
        (result,) = await load(sessions, [Line(1, line)])
        assert result.status == "ignored"
        assert await rows(sessions, "SELECT network, post_id FROM removed_posts") == [("x", "5")]
