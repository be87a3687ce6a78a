import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.sandbox.profiles import ProfileName


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """What the stand-in is told at start. The secrets are well known: it listens on this machine
    alone, and its clients are given the same values.

    `data_file`: NDJSON that keeps people, posts, webhooks and subscriptions over a restart.
    `stream_chunk_bytes`: streams are written in pieces of this size, so that a reader that takes
    a chunk for a line fails here first; None writes whole lines.
    `clock`: Unix seconds.
    """

    profile: ProfileName = "self_serve"
    consumer_secret: str = "sandbox-consumer-secret"  # noqa: S105 - a public value
    app_token: str = "sandbox-app-token"  # noqa: S105 - a public value
    user_token: str = "sandbox-user-token"  # noqa: S105 - a public value
    account_id: str = "1000000000000000001"
    handle: str = "TagbackDemo"
    name: str = "Tagback Demo"
    data_file: Path | None = None
    keep_alive_seconds: float = 15.0
    slow_reader_seconds: float = 10.0
    stream_chunk_bytes: int | None = None
    webhook_timeout_seconds: float = 10.0
    webhook_retries_after_seconds: tuple[float, ...] = (1.0, 4.0, 16.0)
    webhook_in_flight_max: int = 32
    queue_events_max: int = 50_000
    posts_kept_max: int = 500_000
    clock: Callable[[], float] = time.time
