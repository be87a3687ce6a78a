import re

import httpx

from tests.document import our_document
from tests.web.browser import Page


class TestReference:
    async def test_it_shows_every_route_with_its_curl(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/docs")
        assert answer.is_success
        for operation in our_document().operations.values():
            assert f'id="{operation.name}"' in answer.text
            assert f"<code>{operation.path}</code>" in answer.text
        assert "--data-binary" in answer.text
        assert "For partner, operator." in Page(answer).text

    async def test_it_needs_nobody_else_and_no_script(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/docs")
        assert "<script" not in answer.text
        assert set(re.findall(r'(?:src|href)="(?!#)([^"]+)"', answer.text)) == {
            "/openapi.json",
            "/static/pages.css",
            "/static/reference.css",
        }
        for path in ("/static/pages.css", "/static/reference.css"):
            assert (await client.get(path)).is_success

    async def test_it_is_kept_for_a_while(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/docs")
        assert answer.headers["cache-control"] == "public, max-age=3600"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
