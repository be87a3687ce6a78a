"""What X allows and what it charges, by profile: every figure of the stand-in stands here.

Figures marked (?) are not in X's published notes; they are roomy guesses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ProfileName = Literal["self_serve", "enterprise"]

WINDOWS_A_DAY = 24 * 4
RESULTS_MAX = 100
MENTIONS_MAX = 800
SEARCH_DAYS = 7

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
    """`requests`: per route and token in a quarter of an hour; `requests_as_user` where X allows a
    user another number than the app. `requests_a_day`: of all tokens together.
    """

    requests: Mapping[str, int]
    requests_as_user: Mapping[str, int]
    requests_a_day: Mapping[str, int]
    activity_connections_max: int
    filtered_connections_max: int
    subscriptions_max: int
    webhooks_max: int
    rules_max: int
    rule_length_max: int
    query_length_max: int
    summoned_only: bool


SELF_SERVE = Profile(
    requests={
        "POST /2/tweets": 100,
        "GET /2/tweets": 3_500,  # (?)
        "GET /2/tweets/{post_id}": 450,  # (?)
        "DELETE /2/tweets/{post_id}": 50,  # (?)
        "POST /2/dm_conversations/with/{participant_id}/messages": 15,
        "GET /2/users/me": 75,
        "GET /2/users/{user_id}/tweets": 900,  # (?)
        "GET /2/users/{user_id}/mentions": 450,
        "GET /2/tweets/search/recent": 450,
        "GET /2/connections": 450,  # (?)
        "DELETE /2/connections": 25,  # (?)
        "DELETE /2/connections/all": 25,
        "DELETE /2/connections/{endpoint_id}": 25,  # (?)
        "GET /2/activity/stream": 450,
        "GET /2/tweets/search/stream": 50,
        "GET /2/tweets/search/stream/rules": 450,
        "POST /2/tweets/search/stream/rules": 100,
        "GET /2/tweets/search/stream/rules/counts": 450,  # (?)
        "POST /2/activity/subscriptions": 500,  # (?)
        "GET /2/activity/subscriptions": 500,  # (?)
        "DELETE /2/activity/subscriptions": 500,  # (?)
        "PUT /2/activity/subscriptions/{subscription_id}": 500,  # (?)
        "DELETE /2/activity/subscriptions/{subscription_id}": 500,  # (?)
        "POST /2/webhooks": 450,  # (?)
        "GET /2/webhooks": 450,  # (?)
        "POST /2/webhooks/replay": 100,  # (?)
        "PUT /2/webhooks/{webhook_id}": 450,  # (?)
        "DELETE /2/webhooks/{webhook_id}": 450,  # (?)
    },
    requests_as_user={"GET /2/users/{user_id}/mentions": 300},
    requests_a_day={
        "POST /2/tweets": 10_000,
        "POST /2/dm_conversations/with/{participant_id}/messages": 1_440,
    },
    activity_connections_max=2,
    filtered_connections_max=1,
    subscriptions_max=1_500,
    webhooks_max=1,
    rules_max=1_000,
    rule_length_max=1_024,
    query_length_max=512,
    summoned_only=True,
)

ROOMY = 1_000_000
ENTERPRISE = Profile(
    requests=dict.fromkeys(SELF_SERVE.requests, ROOMY),
    requests_as_user={},
    requests_a_day=dict.fromkeys(SELF_SERVE.requests_a_day, 100 * ROOMY),
    activity_connections_max=2,
    filtered_connections_max=2,
    subscriptions_max=ROOMY,
    webhooks_max=5,
    rules_max=25_000,
    rule_length_max=2_048,
    query_length_max=4_096,
    summoned_only=False,
)

PROFILES: Mapping[ProfileName, Profile] = {"self_serve": SELF_SERVE, "enterprise": ENTERPRISE}
