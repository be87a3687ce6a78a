import asyncio
from contextlib import suppress


class Gap:
    """What may have been missed of one way to the posts. Who finds out that something was, or that
    something is not in place which brings posts, says so here and nowhere else; a pass closes it.
    """

    def __init__(self) -> None:
        self._wanted = asyncio.Event()
        self._lacking: set[str] = set()
        self._is_closed = False

    def want(self) -> None:
        """There is one: from now on nothing is sure until a pass has ended."""
        self._is_closed = False
        self._wanted.set()

    def lack(self, what: str) -> None:
        """It is not in place, or not known to be: until it is, only a pass makes anything sure."""
        self._lacking.add(what)

    def gain(self, what: str) -> None:
        """It is in place. What it did not bring while it was not is a gap."""
        if what in self._lacking:
            self._lacking.remove(what)
            self.want()

    @property
    def is_lacking(self) -> bool:
        return bool(self._lacking)

    @property
    def is_closed(self) -> bool:
        return self._is_closed and not self._lacking

    # for whoever closes it

    async def is_wanted_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._wanted.wait()
        return False

    def begin(self) -> None:
        self._wanted.clear()

    def close(self) -> None:
        """Unless there is the next one."""
        self._is_closed = not self._wanted.is_set()
