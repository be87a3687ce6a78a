import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import select, text

from app.errors import Invalid, NotAuthenticated, NotFound
from app.kit.db import Sessions
from app.partners import keys, service
from app.partners.auth import authenticate
from app.partners.models import ApiKey, AuditEntry
from tests.support import MakeKey

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BEFORE = NOW - timedelta(days=1)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def last_used(sessions: Sessions, key: str) -> datetime | None:
    async with sessions() as session:
        return await session.scalar(
            select(ApiKey.last_used_at).where(ApiKey.hash == keys.hash_key(key))
        )


class TestAKey:
    async def test_is_tb_and_forty_characters(self, make_key: MakeKey) -> None:
        assert re.fullmatch(r"tb_[A-Za-z0-9]{40}", await make_key("issuer"))

    async def test_is_nowhere_in_the_database(self, sessions: Sessions, make_key: MakeKey) -> None:
        key = await make_key("operator")
        async with sessions() as session:
            for table in ("api_keys", "audit_entries"):
                rows = (await session.execute(text(f"SELECT t::text FROM {table} t"))).scalars()
                assert not [row for row in rows if key[9:] in row]

    async def test_of_a_partner_needs_the_partner(self, sessions: Sessions) -> None:
        with pytest.raises(Invalid):
            async with sessions.begin() as session:
                await keys.create_key(session, actor="test", role="partner", now=BEFORE)

    async def test_of_an_issuer_has_no_partner(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            await service.ensure_partner(session, ref="cafe")
            with pytest.raises(Invalid):
                await keys.create_key(
                    session, actor="test", role="issuer", now=BEFORE, partner="cafe"
                )

    async def test_of_a_partner_that_is_not_there_cannot_be(self, sessions: Sessions) -> None:
        with pytest.raises(NotFound):
            async with sessions.begin() as session:
                await keys.create_key(
                    session, actor="test", role="partner", now=BEFORE, partner="nobody"
                )

    async def test_names_its_partner_by_ref_or_by_id(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            cafe = await service.ensure_partner(session, ref="cafe")
            for name in ("cafe", str(cafe.id)):
                new = await keys.create_key(
                    session, actor="t", role="analyst", now=BEFORE, partner=name
                )
                assert new.record.partner_id == cafe.id


class TestAuthentication:
    async def test_tells_role_and_partner(self, sessions: Sessions, make_key: MakeKey) -> None:
        async with sessions.begin() as session:
            cafe = await service.ensure_partner(session, ref="cafe")
        principal = await authenticate(sessions, key=await make_key("partner", cafe.id), now=NOW)
        assert (principal.role, principal.partner_id) == ("partner", cafe.id)

    @pytest.mark.parametrize("key", ["", "tb_", "tb_" + "A" * 40, "tb_" + "é" * 40, "x" * 100_000])
    async def test_refuses_an_unknown_key(self, sessions: Sessions, key: str) -> None:
        with pytest.raises(NotAuthenticated):
            await authenticate(sessions, key=key, now=NOW)

    async def test_refuses_a_key_from_the_moment_it_expires(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            new = await keys.create_key(
                session, actor="t", role="issuer", now=BEFORE, expires_at=NOW
            )
        await authenticate(sessions, key=new.key, now=NOW - timedelta(seconds=1))
        with pytest.raises(NotAuthenticated):
            await authenticate(sessions, key=new.key, now=NOW)

    async def test_refuses_a_revoked_key(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            new = await keys.create_key(session, actor="t", role="issuer", now=BEFORE)
            await keys.revoke_key(session, actor="t", key_id=new.record.id, now=NOW)
        with pytest.raises(NotAuthenticated):
            await authenticate(sessions, key=new.key, now=NOW)

    async def test_notes_the_last_use_once_a_minute(
        self, sessions: Sessions, make_key: MakeKey
    ) -> None:
        key = await make_key("issuer")
        seen = []
        for seconds in (0, 59, 60):
            await authenticate(sessions, key=key, now=NOW + timedelta(seconds=seconds))
            seen.append(await last_used(sessions, key))
        assert seen == [NOW, NOW, NOW + timedelta(seconds=60)]


class TestKeyRoutes:
    async def test_without_a_key_say_so(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/api-keys")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["code"] == "not_authenticated"

    @pytest.mark.parametrize(
        "header", ["Basic YTpi", "Bearer", "Bearer tb_short", "tb_" + "A" * 40]
    )
    async def test_with_something_else_say_so_too(
        self, client: httpx.AsyncClient, header: str
    ) -> None:
        answer = await client.get("/v1/api-keys", headers={"Authorization": header})
        assert answer.status_code == 401

    @pytest.mark.parametrize("role", ["issuer", "processor", "analyst"])
    async def test_are_the_operators_alone(
        self, client: httpx.AsyncClient, make_key: MakeKey, role: str
    ) -> None:
        answer = await client.get("/v1/api-keys", headers=bearer(await make_key(role)))
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")

    async def test_show_a_new_key_once(self, client: httpx.AsyncClient, make_key: MakeKey) -> None:
        operator = bearer(await make_key("operator"))
        made = await client.post("/v1/api-keys", headers=operator, json={"role": "issuer"})
        assert made.status_code == 201
        key = made.json()["key"]
        listed = (await client.get("/v1/api-keys", headers=operator)).json()
        assert [one["id"] for one in listed["items"]][-1] == made.json()["id"]
        assert key not in str(listed)
        assert listed["next_cursor"] is None

    async def test_revoke_a_key_at_once_and_a_second_time_in_vain(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        operator = bearer(await make_key("operator"))
        made = (
            await client.post("/v1/api-keys", headers=operator, json={"role": "operator"})
        ).json()
        assert (await client.get("/v1/api-keys", headers=bearer(made["key"]))).is_success
        for _ in range(2):
            answer = await client.delete(f"/v1/api-keys/{made['id']}", headers=operator)
            assert answer.status_code == 204
        assert (await client.get("/v1/api-keys", headers=bearer(made["key"]))).status_code == 401

    async def test_page_by_page_list_every_key_once(
        self, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        made = [await make_key("operator") for _ in range(5)]
        seen: list[str] = []
        cursor: dict[str, str] = {}
        pages = 0
        while True:
            params = {"limit": "2", **cursor}
            page = (await client.get("/v1/api-keys", headers=bearer(made[0]), params=params)).json()
            seen += [one["hint"] for one in page["items"]]
            pages += 1
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert seen == [key[:8] for key in made]
        assert pages == 3

    @pytest.mark.parametrize("query", ["cursor=nonsense", "cursor=%00", "limit=0", "limit=9999"])
    async def test_refuse_a_page_that_cannot_be(
        self, client: httpx.AsyncClient, make_key: MakeKey, query: str
    ) -> None:
        operator = bearer(await make_key("operator"))
        answer = await client.get(f"/v1/api-keys?{query}", headers=operator)
        assert answer.status_code == 422
        where = query.split("=", maxsplit=1)[0]
        assert answer.json()["errors"][0]["in"] == "query"
        assert answer.json()["errors"][0]["pointer"] == f"/{where}"


class TestTheAuditLog:
    async def test_holds_who_made_and_revoked_a_key(
        self, client: httpx.AsyncClient, sessions: Sessions, make_key: MakeKey
    ) -> None:
        operator = bearer(await make_key("operator"))
        made = (await client.post("/v1/api-keys", headers=operator, json={"role": "issuer"})).json()
        await client.delete(f"/v1/api-keys/{made['id']}", headers=operator)
        async with sessions() as session:
            entries = (
                await session.scalars(
                    select(AuditEntry)
                    .where(AuditEntry.subject_id == made["id"])
                    .order_by(AuditEntry.id)
                )
            ).all()
        assert [entry.action for entry in entries] == ["api_key.create", "api_key.revoke"]
        assert all(entry.actor.startswith("key:") for entry in entries)

    async def test_cannot_be_changed(self, sessions: Sessions, make_key: MakeKey) -> None:
        await make_key("issuer")
        with pytest.raises(Exception, match="permission denied"):
            async with sessions.begin() as session:
                await session.execute(text("UPDATE audit_entries SET actor = 'me'"))
