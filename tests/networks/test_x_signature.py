import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.networks.x.signature import crc_response, signature_is_valid

SECRET = "consumer-secret-for-tests"
BODY = json.dumps({"data": {"event_type": "post.mention.create"}}).encode()


def signed(message: bytes, secret: str = SECRET) -> str:
    digest = hmac.new(secret.encode(), message, hashlib.sha256).digest()
    return f"sha256={base64.b64encode(digest).decode()}"


class TestCrcResponse:
    def test_a_token_is_answered_with_its_signature(self):
        token = "MGY0ZjQ4-_+/OTU2NTM2ZDFlZA=="
        assert crc_response(token, SECRET) == signed(token.encode())

    @pytest.mark.parametrize(
        "token",
        [
            "",
            "a" * 15,
            "a" * 129,
            BODY.decode(),
            '{"data":[]}',
            "aaaaaaaaaaaaaaaa\n",
            "aaaaaaaa aaaaaaaa",
            "\u0661" * 16,
        ],
    )
    def test_what_could_be_more_than_a_token_is_not_signed(self, token):
        with pytest.raises(ValueError, match="crc_token"):
            crc_response(token, SECRET)

    @given(st.dictionaries(st.text(), st.text()))
    def test_no_event_can_be_had_signed(self, event):
        with pytest.raises(ValueError, match="crc_token"):
            crc_response(json.dumps(event), SECRET)


class TestSignatureIsValid:
    def test_of_the_body_as_received(self):
        assert signature_is_valid(BODY, signed(BODY), SECRET)

    def test_not_of_the_same_json_written_otherwise(self):
        assert not signature_is_valid(BODY.replace(b" ", b""), signed(BODY), SECRET)

    def test_not_with_another_secret(self):
        assert not signature_is_valid(BODY, signed(BODY, "another"), SECRET)

    def test_not_without_a_secret(self):
        assert not signature_is_valid(BODY, signed(BODY, ""), "")

    @pytest.mark.parametrize("header", [None, "", "sha256=", "sha1=abc", "sha256=\u00e9", "\ud800"])
    def test_not_with_a_missing_or_odd_header(self, header):
        assert not signature_is_valid(BODY, header, SECRET)

    def test_not_without_its_prefix(self):
        assert not signature_is_valid(BODY, signed(BODY).removeprefix("sha256="), SECRET)

    @given(st.binary(), st.text())
    def test_no_header_raises(self, body, header):
        assert signature_is_valid(body, header, SECRET) == (header == signed(body))
