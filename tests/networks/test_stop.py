"""Which words end it."""

import pytest

from app.networks.stop import asks_to_stop


class TestAskingToStop:
    @pytest.mark.parametrize(
        "text",
        [
            "stop",
            "STOP",
            "Stop!",
            "please stop",
            "@TagbackDemo STOP, please!",
            "Arrêtez, s'il vous plaît",
            "@TagbackDemo stop",
            "@TagbackDemo, @ann: Stop.",
            "stop @TagbackDemo \N{PERSON WITH FOLDED HANDS}",
            "arrêt",
            "Arret",
            "ARRÊTER",
            "arre\u0302ter",
            "unsubscribe",
            "désabonner",
            "Se désabonner",
            "opt-out",
            "\uff33\uff34\uff2f\uff30",
            "#stop",
        ],
    )
    def test_does(self, text: str) -> None:
        assert asks_to_stop(text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "@TagbackDemo",
            "@stop",
            "@TagbackDemo @stop",
            "stop it now",
            "please",
            "pleasestop",
            "don't stop",
            "stopped",
            "nonstop",
            "stop stop",
            "#Tea @TagbackDemo",
            "stop #Tea",
            "bus stop",
        ],
    )
    def test_does_not(self, text: str) -> None:
        assert not asks_to_stop(text)
