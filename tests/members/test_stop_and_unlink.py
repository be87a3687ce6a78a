import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from app.errors import Conflict, NotFound
from app.kit.db import Sessions
from app.members import cards, service
from app.members.linking import Holder, consent_again, link_by_network
from app.members.schemas import AccountIn, CardIn, MemberLine

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BEFORE, AFTER = NOW - timedelta(days=1), NOW + timedelta(days=1)


async def enrol(
    sessions: Sessions, name: str, *, account: str | None = None, at: datetime = BEFORE
) -> str:
    """What became of the issuer's line, with a consent of that time."""
    row = MemberLine.model_validate(
        {
            "member_ref": f"m-{name}",
            "account": {"network": "x", "id": account or f"a-{name}"},
            "card": {"card_ref": f"c-{name}"},
            "consented_at": at.isoformat(),
        }
    )
    async with sessions.begin() as session:
        (saved,) = await service.save_members(session, rows=[row], now=AFTER)
    return saved.outcome


async def link(sessions: Sessions, name: str, **other: Any) -> UUID:
    """By the page, an hour after NOON."""
    given = {
        "holder": Holder(f"m-{name}", None, None, None),
        "account": AccountIn(network="x", id=f"a-{name}", handle=f"h_{name}"),
        "card": CardIn(card_ref=f"c-{name}", network="visa", last4="4242"),
        "vouched_at": NOW + timedelta(hours=1),
        **other,
    }
    async with sessions.begin() as session:
        member = await link_by_network(
            session, **given, text_version="page-1", now=NOW + timedelta(hours=1)
        )
    return member.id


async def stop(sessions: Sessions, *accounts: str, at: datetime = NOW) -> None:
    async with sessions.begin() as session:
        await service.stop_accounts(
            session, network="x", account_ids=accounts, told_by="post", now=at
        )


async def unlink(sessions: Sessions, account: str) -> bool:
    async with sessions.begin() as session:
        return await service.unlink_account(session, network="x", account_id=account, now=NOW)


async def rows(sessions: Sessions, query: str) -> list[Any]:
    async with sessions() as session:
        return [tuple(row) for row in await session.execute(text(query))]


async def stopped(sessions: Sessions, *accounts: str) -> set[str]:
    async with sessions() as session:
        return await service.find_stopped(session, network="x", account_ids=accounts)


async def linked(sessions: Sessions) -> list[str]:
    return [row[0] for row in await rows(sessions, "SELECT account_id FROM accounts ORDER BY 1")]


async def consents(sessions: Sessions) -> list[tuple[str, str]]:
    return await rows(sessions, "SELECT act, text_version FROM consents ORDER BY id")


class TestStop:
    async def test_is_kept_of_strangers_and_of_members(self, sessions: Sessions) -> None:
        await enrol(sessions, "a")
        for _ in range(2):
            await stop(sessions, "a-a", "stranger")
        assert await stopped(sessions, "a-a", "stranger", "other") == {"a-a", "stranger"}
        assert await rows(sessions, "SELECT opted_out_at FROM members") == [(NOW,)]
        assert await consents(sessions) == [("given", "issuer"), ("withdrawn", "stop")]

    async def test_of_a_member_holds_for_an_account_that_he_unlinks_after(
        self, sessions: Sessions
    ) -> None:
        await enrol(sessions, "a")
        async with sessions.begin() as session:
            member = await service.find_member(session, ref_or_id="m-a")
            await service.opt_out(session, member_id=member.id, now=NOW)
        await unlink(sessions, "a-a")
        assert await stopped(sessions, "a-a") == {"a-a"}

    async def test_by_one_account_holds_for_all_that_the_member_has(
        self, sessions: Sessions
    ) -> None:
        """He will not say it again with each; nor is one left out that he unlinks after."""
        await enrol(sessions, "a")
        await enrol(sessions, "a", account="second")
        await enrol(sessions, "b")
        await stop(sessions, "a-a", "stranger")
        await unlink(sessions, "second")
        everybody = ("a-a", "second", "a-b", "stranger")
        assert await stopped(sessions, *everybody) == {"a-a", "second", "stranger"}

    async def test_is_not_undone_by_an_older_consent(self, sessions: Sessions) -> None:
        await stop(sessions, "a-a")
        assert await enrol(sessions, "a") == "created"
        assert await stopped(sessions, "a-a") == {"a-a"}

    async def test_is_undone_by_an_issuers_newer_consent_for_all_the_members_accounts(
        self, sessions: Sessions
    ) -> None:
        await enrol(sessions, "a")
        await enrol(sessions, "a", account="second")
        await enrol(sessions, "b")
        await stop(sessions, "a-a", "second", "a-b")
        await enrol(sessions, "a", at=AFTER)
        assert await stopped(sessions, "a-a", "second", "a-b") == {"a-b"}
        assert await rows(sessions, "SELECT ref FROM members WHERE opted_out_at IS NULL") == [
            ("m-a",)
        ]

    async def test_is_undone_by_the_pages_consent(self, sessions: Sessions) -> None:
        await enrol(sessions, "a")
        await stop(sessions, "a-a", "a-b")
        member_id = await link(sessions, "b")
        assert await stopped(sessions, "a-a", "a-b") == {"a-a"}
        await stop(sessions, "a-b", at=AFTER)
        async with sessions.begin() as session:
            await consent_again(
                session, member_id=member_id, text_version="page-1", now=AFTER + timedelta(days=1)
            )
        assert await stopped(sessions, "a-a", "a-b") == {"a-a"}

    async def test_and_consents_at_once_do_not_wait_for_each_other_in_a_ring(
        self, sessions: Sessions
    ) -> None:
        names = [str(number) for number in range(20)]
        for name in names:
            await enrol(sessions, name)

        async def stop_all(step: int) -> None:
            at = NOW + timedelta(minutes=step)
            await stop(sessions, *(f"a-{name}" for name in names), at=at)

        async def consent_all(step: int) -> None:
            for name in reversed(names):
                await enrol(sessions, name, at=NOW + timedelta(minutes=step, seconds=30))

        await asyncio.gather(*(work(step) for step in range(4) for work in (stop_all, consent_all)))


