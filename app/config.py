"""Settings: environment variables `TAGBACK_…`, also read from `.env`."""

import os
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BeforeValidator,
    Field,
    PostgresDsn,
    SecretStr,
    UrlConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import TagbackError

PREFIX = "TAGBACK_"
X_BASE_URL = "https://api.x.com"

DatabaseUrl = Annotated[
    PostgresDsn, UrlConstraints(allowed_schemes=["postgresql", "postgres", "postgresql+asyncpg"])
]


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _not_in_the_clear(url: AnyHttpUrl) -> AnyHttpUrl:
    """Cookies and the issuer's links pass by it."""
    if url.scheme != "https" and not _is_this_machine(url.host or ""):
        raise ValueError("https is needed, but for an address of this machine")
    return url


PublicUrl = Annotated[AnyHttpUrl, AfterValidator(_not_in_the_clear)]


def _is_x(host: str) -> bool:
    return f".{host.rstrip('.')}".endswith((".x.com", ".twitter.com"))


def _read_networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(ip_network(one.strip()) for one in value.split(",") if one.strip())


Networks = Annotated[
    tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_read_networks)
]


class SettingsError(TagbackError):
    code = "settings"


def _default_data_dir() -> Path:
    # PostgreSQL refuses to run as root, so root's embedded server runs as a user of its own, who
    # must reach the folder: /root would have to be opened for that.
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/tagback")
    # not macOS's "Application Support": PostgreSQL's tools take no folder with a blank in it
    return Path.home() / ".local" / "share" / "tagback"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore"
    )

    # where things are
    database_url: DatabaseUrl | None = None
    database_owner_url: DatabaseUrl | None = None
    data_dir: Path = Field(default_factory=_default_data_dir)
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    metrics_port: int | None = Field(default=None, ge=1, le=65_535)  # of a process without the API
    public_url: PublicUrl | None = None  # the address under which the world reaches this service

    # the programme
    programme_name: str = "Tagback"
    default_locale: Literal["en", "fr"] = "en"
    default_coupon_valid_days: int = Field(default=30, ge=1, le=3_650)

    # secrets: keys that seal tokens at rest, separated by commas, the first one seals; and the key
    # that the issuer signs its hand-off links with
    secret_keys: SecretStr | None = None
    handoff_secret: SecretStr | None = Field(default=None, min_length=32)

    # X: who we are to it
    x_base_url: AnyHttpUrl = AnyHttpUrl(X_BASE_URL)
    x_client_id: str | None = None
    x_client_secret: SecretStr | None = None
    x_app_token: SecretStr | None = None
    x_consumer_secret: SecretStr | None = None
    # instead of `tagback x connect`, where tokens are kept elsewhere
    x_account_id: str | None = Field(default=None, pattern=r"^\d{1,20}$")
    x_handle: str | None = Field(default=None, pattern=r"^\w{1,15}$")
    x_user_token: SecretStr | None = None

    # X: how it listens. Mentions come by webhook where there is a public address, else by stream.
    x_mentions_by: Literal["auto", "webhook", "stream", "off"] = "auto"
    x_hashtag_stream: bool = False
    x_stream_rules_max: int = Field(default=1_000, ge=1)
    x_deletions_followed_max: int = Field(default=1_000, ge=0)
    x_lease_seconds: float = Field(default=10.0, gt=0)
    x_gap_minutes: int = Field(default=15, ge=0, le=7 * 24 * 60)

    # X: how it answers
    x_reply_needs_mention: bool = True
    x_replies_per_window: int = Field(default=100, ge=1, le=1_000_000_000)
    x_replies_window_seconds: int = Field(default=900, ge=1)
    x_replies_per_day: int = Field(default=10_000, ge=1, le=1_000_000_000)
    x_messages_per_window: int = Field(default=15, ge=1)
    x_messages_per_day: int = Field(default=1_440, ge=1)

    # X: what it costs, in millionths of a US dollar, and how much it may cost in a calendar month
    x_price_post_read_microusd: int = Field(default=5_000, ge=0)
    x_price_user_read_microusd: int = Field(default=10_000, ge=0)
    x_price_owned_read_microusd: int = Field(default=1_000, ge=0)
    x_price_post_microusd: int = Field(default=15_000, ge=0)
    x_price_summoned_reply_microusd: int = Field(default=10_000, ge=0)
    x_price_message_microusd: int = Field(default=15_000, ge=0)
    x_monthly_ceiling_usd: Decimal | None = Field(default=None, ge=0)
    x_strangers_ceiling_percent: int = Field(default=20, ge=0, le=100)
    x_sign_ins_ceiling_percent: int = Field(default=20, ge=0, le=100)

    # what a post must be like
    author_age_days_min: int = Field(default=0, ge=0)
    author_followers_min: int = Field(default=0, ge=0)
    author_default_picture_refused: bool = False
    author_posts_max: int | None = Field(default=None, ge=1)
    author_posts_window_minutes: int = Field(default=60, ge=1, le=43_200)
    accounts_per_member_max: int | None = Field(default=None, ge=1)
    offers_per_post_max: int = Field(default=2, ge=1)
    coupons_per_member_max: int | None = Field(default=None, ge=1)
    coupons_per_member_days: int = Field(default=30, ge=1)

    # replies
    reply_age_hours_max: int = Field(default=24, ge=1)
    invitation_days: int = Field(default=30, ge=1)
    reply_lease_seconds: int = Field(default=60, ge=5)
    replies_in_flight_max: int = Field(default=16, ge=1)

    # webhooks to partners
    webhooks_allow: Networks = ()  # that may be called although they are not public, and by http
    webhooks_in_flight_max: int = Field(default=64, ge=1, le=1_000)
    webhooks_in_flight_per_endpoint_max: int = Field(default=4, ge=1)
    webhooks_seconds_max: float = Field(default=15.0, gt=0, le=60)
    webhooks_days_kept: int = Field(default=30, ge=2)
    budget_low_percent: int = Field(default=80, ge=1, le=100)

    # bounds
    batch_posts_max: int = Field(default=1_000, ge=1, le=10_000)
    webhook_wait_seconds: float = Field(default=5.0, gt=0)
    body_bytes_max: int = Field(default=16 * 1024 * 1024, ge=1_024)
    pool_size: int = Field(default=10, ge=2)
    rate_limit_per_minute: int = Field(default=1_200, ge=0, le=1_000_000)  # of a key; 0: none
    wrong_keys_per_minute: int = Field(default=60, ge=0, le=1_000_000)  # of an address; 0: any
    # who may say, by X-Forwarded-For, whom he forwards: addresses and networks, separated by commas
    trusted_proxies: str = "127.0.0.1,::1"

    # for who tries an integration: a route that moves time
    test_clock: bool = False

    @field_validator("test_clock")
    @classmethod
    def _not_with_x_itself(cls, is_on: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's
        """X's time cannot be moved, nor what people see there be taken back."""
        base = info.data.get("x_base_url")
        if is_on and (base is None or _is_x(base.host or "")):
            raise ValueError(
                "time is moved at the X stand-in alone: set TAGBACK_X_BASE_URL to its address"
            )
        return is_on

    @property
    def x_monthly_ceiling_microusd(self) -> int | None:
        ceiling = self.x_monthly_ceiling_usd
        return None if ceiling is None else int(ceiling * 1_000_000)

    @property
    def x_authorize_url(self) -> str:
        """Where a person signs in: at X itself under another host than its API."""
        base = str(self.x_base_url).rstrip("/")
        return ("https://x.com" if base == X_BASE_URL else base) + "/i/oauth2/authorize"

    @property
    def coupons_per_member_window(self) -> timedelta:
        return timedelta(days=self.coupons_per_member_days)

    @property
    def author_posts_window(self) -> timedelta:
        return timedelta(minutes=self.author_posts_window_minutes)

    @property
    def reply_age_max(self) -> timedelta:
        return timedelta(hours=self.reply_age_hours_max)


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Raises SettingsError naming each variable that is malformed; never its value."""
    try:
        return Settings()
    except ValidationError as error:
        problems = []
        for found in error.errors(include_url=False, include_input=False, include_context=False):
            name = PREFIX + "_".join(str(part) for part in found["loc"]).upper()
            problems.append(f"{name}: {found['msg']}" if found["loc"] else found["msg"])
        raise SettingsError("settings: " + "; ".join(problems)) from None
