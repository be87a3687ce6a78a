"""A year of offers in one file, as NDJSON and as a spreadsheet saves it."""

import csv
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.kit.db import Sessions
from tests.programme import make_shop
from tests.support import MakeKey, Ran, Tagback

DOCS = Path(__file__).parents[2] / "docs" / "files.md"


def offer(ref: str, partner: str, tag: str, start: str, end: str, **more: Any) -> dict[str, Any]:
    return {
        "offer_ref": ref, "partner": partner, "title": f"{tag} in {start[:7]}", "hashtag": tag,
        "starts_at": f"2031-{start}", "ends_at": f"2031-{end}",
        "time_zone": "UTC", "currency": "USD", "reward": {"fixed_minor": 500}, **more,
    }  # fmt: skip


NEW_YORK = {"time_zone": "America/New_York"}
PARIS = {"time_zone": "Europe/Paris", "currency": "EUR"}
TOKYO = {"time_zone": "Asia/Tokyo", "currency": "JPY"}
KATHMANDU = {"time_zone": "Asia/Kathmandu", "currency": "NPR"}
SHARE = {"reward": {"basis_points": 1_500, "max_minor": 2_000}}

CALENDAR = [
    offer("new-year", "cafe", "Tea", "01-01T00:00:00-05:00", "02-01T00:00:00-05:00", **NEW_YORK,
          coupons_max=500, budget_minor=250_000),
    offer("spring", "cafe", "Tea", "03-01T00:00:00-05:00", "04-01T00:00:00-04:00", **NEW_YORK,
          days=["mon", "tue"], hours={"from": "07:00", "to": "11:00"}, min_spend_minor=1_200,
          audience={"customers": ["new", "lapsed"], "lapsed_days": 90},
          objective={"metric": "redemptions", "value": 400, "by": "2031-04-30"}),
    offer("easter", "cafe", "Tea", "04-01T00:00:00-04:00", "04-20T00:00:00-04:00", **NEW_YORK,
          coupon_last_day="2031-05-01", refund_policy="burn"),
    offer("soldes", "lumiere", "Soldes", "01-08T08:00:00+01:00", "02-05T00:00:00+01:00", **PARIS,
          **SHARE, title="15 % remboursés, « soldes »", channel="in_store"),
    offer("nuit", "lumiere", "Nuit", "06-21T00:00:00+02:00", "06-24T00:00:00+02:00", **PARIS,
          hours={"from": "22:00", "to": "02:00"}, days=["fri", "sat"], coupon_valid_days=7),
    offer("soldes-2", "lumiere", "#Soldes", "06-25T08:00:00+02:00", "07-22T00:00:00+02:00",
          **PARIS, **SHARE, redemptions_per_coupon=3,
          objective={"metric": "sales_minor", "value": 5_000_000, "by": "2031-07-31"}),
    offer("ramen", "kaze", "Ramen", "02-01T00:00:00+09:00", "03-01T00:00:00+09:00", **TOKYO,
          reward={"fixed_minor": 300}, audience={"countries": ["JP"], "languages": ["ja", "en"]}),
    offer("tanabata", "kaze", "七夕", "07-01T00:00:00+09:00", "07-08T00:00:00+09:00", **TOKYO,
          title="A wish, 300 back"),
    offer("dashain", "himal", "Dashain", "10-01T00:00:00+05:45", "10-12T00:00:00+05:45",
          **KATHMANDU, audience={"purchases_min": 3}),
    offer("back-to-school", "cafe", "Study", "08-20T00:00:00-04:00", "09-15T00:00:00-04:00",
          **NEW_YORK, acceptors=[{"acquirer_id": "ACQ", "acceptor_id": "counter"}],
          objective={"metric": "coupons", "value": 1_000, "by": "2031-09-15"}),
    offer("autumn", "cafe", "Tea", "10-15T00:00:00-04:00", "11-15T00:00:00-05:00", **NEW_YORK),
    offer("christmas", "cafe", "Tea", "12-01T00:00:00-05:00", "12-25T00:00:00-05:00", **NEW_YORK,
          channel="online", budget_minor=10**6),
]  # fmt: skip


def as_ndjson(offers: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(one) + "\n" for one in offers)


def as_csv(offers: list[dict[str, Any]]) -> str:
    """Objects become columns with dots; lists stay JSON; what an offer lacks is an empty cell."""
    flat = [dict(_cells(one)) for one in offers]
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in flat for name in row))
    writer = csv.DictWriter(out, names)
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _cells(given: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    cells = []
    for name, value in given.items():
        if isinstance(value, dict):
            cells += _cells(value, f"{prefix}{name}.")
        else:
            cells.append(
                (prefix + name, json.dumps(value) if isinstance(value, list) else str(value))
            )
    return cells


def summary(ran: Ran) -> dict[str, Any]:
    assert ran.status == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out.splitlines()[-1])
    del found["seconds"]
    return found


