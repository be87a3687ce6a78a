"""Tokens of the programme's account that many want at once, renewed at the stand-in once."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.config import Settings
from app.kit import clock
from app.kit.db import Sessions
from app.networks import accounts
from app.networks.accounts import AccountRefusedError, AccountUnavailableError, open_account
from app.networks.sender import AccessRefused, Sent, Temporary
from app.networks.x.client import open_sender
from app.networks.x.oauth import open_sign_in
from app.secret_keys import sealer_of
from tests.between import TOKEN, Between, Fault, standing_between
from tests.signing_in import account_row, age, connect_at
from tests.stand_in import StandIn

MINUTE = timedelta(minutes=1)
OVER = -MINUTE

# A process of its own, in which so many ask at once.
ASKS = """
import asyncio
from app.config import get_settings
from app.database import open_sessions
from app.networks.accounts import open_account

async def main():
    settings = get_settings()
    async with open_sessions(settings) as sessions, open_account(settings, sessions) as account:
        print("ready", flush=True)
        await asyncio.to_thread(input)
        tokens = await asyncio.gather(*(account.access_token() for _ in range(16)))
        print(len(set(tokens)), hash(tokens[0]), flush=True)

asyncio.run(main())
"""


@pytest.fixture
async def x_and_between(settings: Settings) -> AsyncIterator[tuple[StandIn, Between]]:
    async with standing_between(settings) as found:
        yield found


@pytest.fixture
def x(x_and_between: tuple[StandIn, Between]) -> StandIn:
    return x_and_between[0]


@pytest.fixture
def between(x_and_between: tuple[StandIn, Between]) -> Between:
    return x_and_between[1]


async def ask(sessions: Sessions, settings: Settings, *, times: int) -> set[str]:
    """As so many callers of one process."""
    async with open_account(settings, sessions) as account:
        return set(await asyncio.gather(*(account.access_token() for _ in range(times))))


async def write(sessions: Sessions, **values: Any) -> None:
    named = ", ".join(f"{name} = :{name}" for name in values)
    async with sessions.begin() as session:
        await session.execute(text(f"UPDATE network_accounts SET {named}"), values)


class TestManyAtOnce:
    async def test_in_one_process_renew_it_once_and_have_the_same(
        self, x: StandIn, between: Between, sessions: Sessions
    ) -> None:
        settings = await connect_at(x, sessions, life=OVER)
        old = (await account_row(sessions))["access_token"]
        between.asked.clear()
        assert len(await ask(sessions, settings, times=64)) == 1
        assert between.asked[TOKEN] == 1
        kept = await account_row(sessions)
        assert kept["access_token"] != old
        assert (kept["refreshing_until"], kept["problem"]) == (None, None)
        assert kept["expires_at"] > clock.now() + 100 * MINUTE

    @pytest.mark.parametrize("life", [OVER, MINUTE])
    async def test_in_many_processes_renew_it_once_for_each_time_it_ends(
        self, x: StandIn, between: Between, sessions: Sessions, life: timedelta
    ) -> None:
        """Each `open_account` remembers for itself, as a process does."""
        settings = await connect_at(x, sessions, life=life)
        between.asked.clear()
        between.slow_seconds[TOKEN] = 0.3
        for times in (1, 2, 3):
            got = await asyncio.gather(*(ask(sessions, settings, times=4) for _ in range(12)))
            assert between.asked[TOKEN] == times
            if life == OVER:
                assert len(set.union(*got)) == 1
            await age(sessions, life)

    async def test_in_processes_that_are_some_renew_it_once(
        self,
        x: StandIn,
        between: Between,
        sessions: Sessions,
        environment: dict[str, str],
    ) -> None:
        settings = await connect_at(x, sessions, life=OVER)
        between.asked.clear()
        assert settings.secret_keys is not None
        variables = {
            **environment,
            "TAGBACK_X_BASE_URL": str(settings.x_base_url),
            "TAGBACK_X_CLIENT_ID": "sandbox-client-id",
            "TAGBACK_X_CLIENT_SECRET": "sandbox-client-secret",
            "TAGBACK_SECRET_KEYS": settings.secret_keys.get_secret_value(),
            "PYTHONHASHSEED": "0",
        }
        processes = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                ASKS,
                env=variables,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        ended = await asyncio.gather(*(process.communicate(b"\n") for process in processes))
        told = {tuple(out.splitlines()[-1].split()) for out, _ in ended}
        assert [times for times, _ in told] == [b"1"]
        assert between.asked[TOKEN] == 1


class TestARenewal:
    async def test_goes_on_when_its_caller_goes_away(
        self, x: StandIn, between: Between, sessions: Sessions
    ) -> None:
        settings = await connect_at(x, sessions, life=OVER)
        held = between.hold(TOKEN)
        async with open_account(settings, sessions) as account:
            asked = asyncio.create_task(account.access_token())
            await held.arrived.wait()
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            held.go_on.set()
        kept = await account_row(sessions)
        assert (kept["refreshing_until"], kept["expires_at"] > clock.now()) == (None, True)

    async def test_leaves_an_account_alone_that_was_connected_meanwhile(
        self, x: StandIn, between: Between, sessions: Sessions
    ) -> None:
        settings = await connect_at(x, sessions, life=OVER)
        assert settings.secret_keys is not None
        held = between.hold(TOKEN)
        async with open_account(settings, sessions) as account:
            asked = asyncio.create_task(account.access_token())
            await held.arrived.wait()
            await connect_at(x, sessions, secret_keys=settings.secret_keys)
            kept = await account_row(sessions)
            held.go_on.set()
            token = await asked
        assert (await account_row(sessions)) == kept
        assert sealer_of(settings).open(kept["access_token"]) == token

    async def test_that_x_refuses_is_a_problem_and_is_not_tried_again(
        self, x: StandIn, between: Between, sessions: Sessions
    ) -> None:
        settings = await connect_at(x, sessions, life=OVER)
        sealer = sealer_of(settings)
        refresh_token = sealer.open((await account_row(sessions))["refresh_token"])
        async with open_sign_in(settings) as sign_in:
            await sign_in.refresh(refresh_token, now=clock.now())  # and nobody has kept the new one
        between.asked.clear()
        with capture_logs() as logs:
            for _ in range(3):
                with pytest.raises(AccountRefusedError, match="tagback x connect"):
                    await ask(sessions, settings, times=8)
        assert between.asked[TOKEN] == 1
        assert [entry["event"] for entry in logs] == ["account_unusable"]
        assert refresh_token not in str(logs)

    async def test_whose_process_was_killed_is_taken_over_when_its_claim_is_over(
        self, x: StandIn, between: Between, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(accounts, "WAIT_SECONDS_MAX", 0.3)
        settings = await connect_at(x, sessions, life=OVER)
        between.asked.clear()
        await write(sessions, refreshing_until=clock.now() + MINUTE)
        with pytest.raises(AccountUnavailableError):
            await ask(sessions, settings, times=1)
        assert between.asked[TOKEN] == 0
        await write(sessions, refreshing_until=clock.now())
        assert len(await ask(sessions, settings, times=4)) == 1
        assert between.asked[TOKEN] == 1

    async def test_whose_answer_was_lost_ends_in_a_problem(
        self, x: StandIn, between: Between, sessions: Sessions
    ) -> None:
        """The refresh token was used up, and nobody has the one that came for it."""
        settings = await connect_at(x, sessions, life=OVER)
        between.asked.clear()
        between.faults[TOKEN] = [Fault(status=503, after=True)]
        with pytest.raises(AccountUnavailableError):
            await ask(sessions, settings, times=1)
        await write(sessions, refreshing_until=clock.now())
        with pytest.raises(AccountRefusedError, match="a process ended while it renewed it"):
            await ask(sessions, settings, times=1)
        assert between.asked[TOKEN] == 2

    async def test_of_an_app_that_x_does_not_know_uses_no_token_up(
        self, x: StandIn, sessions: Sessions
    ) -> None:
        settings = await connect_at(x, sessions, life=OVER)
        wrong = settings.model_copy(update={"x_client_id": "another"})
        with pytest.raises(AccountRefusedError, match="TAGBACK_X_CLIENT_ID"):
            await ask(sessions, wrong, times=1)
        assert (await account_row(sessions))["problem"] is None
        assert len(await ask(sessions, settings, times=1)) == 1


class TestSending:
    async def test_renews_a_token_that_x_takes_no_more_and_sends_once(
        self, x: StandIn, between: Between, sessions: Sessions
    ) -> None:
        settings = await connect_at(x, sessions)
        between.asked.clear()
        between.faults["POST /2/tweets"] = [Fault(status=401, body={"title": "Unauthorized"})]
        post_id = await x.post()
        async with (
            open_account(settings, sessions) as account,
            open_sender(settings, account) as sender,
        ):
            assert isinstance(await sender.send("Done!", post_id), Sent)
        assert between.asked[TOKEN] == 1
        assert between.asked["POST /2/tweets"] == 2
        assert len(await x.replies()) == 1

    async def test_renews_once_for_many_that_were_refused(
        self, x: StandIn, between: Between, sessions: Sessions
    ) -> None:
        settings = await connect_at(x, sessions)
        between.asked.clear()
        posts = [await x.post() for _ in range(8)]
        between.faults["POST /2/tweets"] = [Fault(status=401)] * 8
        async with (
            open_account(settings, sessions) as account,
            open_sender(settings, account) as sender,
        ):
            results = await asyncio.gather(
                *(sender.send(f"Done! ({n})", post) for n, post in enumerate(posts))
            )
        assert all(isinstance(result, Sent) for result in results)
        assert between.asked[TOKEN] == 1

    async def test_ends_when_the_account_was_taken_away(
        self, x: StandIn, between: Between, sessions: Sessions
    ) -> None:
        settings = await connect_at(x, sessions)
        refresh_token = (await account_row(sessions))["refresh_token"]
        async with open_sign_in(settings) as sign_in:
            await sign_in.revoke(sealer_of(settings).open(refresh_token))
        between.asked.clear()
        async with (
            open_account(settings, sessions) as account,
            open_sender(settings, account) as sender,
        ):
            for number in range(3):
                result = await sender.send(f"Done! ({number})", "1")
                assert isinstance(result, AccessRefused)
                assert "tagback x connect" in result.detail
        assert between.asked[TOKEN] == 1

    async def test_waits_while_x_renews_nothing(
        self, x: StandIn, between: Between, sessions: Sessions
    ) -> None:
        settings = await connect_at(x, sessions, life=OVER)
        between.faults[TOKEN] = [Fault(status=503)]
        async with (
            open_account(settings, sessions) as account,
            open_sender(settings, account) as sender,
        ):
            result = await sender.send("Done!", "1")
            assert result == Temporary("X did not renew the account's token", reached=False)
