"""The programme's account as it is kept. How its tokens are renewed: test_account_renewal.py."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from structlog.testing import capture_logs

from app.config import Settings, SettingsError
from app.kit import clock
from app.kit.db import Sessions
from app.kit.sealing import new_key
from app.networks import accounts
from app.networks.accounts import (
    AccountRefusedError,
    AccountUnavailableError,
    Identity,
    open_account,
)
from app.networks.sender import AccessRefused, Temporary
from app.networks.x.client import open_sender
from app.networks.x.oauth import ACCOUNT_SCOPES, Person, Tokens
from app.secret_keys import sealer_of

HOUR = timedelta(hours=1)
PROGRAMME = Person("7", "Programme")
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Of a service whose account is connected, at an X that cannot be reached."""
    changed = {
        "x_base_url": NOWHERE,
        "x_client_id": "client",
        "secret_keys": SecretStr(new_key()),
    }
    return settings.model_copy(update=changed)


def tokens(*, expires_at: datetime | None = None, **changed: Any) -> Tokens:
    usual = Tokens("the-access-token", "the-refresh-token", ACCOUNT_SCOPES, clock.now() + 2 * HOUR)
    return usual._replace(expires_at=expires_at or usual.expires_at, **changed)


async def connect(
    sessions: Sessions,
    settings: Settings,
    given: Tokens | None = None,
    *,
    person: Person = PROGRAMME,
) -> None:
    async with sessions.begin() as session:
        await accounts.connect(
            session,
            person=person,
            tokens=given or tokens(),
            sealer=sealer_of(settings),
            now=clock.now(),
        )


async def row(sessions: Sessions) -> dict[str, Any]:
    async with sessions() as session:
        found = await session.execute(text("SELECT * FROM network_accounts"))
        return dict(found.mappings().one())


class TestKeys:
    @pytest.mark.parametrize(
        "keys", ["s3cret", f"{new_key()},s3cret", " , "], ids=["one", "second", "none"]
    )
    def test_that_are_none_are_named_and_not_shown(self, settings: Settings, keys: str) -> None:
        wrong = settings.model_copy(update={"secret_keys": SecretStr(keys)})
        with pytest.raises(SettingsError, match="TAGBACK_SECRET_KEYS") as told:
            sealer_of(wrong)
        assert "s3cret" not in str(told.value)

    def test_that_are_not_set_are_asked_for(self, settings: Settings) -> None:
        with pytest.raises(SettingsError, match="tagback keys new-secret"):
            sealer_of(settings.model_copy(update={"secret_keys": None}))