async def offers_of(client: httpx.AsyncClient, make_key: MakeKey) -> dict[str, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {await make_key('operator')}"}
    listed = (await client.get("/v1/offers", headers=headers)).json()["items"]
    return {shown["offer_ref"]: shown for shown in listed}


def assert_says(shown: dict[str, Any], line: dict[str, Any]) -> None:
    """Whatever the line says, the offer says too."""
    for name, value in line.items():
        match name:
            case "partner" | "acceptors":
                continue
            case "starts_at" | "ends_at":
                assert datetime.fromisoformat(shown[name]) == datetime.fromisoformat(value)
            case "hours":
                assert shown[name] == {edge: f"{clock}:00" for edge, clock in value.items()}
            case "hashtag":
                assert shown[name] == value.removeprefix("#")
            case "audience":
                assert shown[name].items() >= value.items()
            case _:
                assert shown[name] == value


class TestACalendar:
    @pytest.mark.parametrize(("name", "write"), [("year.ndjson", as_ndjson), ("year.csv", as_csv)])
    async def test_is_the_same_in_either_form_and_a_second_time(
        self, tagback: Tagback, tmp_path: Path, sessions: Sessions, client: httpx.AsyncClient,
        make_key: MakeKey, name: str, write: Any,
    ) -> None:  # fmt: skip
        await make_shop(sessions, "counter")
        (tmp_path / name).write_text(write(CALENDAR), encoding="utf-8")
        counts = {"read": 12, "accepted": 12, "ignored": 0, "rejected": 0}
        first = summary(await tagback("import", "offers", name, "--json"))
        made = {"partners_made": ["lumiere", "kaze", "himal"]}
        assert first == {**counts, "outcomes": {"created": 12}, **made}
        shown = await offers_of(client, make_key)
        for line in CALENDAR:
            assert_says(shown[line["offer_ref"]], line)
        assert {one["state"] for one in shown.values()} == {"scheduled"}
        assert len(shown["back-to-school"]["acceptor_ids"]) == 1
        again = summary(await tagback("import", "offers", name, "--json"))
        assert again == {**counts, "outcomes": {"unchanged": 12}}
        assert await offers_of(client, make_key) == shown

    async def test_rejects_windows_that_overlap_and_loads_their_neighbours(
        self, tagback: Tagback, tmp_path: Path, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        lines = [
            offer("a", "cafe", "Tea", "02-01T00:00:00Z", "03-01T00:00:00Z"),
            offer("b", "rival", "ＴＥＡ", "02-28T23:59:59Z", "04-01T00:00:00Z"),
            offer("c", "rival", "tea", "03-01T00:00:00Z", "04-01T00:00:00Z"),
            offer("d", "cafe", "Cake", "02-01T00:00:00Z", "03-01T00:00:00Z"),
            offer("a", "cafe", "Tea", "05-01T00:00:00Z", "06-01T00:00:00Z"),
        ]
        (tmp_path / "c.csv").write_text(as_csv(lines), encoding="utf-8")
        counts = {"read": 5, "accepted": 3, "ignored": 0, "rejected": 2}
        made = {"partners_made": ["cafe", "rival"]}
        for outcome, more in (("created", made), ("unchanged", {})):
            ran = await tagback("import", "offers", "c.csv", "--json")
            assert summary(ran) == {**counts, "outcomes": {outcome: 3}, **more}
            rejects = (tmp_path / "c.csv.rejects.ndjson").read_text().splitlines()
            assert [(one["line"], one["reason"]) for one in map(json.loads, rejects)] == [
                (3, "another offer has #ＴＥＡ in this window"),
                (6, "offer_ref 'a' exists with other terms"),
            ]
        assert set(await offers_of(client, make_key)) == {"a", "c", "d"}

    async def test_says_of_a_cell_where_it_is_wrong(self, tagback: Tagback, tmp_path: Path) -> None:
        good = offer("a", "cafe", "Tea", "02-01T00:00:00Z", "03-01T00:00:00Z")
        wrong = {
            "min_spend_minor": ("12.50", "an integer in minor units, such as 500 for 5.00"),
            "days": ("mon", "Input should be a valid array"),
            "hours": ({"from": "9:00", "to": "11:00"}, "hours.from: "),
            "starts_at": ("2/1/2031", "a time as in 2026-01-31T09:30:00Z"),
            "coupon_last_day": ("4/1/2031", "Input should be a valid date"),
            "channel": ("shop", "'any', 'in_store' or 'online'"),
        }
        lines = [{**good, name: value} for name, (value, _) in wrong.items()]
        (tmp_path / "c.csv").write_text(as_csv(lines))
        found = summary(await tagback("import", "offers", "c.csv", "--json"))
        assert (found["accepted"], found["rejected"]) == (0, len(wrong))
        rejects = (tmp_path / "c.csv.rejects.ndjson").read_text().splitlines()
        for (name, (_, reason)), reject in zip(wrong.items(), rejects, strict=True):
            assert name in json.loads(reject)["reason"]
            assert reason in json.loads(reject)["reason"]

    async def test_of_the_documentation_loads_as_it_is_printed(
        self, tagback: Tagback, tmp_path: Path, client: httpx.AsyncClient, make_key: MakeKey
    ) -> None:
        (printed,) = re.findall(r"```csv\n(.+?)```", DOCS.read_text(), re.DOTALL)
        (tmp_path / "calendar.csv").write_text(printed, encoding="utf-8")
        found = summary(await tagback("import", "offers", "calendar.csv", "--json"))
        assert (found["accepted"], found["rejected"]) == (3, 0)
        shown = await offers_of(client, make_key)
        spring, night = shown["breakfast-spring"], shown["lumiere-nuit"]
        assert (spring["days"], spring["audience"]["customers"]) == (
            ["mon", "tue"],
            ["new", "lapsed"],
        )
        assert spring["objective"] == {"metric": "redemptions", "value": 400, "by": "2031-04-30"}
        assert night["reward"] == {"basis_points": 1_000, "max_minor": 2_500}
        assert night["hours"] == {"from": "22:00:00", "to": "02:00:00"}
        assert datetime.fromisoformat(night["starts_at"]) == datetime(2031, 6, 20, 22, tzinfo=UTC)
