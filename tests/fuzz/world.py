"""A small programme in which what is made up often meets what is there."""

from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx

from app.insight import attribution
from app.kit.db import Sessions
from tests.document import Document
from tests.story import STORY, Story

# Of each kind: what is asked for may end it.
COPIES = 16


class World(NamedTuple):
    """`keys` by role; `known` values by the name of a parameter or a field; by route, the parameter
    and the ids that are `fitting`, and `bodies` that do; `own_keys` are the ids of `keys`, which
    nobody may revoke.
    """

    keys: dict[str, str]
    known: dict[str, list[Any]]
    fitting: dict[str, tuple[str, list[str]]]
    bodies: dict[str, Any]
    own_keys: frozenset[str]


async def make_world(
    document: Document, client: httpx.AsyncClient, sessions: Sessions, keys: dict[str, str]
) -> World:
    story = Story(document, client, keys)
    for who, name, number in STORY:
        operation = document.operations[name]
        if operation.method == "DELETE" or name in ("acknowledge_batch", "end_offer"):
            continue
        example = document.request_examples(operation)[number]
        answer = await story.live(who, operation, example)
        assert answer.is_success, (name, answer.text)
        if {200, 201} <= operation.statuses and number == 0:
            await story.live(who, operation, example)
        if name == "take_batch":
            await attribution.flush(sessions)
    maker = _Maker(document, client, story, keys)
    own_keys = frozenset(await maker.ids("/v1/api-keys"))
    await maker.make_copies()
    return World(keys, await maker.known(), await maker.fitting(), maker.bodies(), own_keys)


