import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select, text

from app.errors import Conflict, TagbackError
from app.kit.db import Sessions
from app.partners import keys, service
from app.partners.auth import authenticate
from app.partners.models import ApiKey
from tests.support import MakeKey

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def create(sessions: Sessions, role: Any = "issuer", **given: Any) -> keys.NewKey:
    async with sessions.begin() as session:
        return await keys.create_key(session, actor="test", role=role, **{"now": NOW, **given})


async def rotate(sessions: Sessions, key_id: UUID, **given: Any) -> keys.NewKey:
    usual: dict[str, Any] = {
        "own_partner_id": None,
        "overlap": DAY,
        "expires_at": None,
        "now": NOW,
    }
    async with sessions.begin() as session:
        return await keys.rotate_key(session, actor="test", key_id=key_id, **{**usual, **given})


async def revoke(sessions: Sessions, key_id: UUID, *, may_be_last: bool = True) -> None:
    async with sessions.begin() as session:
        await keys.revoke_key(
            session, actor="test", key_id=key_id, now=NOW, may_be_last=may_be_last
        )


class TestAKeyThatIsRotated:
    async def test_works_beside_the_new_one_until_the_overlap_is_over(
        self, sessions: Sessions
    ) -> None:
        async with sessions.begin() as session:
            await service.ensure_partner(session, ref="cafe")
        old = await create(sessions, "partner", partner="cafe", rate_limit_per_minute=9)
        new = await rotate(sessions, old.record.id, overlap=DAY)
        found = [
            await authenticate(sessions, key=one.key, now=NOW + DAY - timedelta(seconds=1))
            for one in (old, new)
        ]
        assert found[0]._replace(key_id=new.record.id) == found[1]
        assert found[1].rate_limit_per_minute == 9
        assert new.partner_ref == "cafe"
        with pytest.raises(TagbackError):
            await authenticate(sessions, key=old.key, now=NOW + DAY)
        await authenticate(sessions, key=new.key, now=NOW + 1_000 * DAY)

    async def test_without_an_overlap_ends_at_once(self, sessions: Sessions) -> None:
        old = await create(sessions)
        await rotate(sessions, old.record.id, overlap=timedelta(0))
        with pytest.raises(TagbackError):
            await authenticate(sessions, key=old.key, now=NOW)

    async def test_ends_no_later_than_it_would_have(self, sessions: Sessions) -> None:
        old = await create(sessions, expires_at=NOW + timedelta(hours=1))
        await rotate(sessions, old.record.id, overlap=DAY)
        async with sessions() as session:
            row = await keys.get_key(session, key_id=old.record.id)
        assert row.key.expires_at == NOW + timedelta(hours=1)

    async def test_is_followed_by_one_that_lives_as_long_as_it_was_made_for(
        self, sessions: Sessions
    ) -> None:
        old = await create(sessions, expires_at=NOW + 30 * DAY)
        new = await rotate(sessions, old.record.id, now=NOW + 20 * DAY)
        assert new.record.expires_at == NOW + 50 * DAY
        newest = await rotate(
            sessions, new.record.id, now=NOW + 20 * DAY, expires_at=NOW + 21 * DAY
        )
        assert newest.record.expires_at == NOW + 21 * DAY
        assert {one.record.family_id for one in (old, new, newest)} == {old.record.id}

    @pytest.mark.parametrize(
        ("state", "code"),
        [
            ("revoked", "api_key_revoked"),
            ("rotated", "api_key_rotated"),
            ("expired", "api_key_expired"),
        ],
    )
    async def test_must_still_be_good(self, sessions: Sessions, state: str, code: str) -> None:
        old = await create(sessions, expires_at=NOW + DAY)
        if state == "revoked":
            await revoke(sessions, old.record.id)
        if state == "rotated":
            await rotate(sessions, old.record.id)
        with pytest.raises(Conflict) as refused:
            await rotate(sessions, old.record.id, now=NOW + DAY)
        assert refused.value.code == code

    async def test_by_many_at_once_is_followed_by_one(self, sessions: Sessions) -> None:
        old = await create(sessions)
        results = await asyncio.gather(
            *(rotate(sessions, old.record.id) for _ in range(8)), return_exceptions=True
        )
        made = [one for one in results if isinstance(one, keys.NewKey)]
        refused = [one.code for one in results if isinstance(one, Conflict)]
        assert (len(made), refused) == (1, ["api_key_rotated"] * 7)
        async with sessions() as session:
            found = await session.scalars(select(ApiKey.rotated_from).order_by(ApiKey.id))
            assert found.all() == [None, old.record.id]

    async def test_while_its_limit_is_changed_has_one_limit_with_the_new_one(
        self, sessions: Sessions
    ) -> None:
        for number in range(1, 6):
            old = await create(sessions)

            async def limit(key_id: UUID = old.record.id, per_minute: int = number) -> None:
                async with sessions.begin() as session:
                    await keys.set_limit(
                        session, actor="t", key_id=key_id, rate_limit_per_minute=per_minute
                    )

            await asyncio.gather(rotate(sessions, old.record.id), limit())
            async with sessions() as session:
                query = select(ApiKey.rate_limit_per_minute).where(
                    ApiKey.family_id == old.record.id
                )
                assert (await session.scalars(query)).all() == [number] * 2


