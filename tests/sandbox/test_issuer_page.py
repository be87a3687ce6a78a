import html
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import OctKey
from running_x import Start, X

from app.sandbox.main import SandboxSettings

SECRET = "the secret of the issuer and of Tagback"
NOW = 1_800_000_000
FORM = {"member_ref": "M1", "card_network": "visa", "last4": "4242"}
NUMBER = "4242 4242 4242 4242"


@pytest.fixture
async def x(start: Start) -> X:
    return await start(
        clock=lambda: float(NOW), handoff_secret=SECRET, tagback_url="https://tagback.example/"
    )


async def handed(x: X, **more: str) -> str:
    answer = await x.client.post("/issuer", data={**FORM, **more})
    assert answer.status_code == 200, answer.text
    found = re.search(r'href="(https://tagback\.example/link\?[^"]+)"', answer.text)
    assert found, answer.text
    return html.unescape(found[1])


def claims(link: str, secret: str = SECRET) -> dict[str, Any]:
    [token] = parse_qs(urlsplit(link).query)["handoff"]
    return jwt.decode(token, OctKey.import_key(secret), algorithms=["HS256"]).claims


class TestLink:
    async def test_it_says_whose_card_for_ten_minutes(self, x: X) -> None:
        more = {"locale": "fr-CA", "country": "CA", "time_zone": "America/Toronto"}
        found = claims(await handed(x, **more))
        assert found.pop("card_ref").startswith("card-")
        assert len(found.pop("jti")) == 32
        assert found == {
            "iss": "issuer",
            "aud": "tagback",
            "iat": NOW,
            "exp": NOW + 600,
            "sub": "M1",
            "card_network": "visa",
            "last4": "4242",
            **more,
        }

    async def test_what_is_left_out_is_no_claim(self, x: X) -> None:
        assert not claims(await handed(x, locale="")).keys() & {"locale", "country", "time_zone"}

    async def test_each_is_another_for_the_same_card(self, x: X) -> None:
        first, second = [claims(await handed(x)) for _ in range(2)]
        other = claims(await handed(x, last4="4243"))
        assert first["jti"] != second["jti"]
        assert first["card_ref"] == second["card_ref"] != other["card_ref"]

    async def test_nobody_else_can_make_one(self, x: X) -> None:
        with pytest.raises(BadSignatureError):
            claims(await handed(x), "another secret of 32 characters and more")

    def test_a_short_secret_is_refused_at_start(self) -> None:
        with pytest.raises(ValueError, match="32 characters"):
            SandboxSettings(handoff_secret="short")


class TestForm:
    async def test_it_holds_no_secret(self, x: X) -> None:
        page = await x.client.get("/issuer")
        assert page.status_code == 200
        assert 'name="viewport"' in page.text
        assert SECRET not in page.text
        assert "handoff=" not in page.text

    @pytest.mark.parametrize(
        "wrong",
        [
            {"member_ref": ""},
            {"member_ref": "M 1"},
            {"card_network": "Visa!"},
            {"last4": "424"},
            {"last4": "abcd"},
            {"locale": "French"},
            {"country": "Canada"},
            {"time_zone": "Toronto"},
            {"colour": "red"},
        ],
    )
    async def test_what_is_wrong_is_said_and_stays_in_the_form(
        self, x: X, wrong: dict[str, str]
    ) -> None:
        answer = await x.client.post("/issuer", data={**FORM, **wrong})
        assert answer.status_code == 400
        assert 'role="alert"' in answer.text
        assert "handoff=" not in answer.text

    @pytest.mark.parametrize("field", FORM)
    async def test_a_card_number_is_refused_and_not_shown(self, x: X, field: str) -> None:
        answer = await x.client.post("/issuer", data={**FORM, field: NUMBER})
        assert answer.status_code == 400
        assert "This looks like a card number" in answer.text
        assert NUMBER not in answer.text

    async def test_nothing_typed_is_markup(self, x: X) -> None:
        answer = await x.client.post("/issuer", data={**FORM, "member_ref": '"><b>M1</b>'})
        assert "<b>" not in answer.text
