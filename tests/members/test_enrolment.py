import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select, text
from stdnum import luhn

from app.kit.db import Sessions
from app.members import cards, service
from app.members.models import Account, Card, Consent, Member
from app.members.schemas import MemberLine

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CARD_NUMBER = "4111111111111111"


def fields(name: str = "1", **other: Any) -> dict[str, Any]:
    return {
        "member_ref": f"m-{name}",
        "account": {"network": "x", "id": f"10{name}", "handle": f"handle_{name}"},
        "card": {"card_ref": f"c-{name}", "network": "visa", "last4": "4242"},
        "consented_at": "2026-02-01T09:00:00Z",
        **other,
    }


def line(name: str = "1", **other: Any) -> MemberLine:
    return MemberLine.model_validate(fields(name, **other))


async def save(
    sessions: Sessions, *lines: MemberLine, now: datetime = NOW
) -> list[service.SavedMember]:
    async with sessions.begin() as session:
        return await service.save_members(session, rows=lines, now=now)


async def counts(sessions: Sessions) -> dict[str, int]:
    async with sessions() as session:
        return {
            table.__tablename__: await session.scalar(select(func.count()).select_from(table)) or 0
            for table in (Member, Account, Card, Consent)
        }


async def everything(sessions: Sessions) -> list[str]:
    async with sessions() as session:
        return [
            row
            for table in ("members", "accounts", "cards", "consents")
            for row in (
                await session.execute(text(f"SELECT t::text FROM {table} t ORDER BY 1"))
            ).scalars()
        ]


