import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.config import Settings
from app.kit.clock import now
from app.kit.db import Sessions
from tests.offers.over_http import caller, terms
from tests.partners.world import make_world
from tests.programme import member_line
from tests.support import MakeKey, Tagback

PLACE = {
    "acquirer_id": "acq",
    "acceptor_id": "1",
    "name": "Corner",
    "channel": "in_store",
    "mcc": "5812",
    "country": "US",
}


@pytest.fixture
async def operator(make_key: MakeKey) -> dict[str, str]:
    return {"Authorization": f"Bearer {await make_key('operator')}"}


async def read(
    client: httpx.AsyncClient, operator: dict[str, str], **params: str
) -> list[dict[str, Any]]:
    answer = await client.get("/v1/audit-entries", headers=operator, params=params)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


class TestWhatIsWrittenDown:
    async def test_of_partners_and_places(
        self, client: httpx.AsyncClient, operator: dict[str, str]
    ) -> None:
        await client.post("/v1/partners", headers=operator, json={"ref": "cafe", "name": "Cafe"})
        await client.patch("/v1/partners/cafe", headers=operator, json={"name": "The Café"})
        made = await client.post(
            "/v1/merchants", headers=operator, json={**PLACE, "partner": "cafe"}
        )
        url = f"/v1/merchants/{made.json()['id']}"
        await client.post(f"{url}/refuse", headers=operator, json={"reason": "which corner?"})
        await client.patch(url, headers=operator, json={"name": "First Corner"})
        await client.post(f"{url}/confirm", headers=operator)
        (changed,) = await read(client, operator, action="partner.change")
        assert (changed["before"], changed["after"]) == ({"name": "Cafe"}, {"name": "The Café"})
        entries = await read(client, operator, subject_id=made.json()["id"])
        assert [(one["action"], one["before"], one["after"]) for one in entries] == [
            ("acceptor.confirm", {"state": "proposed"}, {"state": "confirmed"}),
            (
                "acceptor.correct",
                {"name": "Corner", "state": "refused", "refusal": "which corner?"},
                {"name": "First Corner", "state": "proposed", "refusal": None},
            ),
            (
                "acceptor.refuse",
                {"state": "proposed", "refusal": None},
                {"state": "refused", "refusal": "which corner?"},
            ),
            ("acceptor.propose", None, PLACE),
        ]

    async def test_of_members_names_nobody(
        self, client: httpx.AsyncClient, operator: dict[str, str]
    ) -> None:
        made = await client.post("/v1/members", headers=operator, json=member_line("4321234"))
        url = f"/v1/members/{made.json()['id']}"
        for card in ({"card_ref": "new-card"}, {"card_ref": "newer", "replaces": "new-card"}):
            await client.post(f"{url}/cards", headers=operator, json=card)
        await client.delete(f"{url}/cards/newer", headers=operator)
        account = {"network": "x", "id": "777888999", "handle": "ann"}
        await client.post(f"{url}/accounts", headers=operator, json=account)
        await client.delete(f"{url}/accounts/x/777888999", headers=operator)
        entries = await read(client, operator, subject_kind="member")
        assert [one["action"] for one in reversed(entries)] == [
            "member.enrol",
            "member.add_card",
            "member.replace_card",
            "member.remove_card",
            "member.link",
            "member.unlink",
        ]
        written = json.dumps(entries)
        for name in ("4321234", "777888999", "new-card", "newer", "ann", "4242"):
            assert name not in written

    async def test_of_money_and_replies_and_offers(
        self, client: httpx.AsyncClient, operator: dict[str, str], sessions: Sessions,
        settings: Settings,
    ) -> None:  # fmt: skip
        await make_world(sessions, settings)
        batch = (await client.post("/v1/credit-batches", headers=operator)).json()["id"]
        url = f"/v1/credit-batches/{batch}/acknowledge"
        for _ in range(2):
            await client.post(url, headers=operator, json={"failures": []})
        await client.post("/v1/replies/pause", headers=operator)
        money = await read(client, operator, subject_kind="credit_batch")
        assert [(one["action"], one["before"], one["after"]) for one in money] == [
            (
                "credit_batch.acknowledge",
                {"state": "open"},
                {"state": "acknowledged", "failed_lines": 0},
            ),
            ("credit_batch.make", None, {"lines": 24}),
        ]
        (paused,) = await read(client, operator, subject_kind="replies")
        assert (paused["before"], paused["after"]) == ({"paused": False}, {"paused": True})
        published = await read(client, operator, action="offer.publish")
        assert [(one["before"]["state"], one["after"]["state"]) for one in published] == [
            ("draft", "live")
        ] * 2

    async def test_of_a_file_names_the_partners_it_made(
        self, tagback: Tagback, client: httpx.AsyncClient, operator: dict[str, str]
    ) -> None:
        lines = [{**PLACE, "partner": ref, "acceptor_id": ref} for ref in ("cafe", "cafe", "caffe")]
        given = "\n".join(map(json.dumps, lines)).encode()
        ran = await tagback("import", "merchants", "-", given=given)
        assert "2 new partners, if that was meant: cafe, caffe" in ran.out
        made = await read(client, operator, action="partner.create", actor="import")
        assert [one["after"]["ref"] for one in made] == ["caffe", "cafe"]


