import random
from uuid import UUID

import pytest

from app.kit.cards import looks_like_card_number


class TestACardNumber:
    @pytest.mark.parametrize(
        "value",
        [
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "3782-822463-10005",
            "card-4111111111111111",
            "see 6304000000000000 there",
        ],
    )
    def test_is_recognised_in_a_run_or_as_on_the_plastic(self, value: str) -> None:
        assert looks_like_card_number(value)

    @pytest.mark.parametrize(
        "value",
        ["4111111111111112", "411111111111", "41111111111111111111", "card-00123-7a70cbcb", ""],
    )
    def test_is_not_seen_where_there_is_none(self, value: str) -> None:
        assert not looks_like_card_number(value)

    def test_is_never_seen_in_a_uuid(self) -> None:
        chance = random.Random(1)
        uuids = (str(UUID(int=chance.getrandbits(128))) for _ in range(200_000))
        assert not any(map(looks_like_card_number, uuids))