class TestUnlinking:
    async def test_takes_the_account_and_withdraws_with_the_last(self, sessions: Sessions) -> None:
        await enrol(sessions, "a")
        await enrol(sessions, "a", account="second")
        assert await unlink(sessions, "second")
        assert await consents(sessions) == [("given", "issuer")]
        assert await unlink(sessions, "a-a")
        assert not await unlink(sessions, "a-a")
        assert await linked(sessions) == []
        assert await consents(sessions) == [("given", "issuer"), ("withdrawn", "unlink")]

    async def test_of_an_account_that_nobody_has_changes_nothing(self, sessions: Sessions) -> None:
        assert not await unlink(sessions, "stranger")

    async def test_stands_against_an_older_line_and_not_against_a_newer_consent(
        self, sessions: Sessions
    ) -> None:
        await enrol(sessions, "a")
        await unlink(sessions, "a-a")
        assert await enrol(sessions, "a") == "unchanged"
        assert await linked(sessions) == []
        assert await enrol(sessions, "a", at=AFTER) == "changed"
        assert await linked(sessions) == ["a-a"]

    async def test_leaves_the_account_free_for_another_member(self, sessions: Sessions) -> None:
        await enrol(sessions, "a")
        await unlink(sessions, "a-a")
        assert await enrol(sessions, "b", account="a-a") == "created"
        assert await enrol(sessions, "a") == "rejected"

    async def test_is_the_members_own(self, sessions: Sessions) -> None:
        await enrol(sessions, "a")
        await enrol(sessions, "b")
        async with sessions.begin() as session:
            other = await service.find_member(session, ref_or_id="m-b")
            with pytest.raises(NotFound):
                await service.remove_account(
                    session,
                    member_id=other.id,
                    network="x",
                    account_id="a-a",
                    actor="test",
                    now=NOW,
                )
        assert await linked(sessions) == ["a-a", "a-b"]


class TestLinkingByThePage:
    async def test_makes_member_account_card_and_consent(self, sessions: Sessions) -> None:
        member_id = await link(sessions, "a", holder=Holder("m-a", "fr-CA", None, "CA"))
        at = NOW + timedelta(hours=1)
        assert await rows(sessions, "SELECT id, ref, locale, country FROM members") == [
            (member_id, "m-a", "fr-CA", "CA")
        ]
        assert await rows(
            sessions, "SELECT account_id, handle, proved_by, linked_at, look_back_at FROM accounts"
        ) == [("a-a", "h_a", "oauth", at, at)]
        assert await rows(sessions, "SELECT ref, network, last4, state FROM cards") == [
            ("c-a", "visa", "4242", "active")
        ]
        assert await rows(sessions, "SELECT act, text_version, at FROM consents") == [
            ("given", "page-1", at)
        ]

    async def test_proves_what_the_issuer_had_only_said(self, sessions: Sessions) -> None:
        await enrol(sessions, "a")
        await link(sessions, "a")
        assert await rows(sessions, "SELECT proved_by, handle FROM accounts") == [("oauth", "h_a")]

    async def test_brings_back_a_removed_card_by_a_link_that_is_newer_and_by_no_older_one(
        self, sessions: Sessions
    ) -> None:
        member_id = await link(sessions, "a")
        at = NOW + timedelta(hours=2)
        for later in (timedelta(0), timedelta(days=1)):  # a second time changes nothing
            async with sessions.begin() as session:
                await cards.remove_card(
                    session, member_id=member_id, card_ref="c-a", actor="test", now=at + later
                )
        for older in (at - timedelta(seconds=1), at):
            with pytest.raises(Conflict) as caught:
                await link(sessions, "a", vouched_at=older)
            assert caught.value.code == "card_state"
        assert await rows(sessions, "SELECT state, removed_at FROM cards") == [("removed", at)]
        await link(sessions, "a", vouched_at=at + timedelta(seconds=1))
        assert await rows(sessions, "SELECT state FROM cards") == [("active",)]
        await link(sessions, "a", vouched_at=at)  # nothing to bring back

    @pytest.mark.parametrize(
        ("other", "code"),
        [
            ({"account": AccountIn(network="x", id="a-a")}, "account_taken"),
            ({"card": CardIn(card_ref="c-a")}, "card_taken"),
        ],
    )
    async def test_takes_nothing_of_another_member(
        self, sessions: Sessions, other: Any, code: str
    ) -> None:
        await enrol(sessions, "a")
        with pytest.raises(Conflict) as caught:
            await link(sessions, "b", **other)
        assert caught.value.code == code
        assert await rows(sessions, "SELECT ref FROM members") == [("m-a",)]

    async def test_and_a_file_at_once_make_everything_once(self, sessions: Sessions) -> None:
        names = [str(number) for number in range(12)]
        await asyncio.gather(
            *(link(sessions, name) for name in names), *(enrol(sessions, name) for name in names)
        )
        for table in ("members", "accounts", "cards"):
            assert await rows(sessions, f"SELECT count(*) FROM {table}") == [(12,)]