class _Maker:
    def __init__(
        self, document: Document, client: httpx.AsyncClient, story: Story, keys: dict[str, str]
    ) -> None:
        self._document = document
        self._client = client
        self._story = story
        self._keys = keys

    async def make_copies(self) -> None:
        """Drafts, submitted and live offers; members, places, claims; batches of credits; where
        webhooks go, and what went there.
        """
        member_id = (await self.ids("/v1/members", "issuer"))[0]
        for number in range(COPIES):
            shop = self._example("create_merchant") | {"acceptor_id": f"shop-{number}"}
            await self._post("/v1/merchants", shop, "partner")
            tag = f"Copy{number}"
            offer = self._example("create_offer") | {"offer_ref": tag, "hashtag": tag}
            made = await self._post("/v1/offers", offer, "partner")
            if number % 3:
                await self._post(f"/v1/offers/{made['id']}/publish", None, "partner")
            if number % 3 == 1:
                await self._post(f"/v1/offers/{made['id']}/approve", None, "operator")
            if number in (7, 10):
                await self._post(f"/v1/offers/{made['id']}/pause", None, "partner")
            claim = self._example("make_claim") | {"ref": f"copy-{number}", "transaction_id": None}
            await self._post(f"/v1/members/{member_id}/claims", claim, "issuer")
            line = self._example("enrol_member") | {
                "member_ref": f"m-copy-{number}",
                "account": {"network": "x", "id": f"33{number}", "handle": f"copy{number}"},
                "card": {"card_ref": f"card-copy-{number}"},
            }
            await self._post("/v1/members", line, "issuer")
            adjustment = self._example("make_adjustment") | {
                "ref": f"copy-{number}",
                "member_id": member_id,
            }
            await self._post("/v1/adjustments", adjustment, "operator")
            if number % 4 == 0:
                await self._post("/v1/credit-batches", None, "issuer")
            if number % 2 == 0:
                endpoint = self._example("create_webhook_endpoint")
                made = await self._post("/v1/webhook-endpoints", endpoint, "partner")
                await self._post(f"/v1/webhook-endpoints/{made['id']}/test", None, "partner")

    async def known(self) -> dict[str, list[Any]]:
        known: dict[str, list[Any]] = defaultdict(list)
        for operation in self._document.operations.values():
            for parameter in operation.told.get("parameters", ()):
                example = parameter.get("example")
                if isinstance(example, str) and parameter["schema"].get("format") != "uuid":
                    known[parameter["name"]] = [example]
        known["offer_id"] = await self.ids("/v1/offers")
        known["member_id"] = await self.ids("/v1/members", "issuer")
        known["claim_id"] = await self.ids("/v1/claims")
        known["merchant_id"] = await self.ids("/v1/merchants")
        known["batch_id"] = await self.ids("/v1/credit-batches", "issuer")
        known["redemption_id"] = await self.ids("/v1/redemptions")
        known["endpoint_id"] = await self.ids("/v1/webhook-endpoints")
        known["endpoint"] = known["endpoint_id"]
        known["delivery_id"] = await self.ids("/v1/webhook-deliveries")
        known["url"] = [self._example("create_webhook_endpoint")["url"]]
        for number in range(COPIES):
            spare = await self._post("/v1/api-keys", {"role": "analyst"}, "operator")
            known["key_id"].append(spare["id"])
            known["card_ref"].append(f"card-copy-{number}")
            known["acceptor_id"].append(f"shop-{number}")
            known["hashtag"].append(f"Copy{number}")
            known["account_id"].append(f"33{number}")
        async for one in self._items("/v1/partners", "operator"):
            known["partner"] += [one["ref"], one["id"]]
            known["partner_id"].append(one["id"])
        for batch_id in known["batch_id"]:
            async for one in self._items(f"/v1/credit-batches/{batch_id}", "issuer"):
                known["line_id"].append(one["id"])
        known["acquirer_id"] = ["ACQ-1"]
        known["acceptor_id"].append("88230017")
        known["author_id"] = known["account_id"]
        known["currency"] = ["USD"]
        known["purchase_id"] = ["p-501"]
        return {name: values for name, values in known.items() if values}

    async def fitting(self) -> dict[str, tuple[str, list[str]]]:
        """Each with its own, where what one does is in the other's way."""
        by_state: dict[str, list[str]] = defaultdict(list)
        async for one in self._items("/v1/offers", "operator"):
            by_state[one["state"]].append(one["id"])
        claims = await self.ids("/v1/claims")
        members = await self.ids("/v1/members", "issuer")
        endpoints = await self.ids("/v1/webhook-endpoints")
        places = [
            one["id"]
            async for one in self._items("/v1/merchants", "operator")
            if one["state"] == "proposed"
        ]
        return {
            "publish_offer": ("offer_id", by_state["draft"][:2]),
            "change_offer": ("offer_id", by_state["draft"][2:]),
            "approve_offer": ("offer_id", by_state["submitted"][:1]),
            "refuse_offer": ("offer_id", by_state["submitted"][1:3]),
            "withdraw_offer": ("offer_id", by_state["submitted"][3:]),
            "announce_offer": ("offer_id", by_state["live"][:1]),
            "pause_offer": ("offer_id", by_state["live"][1:2]),
            "end_offer": ("offer_id", by_state["live"][2:]),
            "resume_offer": ("offer_id", by_state["paused"]),
            "accept_claim": ("claim_id", claims[-6:]),
            "refuse_claim": ("claim_id", claims[2:-6]),
            "erase_member": ("member_id", members[-4:]),
            "confirm_merchant": ("merchant_id", places[:2]),
            "refuse_merchant": ("merchant_id", places[2:5]),
            "correct_merchant": ("merchant_id", places[5:8]),
            "withdraw_merchant": ("merchant_id", places[8:]),
            "change_webhook_endpoint": ("endpoint_id", endpoints[:2]),
            "send_test_webhook": ("endpoint_id", endpoints[2:4]),
            "replay_webhook_range": ("endpoint_id", endpoints[2:4]),
            "delete_webhook_endpoint": ("endpoint_id", endpoints[4:]),
        }

    def bodies(self) -> dict[str, Any]:
        return {
            operation.name: self._example(operation.name)
            for operation in self._document.operations.values()
            if self._document.body_of(operation) is not None
        }

    async def ids(self, path: str, who: str = "operator") -> list[str]:
        return [one["id"] async for one in self._items(path, who)]

    async def _items(self, path: str, who: str) -> AsyncIterator[dict[str, Any]]:
        answer = await self._client.get(path, headers=self._headers(who))
        assert answer.is_success, answer.text
        for one in answer.json()["items"]:
            yield one

    def _example(self, name: str) -> Any:
        operation = self._document.operations[name]
        return self._story.today(self._document.request_examples(operation)[0])

    async def _post(self, path: str, body: Any, who: str) -> dict[str, Any]:
        answer = await self._client.post(path, json=body, headers=self._headers(who))
        assert answer.is_success, (path, answer.text)
        return answer.json() if answer.content else {}

    def _headers(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._keys[who]}"}
