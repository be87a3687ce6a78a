from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvicorn
from running_x import Listen, Receiver, Start, X, running_x, serving

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
            receiver = Receiver(**how)
            receivers.append(receiver)
            config = uvicorn.Config(receiver, port=0, lifespan="off", log_level="warning")
            address = await stack.enter_async_context(serving(uvicorn.Server(config)))
            receiver.url = f"{address}/webhooks/x"
            return receiver

        yield listen_once
    judge_events(body for receiver in receivers for _, body in receiver.received)
