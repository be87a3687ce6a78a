"""How a command runs what is asynchronous."""

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from app.database import DatabaseError
from app.kit.db import DATABASE_ERRORS, is_connection_lost
from app.kit.logs import configure_logs

Answer = TypeVar("Answer")


def run(main: Coroutine[Any, Any, Answer]) -> Answer:
    """Raises DatabaseError when the database goes away."""
    configure_logs()
    # A batch makes some hundred thousand tuples that live as long as it: looking through all that
    # lives at each 700 of them, as Python does, took a tenth of an import.
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            return runner.run(main)
        except DATABASE_ERRORS as error:
            if not is_connection_lost(error):
                raise
            cause = getattr(error, "orig", None) or error
            raise DatabaseError(f"the database does not answer: {cause}") from error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - it does not exist there

    return uvloop.new_event_loop
