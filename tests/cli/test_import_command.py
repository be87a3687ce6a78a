import gzip
import json
import os
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from app.kit.db import Base, Sessions
from app.members.models import Card, Member
from app.partners.models import Acceptor
from tests.support import Tagback

CARD_NUMBER = "4111111111111111"


def member(name: str, **other: Any) -> dict[str, Any]:
    return {
        "member_ref": f"m-{name}",
        "account": {"network": "x", "id": f"10{name}", "handle": "ann"},
        "card": {"card_ref": f"c-{name}", "network": "visa", "last4": "0042"},
        "consented_at": "2026-02-01T09:00:00Z",
        **other,
    }


def ndjson(*objects: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


def last_line(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    assert found.pop("seconds") >= 0
    return found


async def number(sessions: Sessions, table: type[Base]) -> int:
    async with sessions() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


class TestAFileOfMembers:
    async def test_loads_and_a_second_time_changes_nothing(
        self, tagback: Tagback, tmp_path: Path, sessions: Sessions
    ) -> None:
        (tmp_path / "m.ndjson").write_bytes(ndjson(*(member(str(n)) for n in range(25))))
        ran = await tagback("import", "members", "m.ndjson", "--json", "--batch", "10")
        assert ran.status == 0, ran.err
        counts = {"read": 25, "accepted": 25, "ignored": 0, "rejected": 0}
        assert last_line(ran.out) == {**counts, "outcomes": {"created": 25}}
        again = await tagback("import", "members", "m.ndjson", "--json")
        assert last_line(again.out) == {**counts, "outcomes": {"unchanged": 25}}
        assert await number(sessions, Member) == 25
        assert os.listdir(tmp_path) == ["m.ndjson"]  # noqa: PTH208 - nothing to wait for

    async def test_puts_bad_lines_aside_with_their_reasons(
        self, tagback: Tagback, tmp_path: Path, sessions: Sessions
    ) -> None:
        stale = tmp_path / "m.ndjson.rejects.ndjson"
        stale.write_text("of an earlier run")
        lines = [
            ndjson(member("1")),
            b"{not json\n",
            b"\n",
            ndjson(member("2", country="usa")),
            ndjson(member("3", card={"card_ref": CARD_NUMBER})),
            ndjson(member("4", card={"card_ref": "c-1"})),
            b'{"member_ref": "' + b"x" * (1024 * 1024) + b'"}\n',
            ndjson(member("5")),
            b'{"member_ref": "\\u2009' + CARD_NUMBER.encode(),
        ]
        (tmp_path / "m.ndjson").write_bytes(b"".join(lines))
        ran = await tagback("import", "members", "m.ndjson", "--json")
        assert ran.status == 0
        assert last_line(ran.out) == {
            "read": 8,
            "accepted": 2,
            "ignored": 0,
            "rejected": 6,
            "outcomes": {"created": 2},
        }
        rejects = [json.loads(line) for line in stale.read_text().splitlines()]
        assert [one["line"] for one in rejects] == [2, 4, 5, 6, 7, 9]
        assert rejects[0]["raw"] == "{not json"
        assert rejects[1]["reason"].startswith("country: ")
        assert rejects[2] == {"line": 5, "reason": "card.card_ref: looks like a card number"}
        assert rejects[3]["reason"] == "the card belongs to another member"
        assert rejects[4]["reason"] == "line too long"
        assert len(rejects[4]["raw"]) == 500
        assert CARD_NUMBER not in stale.read_text() + ran.out + ran.err
        assert await number(sessions, Card) == 2

        (tmp_path / "m.ndjson").write_bytes(ndjson(member("1")))
        await tagback("import", "members", "m.ndjson")
        assert not stale.exists()

    async def test_may_be_csv_gzip_or_standard_input(
        self, tagback: Tagback, tmp_path: Path, sessions: Sessions
    ) -> None:
        csv = (
            b"member_ref,account.network,account.id,card.card_ref,card.last4,consented_at,locale\n"
            b"m-1,x,101,c-1,0042,2026-02-01T09:00:00Z,\n"
        )
        (tmp_path / "m.csv.gz").write_bytes(gzip.compress(csv))
        ran = await tagback("import", "members", "m.csv.gz")
        assert ran.status == 0, ran.err
        assert "1 accepted" in ran.out
        assert ran.err == ""
        ran = await tagback("import", "members", "-", given=ndjson(member("2")) + b"oops\n")
        assert ran.status == 0, ran.err
        async with sessions() as session:
            rows = await session.execute(select(Card.ref, Card.last4).order_by(Card.ref))
        assert list(rows) == [("c-1", "0042"), ("c-2", "0042")]
        rejects = (tmp_path / "stdin.rejects.ndjson").read_text()
        assert json.loads(rejects)["line"] == 2


class TestAFileOfMerchants:
    async def test_makes_partners_and_confirmed_places(
        self, tagback: Tagback, tmp_path: Path, sessions: Sessions
    ) -> None:
        (tmp_path / "shops.csv").write_text(
            "partner,acquirer_id,acceptor_id,name,channel,mcc,country\n"
            "cafe,acq,000000000012345,Corner Café,in_store,5812,US\n"
            "cafe,acq,2,Web shop,online,5812,US\n"
            "rival,acq,2,Web shop,online,5812,US\n"
        )
        ran = await tagback("import", "merchants", "shops.csv", "--json")
        assert last_line(ran.out) == {
            "read": 3,
            "accepted": 2,
            "ignored": 0,
            "rejected": 1,
            "outcomes": {"created": 2},
            "partners_made": ["cafe"],
        }
        async with sessions() as session:
            rows = await session.execute(select(Acceptor.acceptor_id, Acceptor.state))
        assert sorted(rows) == [("000000000012345", "confirmed"), ("2", "confirmed")]


class TestAFileThatCannotBeRead:
    async def refusal(self, tagback: Tagback, file: str | Path) -> str:
        ran = await tagback("import", "members", file)
        assert ran.status == 2
        assert len(ran.err.splitlines()) == 1
        return ran.err

    async def test_ends_with_one_clear_line(self, tagback: Tagback, tmp_path: Path) -> None:
        (tmp_path / "cut.gz").write_bytes(gzip.compress(ndjson(member("1")) * 999)[:-50])
        (tmp_path / "twice.csv").write_text("a,a\n")
        assert "No such file" in await self.refusal(tagback, "missing.ndjson")
        assert "directory" in await self.refusal(tagback, tmp_path)
        assert "gzip" in await self.refusal(tagback, "cut.gz")
        assert "header" in await self.refusal(tagback, "twice.csv")

    async def test_or_whose_kind_is_unknown_lists_the_kinds(self, tagback: Tagback) -> None:
        ran = await tagback("import", "weather", "-")
        assert ran.status == 1
        assert "members, merchants" in ran.err
