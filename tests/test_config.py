"""Settings that are refused before anything starts."""

import pytest
from pydantic import ValidationError

from app.config import Settings
from tests.support import Tagback


class TestThePublicUrl:
    @pytest.mark.parametrize(
        "url",
        [
            "https://tagback.example",
            "http://localhost:8000",
            "http://127.0.0.1:8000",
            "http://127.1.2.3",
            "http://[::1]:8000/",
        ],
    )
    def test_is_https_or_of_this_machine(self, settings: Settings, url: str) -> None:
        found = type(settings).model_validate({"public_url": url})
        assert str(found.public_url).rstrip("/") == url.rstrip("/")

    @pytest.mark.parametrize(
        "url",
        [
            "http://tagback.example",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "http://10.0.0.1",
            "http://[2001:db8::1]",
        ],
    )
    def test_of_others_without_https_is_refused(self, url: str) -> None:
        """A cookie and the issuer's link would pass in the clear."""
        with pytest.raises(ValidationError, match="https"):
            Settings.model_validate({"public_url": url})

    async def test_is_named_at_start_when_it_is_refused(self, tagback: Tagback) -> None:
        ran = await tagback("serve", TAGBACK_PUBLIC_URL="http://tagback.example")
        assert ran.status == 1
        assert "TAGBACK_PUBLIC_URL" in ran.err
        assert "https" in ran.err
