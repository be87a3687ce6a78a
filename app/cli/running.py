"""How a command runs what is asynchronous."""

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import asyncpg

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
        runner.get_loop().set_exception_handler(_on_unasked)
        try:
            return runner.run(main)
        except DATABASE_ERRORS as error:
            if not is_connection_lost(error):
                raise
            raise DatabaseError(f"the database does not answer: {_first(error)}") from error


def _first(error: BaseException) -> BaseException:
    """What began it: a connection that is lost makes errors of all that is then tried with it."""
    while error.__context__ is not None and is_connection_lost(error.__context__):
        error = error.__context__
    return getattr(error, "orig", None) or error


def _on_unasked(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The driver leaves a failed future behind for a COPY that lost its connection; the same loss
    has been raised to whoever sent it.
    """
    if not isinstance(context.get("exception"), asyncpg.PostgresConnectionError):
        loop.default_exception_handler(context)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - it does not exist there

    return uvloop.new_event_loop
