"""The service against a plain model of it, step by step. `--examples 20000` is the long run."""

import asyncio
from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.config import Settings
from app.database import ENGINE, Database
from app.kit.db import make_engine, make_sessions
from tests.conftest import Server
from tests.money.machine import MoneyMachine
from tests.money.model import COUPONS_PER_MEMBER_MAX
from tests.money.service import Service

STEPS = 30


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """A loop of its own: Hypothesis' steps are plain functions."""
    with asyncio.Runner() as runner:
        yield runner


async def wipe(owner: AsyncEngine, statement: str) -> None:
    async with owner.begin() as connection:
        await connection.execute(text(statement))


def test_model_and_service_agree_after_every_step(
    runner: asyncio.Runner,
    server: Server,
    database: Database,
    settings: Settings,
    request: pytest.FixtureRequest,
) -> None:
    engine = make_engine(database.url, role=ENGINE)
    administration = create_async_engine(
        server.administration.url.set(database=engine.url.database)
    )
    told = settings.model_copy(update={"coupons_per_member_max": COUPONS_PER_MEMBER_MAX})
    sessions = make_sessions(engine)

    class Machine(MoneyMachine):
        @staticmethod
        def open_service() -> Service:
            runner.run(wipe(administration, server.databases.wiping))
            return Service(runner, sessions, told)

    run_state_machine_as_test(
        Machine,
        settings=profile(request.config.getoption("--examples")),
    )
    runner.run(engine.dispose())
    runner.run(administration.dispose())


def profile(examples: int) -> hypothesis.settings:
    return hypothesis.settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
