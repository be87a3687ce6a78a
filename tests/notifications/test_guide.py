"""What docs/webhooks.md tells a receiver to do works."""

import json
import re
from pathlib import Path
from typing import Any

from app.notifications.domain import BACK_OFF, EVENTS, TEST
from app.posts.enrol import Enroller
from tests.notifications.receiving import Post, Receiver
from tests.programme import NOW, make_members, make_offer, make_post, make_shop, pay

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


class TestTheGuide:
    async def test_verifies_what_comes_and_nothing_else(
        self, post: Post, receiver: Receiver
    ) -> None:
        (snippet,) = snippets("python")
        names: dict[str, Any] = {}
        exec(snippet, names)
        endpoint = await post.endpoint(receiver.url)
        await make_offer(post.sessions, "Tea", coupons_max=10, budget_minor=90_000)
        await make_shop(post.sessions, "counter")
        (author,) = await make_members(post.sessions, 1)
        enroller = Enroller(post.sessions, post.settings)
        await enroller.enrol([make_post(author, "tea")], source="test", now=NOW)
        await pay(post.sessions, author, "clearing", 2_000)
        await post.round(now=NOW)
        came = {}
        for taken in receiver.taken:
            event = names["receive"](taken.body, taken.headers, endpoint.secret)
            came[event["type"]] = event
            assert names["receive"](taken.body + b" ", taken.headers, endpoint.secret) is None
        shown = {event["type"]: event for event in map(json.loads, snippets("json"))}
        assert came.keys() == shown.keys() == {"coupon.loaded", "redemption.earned"}
        for name, event in came.items():
            assert event.keys() == shown[name].keys()
            assert event["data"].keys() == shown[name]["data"].keys()

    def test_names_every_event(self) -> None:
        rows = re.findall(r"^\| `([a-z_.]+)` \|", PAGE, re.MULTILINE)
        assert sorted(rows) == sorted([*EVENTS, TEST])

    def test_tells_when_it_is_tried_again(self) -> None:
        (told,) = re.findall(r"tried again after about (.*?), for 24 hours", PAGE)
        units = {"s": 1, "min": 60, "h": 3_600}
        waits = [int(number) * units[unit] for number, unit in re.findall(r"(\d+) (\w+)", told)]
        assert waits == [int(wait.total_seconds()) for wait in BACK_OFF]
