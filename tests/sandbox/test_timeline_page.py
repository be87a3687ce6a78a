import re

from running_x import Start


class TestPage:
    async def test_it_shows_posts_newest_first_with_replies_under_them(self, start: Start) -> None:
        x = await start(profile="enterprise")
        await x.people("ann", "bob")
        first = await x.post("1", "first post")
        await x.post("2", "second post")
        await x.create("Loaded", first)
        page = (await x.client.get("/")).text
        assert 'name="viewport"' in page
        places = [page.index(text) for text in ("second post", "first post", "Loaded")]
        assert places == sorted(places)
        assert page.count("Loaded") == 1

    async def test_nothing_that_people_write_is_markup(self, start: Start) -> None:
        x = await start()
        await x.client.post(
            "/sandbox/people", json={"id": "1", "handle": "ann", "name": "<i>Ann</i>"}
        )
        first = await x.post("1", '<script>alert("1")</script> &amp;')
        await x.post("1", "see", quote_of=first)
        page = (await x.client.get("/?handle=%22%3E%3Cscript%3Ealert(2)")).text
        assert "<script>alert" not in page
        assert "<i>" not in page
        assert page.count("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp;amp;") == 2

    async def test_older_posts_are_a_link_away(self, start: Start) -> None:
        x = await start()
        await x.people("ann")
        for n in range(120):
            await x.post("1", f"post number {n}.")
        seen: list[str] = []
        path: str | None = "/"
        while path:
            page = (await x.client.get(path)).text
            seen += re.findall(r"post number (\d+)\.", page)
            older = re.search(r'href="([^"]+)">Older', page)
            path = older[1] if older else None
        assert seen == [str(n) for n in range(119, -1, -1)]


class TestPostingByHand:
    async def test_a_new_handle_makes_a_person_and_the_page_comes_back(self, start: Start) -> None:
        x = await start()
        form = {"handle": "@Zoe", "text": "@TagbackDemo #Coffee\r\nplease"}
        answer = await x.client.post("/sandbox/post-by-hand", data=form)
        assert answer.status_code == 303
        page = (await x.client.get(answer.headers["location"])).text
        assert "@Zoe" in page
        assert "@TagbackDemo #Coffee\nplease" in page
        assert 'value="Zoe"' in page
        await x.client.post("/sandbox/post-by-hand", data={"handle": "zoe", "text": "again"})
        state = await x.state()
        assert (state["people"], state["posts"]) == (2, 2)

    async def test_it_is_delivered_like_any_other(self, start: Start) -> None:
        x = await start()
        await x.subscribe()
        app = {"authorization": "Bearer app"}
        async with x.client.stream("GET", "/2/activity/stream", headers=app) as answer:
            form = {"handle": "zoe", "text": "@TagbackDemo #Coffee"}
            await x.client.post("/sandbox/post-by-hand", data=form)
            assert "#Coffee" in await anext(answer.aiter_lines())

    async def test_what_cannot_be_posted_stays_in_the_form_with_the_reason(
        self, start: Start
    ) -> None:
        x = await start()
        form = {"handle": "zoë", "text": "my <text>"}
        answer = await x.client.post("/sandbox/post-by-hand", data=form)
        assert answer.status_code == 400
        assert "a handle is 1 to 15 letters" in answer.text
        assert "my &lt;text&gt;</textarea>" in answer.text
        empty = await x.client.post("/sandbox/post-by-hand", data={"handle": "zoe", "text": " "})
        assert "text is empty" in empty.text
        assert (await x.state())["posts"] == 0
