"""Which lines are transactions, and what is said of those that are not."""

from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.redemptions.transactions import (
    AHEAD_MAX,
    AMOUNT_MINOR_MAX,
    EARLIEST,
    MalformedTransaction,
    Transaction,
    read_transaction,
)
from tests.builders import NOON

CARD_NUMBER = "4111111111111111"
LINE: dict[str, Any] = {
    "id": "t-1",
    "type": "clearing",
    "purchase_id": "p-1",
    "card_ref": "card-1",
    "acquirer_id": "acq",
    "acceptor_id": "shop",
    "amount_minor": 4_000,
    "currency": "USD",
    "occurred_at": "2026-03-02T13:00:00+01:00",
}


def encoded(**changes: Any) -> bytes:
    line = {**LINE, **changes}
    return msgspec.json.encode({k: v for k, v in line.items() if v is not ...})


def refusal(raw: bytes) -> str:
    with pytest.raises(MalformedTransaction) as refused:
        read_transaction(raw, now=NOON)
    return refused.value.detail


class TestReading:
    def test_a_line_becomes_a_transaction(self):
        assert read_transaction(encoded(), now=NOON) == Transaction(
            id="t-1",
            type="clearing",
            purchase_id="p-1",
            card_ref="card-1",
            acquirer_id="acq",
            acceptor_id="shop",
            amount_minor=4_000,
            currency="USD",
            occurred_at=NOON,
        )

    def test_unknown_fields_are_passed_over(self):
        assert read_transaction(encoded(mcc="5812", extra={"a": [1]}), now=NOON).id == "t-1"

    def test_a_refund_may_have_no_purchase(self):
        raw = encoded(type="refund", purchase_id=...)
        assert read_transaction(raw, now=NOON).purchase_id is None

    @pytest.mark.parametrize("event", ["authorization", "clearing", "reversal", "decline"])
    def test_nothing_else_may(self, event):
        assert "purchase_id" in refusal(encoded(type=event, purchase_id=...))
        assert "purchase_id" in refusal(encoded(type=event, purchase_id=None))

    @pytest.mark.parametrize("name", [name for name in LINE if name != "purchase_id"])
    def test_every_other_field_is_needed(self, name):
        assert name in refusal(encoded(**{name: ...}))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("type", "capture"),
            ("type", 7),
            ("amount_minor", -1),
            ("amount_minor", 12.5),
            ("amount_minor", 12.0),
            ("amount_minor", "4000"),
            ("amount_minor", True),
            ("amount_minor", None),
            ("amount_minor", AMOUNT_MINOR_MAX + 1),
            ("amount_minor", 10**30),
            ("currency", "usd"),
            ("currency", "ZZZ"),
            ("currency", ""),
            ("occurred_at", "2026-03-02T12:00:00"),
            ("occurred_at", "2026-03-02"),
            ("occurred_at", 1_772_452_800),
            ("occurred_at", "1999-12-31T23:59:59Z"),
            ("occurred_at", "9999-12-31T23:59:59-12:00"),
            ("id", ""),
            ("id", "x" * 257),
            ("id", "a\x00b"),
            ("card_ref", "a\nb"),
            ("card_ref", 12),
            ("purchase_id", ["p"]),
        ],
    )
    def test_what_is_wrong_is_named(self, name, value):
        assert refusal(encoded(**{name: value})).startswith(f"{name}: ")

    @pytest.mark.parametrize("value", ["5.00", 5.0, True, None])
    def test_an_amount_is_said_to_be_in_minor_units(self, value):
        told = refusal(encoded(amount_minor=value))
        assert told == "amount_minor: an integer in minor units, such as 500 for 5.00"

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"nothing",
            b"[]",
            b"null",
            b'"id"',
            encoded() + b"x",
            encoded().replace(b"t-1", b"\xff"),
            encoded().replace(b"t-1", b"\\ud800"),
            encoded().replace(b"t-1", b"\xed\xa0\x80"),
            encoded()[:-1] + b',"deep":' + b"[" * 100_000,
        ],
    )
    def test_what_is_no_json_object_is_refused(self, raw):
        assert refusal(raw)

    def test_the_largest_amount_is_taken(self):
        raw = encoded(amount_minor=AMOUNT_MINOR_MAX)
        assert read_transaction(raw, now=NOON).amount_minor == AMOUNT_MINOR_MAX

    def test_a_time_may_run_ahead_by_a_year_and_no_more(self):
        ahead = (NOON + timedelta(days=366)).isoformat()
        assert read_transaction(encoded(occurred_at=ahead), now=NOON).id == "t-1"
        further = (NOON + timedelta(days=366, seconds=1)).isoformat()
        assert "occurred_at" in refusal(encoded(occurred_at=further))


class TestCardNumbers:
    @pytest.mark.parametrize(
        "raw",
        [
            encoded(id=CARD_NUMBER),
            encoded(card_ref=CARD_NUMBER),
            encoded(card_ref="4111 1111 1111 1111"),
            encoded(card_ref="ref-4111-1111-1111-1111"),
            encoded(purchase_id=CARD_NUMBER),
            encoded(type=CARD_NUMBER),
            encoded(currency=CARD_NUMBER),
            encoded(pan=CARD_NUMBER),
            encoded(pan=int(CARD_NUMBER)),
            encoded(more={"inside": [CARD_NUMBER]}),
            encoded(acceptor_id=[CARD_NUMBER]),
            encoded(**{CARD_NUMBER: 1}),
            encoded(card_ref="X").replace(b'"X"', b'"\\u0034111111111111111"'),
        ],
    )
    def test_are_refused_in_any_field_and_never_repeated(self, raw):
        said = refusal(raw)
        assert "looks like a card number" in said
        assert "1111" not in said

    def test_an_acceptor_may_have_fifteen_digits(self):
        raw = encoded(acceptor_id="378282246310005", amount_minor=378_282_246_310_005)
        assert read_transaction(raw, now=NOON).acceptor_id == "378282246310005"


class TestAnyInput:
    @given(st.binary(max_size=200))
    def test_bytes_never_break_it(self, raw):
        with pytest.raises(MalformedTransaction):
            read_transaction(raw, now=NOON)

    @given(
        st.datetimes(
            min_value=datetime(1990, 1, 1),  # noqa: DTZ001 - the zone is drawn beside it
            timezones=st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours))),
        )
    )
    def test_a_time_within_bounds_is_kept_to_the_microsecond(self, at):
        raw = encoded(occurred_at=at.isoformat())
        if EARLIEST <= at <= NOON + AHEAD_MAX:
            assert read_transaction(raw, now=NOON).occurred_at == at
        else:
            assert "occurred_at" in refusal(raw)
