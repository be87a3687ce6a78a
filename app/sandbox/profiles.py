"""What X allows and what it charges, by profile: every figure of the stand-in stands here.

Figures marked (?) are not in X's published notes; they are roomy guesses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ProfileName = Literal["self_serve", "enterprise"]

QUARTER_HOUR_SECONDS = 15 * 60
DAY_SECONDS = 24 * 60 * 60

PRICES_MICRO_USD: Mapping[str, int] = {
    "post_read": 5_000,
    "user_read": 10_000,
    "owned_read": 1_000,
    "post_create": 15_000,
    "post_with_url": 200_000,
    "summoned_reply": 10_000,
    "dm": 15_000,
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """`requests`: per route and token in a quarter of an hour."""

    requests: Mapping[str, int]
    posts_per_day: int
    activity_connections_max: int
    filtered_connections_max: int
    subscriptions_max: int
    webhooks_max: int
    summoned_only: bool


SELF_SERVE = Profile(
    requests={
        "POST /2/tweets": 100,
        "GET /2/users/me": 75,
        "GET /2/users/{user_id}/tweets": 900,  # (?)
        "DELETE /2/connections/all": 25,
        "GET /2/activity/stream": 450,
        "GET /2/tweets/search/stream": 50,
        "POST /2/activity/subscriptions": 500,  # (?)
        "GET /2/activity/subscriptions": 500,  # (?)
        "DELETE /2/activity/subscriptions/{subscription_id}": 500,  # (?)
        "POST /2/webhooks": 450,  # (?)
        "GET /2/webhooks": 450,  # (?)
        "PUT /2/webhooks/{webhook_id}": 450,  # (?)
        "DELETE /2/webhooks/{webhook_id}": 450,  # (?)
    },
    posts_per_day=10_000,
    activity_connections_max=2,
    filtered_connections_max=1,
    subscriptions_max=1_500,
    webhooks_max=1,
    summoned_only=True,
)

ROOMY = 1_000_000
ENTERPRISE = Profile(
    requests=dict.fromkeys(SELF_SERVE.requests, ROOMY),
    posts_per_day=100 * ROOMY,
    activity_connections_max=2,
    filtered_connections_max=2,
    subscriptions_max=ROOMY,
    webhooks_max=5,
    summoned_only=False,
)

PROFILES: Mapping[ProfileName, Profile] = {"self_serve": SELF_SERVE, "enterprise": ENTERPRISE}
