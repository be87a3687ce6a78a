"""The story that the examples of the OpenAPI document tell."""

import base64
import hmac
import json
import re
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import httpx
from pydantic import SecretStr

from app.kit.sealing import new_key
from tests.document import NDJSON, Document, Operation, write_lines

SECRET = "consumer-secret"
SETTINGS: dict[str, Any] = {
    "x_consumer_secret": SecretStr(SECRET),
    "secret_keys": SecretStr(new_key()),
    "webhooks_allow": (ip_network("127.0.0.0/8"),),
    "rate_limit_per_minute": 0,
    "wrong_keys_per_minute": 0,
}
# On this day the story is told.
TOLD = datetime(2026, 7, 15, 12, tzinfo=UTC)
# Where the partner's server is: names are not looked up in a test.
HERE = "127.0.0.1"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
ID = re.compile(r"0198f0c2-7d10-7000-8000-[0-9a-f]{12}")

# Who calls what, with which of the body's examples.
STORY: list[tuple[str, str, int]] = [
    ("nobody", "healthz", 0),
    ("nobody", "readyz", 0),
    ("operator", "create_partner", 0),
    ("operator", "list_partners", 0),
    ("operator", "create_key", 1),
    ("operator", "create_key", 0),
    ("operator", "list_keys", 0),
    ("partner", "get_current_key", 0),
    ("operator", "change_key", 0),
    ("operator", "change_key", 1),
    ("partner", "rotate_key", 0),
    ("partner", "get_partner", 0),
    ("operator", "change_partner", 0),
    ("partner", "create_webhook_endpoint", 0),
    ("partner", "list_webhook_endpoints", 0),
    ("partner", "change_webhook_endpoint", 0),
    ("partner", "get_webhook_endpoint", 0),
    ("partner", "rotate_webhook_secret", 0),
    ("partner", "create_merchant", 0),
    ("partner", "withdraw_merchant", 0),
    ("partner", "create_merchant", 0),
    ("partner", "list_merchants", 0),
    ("operator", "refuse_merchant", 0),
    ("partner", "get_merchant", 0),
    ("partner", "correct_merchant", 0),
    ("operator", "confirm_merchant", 0),
    ("partner", "create_offer", 0),
    ("partner", "list_offers", 0),
    ("partner", "publish_offer", 0),
    ("operator", "refuse_offer", 0),
    ("partner", "publish_offer", 0),
    ("partner", "withdraw_offer", 0),
    ("partner", "publish_offer", 0),
    ("operator", "approve_offer", 0),
    ("operator", "change_offer", 0),
    ("partner", "get_offer", 0),
    ("analyst", "list_versions", 0),
    ("partner", "pause_offer", 0),
    ("partner", "resume_offer", 0),
    ("issuer", "enrol_member", 0),
    ("issuer", "list_members", 0),
    ("issuer", "get_member", 0),
    ("issuer", "add_card", 0),
    ("issuer", "add_card", 1),
    ("issuer", "list_cards", 0),
    ("issuer", "add_account", 0),
    ("issuer", "list_accounts", 0),
    ("issuer", "receive_posts", 0),
    ("nobody", "answer_challenge", 0),
    ("nobody", "receive_event", 0),
    ("issuer", "list_coupons", 0),
    ("issuer", "explain_post", 0),
    ("processor", "take_transaction", 0),
    ("processor", "take_batch", 0),
    ("issuer", "explain_transaction", 0),
    ("partner", "list_redemptions", 0),
    ("partner", "get_redemption", 0),
    ("partner", "export_redemptions", 0),
    ("analyst", "export_redemptions", 0),
    ("analyst", "get_attribution", 0),
    ("partner", "get_performance", 0),
    ("partner", "dry_run_offer", 0),
    ("operator", "get_costs", 0),
    ("issuer", "create_batch", 0),
    ("issuer", "list_batches", 0),
    ("issuer", "get_batch", 0),
    ("issuer", "acknowledge_batch", 0),
    ("operator", "make_adjustment", 0),
    ("operator", "list_adjustments", 0),
    ("partner", "list_invoices", 0),
    ("issuer", "make_claim", 0),
    ("issuer", "get_claim", 0),
    ("issuer", "list_claims", 0),
    ("issuer", "list_claims_of_member", 0),
    ("operator", "accept_claim", 0),
    ("issuer", "make_claim", 1),
    ("operator", "refuse_claim", 0),
    ("operator", "announce_offer", 0),
    ("operator", "list_replies", 0),
    ("operator", "pause_replies", 0),
    ("operator", "pause_replies", 1),
    ("operator", "resume_replies", 0),
    ("operator", "resume_replies", 1),
    ("issuer", "remove_account", 0),
    ("issuer", "remove_card", 0),
    ("partner", "end_offer", 0),
    ("issuer", "export_member", 0),
    ("issuer", "erase_member", 0),
    ("partner", "send_test_webhook", 0),
    ("partner", "replay_webhook_delivery", 0),
    ("partner", "replay_webhook_range", 0),
    ("partner", "list_webhook_deliveries", 0),
    ("partner", "delete_webhook_endpoint", 0),
    ("operator", "revoke_key", 0),
    ("operator", "list_audit_entries", 0),
    ("nobody", "metrics", 0),
]


