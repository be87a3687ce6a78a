"""Offers are found by whatever they are looked for by."""

import asyncio

from sqlalchemy import text

from app.kit.db import Sessions
from app.partners import service as partners
from tests.offers.over_http import Call, terms


class TestAList:
    async def test_is_of_what_fits_every_filter(
        self, partner: Call, operator: Call, sessions: Sessions
    ) -> None:
        async with sessions.begin() as session:
            await partners.ensure_partner(session, ref="rival")
        winter = {"starts_at": "2031-01-01T00:00:00Z", "ends_at": "2031-02-01T00:00:00Z"}
        made = [
            await partner("", terms()),
            await partner("", terms(offer_ref="tea-2", **winter)),
            await operator("", terms(partner="rival", offer_ref="tea-1")),
            await operator("", terms(partner="rival", offer_ref="cake", hashtag="Cake", **winter)),
        ]
        ids = [answer.json()["id"] for answer in made]

        async def found(who: Call, query: str) -> list[int]:
            answer = await who(f"?{query}", None, "GET")
            assert answer.status_code == 200, answer.text
            return [ids.index(item["id"]) for item in answer.json()["items"]]

        expected = {
            "hashtag=%23teafortwo": [0, 1, 2],
            "hashtag=TEAFORTWO&offer_ref=tea-1": [0, 2],
            "partner=rival": [2, 3],
            "partner=rival&hashtag=Cake": [3],
            "runs_from=2031-02-01T00:00:00Z": [],
            "runs_from=2031-01-31T00:00:00Z": [1, 3],
            "runs_until=2031-01-01T00:00:00Z": [0, 2],
            "runs_until=2031-01-02T00:00:00Z&runs_from=2030-12-31T00:00:00Z": [1, 3],
            "state=draft&offer_ref=cake": [3],
            "state=live": [],
        }
        told = await asyncio.gather(*(found(operator, query) for query in expected))
        assert dict(zip(expected, told, strict=True)) == expected
        assert await found(partner, "hashtag=TeaForTwo") == [0, 1]
        assert await found(partner, "partner=cafe&offer_ref=tea-1") == [0]
        assert (await partner("?partner=rival", None, "GET")).status_code == 404

    async def test_of_a_hashtag_takes_an_index(self, sessions: Sessions) -> None:
        async with sessions.begin() as session:
            await session.execute(text("SET LOCAL enable_seqscan = off"))
            plan = await session.scalars(text("EXPLAIN SELECT FROM offers WHERE tag_key = 'tea'"))
            assert "ix_offers_tag_key" in "\n".join(plan)