class TestAMemberLine:
    async def test_makes_member_account_card_and_consent(self, sessions: Sessions) -> None:
        saved = await save(
            sessions, line(locale="fr-CA", country="CA", time_zone="America/Toronto")
        )
        assert [one.outcome for one in saved] == ["created"]
        async with sessions() as session:
            member = (await session.scalars(select(Member))).one()
            account = (await session.scalars(select(Account))).one()
            card = (await session.scalars(select(Card))).one()
            consent = (await session.scalars(select(Consent))).one()
        assert (member.ref, member.locale, member.country) == ("m-1", "fr-CA", "CA")
        assert (account.account_id, account.handle, account.proved_by) == (
            "101",
            "handle_1",
            "issuer",
        )
        assert (card.ref, card.network, card.last4, card.state) == ("c-1", "visa", "4242", "active")
        assert (consent.act, consent.at) == ("given", datetime(2026, 2, 1, 9, 0, tzinfo=UTC))
        assert saved[0].member_id == member.id == account.member_id == card.member_id

    async def test_again_changes_nothing(self, sessions: Sessions) -> None:
        await save(sessions, line())
        before = await everything(sessions)
        saved = await save(sessions, line(), line())
        assert [one.outcome for one in saved] == ["unchanged"] * 2
        assert await everything(sessions) == before

    async def test_with_another_handle_locale_or_country_updates(self, sessions: Sessions) -> None:
        await save(sessions, line(locale="en", country="US"))
        account = {"network": "x", "id": "101", "handle": "renamed"}
        saved = await save(sessions, line(account=account, locale="fr", country="FR"))
        assert saved[0].outcome == "changed"
        async with sessions() as session:
            assert (await session.scalars(select(Account.handle))).all() == ["renamed"]
            found = (await session.execute(select(Member.locale, Member.country))).one()
            assert found == ("fr", "FR")

    async def test_leaves_what_it_does_not_name(self, sessions: Sessions) -> None:
        await save(sessions, line(locale="en", country="US"))
        assert (await save(sessions, line()))[0].outcome == "unchanged"
        async with sessions() as session:
            found = (await session.execute(select(Member.locale, Member.country))).one()
            assert found == ("en", "US")

    async def test_may_add_a_card_and_an_account_to_a_known_member(
        self, sessions: Sessions
    ) -> None:
        more = line(
            account={"network": "x", "id": "999"}, card={"card_ref": "c-9", "last4": "0009"}
        )
        saved = await save(sessions, line(), more)
        assert [one.outcome for one in saved] == ["created", "changed"]
        assert saved[0].member_id == saved[1].member_id
        assert await counts(sessions) == {"members": 1, "accounts": 2, "cards": 2, "consents": 1}

    async def test_cannot_take_another_members_card(self, sessions: Sessions) -> None:
        await save(sessions, line("1"))
        saved = await save(sessions, line("2"), line("3", card={"card_ref": "c-1"}), line("4"))
        assert [one.outcome for one in saved] == ["created", "rejected", "created"]
        assert (saved[1].code, saved[1].reason) == (
            "card_taken",
            "the card belongs to another member",
        )
        assert (await counts(sessions))["members"] == 3

    async def test_cannot_take_another_members_account(self, sessions: Sessions) -> None:
        await save(sessions, line("1"))
        saved = await save(
            sessions, line("2"), line("3", account={"network": "x", "id": "101"}), line("4")
        )
        assert [one.outcome for one in saved] == ["created", "rejected", "created"]
        assert saved[1].code == "account_taken"

    async def test_that_is_rejected_does_not_change_a_known_member(
        self, sessions: Sessions
    ) -> None:
        await save(sessions, line("1"), line("2", locale="en"))
        before = await everything(sessions)
        await save(sessions, line("2", locale="fr", card={"card_ref": "c-1"}))
        assert await everything(sessions) == before

    async def test_comes_too_late_for_a_card_that_a_line_before_took(
        self, sessions: Sessions
    ) -> None:
        saved = await save(sessions, line("1"), line("2", card={"card_ref": "c-1"}))
        assert [one.outcome for one in saved] == ["created", "rejected"]
        assert await counts(sessions) == {"members": 1, "accounts": 1, "cards": 1, "consents": 1}

    async def test_cannot_consent_in_the_future(self, sessions: Sessions) -> None:
        saved = await save(sessions, line(consented_at="2026-03-01T13:00:00Z"))
        assert (saved[0].outcome, saved[0].code) == ("rejected", "consent_in_future")

    async def test_does_not_bring_back_a_card_that_was_removed(self, sessions: Sessions) -> None:
        member_id = (await save(sessions, line()))[0].member_id
        assert member_id is not None
        async with sessions.begin() as session:
            await cards.remove_card(
                session, member_id=member_id, card_ref="c-1", actor="test", now=NOW
            )
        assert (await save(sessions, line()))[0].outcome == "unchanged"
        async with sessions() as session:
            assert (await session.scalars(select(Card.state))).all() == ["removed"]

    async def test_brings_back_who_said_stop_only_with_a_newer_consent(
        self, sessions: Sessions
    ) -> None:
        member_id = (await save(sessions, line()))[0].member_id
        assert member_id is not None
        stopped = NOW + timedelta(days=1)
        async with sessions.begin() as session:
            await service.opt_out(session, member_id=member_id, now=stopped)
        await save(sessions, line(), now=NOW + timedelta(days=9))

        async def opted_out() -> bool:
            async with sessions() as session:
                authors = await service.find_authors(session, network="x", account_ids=["101"])
            return authors["101"].opted_out

        assert await opted_out()
        newer = line(consented_at=(stopped + timedelta(days=1)).isoformat())
        await save(sessions, newer, now=NOW + timedelta(days=9))
        assert not await opted_out()

    async def test_takes_as_many_statements_for_a_thousand_as_for_ten(
        self, sessions: Sessions, statements: list[str]
    ) -> None:
        numbers = []
        for size in (10, 1_000):
            known = [line(f"{size}-{one}", country="US") for one in range(size)]
            await save(sessions, *known)
            statements.clear()
            changed = [
                line(
                    f"{size}-{one}",
                    country="CA",
                    account={"network": "x", "id": f"10{size}-{one}", "handle": "new"},
                    card={"card_ref": f"c-{size}-{one}", "last4": "0000"},
                    consented_at="2026-02-02T09:00:00Z",
                )
                for one in range(size)
            ]
            new = [line(f"{size}-new-{one}") for one in range(size)]
            saved = await save(sessions, *changed, *new)
            assert [one.outcome for one in saved] == ["changed"] * size + ["created"] * size
            numbers.append(len(statements))
        assert numbers[0] == numbers[1]

    async def test_twice_at_once_makes_everything_once(self, sessions: Sessions) -> None:
        lines = [line(str(one)) for one in range(100)]
        results = await asyncio.gather(
            save(sessions, *lines), save(sessions, *reversed(lines)), save(sessions, *lines[50:])
        )
        outcomes = [one.outcome for result in results for one in result]
        assert outcomes.count("created") == 100
        assert outcomes.count("unchanged") == 150
        assert await counts(sessions) == dict.fromkeys(
            ("members", "accounts", "cards", "consents"), 100
        )

    async def test_loses_its_card_to_whoever_commits_first(self, sessions: Sessions) -> None:
        results = await asyncio.gather(
            *(save(sessions, line(str(one), card={"card_ref": "same"})) for one in range(6))
        )
        outcomes = sorted(result[0].outcome for result in results)
        assert outcomes == ["created"] + ["rejected"] * 5
        assert (await counts(sessions))["cards"] == 1


