"""The stand-in's time is moved, as X's goes on."""

from datetime import UTC, datetime, timedelta

from tests.stand_in import StartX

DAY_SECONDS = 86_400


class TestItsTime:
    async def test_goes_forward_for_what_is_posted_from_then_on(self, start_x: StartX) -> None:
        x = await start_x()
        before = await x.post()
        moved = (
            await x.client.post("/sandbox/clock", json={"advance_seconds": DAY_SECONDS})
        ).json()
        assert moved["offset_seconds"] == DAY_SECONDS
        after = await x.post()
        found = await x.client.get(
            "/2/tweets",
            params={"ids": f"{before},{after}", "tweet.fields": "created_at"},
            headers={"Authorization": "Bearer app"},
        )
        posted = [datetime.fromisoformat(post["created_at"]) for post in found.json()["data"]]
        assert posted[1] - posted[0] >= timedelta(days=1)
        assert posted[0] - datetime.now(UTC) < timedelta(minutes=1)

    async def test_never_goes_back(self, start_x: StartX) -> None:
        x = await start_x()
        for seconds in (0, -DAY_SECONDS):
            answer = await x.client.post("/sandbox/clock", json={"advance_seconds": seconds})
            assert answer.status_code == 400
