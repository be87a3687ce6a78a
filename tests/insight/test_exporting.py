"""Whole sets, in three formats that say the same."""

import csv
import io
import json

import pyarrow.parquet as pq
import pytest

from app.config import Settings
from app.insight import exporting
from app.kit.db import Sessions
from app.ledger import service as ledger
from app.ledger.adjustments import NewAdjustment, adjust
from app.members import service as members
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

    async def test_of_credits_shows_adjustments_beside_redemptions(
        self, sessions: Sessions
    ) -> None:
        (account,) = await make_members(sessions, 1)
        async with sessions.begin() as session:
            member = await members.find_member(session, ref_or_id=f"m-{account}")
            given = NewAdjustment("case-1", member.id, -70, "USD", "programme", "As agreed")
            made, _ = await adjust(session, given=given, operator="test", now=NOW)
            await ledger.create_batch(session, actor="test", now=NOW)
        rows = [
            json.loads(line) for line in (await written(sessions, "credits", "ndjson")).splitlines()
        ]
        (of_adjustment,) = [row for row in rows if row["redemption_id"] is None]
        assert of_adjustment["adjustment_id"] == str(made.id)
        assert (of_adjustment["adjustment_ref"], of_adjustment["amount_minor"]) == ("case-1", -70)
        of_redemptions = [row for row in rows if row["adjustment_id"] is None]
        assert [row["amount_minor"] for row in of_redemptions] == [500] * 4
        as_parquet = pq.read_table(io.BytesIO(await written(sessions, "credits", "parquet")))
        assert as_parquet.num_rows == 5

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
