"""The same races against the twin, which has no constraints and reads before it writes. It must
break each promise, or the race proves nothing; and none while its callers take turns, or it would
break them for another reason than that they race.
"""

from collections.abc import AsyncIterator

import pytest

from app.config import Settings
from tests.conftest import Server
from tests.races.conftest import Ground, open_ground
from tests.races.every import RACES
from tests.races.race import Race, Tally, run
from tests.races.twin import Twin, take_constraints_away

ROUNDS_MAX = 50


@pytest.fixture(scope="module")
async def ground(server: Server) -> AsyncIterator[Ground]:
    async with open_ground(server, prepare=take_constraints_away) as ground:
        yield ground


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.__name__)
class TestTheTwin:
    async def test_breaks_them(
        self, race: type[Race], ground: Ground, settings: Settings, rounds: int, tally: Tally
    ) -> None:
        twin = Twin(ground.sessions, settings.model_copy(update=race.settings))
        # a race is a matter of chance: one that happens to go well is run again
        await run(
            tally,
            race,
            twin,
            rounds=min(rounds, ROUNDS_MAX),
            rounds_max=ROUNDS_MAX,
            wipe=ground.wipe,
        )
        assert tally.violations != []

    async def test_keeps_them_while_callers_take_turns(
        self, race: type[Race], ground: Ground, settings: Settings, tally: Tally
    ) -> None:
        twin = Twin(ground.sessions, settings.model_copy(update=race.settings))
        await run(tally, race, twin, rounds=1, wipe=ground.wipe, in_turn=True)
        assert tally.violations == []
        assert tally.disagreements == []