class TestAMemberLinesFields:
    @pytest.mark.parametrize(
        ("other", "place"),
        [
            ({"member_ref": ""}, ("member_ref",)),
            ({"member_ref": "a b"}, ("member_ref",)),
            ({"member_ref": 1}, ("member_ref",)),
            ({"consented_at": None}, ("consented_at",)),
            ({"consented_at": "2026-02-01"}, ("consented_at",)),
            ({"consented_at": "2026-02-01T09:00:00"}, ("consented_at",)),
            ({"consented_at": 1_700_000_000}, ("consented_at",)),
            ({"consented_at": "1700000000"}, ("consented_at",)),
            ({"country": "usa"}, ("country",)),
            ({"locale": "xx"}, ("locale",)),
            ({"time_zone": "Mars/Olympus"}, ("time_zone",)),
            ({"card": None}, ("card",)),
            ({"card": {"card_ref": "c", "last4": "12345"}}, ("card", "last4")),
            ({"account": {"network": "X!", "id": "1"}}, ("account", "network")),
            ({"account": {"network": "x", "id": "1", "handle": "\x00"}}, ("account", "handle")),
        ],
    )
    def test_must_make_sense(self, other: Any, place: tuple[Any, ...]) -> None:
        with pytest.raises(ValidationError) as caught:
            line(**other)
        assert [one["loc"] for one in caught.value.errors()] == [place]

    def test_must_hold_a_consent(self) -> None:
        given = fields()
        del given["consented_at"]
        with pytest.raises(ValidationError, match="consented_at"):
            MemberLine.model_validate(given)

    @pytest.mark.parametrize("number", [CARD_NUMBER, "4111 1111 1111 1111", "4111-1111-1111-1111"])
    @pytest.mark.parametrize(
        ("place", "other"),
        [
            (("member_ref",), lambda number: {"member_ref": number}),
            (("card", "card_ref"), lambda number: {"card": {"card_ref": number}}),
            (("card", "last4"), lambda number: {"card": {"card_ref": "c", "last4": number}}),
            (("card", "pan"), lambda number: {"card": {"card_ref": "c", "pan": number}}),
            (("account", "id"), lambda number: {"account": {"network": "x", "id": number}}),
            (
                ("account", "handle"),
                lambda number: {"account": {"network": "x", "id": "1", "handle": f"a {number}"}},
            ),
            (("notes", 1, "text"), lambda number: {"notes": ["", {"text": number}]}),
        ],
    )
    def test_hold_no_card_number(self, place: tuple[Any, ...], other: Any, number: str) -> None:
        with pytest.raises(ValidationError) as caught:
            line(**other(number))
        assert [(one["loc"], one["msg"]) for one in caught.value.errors()] == [
            (place, "looks like a card number")
        ]

    def test_hold_no_card_number_that_is_a_json_number(self) -> None:
        with pytest.raises(ValidationError, match="looks like a card number"):
            line(member_ref=int(CARD_NUMBER))

    @pytest.mark.parametrize("account_id", ["1590000000000000009", "900000000000000001"])
    def test_take_a_long_account_id_that_passes_the_luhn_check(self, account_id: str) -> None:
        assert luhn.is_valid(account_id)
        assert line(account={"network": "x", "id": account_id}).account.id == account_id
