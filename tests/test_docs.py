import re

import pytest
from fastapi import FastAPI

from app.config import PREFIX, Settings
from app.main import ROUTERS
from app.problems import catalogue
from tests.support import ROOT

NAME = re.compile(rf"{PREFIX}[A-Z_]+(?<!_)\b")
PRICE = re.compile(r"`([A-Z_]+_MICROUSD)=(\d+)`")


def documented(page: str) -> set[str]:
    text = (ROOT / "docs" / page).read_text()
    prices = {f"{PREFIX}X_PRICE_{name}" for name, _ in PRICE.findall(text)}
    return set(NAME.findall(text)) | prices


class TestSettings:
    known = frozenset(PREFIX + name.upper() for name in Settings.model_fields)

    @pytest.mark.parametrize("page", ["operating.md", "x.md", "files.md"])
    def test_what_a_page_names_is_there(self, page: str) -> None:
        assert documented(page) <= self.known

    def test_each_has_its_line(self) -> None:
        assert documented("operating.md") | documented("x.md") >= self.known

    def test_the_prices_are_the_ones_that_are_set(self) -> None:
        priced = PRICE.findall((ROOT / "docs/x.md").read_text())
        assert len(priced) == 6
        for name, micro_usd in priced:
            assert Settings.model_fields[f"x_price_{name.lower()}"].default == int(micro_usd)


class TestTheApi:
    text = (ROOT / "docs/api.md").read_text()

    def test_has_the_routes_that_the_page_names(self) -> None:
        app = FastAPI()
        for router in ROUTERS:
            app.include_router(router)
        paths = {re.sub(r"\{\w+\}", "$", path) for path in app.openapi()["paths"]}
        named = re.findall(r"(/v1/[\w/$-]+)", self.text)
        assert len(named) > 8
        for path in named:
            assert re.sub(r"\$\w+", "$", path) in paths

    def test_raises_the_codes_that_the_page_names(self) -> None:
        codes = set(re.findall(r"4\d\d `(\w+)`", self.text))
        assert codes
        assert codes <= {row["code"] for row in catalogue()}


class TestDecisions:
    def test_have_each_a_number_that_is_theirs_alone(self) -> None:
        pages = sorted((ROOT / "docs/adr").glob("*.md"))
        numbers = [int(page.name[:4]) for page in pages]
        assert numbers == list(range(1, len(pages) + 1))
        assert [page.read_text().split(".")[0] for page in pages] == [f"# {n}" for n in numbers]