class TestReadingIt:
    async def test_is_filtered_and_paged_while_more_is_written(
        self, client: httpx.AsyncClient, operator: dict[str, str]
    ) -> None:
        call = caller(client, operator["Authorization"].removeprefix("Bearer "))
        await client.post("/v1/partners", headers=operator, json={"ref": "cafe", "name": "Cafe"})
        for number in range(5):
            await call("", terms(partner="cafe", offer_ref=f"o{number}", hashtag=f"tea{number}"))
        seen: list[int] = []
        params = {"limit": "2", "action": "offer.create"}
        while True:
            answer = await client.get("/v1/audit-entries", headers=operator, params=params)
            page = answer.json()
            seen += [one["id"] for one in page["items"]]
            await call("", terms(partner="cafe", offer_ref=f"p{len(seen)}", hashtag="more"))
            if page["next_cursor"] is None:
                break
            params["cursor"] = page["next_cursor"]
        assert len(seen) == 5
        assert seen == sorted(set(seen), reverse=True)
        (first,) = await read(client, operator, subject_kind="partner")
        actor = first["actor"]
        assert {one["actor"] for one in await read(client, operator, actor=actor)} == {actor}
        later, earlier = ((now() + timedelta(minutes=minutes)).isoformat() for minutes in (1, -1))
        everything = await read(client, operator)
        assert await read(client, operator, since=earlier, until=later) == everything
        assert await read(client, operator, since=later) == []
        assert await read(client, operator, until=earlier) == []

    async def test_takes_any_cursor_of_ours(
        self, client: httpx.AsyncClient, operator: dict[str, str], make_key: MakeKey
    ) -> None:
        await make_key("operator")
        page = await client.get("/v1/api-keys", headers=operator, params={"limit": 1})
        entries = await read(client, operator, cursor=page.json()["next_cursor"])
        assert entries == await read(client, operator)

    async def test_on_the_command_line(
        self, tagback: Tagback, sessions: Sessions, make_key: MakeKey
    ) -> None:
        await make_key("operator")
        made = await tagback("keys", "create", "--role", "issuer", "--rate-limit", "30")
        key_id = made.out.split("id ")[1].split(":")[0]
        rotated = await tagback("keys", "rotate", key_id, "--overlap-hours", "0")
        assert rotated.out.splitlines()[-1].startswith("tb_")
        listed = (await tagback("keys", "list")).out.splitlines()
        assert f"30 a minute  in place of {key_id}" in listed[-1]
        assert "expired" in listed[-2]
        table = (await tagback("audit", "--actor", "command line")).out
        assert [line.split()[4] for line in table.splitlines()[1:]] == [
            "api_key.rotate",
            "api_key.create",
            "api_key.create",
        ]
        lines = (await tagback("audit", "--subject-id", key_id, "--json")).out.splitlines()
        newest = json.loads(lines[0])
        assert newest["action"] == "api_key.rotate"
        assert newest["before"] == {"expires_at": None}
        async with sessions() as session:
            assert await session.scalar(text("SELECT count(*) FROM audit_entries")) == 4
