"""A browser without scripts: what it shows, and the forms that a person can send."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

_VOID = {"meta", "link", "input", "br"}


@dataclass
class Form:
    fields: dict[str, str] = field(default_factory=dict)  # what is sent with nothing filled in
    boxes: dict[str, str] = field(default_factory=dict)
    button: str = ""


class Page(HTMLParser):
    """Raises AssertionError for HTML that is not in order."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.answer = answer
        self.title = self.text = self.language = ""
        self.alerts: list[str] = []
        self.news: list[str] = []
        self.forms: dict[str, Form] = {}
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self._ids: set[str] = set()
        self._wanted: set[str] = set()
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        self.feed(answer.text)
        self.close()
        assert not self._open, "not all is closed"
        assert self.title, "a page has a title"
        assert self._wanted <= self._ids, "a label that is not there"
        assert all(form.button for form in self.forms.values()), "a button says what it does"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs), f"{tag} has an attribute twice"
        assert "style" not in given, "the policy allows no style of its own"
        assert tag not in ("style", "script"), "the policy allows none"
        if name := given.get("id"):
            assert name not in self._ids, f"the id {name} is there twice"
            self._ids.add(name)
        if label := given.get("aria-labelledby"):
            self._wanted.add(label)
        if tag == "html":
            self.language = given["lang"] or ""
        if tag == "form":
            assert given["method"] == "post"
            self.forms[given["action"] or ""] = Form()
        if tag == "input":
            form = list(self.forms.values())[-1]
            name, value = given["name"] or "", given["value"] or ""
            if given["type"] == "checkbox":
                assert "checked" not in given, "nobody has ticked it"
                assert any(one == "label" for one, _ in self._open), f"{name} has no label"
                form.boxes[name] = value
            else:
                form.fields[name] = value
        if tag not in _VOID:
            self._open.append((tag, given))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"{tag} closes nothing"
        assert self._open.pop()[0] == tag, f"{tag} closes what it did not open"

    def handle_data(self, data: str) -> None:
        said = re.sub("[ \n]+", " ", data).strip()
        if not said:
            return
        tag, given = self._open[-1]
        self.text += said + "\n"
        if tag == "title":
            self.title += said
        if tag == "button":
            list(self.forms.values())[-1].button = said
        if given.get("role") == "alert":
            self.alerts.append(said)
        if given.get("role") == "status":
            self.news.append(said)


@dataclass
class Browser:
    """`client` keeps cookies and follows no redirect by itself; `x` is the stand-in's client."""

    client: httpx.AsyncClient
    x: httpx.AsyncClient
    last: Page | None = None

    async def open(self, address: str) -> Page:
        """Follows where it is led, as long as that is with us."""
        answer = await self.client.get(address)
        while answer.is_redirect:
            assert answer.headers["location"].startswith("/"), "led elsewhere"
            answer = await self.client.get(answer.headers["location"])
        self.last = Page(answer)
        return self.last

    async def send(
        self, action: str, *ticked: str, headers: dict[str, str] | None = None, **changed: str
    ) -> httpx.Response:
        """The form of the page that was opened last."""
        assert self.last is not None
        form = self.last.forms[action]
        body = {**form.fields, **{name: form.boxes[name] for name in ticked}, **changed}
        return await self.client.post(action, data=body, headers=headers)

    async def submit(self, action: str, *ticked: str, **changed: str) -> Page:
        answer = await self.send(action, *ticked, **changed)
        if not answer.is_redirect:
            self.last = Page(answer)
            return self.last
        return await self.open(answer.headers["location"])

    async def leave_for_x(self) -> str:
        """The address at X to which the sign-in leads."""
        await self.open("/link")
        answer = await self.send("/link/x")
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    async def decide_at_x(self, address: str, handle: str, decision: str = "allow") -> str:
        """The address with which X sends the browser back."""
        assert (await self.x.get(address)).status_code == 200
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        body = {**asked, "handle": handle, "decision": decision}
        answer = await self.x.post("/i/oauth2/authorize", data=body)
        assert answer.status_code == 302, answer.text
        return str(answer.headers["location"])

    async def sign_in(self, handle: str = "ann", decision: str = "allow") -> Page:
        return await self.open(await self.decide_at_x(await self.leave_for_x(), handle, decision))

    async def agree(self) -> Page:
        return await self.submit("/link/consent", "agreed")

    @property
    def cookie(self) -> str | None:
        return self.client.cookies.get("tagback")


def query_of(address: str) -> dict[str, Any]:
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


NewBrowser = Callable[..., Awaitable[Browser]]