class TestAPartner:
    @pytest.fixture
    async def key_ids(self, sessions: Sessions) -> dict[str, keys.NewKey]:
        async with sessions.begin() as session:
            for ref in ("cafe", "rival"):
                await service.ensure_partner(session, ref=ref)
        at = datetime.now(UTC)
        return {
            ref: await create(sessions, "partner", partner=ref, now=at, expires_at=at + 30 * DAY)
            for ref in ("cafe", "rival")
        }

    async def test_lists_and_rotates_its_own_alone(
        self, client: httpx.AsyncClient, key_ids: dict[str, keys.NewKey]
    ) -> None:
        headers = bearer(key_ids["cafe"].key)
        mine, rivals = (str(key_ids[ref].record.id) for ref in ("cafe", "rival"))
        made = await client.post(f"/v1/api-keys/{mine}/rotate", headers=headers)
        assert (made.status_code, made.json()["rotated_from"]) == (201, mine)
        listed = (await client.get("/v1/api-keys", headers=headers)).json()["items"]
        assert [one["id"] for one in listed] == [mine, made.json()["id"]]
        assert {one["partner"] for one in listed} == {"cafe"}
        assert not any("hash" in name for one in listed for name in one)
        refused = await client.post(f"/v1/api-keys/{rivals}/rotate", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (404, "api_key_not_found")
        current = await client.get("/v1/api-keys/current", headers=bearer(made.json()["key"]))
        assert (current.json()["role"], current.json()["partner"]) == ("partner", "cafe")
        assert current.json()["last_used_at"] is not None

    async def test_makes_no_key_that_lives_longer(
        self, client: httpx.AsyncClient, key_ids: dict[str, keys.NewKey]
    ) -> None:
        url = f"/v1/api-keys/{key_ids['cafe'].record.id}/rotate"
        headers = bearer(key_ids["cafe"].key)
        late = {"expires_at": (datetime.now(UTC) + 40 * DAY).isoformat()}
        refused = await client.post(url, headers=headers, json=late)
        assert (refused.status_code, refused.json()["code"]) == (403, "expiry_too_late")
        soon = {"expires_at": (datetime.now(UTC) + 20 * DAY).isoformat(), "overlap_hours": 0}
        assert (await client.post(url, headers=headers, json=soon)).status_code == 201
        assert (await client.get("/v1/api-keys", headers=headers)).status_code == 401

    @pytest.mark.parametrize("body", [{"overlap_hours": 169}, {"overlap_hours": -1}, {"x": 1}])
    async def test_asks_for_what_makes_sense(
        self, client: httpx.AsyncClient, key_ids: dict[str, keys.NewKey], body: dict[str, int]
    ) -> None:
        url = f"/v1/api-keys/{key_ids['cafe'].record.id}/rotate"
        answer = await client.post(url, headers=bearer(key_ids["cafe"].key), json=body)
        assert answer.status_code == 422


async def test_a_key_that_has_ended_is_not_made(
    client: httpx.AsyncClient, make_key: MakeKey
) -> None:
    headers = bearer(await make_key("operator"))
    body = {"role": "issuer", "expires_at": "2026-01-01T00:00:00Z"}
    answer = await client.post("/v1/api-keys", headers=headers, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "expiry_passed")


class TestTheLastOperatorKey:
    async def test_is_not_revoked_over_http(
        self, client: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        first = await create(sessions, "operator")
        expired = await create(sessions, "operator", expires_at=NOW + DAY)
        await create(sessions, "issuer")
        url = f"/v1/api-keys/{first.record.id}"
        refused = await client.delete(url, headers=bearer(first.key))
        assert (refused.status_code, refused.json()["code"]) == (409, "last_operator_key")
        gone = await client.delete(f"/v1/api-keys/{expired.record.id}", headers=bearer(first.key))
        assert gone.status_code == 204
        await create(sessions, "operator")
        assert (await client.delete(url, headers=bearer(first.key))).status_code == 204

    async def test_is_left_when_two_revoke_each_others(self, sessions: Sessions) -> None:
        for _ in range(3):
            two = [(await create(sessions, "operator")).record.id for _ in range(2)]
            results = await asyncio.gather(
                *(revoke(sessions, one, may_be_last=False) for one in two), return_exceptions=True
            )
            assert sorted(type(one) for one in results if one) == [Conflict]
            await revoke(sessions, two[0])
            await revoke(sessions, two[1])

    async def test_is_revoked_where_another_can_be_made(self, sessions: Sessions) -> None:
        only = await create(sessions, "operator")
        await revoke(sessions, only.record.id)
        async with sessions() as session:
            left = "SELECT count(*) FROM api_keys WHERE revoked_at IS NULL"
            assert await session.scalar(text(left)) == 0
