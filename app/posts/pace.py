from dataclasses import dataclass

from app.networks.x.gaps import TRY_AGAIN_SECONDS
from app.networks.x.stream import SILENCE_SECONDS_MAX


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often the listener does things. Tests are quicker."""

    silence_seconds: float = SILENCE_SECONDS_MAX
    tail_seconds: float = 35.0  # after which X's index has what was posted just now
    between_gaps_seconds: float = 2.0
    retry_seconds: float = 0.5  # at first, then doubling
    retry_seconds_max: float = 30.0
    page_again_seconds: float = TRY_AGAIN_SECONDS  # of a pass, and longer each time
    gaps_every_seconds: float = 300.0  # where posts may be lost in silence
    subscriptions_every_seconds: float = 300.0
    rules_every_seconds: float = 3.0  # to ask whether offers have changed
    rules_checked_every_seconds: float = 600.0  # against what X has
    rules_heeded_seconds: float = 25.0  # X takes about 20 s to heed a new one
    cursor_every_seconds: float = 60.0
    account_every_seconds: float = 5.0  # to ask which one is connected

    def retry(self, failures: int) -> float:
        """How long to wait after the so-manieth failure in a row."""
        return min(self.retry_seconds_max, self.retry_seconds * 2.0 ** (failures - 1))
