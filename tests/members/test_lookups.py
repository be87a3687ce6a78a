from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.errors import Conflict, Invalid, NotFound
from app.kit.db import Sessions
from app.kit.ids import new_id
from app.members import cards, service
from app.members.schemas import AccountIn, CardIn, MemberLine
from app.partners import service as partners

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


async def enrol(sessions: Sessions, name: str, **other: Any) -> UUID:
    row = MemberLine.model_validate(
        {
            "member_ref": f"m-{name}",
            "account": {"network": "x", "id": f"a-{name}"},
            "card": {"card_ref": f"c-{name}"},
            "consented_at": "2026-02-01T09:00:00Z",
            **other,
        }
    )
    async with sessions.begin() as session:
        return (await service.enrol_member(session, row=row, actor="test", now=NOW)).member.id


async def authors(
    sessions: Sessions, *account_ids: str, network: str = "x"
) -> dict[str, service.Author]:
    async with sessions() as session:
        return await service.find_authors(session, network=network, account_ids=account_ids)


async def holders(sessions: Sessions, *card_refs: str) -> dict[str, service.CardHolder]:
    async with sessions() as session:
        return await service.find_card_holders(session, card_refs=card_refs)


class TestAuthors:
    async def test_are_found_by_account_in_one_statement(
        self, sessions: Sessions, statements: list[str]
    ) -> None:
        ids = {name: await enrol(sessions, name, country="US", locale="en") for name in "ab"}
        statements.clear()
        found = await authors(sessions, "a-a", "a-b", "a-stranger")
        assert len(statements) == 1
        assert found == {
            f"a-{name}": service.Author(
                ids[name], "en", "US", opted_out=False, has_active_card=True
            )
            for name in "ab"
        }

    async def test_are_another_networks_own(self, sessions: Sessions) -> None:
        await enrol(sessions, "a")
        assert await authors(sessions, "a-a", network="bluesky") == {}

    async def test_without_an_active_card_are_told(self, sessions: Sessions) -> None:
        member_id = await enrol(sessions, "a")
        async with sessions.begin() as session:
            await cards.remove_card(
                session, member_id=member_id, card_ref="c-a", actor="test", now=NOW
            )
        assert not (await authors(sessions, "a-a"))["a-a"].has_active_card

    async def test_who_said_stop_are_told(self, sessions: Sessions) -> None:
        member_id = await enrol(sessions, "a")
        for _ in range(2):
            async with sessions.begin() as session:
                await service.opt_out(session, member_id=member_id, now=NOW)
        assert (await authors(sessions, "a-a"))["a-a"].opted_out

    async def test_of_none_are_none(self, sessions: Sessions) -> None:
        assert await authors(sessions) == {}


class TestCardHolders:
    async def test_are_found_by_card_in_one_statement(
        self, sessions: Sessions, statements: list[str]
    ) -> None:
        member_id = await enrol(sessions, "a", country="CA", time_zone="America/Toronto")
        statements.clear()
        found = await holders(sessions, "c-a", "c-stranger")
        assert len(statements) == 1
        assert found == {"c-a": service.CardHolder(member_id, "CA", "America/Toronto")}

    async def test_keep_a_replaced_card_and_lose_a_removed_one(self, sessions: Sessions) -> None:
        member_id = await enrol(sessions, "a")
        async with sessions.begin() as session:
            await cards.replace_card(
                session,
                member_id=member_id,
                old_ref="c-a",
                card=CardIn(card_ref="c-2"),
                actor="test",
                now=NOW,
            )
        assert set(await holders(sessions, "c-a", "c-2")) == {"c-a", "c-2"}
        async with sessions.begin() as session:
            await cards.remove_card(
                session, member_id=member_id, card_ref="c-2", actor="test", now=NOW
            )
        assert set(await holders(sessions, "c-a", "c-2")) == {"c-a"}


