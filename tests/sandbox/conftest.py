from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from running_x import Listen, Receiver, Start, X, listening, running_x

from tests.watching import judge_events


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def start_one(**settings: Any) -> X:
            return await stack.enter_async_context(running_x(**settings))

        yield start_one


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    receivers: list[Receiver] = []
    async with AsyncExitStack() as stack:

        async def listen_once(**how: Any) -> Receiver:
            receivers.append(await stack.enter_async_context(listening(**how)))
            return receivers[-1]

        yield listen_once
    judge_events(body for receiver in receivers for _, body in receiver.received)
