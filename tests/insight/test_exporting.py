"""Whole sets, in three formats that say the same."""

import csv
import io
import json

import pyarrow.parquet as pq
import pytest

from app.config import Settings
from app.insight import exporting
from app.kit.db import Sessions
from app.posts.enrol import Enroller
from tests.programme import NOW, make_members, make_offer, make_post, make_shop, pay


@pytest.fixture
async def sold(sessions: Sessions, settings: Settings) -> None:
    await make_shop(sessions, "counter")
    await make_offer(sessions, "Tea")
    accounts = await make_members(sessions, 4)
    posts = [make_post(account, "tea") for account in [*accounts, "99"]]
    await Enroller(sessions, settings).enrol(posts, source="test", now=NOW)
    for account in accounts:
        await pay(sessions, account, "clearing", 2_000)


async def written(sessions: Sessions, what: str, file_format: exporting.Format) -> bytes:
    out = io.BytesIO()
    async with sessions.begin() as session:
        await exporting.export(session, what, file_format=file_format, out=out)
    return out.getvalue()


@pytest.mark.usefixtures("sold")
class TestAnExport:
    @pytest.mark.parametrize(
        ("what", "rows"), [("redemptions", 4), ("coupons", 4), ("posts", 5), ("credits", 0)]
    )
    async def test_says_the_same_in_every_format(
        self, sessions: Sessions, what: str, rows: int
    ) -> None:
        as_csv = list(csv.DictReader(io.StringIO((await written(sessions, what, "csv")).decode())))
        as_json = [
            json.loads(line) for line in (await written(sessions, what, "ndjson")).splitlines()
        ]
        as_parquet = pq.read_table(io.BytesIO(await written(sessions, what, "parquet"))).to_pylist()
        assert len(as_csv) == len(as_json) == len(as_parquet) == rows
        for plain, typed, columnar in zip(as_csv, as_json, as_parquet, strict=True):
            assert list(plain) == list(typed) == list(columnar)
            for name, value in typed.items():
                if name.endswith("_minor"):
                    assert int(plain[name]) == value == columnar[name]

    async def test_makes_no_formula_for_a_spreadsheet(self, sessions: Sessions) -> None:
        await make_offer(sessions, "Cake", offer_ref='=HYPERLINK("x")')
        (author,) = await make_members(sessions, 1)
        settings = Settings(_env_file=None)
        await Enroller(sessions, settings).enrol(
            [make_post(author, "cake")], source="test", now=NOW
        )
        text = (await written(sessions, "coupons", "csv")).decode()
        assert any(
            row["offer_ref"] == '\'=HYPERLINK("x")' for row in csv.DictReader(io.StringIO(text))
        )
