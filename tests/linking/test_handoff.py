import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Invalid
from app.linking.handoff import Handoff, read_handoff
from tests.hand_offs import SECRET, claims, make_link

CARD_NUMBER = "4111111111111111"


def read(token: str, *, later: timedelta = timedelta(0)) -> Handoff:
    return read_handoff(token, secret=SECRET, now=datetime.now(UTC) + later)


def refusal(token: str, *, later: timedelta = timedelta(0)) -> str:
    with pytest.raises(Invalid) as caught:
        read(token, later=later)
    return caught.value.code


def seconds_from_now(seconds: float) -> int:
    return int((datetime.now(UTC) + timedelta(seconds=seconds)).timestamp())


def unsigned(header: dict[str, str], signature: str = "") -> str:
    parts = [json.dumps(part).encode() for part in (header, claims())]
    return ".".join(
        [*(base64.urlsafe_b64encode(p).rstrip(b"=").decode() for p in parts), signature]
    )


class TestALink:
    def test_brings_a_member_and_his_card(self) -> None:
        found = read(make_link(locale="fr-CA", country="CA", time_zone="America/Toronto"))
        assert found.holder == ("m-ann", "fr-CA", "America/Toronto", "CA")
        assert (found.card.card_ref, found.card.network, found.card.last4) == (
            "c-ann",
            "visa",
            "4242",
        )

    def test_may_leave_out_all_that_the_person_does_not_know_his_card_by(self) -> None:
        card = read(make_link(card_network=None)).card
        assert (card.network, card.last4) == (None, "4242")

    def test_may_be_for_several_audiences(self) -> None:
        assert read(make_link(aud=["wallet", "tagback"])).sub == "m-ann"

    def test_is_good_for_a_minute_more_for_clocks_differ(self) -> None:
        life = timedelta(minutes=5)
        assert read(make_link(), later=life + timedelta(seconds=50)).sub == "m-ann"
        assert refusal(make_link(), later=life + timedelta(seconds=61)) == "handoff_expired"
        assert read(make_link(iat=seconds_from_now(50))).sub == "m-ann"

    @pytest.mark.parametrize(
        "other",
        [
            {"iss": "somebody"},
            {"aud": "another"},
            {"aud": ["another"]},
            {"sub": 7},
            {"jti": ""},
            {"card_ref": "c 1"},
            {"last4": "42424"},
            {"locale": "xx"},
            {"country": "usa"},
            {"time_zone": "Mars/Olympus"},
            {"exp": "soon"},
            {"nbf": 4_000_000_000},
            {"card_ref": CARD_NUMBER},
            {"sub": CARD_NUMBER},
            {"pan": CARD_NUMBER},
            {"more": [{"number": "4111 1111 1111 1111"}]},
            *(
                {name: None}
                for name in ("iss", "aud", "sub", "jti", "card_ref", "last4", "iat", "exp")
            ),
        ],
    )
    def test_that_says_what_it_must_not_is_refused(
        self, other: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert refusal(make_link(**other)) == "handoff_refused"
        assert CARD_NUMBER not in caplog.text + "".join(capsys.readouterr())

    def test_that_is_made_for_more_than_ten_minutes_or_in_the_future_is_refused(self) -> None:
        assert read(make_link(exp=seconds_from_now(600))).sub == "m-ann"
        assert refusal(make_link(exp=seconds_from_now(700))) == "handoff_refused"
        assert refusal(make_link(iat=seconds_from_now(120))) == "handoff_refused"

    @pytest.mark.parametrize(
        "token",
        [
            unsigned({"alg": "none"}),
            unsigned({"alg": "none"}, "AAAA"),
            unsigned({"alg": "HS256"}),
            unsigned({"alg": "RS256"}, "AAAA"),
            make_link(secret="another secret, of 32 characters!"),
            make_link(algorithm="HS512"),
            make_link() + ".",
            "." * 5,
            "a" * 5_000,
            base64.urlsafe_b64encode(b'{"alg":' + b"[" * 2_000).decode() + ".e30.AAAA",
            "é.é.é",
            "",
        ],
    )
    def test_that_the_issuer_has_not_signed_is_refused(self, token: str) -> None:
        assert refusal(token) == "handoff_refused"

    @given(st.data())
    def test_with_any_character_changed_is_refused(self, data: st.DataObject) -> None:
        token = make_link()
        place = data.draw(st.integers(0, len(token) - 1))
        other = data.draw(st.characters(codec="utf-8").filter(lambda one: one != token[place]))
        assert refusal(token[:place] + other + token[place + 1 :]) == "handoff_refused"

    @given(st.integers(0, 300), st.text(max_size=3))
    def test_with_anything_put_in_or_cut_off_is_refused(self, place: int, more: str) -> None:
        token = make_link()
        changed = token[:place] + more + token[place:]
        if changed != token:
            assert refusal(changed) == "handoff_refused"
        assert refusal(token[: min(place, len(token) - 1)]) == "handoff_refused"