def signature(body: bytes) -> str:
    """As X signs what it pushes."""
    return "sha256=" + base64.b64encode(hmac.digest(SECRET.encode(), body, "sha256")).decode()


class Story:
    """Says each example with the ids that are, for those that are told, and as if it were today."""

    def __init__(self, document: Document, client: httpx.AsyncClient, keys: dict[str, str]) -> None:
        self._document = document
        self._client = client
        self._keys = keys
        self._ids: dict[str, str] = {}
        self._later = datetime.now(UTC).replace(microsecond=0) - TOLD

    async def live(self, who: str, operation: Operation, example: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._keys[who]}"} if who != "nobody" else {}
        content = None
        if (body := self._document.body_of(operation)) is not None:
            told = self._today(write_lines(example if body[0] == NDJSON else [example]).decode())
            content = told.encode()
            headers["Content-Type"] = body[0]
            if operation.name == "receive_event":
                headers["x-twitter-webhooks-signature"] = signature(content)
        path, query = self._address(operation)
        answer = await self._client.request(
            operation.method, path, params=query, headers=headers, content=content
        )
        self._learn(operation, answer)
        return answer

    def today(self, example: Any) -> Any:
        return json.loads(self._today(json.dumps(example)))

    def _address(self, operation: Operation) -> tuple[str, dict[str, Any]]:
        path, query = operation.path, {}
        for parameter in operation.told.get("parameters", ()):
            if parameter["in"] == "path":
                value = self._today(parameter["example"])
                path = path.replace(f"{{{parameter['name']}}}", value)
            elif parameter["in"] == "query" and "example" in parameter:
                query[parameter["name"]] = self.today(parameter["example"])
        return path, query

    def _today(self, told: str) -> str:
        def later(found: re.Match[str]) -> str:
            moment = datetime.fromisoformat(found[0]) + self._later
            return moment.isoformat().replace("+00:00", "Z")

        told = told.replace("shop.example", HERE)
        return ID.sub(lambda found: self._ids[found[0]], TIME.sub(later, told))

    def _learn(self, operation: Operation, answer: httpx.Response) -> None:
        for status, media_type, schema in self._document.answers(operation):
            if status == answer.status_code and media_type == "application/json":
                for example in self._document.examples(media_type, schema):
                    self._compare(example, answer.json())
                    if operation.name == "create_key":
                        self._keys[answer.json()["role"]] = answer.json()["key"]

    def _compare(self, told: Any, real: Any) -> None:
        match told, real:
            case dict(), dict():
                for name in told.keys() & real.keys():
                    self._compare(told[name], real[name])
            case [first, *_], [true, *_]:
                self._compare(first, true)
            case str(), str() if ID.fullmatch(told):
                self._ids[told] = real
