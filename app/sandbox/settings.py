import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.sandbox.faults import Fault
from app.sandbox.problems import ProblemHost
from app.sandbox.profiles import ProfileName

HANDOFF_SECRET_LENGTH_MIN = 32


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """What the stand-in is told at start. The secrets are well known: it listens on this machine
    alone, and its clients are given the same values.

    `data_file`: NDJSON that keeps people, posts, messages, webhooks, subscriptions, rules and what
    people allowed the app over a restart: a refresh token by its SHA-256, an access token not at
    all.
    `user_token`: a token of the programme's account that never ends and has every scope.
    `redirect_uris`: where people are sent back to after signing in, exactly; none means any
    address of this machine.
    `handoff_secret` and `tagback_url`: what the issuer's page signs its links with, and where they
    lead; the secret has 32 characters at least.
    `stream_chunk_bytes`: streams are written in pieces of this size, so that a reader that takes
    a chunk for a line fails here first; None writes whole lines.
    `rules_effective_seconds`: a rule that is added or deleted takes so long to be heeded; X takes
    about 20 s. `search_delay_seconds`: mentions and recent search give no post younger than this
    when they are not told an end; X's delay is 30 s. `window_seconds`: X's quarter of an hour for
    rate limits, which a test makes shorter; the day is 96 of them.
    `field_names`: of posts and people, as an edition of X's OpenAPI has them. All recorded traffic
    has those of 2.166; who asks by `post.fields`, which 2.167 brought, is answered in the new ones.
    `problem_host`: under which the types of problems are; live ones are under the first, documented
    ones under api.x.com. `faults`: armed from the start, see `faults`.
    `clock`: Unix seconds.
    """

    profile: ProfileName = "self_serve"
    consumer_secret: str = "sandbox-consumer-secret"  # noqa: S105 - a public value
    app_token: str = "sandbox-app-token"  # noqa: S105 - a public value
    user_token: str = "sandbox-user-token"  # noqa: S105 - a public value
    client_id: str = "sandbox-client-id"
    client_secret: str = "sandbox-client-secret"  # noqa: S105 - a public value
    app_id: str = "10000001"
    redirect_uris: tuple[str, ...] = ()
    handoff_secret: str = "sandbox-handoff-secret-of-32-characters"  # noqa: S105 - a public value
    tagback_url: str = "http://127.0.0.1:8000"
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
    rules_effective_seconds: float = 0.0
    search_delay_seconds: float = 30.0
    window_seconds: int = 900
    queue_events_max: int = 50_000
    posts_kept_max: int = 500_000
    field_names: Literal["2.166", "2.167"] = "2.166"
    problem_host: ProblemHost | Literal["alternating"] = "api.twitter.com"
    faults: tuple[Fault, ...] = ()
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if len(self.handoff_secret) < HANDOFF_SECRET_LENGTH_MIN:
            raise ValueError(f"handoff_secret: {HANDOFF_SECRET_LENGTH_MIN} characters at least")