class TestAnAccount:
    async def test_is_kept_sealed(self, sessions: Sessions, settings: Settings) -> None:
        await connect(sessions, settings)
        kept = await row(sessions)
        assert (kept["account_id"], kept["handle"]) == ("7", "Programme")
        assert tuple(kept["scopes"]) == ACCOUNT_SCOPES
        assert b"token" not in kept["access_token"] + kept["refresh_token"]
        sealer = sealer_of(settings)
        assert sealer.open(kept["access_token"]) == "the-access-token"

    async def test_that_is_connected_again_has_no_problem_any_more(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await connect(sessions, settings)
        async with sessions.begin() as session:
            await accounts.mark_problem(session, network="x", problem="revoked")
            await accounts.mark_problem(session, network="x", problem="a later one")
        assert (await row(sessions))["problem"] == "revoked"
        await connect(sessions, settings)
        assert (await row(sessions))["problem"] is None

    async def test_that_is_disconnected_leaves_its_tokens_to_be_revoked(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await connect(sessions, settings)
        async with sessions.begin() as session:
            left = await accounts.disconnect(session, sealer=sealer_of(settings))
            assert await accounts.find(session) is None
            assert await accounts.disconnect(session, sealer=sealer_of(settings)) == []
        assert left == ["the-refresh-token", "the-access-token"]

    async def test_is_who_we_are_unless_settings_say(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        async def who(**changed: Any) -> Identity:
            async with sessions() as session:
                return await accounts.identity(
                    session, settings=settings.model_copy(update=changed)
                )

        assert await who() == (None, None)
        await connect(sessions, settings)
        assert await who() == ("7", "Programme")
        assert await who(x_account_id="8", x_handle="Other") == ("8", "Other")


class TestATokenThatIsGood:
    async def test_is_used_without_a_word_to_x(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await connect(sessions, settings)
        async with open_account(settings, sessions) as account:
            assert await account.access_token() == "the-access-token"
            assert await account.id() == "7"

    async def test_is_remembered(
        self, sessions: Sessions, settings: Settings, statements: list[str]
    ) -> None:
        await connect(sessions, settings)
        async with open_account(settings, sessions) as account:
            await account.access_token()
            statements.clear()
            await account.access_token()
        assert statements == []

    async def test_of_an_account_that_another_has_replaced_is_not_used_for_long(
        self, sessions: Sessions, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(accounts, "KNOWN_SECONDS", 0.05)
        await connect(sessions, settings)
        async with open_account(settings, sessions) as account:
            assert await account.id() == "7"
            other = tokens()._replace(access_token="another")
            await connect(sessions, settings, other, person=Person("777", "Other"))
            await asyncio.sleep(0.06)
            assert (await account.id(), await account.access_token()) == ("777", "another")
            async with sessions.begin() as session:
                await accounts.mark_problem(session, network="x", problem="taken away")
            await asyncio.sleep(0.06)
            with pytest.raises(AccountRefusedError, match="taken away"):
                await account.access_token()

    async def test_is_looked_up_by_one_of_many(
        self,
        sessions: Sessions,
        settings: Settings,
        statements: list[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(accounts, "KNOWN_SECONDS", 0.5)
        await connect(sessions, settings)
        async with open_account(settings, sessions) as account:
            await account.access_token()
            await asyncio.sleep(0.5)
            statements.clear()
            await asyncio.gather(*(account.access_token() for _ in range(16)))
        assert len([one for one in statements if "network_accounts" in one]) == 1

    async def test_is_used_while_the_database_is_away(
        self, sessions: Sessions, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(accounts, "KNOWN_SECONDS", 0.0)
        await connect(sessions, settings)
        mine = async_sessionmaker(sessions.kw["bind"])
        engine = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:9/nothing")
        async with open_account(settings, mine) as account:
            assert await account.access_token() == "the-access-token"
            mine.configure(bind=engine)
            assert await account.access_token() == "the-access-token"
            with pytest.raises(AccountUnavailableError):
                await account.access_token(refused="the-access-token")
        await engine.dispose()

    async def test_is_opened_with_an_older_key(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await connect(sessions, settings)
        assert settings.secret_keys is not None
        keys = f"{new_key()}, {settings.secret_keys.get_secret_value()}"
        changed = settings.model_copy(update={"secret_keys": SecretStr(keys)})
        async with open_account(changed, sessions) as account:
            assert await account.access_token() == "the-access-token"

    async def test_is_shown_to_nobody(
        self, sessions: Sessions, settings: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(0)
        await connect(sessions, settings)
        async with open_account(settings, sessions) as account:
            await account.access_token()
            shown = repr(account) + repr(vars(account)) + repr(tokens())
        assert "the-access-token" not in shown + caplog.text
        assert "the-refresh-token" not in shown + caplog.text


class TestWhatCannotBeSent:
    """A sender of an account that cannot be used."""

    async def send(self, sessions: Sessions, settings: Settings) -> Any:
        async with (
            open_account(settings, sessions) as account,
            open_sender(settings, account) as sender,
        ):
            return await sender.send("Done!", "1")

    async def test_without_an_account_says_what_to_do(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        result = await self.send(sessions, settings)
        assert result == AccessRefused("no account is connected: run `tagback x connect`")

    async def test_with_a_problem_tells_it(self, sessions: Sessions, settings: Settings) -> None:
        await connect(sessions, settings)
        async with sessions.begin() as session:
            await accounts.mark_problem(session, network="x", problem="taken away")
        assert await self.send(sessions, settings) == AccessRefused("taken away")

    async def test_sealed_with_a_key_that_is_gone_says_so(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await connect(sessions, settings)
        changed = settings.model_copy(update={"secret_keys": SecretStr(new_key())})
        result = await self.send(sessions, changed)
        assert isinstance(result, AccessRefused)
        assert "TAGBACK_SECRET_KEYS" in result.detail

    async def test_that_is_over_and_cannot_be_renewed_is_a_problem(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await connect(sessions, settings, tokens(refresh_token=None, expires_at=clock.now()))
        with capture_logs() as logs:
            result = await self.send(sessions, settings)
        assert isinstance(result, AccessRefused)
        assert "offline.access" in result.detail
        assert (await row(sessions))["problem"] == result.detail
        assert [entry["event"] for entry in logs] == ["account_unusable"]

    async def test_while_x_cannot_be_reached_is_tried_later(
        self, sessions: Sessions, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(accounts, "WAIT_SECONDS_MAX", 0.3)
        await connect(sessions, settings, tokens(expires_at=clock.now()))
        with capture_logs() as logs:
            for _ in range(2):
                assert isinstance(await self.send(sessions, settings), Temporary)
        kept = await row(sessions)
        assert (kept["problem"], kept["refreshing_until"] > clock.now()) == (None, True)
        # the second found it claimed: it is not asked for again until the claim has run out
        assert [entry["event"] for entry in logs] == ["account_not_renewed"]

    async def test_a_token_that_still_holds_is_used_while_x_cannot_be_reached(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await connect(sessions, settings, tokens(expires_at=clock.now() + timedelta(minutes=1)))
        async with sessions.begin() as session:
            await session.execute(
                text("UPDATE network_accounts SET updated_at = :before"),
                {"before": clock.now() - HOUR},
            )
        async with open_account(settings, sessions) as account:
            for _ in range(2):
                assert await account.access_token() == "the-access-token"

    async def test_a_token_that_still_holds_is_used_while_another_process_renews_it(
        self, sessions: Sessions, settings: Settings
    ) -> None:
        await connect(sessions, settings, tokens(expires_at=clock.now() + timedelta(minutes=1)))
        async with sessions.begin() as session:
            await session.execute(
                text("UPDATE network_accounts SET refreshing_until = :until, updated_at = :before"),
                {"until": clock.now() + HOUR, "before": clock.now() - HOUR},
            )
        async with open_account(settings, sessions) as account:
            assert await account.access_token() == "the-access-token"