class TestACard:
    async def change(
        self, sessions: Sessions, member_id: UUID, ref: str, replaces: str | None = None
    ) -> bool:
        async with sessions.begin() as session:
            _, is_changed = await cards.add_or_replace_card(
                session,
                member_id=member_id,
                card=CardIn(card_ref=ref),
                replaces=replaces,
                actor="test",
                now=NOW,
            )
        return is_changed

    async def test_is_added_once(self, sessions: Sessions) -> None:
        member_id = await enrol(sessions, "a")
        assert await self.change(sessions, member_id, "c-2")
        assert not await self.change(sessions, member_id, "c-2")

    async def test_is_replaced_once(self, sessions: Sessions) -> None:
        member_id = await enrol(sessions, "a")
        assert await self.change(sessions, member_id, "c-2", replaces="c-a")
        assert not await self.change(sessions, member_id, "c-2", replaces="c-a")
        with pytest.raises(Conflict):
            await self.change(sessions, member_id, "c-3", replaces="c-a")

    async def test_that_was_replaced_does_not_come_back(self, sessions: Sessions) -> None:
        member_id = await enrol(sessions, "a")
        await self.change(sessions, member_id, "c-2", replaces="c-a")
        with pytest.raises(Conflict):
            await self.change(sessions, member_id, "c-a")

    async def test_that_was_removed_comes_back_when_added(self, sessions: Sessions) -> None:
        member_id = await enrol(sessions, "a")
        async with sessions.begin() as session:
            await cards.remove_card(
                session, member_id=member_id, card_ref="c-a", actor="test", now=NOW
            )
        assert await self.change(sessions, member_id, "c-a")
        assert (await authors(sessions, "a-a"))["a-a"].has_active_card

    async def test_of_another_member_is_neither_added_replaced_nor_removed(
        self, sessions: Sessions
    ) -> None:
        await enrol(sessions, "a")
        other = await enrol(sessions, "b")
        with pytest.raises(Conflict):
            await self.change(sessions, other, "c-a")
        with pytest.raises(NotFound):
            await self.change(sessions, other, "c-2", replaces="c-a")
        with pytest.raises(NotFound):
            async with sessions.begin() as session:
                await cards.remove_card(
                    session, member_id=other, card_ref="c-a", actor="test", now=NOW
                )

    async def test_does_not_replace_itself(self, sessions: Sessions) -> None:
        member_id = await enrol(sessions, "a")
        with pytest.raises(Invalid):
            await self.change(sessions, member_id, "c-a", replaces="c-a")

    async def test_is_one_of_fifty_at_most(self, sessions: Sessions) -> None:
        member_id = await enrol(sessions, "a")
        for number in range(cards.CARDS_PER_MEMBER_MAX - 1):
            await self.change(sessions, member_id, f"more-{number}")
        with pytest.raises(Conflict):
            await self.change(sessions, member_id, "one-too-many")

    async def test_of_a_stranger_is_not_found(self, sessions: Sessions) -> None:
        with pytest.raises(NotFound):
            await self.change(sessions, new_id(), "c-1")


class TestAnAccount:
    async def test_is_added_once_and_may_be_renamed(self, sessions: Sessions) -> None:
        member_id = await enrol(sessions, "a")
        changes = []
        for handle in ("one", "one", "two"):
            async with sessions.begin() as session:
                account = AccountIn(network="x", id="9", handle=handle)
                _, is_changed = await service.add_account(
                    session, member_id=member_id, account=account, actor="test", now=NOW
                )
            changes.append(is_changed)
        assert changes == [True, False, True]
        assert (await authors(sessions, "9"))["9"].member_id == member_id

    async def test_of_another_member_stays_his(self, sessions: Sessions) -> None:
        await enrol(sessions, "a")
        other = await enrol(sessions, "b")
        account = AccountIn(network="x", id="a-a")
        with pytest.raises(Conflict):
            async with sessions.begin() as session:
                await service.add_account(
                    session, member_id=other, account=account, actor="test", now=NOW
                )


class TestPurchases:
    @pytest.fixture
    async def pair(self, sessions: Sessions) -> tuple[UUID, UUID]:
        async with sessions.begin() as session:
            cafe = await partners.ensure_partner(session, ref="cafe")
        return await enrol(sessions, "a"), cafe.id

    async def test_are_counted_with_the_first_and_the_last(
        self, sessions: Sessions, pair: tuple[UUID, UUID], statements: list[str]
    ) -> None:
        first, last = NOW - timedelta(days=9), NOW + timedelta(days=9)
        statements.clear()
        for times in ([NOW, last], [first]):
            async with sessions.begin() as session:
                await service.record_purchases(session, rows=[(*pair, at) for at in times])
        assert len(statements) == 2
        async with sessions() as session:
            found = await service.purchase_summaries(session, pairs=[pair, (pair[0], new_id())])
        assert found == {pair: service.Summary(3, first, last)}
        assert len(statements) == 3

    async def test_of_none_are_none(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            await service.record_purchases(session, rows=[])
            assert await service.purchase_summaries(session, pairs=[]) == {}
