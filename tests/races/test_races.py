"""Every race against the service, which must lose none. `--rounds 1000` is the long run."""

from collections.abc import AsyncIterator

import pytest

from app.config import Settings
from tests.conftest import Server
from tests.races.conftest import Ground, open_ground
from tests.races.every import RACES
from tests.races.race import Race, Tally, run
from tests.races.service import Service


@pytest.fixture(scope="module")
async def ground(server: Server) -> AsyncIterator[Ground]:
    async with open_ground(server) as ground:
        yield ground


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.__name__)
async def test_the_service_keeps_its_promises(
    race: type[Race], ground: Ground, settings: Settings, rounds: int, tally: Tally
) -> None:
    service = Service(ground.sessions, settings.model_copy(update=race.settings))
    await run(tally, race, service, rounds=rounds, wipe=ground.wipe)
    assert tally.violations == []
    assert tally.disagreements == []
    assert tally.deadlocks == 0
