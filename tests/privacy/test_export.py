"""A member asks what is kept of him; and by HTTP and command line, that it goes."""

import json

import httpx
import pytest
from person import NOTE, Person, live, open_programme

from app.config import Settings
from app.kit.db import Sessions
from app.metadata import metadata
from app.privacy.queries import OF_A_MEMBER
from tests.support import MakeKey, Tagback

# What is of a partner, of the programme or of nobody; and what names a person by no more than what
# the rows of OF_A_MEMBER say already, or by a digest.
OF_NO_MEMBER = {
    "acceptors", "api_keys", "audit_entries", "catalogue_version", "credit_batches",
    "cursors", "erased_names", "handoffs_used", "idempotency_keys", "leases", "network_accounts",
    "network_usage", "offer_counters", "offer_versions", "offers", "partners",
    "post_days", "post_hours", "pseudonym_secrets", "redemption_changes", "rejected_posts",
    "removed_posts", "reply_pauses", "sales_days", "sales_hours", "sales_part_days", "send_windows",
    "test_clock", "webhook_deliveries", "webhook_endpoints",
    "webhook_sequences",
}  # fmt: skip


@pytest.fixture
async def ann(sessions: Sessions, settings: Settings) -> Person:
    await open_programme(sessions)
    return await live(sessions, settings, "7770001112")


@pytest.fixture
async def bob(sessions: Sessions, settings: Settings, ann: Person) -> Person:
    del ann
    return await live(sessions, settings, "8880002223")


@pytest.fixture
async def issuer(client: httpx.AsyncClient, make_key: MakeKey) -> httpx.AsyncClient:
    client.headers["Authorization"] = f"Bearer {await make_key('issuer')}"
    return client


class TestEveryTable:
    def test_is_a_members_or_nobodys(self) -> None:
        """A new table belongs to either list, and to `app/privacy/erasure.py` if to the first."""
        assert set(OF_A_MEMBER) | OF_NO_MEMBER == set(metadata.tables)
        assert not set(OF_A_MEMBER) & OF_NO_MEMBER


class TestAnExport:
    async def test_has_all_that_is_his_and_nothing_of_another(
        self, issuer: httpx.AsyncClient, ann: Person, bob: Person
    ) -> None:
        answer = await issuer.get(f"/v1/members/{ann.member_id}/export")
        assert answer.status_code == 200
        data = answer.json()["data"]
        assert [table for table in OF_A_MEMBER if not data[table]] == []
        assert not [trace for trace in ann.traces if trace not in answer.text]
        assert NOTE in answer.text
        assert not [trace for trace in bob.traces if trace in answer.text]
        assert data["members"][0]["time_zone"] == "America/Toronto"
        assert not {"id_hash", "state_hash", "code_verifier"} & set(data["link_sessions"][0])

    async def test_is_for_issuer_and_operator(
        self, client: httpx.AsyncClient, make_key: MakeKey, ann: Person
    ) -> None:
        for role in ("processor", "analyst"):
            key = {"Authorization": f"Bearer {await make_key(role)}"}
            path = f"/v1/members/{ann.member_id}"
            assert (await client.get(f"{path}/export", headers=key)).status_code == 403
            assert (await client.delete(path, headers=key)).status_code == 403


class TestErasingByHttp:
    async def test_is_done_once_and_answered_the_same_again(
        self, issuer: httpx.AsyncClient, ann: Person
    ) -> None:
        path = f"/v1/members/{ann.member_id}"
        assert [(await issuer.delete(path)).status_code for _ in range(2)] == [204, 204]
        for gone in (path, f"{path}/export", f"{path}/cards", f"{path}/coupons"):
            assert (await issuer.get(gone)).status_code == 404, gone
        listed = (await issuer.get("/v1/members")).json()["items"]
        assert listed == []

    async def test_of_nobody_is_404(self, issuer: httpx.AsyncClient) -> None:
        answer = await issuer.delete("/v1/members/01890a5d-ac96-774b-bcce-b302099a8057")
        assert (answer.status_code, answer.json()["code"]) == (404, "member_not_found")


class TestTheCommands:
    async def test_show_a_member_and_erase_him(self, tagback: Tagback, ann: Person) -> None:
        ref = f"m-{ann.account_id}"
        shown = await tagback("members", "export", ref)
        assert json.loads(shown.out)["data"]["members"][0]["ref"] == ref
        ran = await tagback("members", "erase", ref)
        assert (ran.status, ran.out) == (0, f"erased {ann.member_id}\n")
