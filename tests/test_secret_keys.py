"""Which keys seal secrets at rest, and where the one comes from that nobody has set."""

import asyncio
import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from app.config import Settings, SettingsError
from app.kit.sealing import SealError, new_key
from app.secret_keys import KEY_FILE, can_seal, sealer_of
from tests.support import Tagback


@pytest.fixture
def embedded(settings: Settings, tmp_path: Path) -> Settings:
    """Of a newcomer, who has set nothing."""
    told = {"database_url": None, "secret_keys": None, "data_dir": tmp_path / "data"}
    return settings.model_copy(update=told)


class TestWithTheEmbeddedDatabase:
    def test_a_key_is_made_once_in_the_data_folder(self, embedded: Settings) -> None:
        assert can_seal(embedded)
        sealed = sealer_of(embedded).seal("whsec_x")
        assert sealer_of(embedded).open(sealed) == "whsec_x"
        (kept,) = embedded.data_dir.iterdir()
        assert (kept.name, stat.S_IMODE(kept.stat().st_mode)) == (KEY_FILE, 0o600)

    async def test_many_who_need_it_at_once_have_the_same(self, embedded: Settings) -> None:
        sealers = await asyncio.gather(*(asyncio.to_thread(sealer_of, embedded) for _ in range(16)))
        assert {one.open(sealers[0].seal("x")) for one in sealers} == {"x"}
        assert [one.name for one in embedded.data_dir.iterdir()] == [KEY_FILE]

    def test_what_it_sealed_opens_once_a_key_is_set(self, embedded: Settings) -> None:
        before = sealer_of(embedded).seal("x")
        told = embedded.model_copy(update={"secret_keys": SecretStr(new_key())})
        assert sealer_of(told).open(before) == "x"
        with pytest.raises(SealError):  # and the one that is set seals
            sealer_of(embedded).open(sealer_of(told).seal("y"))

    def test_a_folder_that_takes_no_file_is_named(self, embedded: Settings) -> None:
        embedded.data_dir.write_text("in the way")
        with pytest.raises(SettingsError, match="tagback keys new-secret"):
            sealer_of(embedded)


class TestWithADatabaseOfOnesOwn:
    def test_the_setting_is_needed_and_the_error_says_how_to_have_one(
        self, settings: Settings
    ) -> None:
        assert not can_seal(settings)
        with pytest.raises(SettingsError, match="tagback keys new-secret"):
            sealer_of(settings)

    @pytest.mark.parametrize("group", ["keys new-secret", "x new-key"])
    async def test_a_command_makes_a_key(self, tagback: Tagback, group: str) -> None:
        ran = await tagback(*group.split())
        assert ran.status == 0, ran.err
        Fernet(ran.out.strip())
